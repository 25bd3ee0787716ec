# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.handles import (
    FILE_SIZE,
    CorruptHandlesError,
    FileHandle,
    Handles,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    Syscalls,
)

PODMANS = Path(__file__).parent / "fixtures/ns_handles.podman-6.0-dev.bin"


def test_podmans_own_file() -> None:
    handles = Handles.parse(PODMANS.read_bytes())
    for handle, kind in ((handles.userns, CLONE_NEWUSER), (handles.mntns, CLONE_NEWNS)):
        assert (handle.type, len(handle.payload)) == (0xF1, 16)
        _identity, namespace_type, inode = struct.unpack("=QII", handle.payload)
        assert namespace_type == kind
        assert inode >= 0xF0000000


def test_we_write_zeros_where_podman_leaves_garbage() -> None:
    handles = Handles.parse(PODMANS.read_bytes())
    ours = handles.to_bytes()
    assert len(ours) == FILE_SIZE
    assert Handles.parse(ours) == handles
    # Podman reads no more than that.
    assert Handles.parse(ours + b"what follows") == handles
    for offset in (0, FILE_SIZE // 2):
        assert ours[offset : offset + 24] == PODMANS.read_bytes()[offset : offset + 24]
        assert ours[offset + 24 : offset + FILE_SIZE // 2] == bytes(112)


@pytest.mark.parametrize("size", [1, 16, 128])
def test_round_trip(size: int) -> None:
    handles = Handles(FileHandle(0xF1, b"u" * size), FileHandle(-1, b"m" * size))
    assert Handles.parse(handles.to_bytes()) == handles


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "0 bytes"),
        (b"x" * 271, "271 bytes"),
        (bytes(272), "user namespace's handle claims 0 bytes"),
        (struct.pack("=Ii128s", 129, 0, b"") * 2, "claims 129 bytes"),
        (struct.pack("=Ii128sIi128s", 16, 0, b"", 0, 0, b""), "mount namespace's handle claims 0"),
        (b"\xff" * 272, "claims 4294967295"),
    ],
)
def test_corrupt_files(content: bytes, told: str) -> None:
    with pytest.raises(CorruptHandlesError, match=told):
        Handles.parse(content)


class OneOpens(Syscalls):
    """Opens the first handle it is given, and answers ESTALE for the next."""

    def __init__(self) -> None:
        self.opened: list[int] = []

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        if self.opened:
            raise OSError(errno.ESTALE, "stale")
        self.opened.append(os.open(PODMANS, os.O_RDONLY))
        return self.opened[0]


def test_a_half_opened_pair_leaks_no_descriptor() -> None:
    fake = OneOpens()
    with pytest.raises(OSError, match="stale"):
        Handles.parse(PODMANS.read_bytes()).open(fake)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fake.opened[0])
