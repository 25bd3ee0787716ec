# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a process sees the host's files, or the private mounts of a service, a batch job or a container.

By proc_pid_mountinfo(5), the kernel's own word. A namespace that was made below private mounts shows them to everybody
who joins it.
"""

from __future__ import annotations

import functools

from .mountinfo import MAX_OF_USERS, Mount, TooManyMountsError, read_mounts

# What sandboxed services and batch jobs get of their own, and what users' containers are started from.
PLACES = ("/", "/home", "/run/user", "/tmp", "/var/tmp")


class HostTree:
    """The mounts of the host: those of PID 1 where they can be read, else our own."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        # How much of users' trees was read, in bytes.
        self.read = 0

    @functools.cached_property
    def _places(self) -> dict[str, tuple[str, str]]:
        for who in ("1", "self"):
            try:
                return _places(read_mounts(self._proc, who))
            except (OSError, ValueError):
                continue
        return {}

    def difference(self, pid: int) -> str:
        """What is different in a process's mounts; empty where nothing that matters is.

        What cannot be read, of a process that has ended, say, is no tree of the host's.
        """
        try:
            mounts = read_mounts(self._proc, str(pid), limit=MAX_OF_USERS)
            self.read += sum(len(mount.point) + len(mount.root) + len(mount.options) for mount in mounts)
            found = _places(mounts)
        except TooManyMountsError as error:
            self.read += MAX_OF_USERS
            return f"its mounts cannot be read: {error.strerror}"
        except (OSError, ValueError) as error:
            return f"its mounts cannot be read: {error}"
        other = [place for place in PLACES if found.get(place) != self._places.get(place)]
        return f"{' and '.join(other)} is not the host's" if other else ""


def _places(mounts: list[Mount]) -> dict[str, tuple[str, str]]:
    """For each place, which file system it lies on (major:minor), and where in it."""
    return {place: _where(mounts, place) for place in PLACES}


def _where(mounts: list[Mount], place: str) -> tuple[str, str]:
    """The mount that a place lies on is the last one whose mount point is it, or the longest above it."""
    best: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        if (place == point or place.startswith(f"{point}/")) and (
            best is None or len(point) >= len(best.point.rstrip("/"))
        ):
            best = mount
    if best is None:
        return "", ""
    below = place[len(best.point.rstrip("/")) :].strip("/")
    return best.device, f"{best.root.rstrip('/')}/{below}".rstrip("/") or "/"
