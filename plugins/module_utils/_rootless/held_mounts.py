# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems that a user's namespace has mounted, and the host has not: whose device is busy, and nobody sees why.

A namespace copies the host's mounts when it is made. Where the root is not shared, what the host unmounts later stays
mounted there. A pin keeps it without any process in whose mountinfo it could be found.
"""

from __future__ import annotations

import functools

from .mountinfo import MAX_OF_USERS, Mount, lines_of, read_mounts

# More than anybody reads.
MAX_MOUNTS = 100


class HeldMounts:
    """Compares by device number (major:minor), which the kernel gives to one file system at a time."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc

    @functools.cached_property
    def _of_host(self) -> frozenset[bytes]:
        """The devices that PID 1 or this process sees: neither need be in the host's own mount namespace."""
        found: set[bytes] = set()
        for who in ("1", "self"):
            try:
                found |= self._devices(who, None)
            except OSError:
                continue
        return frozenset(found)

    def only_seen_by(self, pid: int) -> list[Mount]:
        """The mounts that a process sees, of file systems that are not mounted on the host; at most `MAX_MOUNTS`.

        None of one who sees more than anybody makes for a good reason.
        """
        try:
            # For most users there is nothing; only then each line is looked at.
            others = self._devices(str(pid), MAX_OF_USERS) - self._of_host
            mounts = read_mounts(self._proc, str(pid), limit=MAX_OF_USERS) if others else []
        except OSError:
            return []
        return [mount for mount in mounts if mount.device.encode() in others][:MAX_MOUNTS]

    def _devices(self, who: str, limit: int | None) -> set[bytes]:
        return {line.split(b" ", 3)[2] for line in lines_of(self._proc, who, limit)}
