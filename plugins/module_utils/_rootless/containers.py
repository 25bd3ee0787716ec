# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which container a process belongs to: the command line of its monitor, conmon, names it.

Only to be asked as the process's own user (see `processes.environ`), and it is nothing but the process's own word.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import processes

MONITOR = "conmon"

# From a process in a container up to its monitor; a shell that starts a shell is deep already.
_MAX_DEPTH = 64
_MAX_CMDLINE = 64 * 1024


def container_of(proc: str, pid: int) -> str | None:
    """The name of the container that a process, or a process above it, monitors; None when nothing tells."""
    for _level in range(_MAX_DEPTH):
        try:
            if processes.comm(proc, pid) == MONITOR:
                return monitored(_cmdline(proc, pid))
            pid = processes.parent(proc, pid)
        except OSError:
            return None
        if pid <= 1:
            return None
    return None


def monitored(command: Sequence[bytes]) -> str | None:
    """The container's name in a command line of conmon, `-n NAME` or `--name NAME`; None when there is none."""
    for place, word in enumerate(command[1:], start=1):
        if word in (b"-n", b"--name"):
            name = command[place + 1] if place + 1 < len(command) else b""
        elif word.startswith(b"--name="):
            name = word.partition(b"=")[2]
        else:
            continue
        return name.decode("utf-8", "surrogateescape") or None
    return None


def _cmdline(proc: str, pid: int) -> list[bytes]:
    with open(f"{proc}/{pid}/cmdline", "rb") as file:
        return file.read(_MAX_CMDLINE).rstrip(b"\0").split(b"\0")
