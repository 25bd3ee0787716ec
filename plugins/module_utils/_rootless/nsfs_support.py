# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running kernel offers for namespace file handles: probed, never guessed from its version."""

from __future__ import annotations

import os
from collections.abc import Callable

from .kernel import Syscalls

UNSUPPORTED = "unsupported"
ROOT = "root"
USER = "user"


def nsfs_handles(syscalls: Syscalls, *, proc: str, probe_owner: Callable[[], bool]) -> str:
    """`unsupported`, `root` (only root in the initial namespaces opens them) or `user` (owners do, too).

    Linux before 6.18 has no nsfs handles at all; seccomp filters of containers forbid the calls. An unprivileged
    caller whom the kernel refuses cannot tell `root` from a kernel that would refuse root as well; it says `root`.
    """
    try:
        with open(f"{proc}/self/ns/user", "rb") as file:
            kind, payload = syscalls.name_to_handle(file.fileno())
    except OSError:
        return UNSUPPORTED
    if probe_owner():
        return USER
    if os.geteuid() != 0:
        return ROOT
    try:
        os.close(syscalls.open_nsfs_handle(kind, payload))
    except OSError:
        return UNSUPPORTED
    return ROOT
