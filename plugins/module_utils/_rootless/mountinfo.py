# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts that a process sees, from proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """One line of the file. `device` is "major:minor"; `fields` the optional ones, such as "shared:1".

    `root` is what of the file system is mounted, `options` are those of the file system itself.
    """

    device: str
    point: str
    fields: tuple[str, ...]
    type: str
    source: str
    root: str = "/"
    options: str = ""


def read_mounts(proc: str, who: str = "self") -> list[Mount]:
    """The mounts that a process sees (a PID, or this one), in the order they were made. Raises `OSError`."""
    mounts = []
    with open(f"{proc}/{who}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            words = line.split(" ")
            dash = words.index("-", 6)
            mounts.append(
                Mount(
                    words[2],
                    _unescape(words[4]),
                    tuple(words[6:dash]),
                    words[dash + 1],
                    _unescape(words[dash + 2]),
                    _unescape(words[3]),
                    words[dash + 3].rstrip("\n"),
                )
            )
    return mounts


def _unescape(text: str) -> str:
    for code, letter in (("040", " "), ("011", "\t"), ("012", "\n"), ("043", "#"), ("134", "\\")):
        text = text.replace(f"\\{code}", letter)
    return text


def mount_at(mounts: Sequence[Mount], point: str) -> Mount | None:
    """The mount on top at a mount point."""
    return next((mount for mount in reversed(mounts) if mount.point == point), None)


def mount_of(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path lies on; symbolic links are followed."""
    path = os.path.realpath(path)
    while True:
        found = mount_at(mounts, path)
        if found is not None or path == "/":
            return found
        path = os.path.dirname(path)
