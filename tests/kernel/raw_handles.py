# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File handles of namespaces, made without the library that is tested."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
AT_EMPTY_PATH = 0x1000
# Size and type, then room for the payload: half of an ns_handles file.
ROOM = 128
SIZE = 8 + ROOM


def handle_of(path: str) -> bytes | None:
    """The handle (size, type, payload) of a namespace's file; None where the kernel, or a filter, gives none."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", ROOM, 0), SIZE)
    mount_id = ctypes.c_int()
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.name_to_handle_at(fd, b"", handle, ctypes.byref(mount_id), AT_EMPTY_PATH) == 0:
            return handle.raw
        if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS):
            return None
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def handles_file(userns: str, mntns: str) -> bytes | None:
    """What Podman would write to ns_handles for two namespaces, given by path."""
    pair = handle_of(userns), handle_of(mntns)
    return pair[0] + pair[1] if pair[0] and pair[1] else None
