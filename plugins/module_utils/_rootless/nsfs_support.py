# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running kernel offers for namespace file handles: probed, never guessed from its version."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from .errors import RootlessError
from .kernel import Syscalls

UNSUPPORTED = "unsupported"
ROOT = "root"
USER = "user"
UNKNOWN = "unknown"

Candidate = TypeVar("Candidate")


def first_answer(candidates: Iterable[Candidate], probe: Callable[[Candidate], bool]) -> bool | None:
    """The first answer that `probe` gives, candidate after candidate; None when it can be tried as none of them."""
    for candidate in candidates:
        try:
            return probe(candidate)
        except (RootlessError, OSError):
            continue
    return None


def nsfs_handles(syscalls: Syscalls, *, proc: str, probe_owner: Callable[[], bool | None]) -> str:
    """`unsupported`, `root` (only root in the initial namespaces opens them), `user` (owners do, too) or `unknown`.

    `probe_owner` returns whether a user can open handles, None when it could be tried as nobody: then it is `unknown`
    whether more than root can.

    Linux before 6.18 has no nsfs handles at all; seccomp filters of containers forbid the calls. An unprivileged
    caller whom the kernel refuses cannot tell `root` from a kernel that would refuse root as well; it says `root`.
    """
    try:
        with open(f"{proc}/self/ns/user", "rb") as file:
            kind, payload = syscalls.name_to_handle(file.fileno())
    except OSError:
        return UNSUPPORTED
    opens = probe_owner()
    if opens:
        return USER
    others = UNKNOWN if opens is None else ROOT
    if os.geteuid() != 0:
        return others
    try:
        os.close(syscalls.open_nsfs_handle(kind, payload))
    except OSError:
        return UNSUPPORTED
    return others
