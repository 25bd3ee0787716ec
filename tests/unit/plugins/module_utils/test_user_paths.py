# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.user_paths import UserFileSystemError, UserPaths

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
{} 21 0:50 / {} rw,nosuid,nodev - {} {} rw,user_id={},group_id=1000,allow_other
"""


@pytest.fixture
def paths() -> UserPaths:
    return UserPaths(Syscalls())


def mount_id(path: Path) -> int:
    fd = os.open(path, os.O_PATH)
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
    finally:
        os.close(fd)


@pytest.fixture
def fake_proc(tmp_path: Path) -> Path:
    """Where the mount of the temporary directory can be called anything."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/fdinfo").symlink_to("/proc/self/fdinfo")
    return proc


@pytest.mark.parametrize(
    ("type_", "user_id", "refused"),
    [
        ("fuse", 1000, True),
        ("fuse.sshfs", 1000, True),
        ("fuseblk", 1000, True),
        # Mounted by root, as the root directory of containers may be.
        ("fuse.fuse-overlayfs", 0, False),
        ("fusectl", 1000, False),
        ("tmpfs", 1000, False),
    ],
)
def test_file_systems_of_users(fake_proc: Path, tmp_path: Path, type_: str, user_id: int, refused: bool) -> None:
    there = tmp_path / "there"
    there.mkdir()
    content = MOUNTS.format(mount_id(there), tmp_path, type_, "source", user_id)
    (fake_proc / "self/mountinfo").write_text(content)
    for paths in (
        UserPaths(Syscalls(), proc=str(fake_proc)),
        UserPaths(Syscalls(), proc=str(fake_proc), trusted=[str(tmp_path)]),
    ):
        if not refused:
            os.close(paths.open_directory(str(there)))
            continue
        with pytest.raises(UserFileSystemError, match=rf"in user space \({type_} at {tmp_path}, .* of UID 1000\)"):
            paths.status(str(there))


def test_mounts_that_came_later_are_known(fake_proc: Path, tmp_path: Path) -> None:
    (fake_proc / "self/mountinfo").write_text("")
    paths = UserPaths(Syscalls(), proc=str(fake_proc))
    (fake_proc / "self/mountinfo").write_text(MOUNTS.format(mount_id(tmp_path), tmp_path, "fuse", "x", 7))
    with pytest.raises(UserFileSystemError):
        paths.status(str(tmp_path))


def test_links_on_the_way_are_followed_and_the_last_one_is_not(paths: UserPaths, tmp_path: Path) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute/../real/")
    for name in ("real/below", "absolute/below", "relative/below/", "relative//./below"):
        fd = paths.open_directory(str(tmp_path / name) + ("/" if name.endswith("/") else ""))
        assert os.path.samestat(os.fstat(fd), (tmp_path / "real/below").stat())
        os.close(fd)
    for name in ("absolute", "relative"):
        with pytest.raises(NotADirectoryError):
            paths.open_directory(str(tmp_path / name))
    (tmp_path / "loop").symlink_to("loop")
    for name, number in (("loop/x", errno.ELOOP), ("gone/x", errno.ENOENT), ("real/gone", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(number)):
            paths.status(str(tmp_path / name))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        paths.status(str(tmp_path / "file/x"))


def test_no_descriptor_is_lost(paths: UserPaths, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/a/a", "a/gone", "gone", "a/proc/1"):
        try:
            paths.status(str(tmp_path / name))
        except OSError:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


class Old(Syscalls):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def open_beneath(self, dir_fd: int, path: str, flags: int, mode: int = 0) -> int:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.EPERM])
def test_below_a_directory(tmp_path: Path, number: int) -> None:
    paths = UserPaths(Old(number) if number else Syscalls())
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    top = os.open(tmp_path, os.O_PATH)
    try:
        fd = paths.open_below(top, "file", os.O_RDONLY, where=str(tmp_path))
        assert os.read(fd, 2) == b"x"
        assert not os.get_inheritable(fd)
        os.close(fd)
        fd = paths.open_below(top, "new", os.O_RDWR | os.O_CREAT, 0o600, where=str(tmp_path))
        assert os.fstat(fd).st_mode & 0o7777 == 0o600
        os.close(fd)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            paths.open_below(top, "link", os.O_RDONLY, where=str(tmp_path))
        if not number:
            with pytest.raises(UserFileSystemError, match=r"there and is gone|is a mount point"):
                paths.open_below(top, "../x", os.O_RDONLY, where=str(tmp_path))
    finally:
        os.close(top)
