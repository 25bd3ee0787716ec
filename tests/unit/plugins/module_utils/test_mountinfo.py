# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount table holds names that users chose: each may mount a file system of its own, by fusermount."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.held_mounts import HeldMounts
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.mount_tree import HostTree
from ansible_collections.userns.rootless.plugins.module_utils._rootless.mountinfo import (
    MAX_OF_USERS,
    TooManyMountsError,
    mount_at,
    read_mounts,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinStore

ROOT = b"20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"


def table(tmp_path: Path, *lines: bytes) -> str:
    """A proc root with this mount table, in which every file is on mount 77."""
    (tmp_path / "self/fdinfo").mkdir(parents=True)
    (tmp_path / "self/mountinfo").write_bytes(ROOT + b"".join(lines))
    for fd in range(256):
        (tmp_path / f"self/fdinfo/{fd}").write_text("pos:\t0\nmnt_id:\t77\n")
    return str(tmp_path)


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    point = b"/home/evil/\r\x0b\x0c\x1c\x85\xc2\x85\xe2\x80\xa8\xff"
    line = b"30 20 0:50 / %s rw - fuse.\xfe a\\040b\\011\\012\\134040\\043 rw\n" % point
    mounts = read_mounts(table(tmp_path, line))
    found = mount_at(mounts, point.decode("utf-8", "surrogateescape"))
    assert found is not None
    assert (len(mounts), found.type, found.source) == (2, "fuse.\udcfe", "a b\t\n\\040#")


def test_no_line_is_forged_about_the_directory_of_pins(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "rootless-ns").mkdir(parents=True)
    # After the carriage return stands what looks like the mount that the directory is on.
    forged = b"30 20 0:50 / /home/evil/x\r77 rw - fuse a rw\n"
    real = b"77 20 8:1 / %s/rootless-ns rw - ext4 /dev/sda1 rw\n" % bytes(run)
    store = PinStore(Syscalls(), run=str(run), proc=table(tmp_path / "proc", forged, real))
    # A mount point, and private: neither is another one to be mounted over it, nor does this fail.
    assert store._propagation() == ""


def test_of_a_users_mounts_only_so_many_are_read(tmp_path: Path) -> None:
    line = b"30 20 0:50 / /mnt/%s rw - tmpfs none rw\n" % (b"x" * 4000)
    proc = table(tmp_path)
    (tmp_path / "1").symlink_to("self")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_bytes(ROOT + line * (MAX_OF_USERS // len(line)))
    assert HostTree(proc).difference(7) == ""
    assert HeldMounts(proc).only_seen_by(7)
    (tmp_path / "7/mountinfo").write_bytes(ROOT + line * (MAX_OF_USERS // len(line) + 1))
    assert "more than" in HostTree(proc).difference(7)
    assert not HeldMounts(proc).only_seen_by(7)
    with pytest.raises(TooManyMountsError):
        read_mounts(proc, "7", limit=MAX_OF_USERS)
    # The host's own table has as many lines as it has.
    assert len(read_mounts(proc, "7")) > MAX_OF_USERS // len(line)
