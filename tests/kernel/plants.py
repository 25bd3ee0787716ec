# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that a hostile user, or an accident, puts where a file or directory of ours is expected."""

from __future__ import annotations

import os
from pathlib import Path


def symlink(path: Path, treasure: Path) -> None:
    path.symlink_to(treasure)


def fifo(path: Path, treasure: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, treasure: Path) -> None:
    path.mkdir()


def hard_link(path: Path, treasure: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"1")
    os.link(other, path)


def sparse(path: Path, treasure: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


def unreadable(path: Path, treasure: Path) -> None:
    path.write_bytes(b"1")
    path.chmod(0)


def of_root(path: Path, treasure: Path) -> None:
    path.write_bytes(treasure.read_bytes())


def device(path: Path, treasure: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


PLANTS = [symlink, fifo, directory, hard_link, sparse, unreadable, device, of_root]
