# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call of the library comes to, whoever makes it: a module or the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import RootlessError
from ..report import Report
from ..subid import SubidSource
from ..text import json_lines

_NAMED_FAILURES = 3
_WARNED_USERS = 20


class RefusedError(RootlessError):
    """What was asked does not fit the one who asks, or itself; nothing was looked at."""


@dataclass(frozen=True)
class CallResult:
    """`told` is what a module returns; `failure` says why the call failed, if it did.

    `warnings` are of the host, `user_warnings` of single users, and stand in their entries too.
    """

    told: dict[str, Any]
    failure: str | None = None
    warnings: list[str] = field(default_factory=list)
    user_warnings: list[str] = field(default_factory=list)


def failure_of(failed: Sequence[tuple[str, list[str]]], *, total: int, verb: str, where: str) -> str | None:
    """Why a call failed, in a line: the first users (with their messages) that did; None if none did."""
    if not failed:
        return None
    told = "; ".join(f"{user}: {'; '.join(messages)}" for user, messages in failed[:_NAMED_FAILURES])
    more = f"; and {len(failed) - _NAMED_FAILURES} more, see {where}" if len(failed) > _NAMED_FAILURES else ""
    return f"{len(failed)} of {total} users {verb}: {told}{more}"


def failed_reports(reports: Iterable[Report]) -> list[tuple[str, list[str]]]:
    return [(report.user, report.messages) for report in reports if report.failed]


def warnings_of_host(subids: SubidSource) -> list[str]:
    return [f"{problem}: the line is ignored, as newuidmap and Podman do" for problem in subids.problems()]


def warnings_of_users(reports: Iterable[Report]) -> list[str]:
    """Each user's warnings, at most 20 users' worth; the rest stands in the entries."""
    warned = [report for report in reports if report.warnings and not report.failed]
    told = [f"{report.user}: {text}" for report in warned[:_WARNED_USERS] for text in report.warnings]
    if len(warned) > _WARNED_USERS:
        told.append(f"{len(warned) - _WARNED_USERS} more users have warnings: see their msg in the result")
    return told


def diff_of(header: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """A difference as Ansible shows it."""
    return {
        "before_header": header,
        "after_header": header,
        "before": json_lines(before),
        "after": json_lines(after),
    }
