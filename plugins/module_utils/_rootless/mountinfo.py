# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts that a process sees, from proc_pid_mountinfo(5)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
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


# What a look at a process of a user's may read: users can make 100,000 mounts (fs.mount-max) of 8 KiB each.
MAX_OF_USERS = 4 << 20


class TooManyMountsError(OSError):
    """More than was to be read."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EFBIG, f"there are more than {limit} bytes of them")


def lines_of(proc: str, who: str, limit: int | None = None) -> Iterator[bytes]:
    """Line by line, with the newline. Raises `OSError`; `TooManyMountsError` after `limit` bytes."""
    read = 0
    with open(f"{proc}/{who}/mountinfo", "rb", buffering=1 << 16) as file:
        for line in file:
            read += len(line)
            if limit is not None and read > limit:
                raise TooManyMountsError(limit)
            yield line


def read_mounts(proc: str, who: str = "self", *, limit: int | None = None) -> list[Mount]:
    """The mounts that a process sees (a PID, or this one), in the order they were made. Raises `OSError`.

    `limit`: of how many bytes, for a process of a user's.
    """
    mounts = []
    for text in lines_of(proc, who, limit):
        words = text.decode("utf-8", "surrogateescape").split(" ")
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
