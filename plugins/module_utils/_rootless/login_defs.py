# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What login.defs(5) says of subordinate IDs, with shadow's own defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .errors import RootlessError
from .idmap import MAX_ID

KINDS = ("uid", "gid")


class LoginDefsError(RootlessError):
    """login.defs contradicts itself."""


@dataclass(frozen=True)
class Policy:
    """From where ranges of one kind are given out: IDs `first` to `last`, `count` at a time; `uid_min` counts users."""

    first: int = 100_000
    last: int = 600_100_000
    count: int = 65_536
    uid_min: int = 1_000


def read_policy(kind: str, *, etc: str = "/etc") -> Policy:
    """The policy for `uid` or `gid`; what is not set, or is no number from 0 on, has shadow's default.

    Raises `LoginDefsError`.
    """
    path = os.path.join(etc, "login.defs")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            settings = dict(_setting(line) for line in file)
    except FileNotFoundError:
        settings = {}
    except OSError as error:
        raise LoginDefsError(f"cannot read {path}: {error.strerror}") from None
    name = f"SUB_{kind.upper()}"
    default = Policy()
    policy = Policy(
        first=_number(settings.get(f"{name}_MIN"), default.first),
        last=min(_number(settings.get(f"{name}_MAX"), default.last), MAX_ID - 1),
        count=_number(settings.get(f"{name}_COUNT"), default.count),
        uid_min=_number(settings.get("UID_MIN"), default.uid_min),
    )
    if policy.first > policy.last:
        raise LoginDefsError(f"{path}: {name}_MIN {policy.first} is greater than {name}_MAX {policy.last}")
    return policy


def _setting(line: str) -> tuple[str, str]:
    words = line.split()
    return (words[0], words[1]) if len(words) >= 2 and not words[0].startswith("#") else ("", "")


def _number(text: str | None, default: int) -> int:
    """Decimal, octal or hexadecimal, as strtoul(3) reads it."""
    if text is None:
        return default
    digits = text.strip('"')
    try:
        number = int(digits, 8 if digits.startswith("0") and digits.isdigit() and len(digits) > 1 else 0)
    except ValueError:
        return default
    return number if number >= 0 else default
