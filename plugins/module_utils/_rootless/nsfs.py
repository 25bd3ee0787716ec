# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespace files: which namespace a descriptor stands for, and whether it is really a given user's.

Whatever a user's file names (a PID, a handle) is a claim until `why_foreign` has looked at the namespaces
themselves: only the kernel knows who owns them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import TracebackType

from .kernel import CLONE_NEWNS, CLONE_NEWUSER, Syscalls


@dataclass(frozen=True)
class NamespaceId:
    """A user's namespace: the inode numbers of its user and its mount namespace, as `readlink /proc/PID/ns/*` shows."""

    userns: int
    mntns: int

    def __str__(self) -> str:
        return f"user:[{self.userns}] mnt:[{self.mntns}]"


class NamespacePair:
    """Open descriptors of a user namespace and a mount namespace, close-on-exec. Holding them keeps both alive."""

    def __init__(self, *, user_fd: int, mnt_fd: int) -> None:
        self.user_fd = user_fd
        self.mnt_fd = mnt_fd
        self.id = NamespaceId(userns=os.fstat(user_fd).st_ino, mntns=os.fstat(mnt_fd).st_ino)

    @classmethod
    def open(cls, user_path: str, mnt_path: str) -> NamespacePair:
        """Open two nsfs files, such as `/proc/PID/ns/user` and `/proc/PID/ns/mnt`. Raises `OSError`."""
        user_fd = os.open(user_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mnt_fd = os.open(mnt_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(user_fd)
            raise
        return cls(user_fd=user_fd, mnt_fd=mnt_fd)

    def close(self) -> None:
        for fd in (self.user_fd, self.mnt_fd):
            if fd >= 0:
                os.close(fd)
        self.user_fd = self.mnt_fd = -1

    def __enter__(self) -> NamespacePair:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def own_userns_ino(proc: str) -> int:
    """The inode number of this process's own user namespace."""
    return os.stat(f"{proc}/self/ns/user").st_ino


def parent_ino(syscalls: Syscalls, user_fd: int) -> int | None:
    """The inode number of a user namespace's parent, or None where the caller may not see it."""
    try:
        fd = syscalls.ns_parent(user_fd)
    except OSError:
        return None
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def why_foreign(syscalls: Syscalls, pair: NamespacePair, *, uid: int, parent: int) -> str | None:
    """Why the pair is not the namespace of `uid` below the user namespace with inode number `parent`; None if it is.

    A user's namespace is a user namespace that this UID owns, a direct child of ours, together with a mount
    namespace that belongs to it.
    """
    try:
        types = syscalls.ns_type(pair.user_fd), syscalls.ns_type(pair.mnt_fd)
    except OSError:
        types = (0, 0)
    if types != (CLONE_NEWUSER, CLONE_NEWNS):
        return f"inodes {pair.id.userns} and {pair.id.mntns} are not a user and a mount namespace"
    if pair.id.userns == parent:
        return f"user:[{pair.id.userns}] is the namespace we live in ourselves"
    found = parent_ino(syscalls, pair.user_fd)
    if found != parent:
        return f"user:[{pair.id.userns}] is not a direct child of user:[{parent}]"
    owner = syscalls.ns_owner_uid(pair.user_fd)
    if owner != uid:
        return f"user:[{pair.id.userns}] belongs to UID {owner}, not {uid}"
    if _owning_userns_ino(syscalls, pair.mnt_fd) != pair.id.userns:
        return f"mnt:[{pair.id.mntns}] does not belong to user:[{pair.id.userns}]"
    return None


def _owning_userns_ino(syscalls: Syscalls, fd: int) -> int | None:
    try:
        owner_fd = syscalls.ns_userns(fd)
    except OSError:
        return None
    try:
        return os.fstat(owner_fd).st_ino
    finally:
        os.close(owner_fd)
