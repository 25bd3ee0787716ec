# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file `ns_handles`: two nsfs file handles, a key to a namespace that keeps nothing alive.

The layout is Podman's, 272 bytes: user namespace, then mount namespace, each
`{u32 handle_bytes, i32 handle_type, 128 bytes}` in native byte order.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from .errors import RootlessError
from .kernel import MAX_HANDLE_SIZE, Syscalls
from .nsfs import NamespacePair

FILE_NAME = "ns_handles"
LOCK_NAME = "ns_handles.lock"

_ENTRY = struct.Struct(f"=Ii{MAX_HANDLE_SIZE}s")
FILE_SIZE = 2 * _ENTRY.size


class CorruptHandlesError(RootlessError):
    """The file is not two file handles; every command of Podman 6 fails on it."""


@dataclass(frozen=True)
class FileHandle:
    """One handle as name_to_handle_at(2) gives it. The payload is opaque, 1 to 128 bytes."""

    type: int
    payload: bytes


@dataclass(frozen=True)
class Handles:
    """The handles of one namespace."""

    userns: FileHandle
    mntns: FileHandle

    @classmethod
    def parse(cls, data: bytes) -> Handles:
        """Read the file's content; bytes after a payload are Podman's stack garbage and ignored, and so are those after
        the first 272, which Podman does not read.

        Raises `CorruptHandlesError` where Podman fails with "Invalid argument".
        """
        if len(data) < FILE_SIZE:
            raise CorruptHandlesError(f"{len(data)} bytes long, must be {FILE_SIZE}")
        handles = []
        for index, name in enumerate(("user", "mount")):
            size, kind, content = _ENTRY.unpack_from(data, index * _ENTRY.size)
            if not 0 < size <= MAX_HANDLE_SIZE:
                raise CorruptHandlesError(
                    f"the {name} namespace's handle claims {size} bytes, must be 1 to {MAX_HANDLE_SIZE}"
                )
            handles.append(FileHandle(type=kind, payload=content[:size]))
        return cls(userns=handles[0], mntns=handles[1])

    def to_bytes(self) -> bytes:
        """The file's content, zeros after each payload."""
        return b"".join(_ENTRY.pack(len(h.payload), h.type, h.payload) for h in (self.userns, self.mntns))

    @classmethod
    def of(cls, syscalls: Syscalls, pair: NamespacePair) -> Handles:
        """The handles of an open namespace. Raises `OSError`: EOPNOTSUPP before Linux 6.18."""
        return cls(
            userns=FileHandle(*syscalls.name_to_handle(pair.user_fd)),
            mntns=FileHandle(*syscalls.name_to_handle(pair.mnt_fd)),
        )

    def open(self, syscalls: Syscalls) -> NamespacePair:
        """Open both namespaces. Raises `OSError`: ESTALE for dead, of the wrong type, or not allowed."""
        mnt_fd = syscalls.open_nsfs_handle(self.mntns.type, self.mntns.payload)
        try:
            user_fd = syscalls.open_nsfs_handle(self.userns.type, self.userns.payload)
        except OSError:
            os.close(mnt_fd)
            raise
        return NamespacePair(user_fd=user_fd, mnt_fd=mnt_fd)
