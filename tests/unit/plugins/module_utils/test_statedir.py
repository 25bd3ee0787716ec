# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.statedir import StateDir, StateDirError


def opened(runtime_dir: Path, syscalls: Syscalls | None = None) -> StateDir:
    return StateDir(
        runtime_dir=str(runtime_dir), subdirectory="libpod/tmp", uid=os.geteuid(), syscalls=syscalls or Syscalls()
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "libpod/tmp"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def state_dir(path: Path) -> Iterator[StateDir]:
    with opened(path.parents[1]) as state_dir:
        yield state_dir


def test_a_missing_directory_is_not_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path)


@pytest.mark.parametrize("part", ["libpod", "libpod/tmp"])
@pytest.mark.parametrize("absolute", [True, False])
def test_links_of_the_users_own_are_followed(tmp_path: Path, part: str, absolute: bool) -> None:
    (tmp_path / "real/tmp").mkdir(parents=True)
    (tmp_path / part).parent.mkdir(exist_ok=True)
    real = tmp_path / ("real" if part == "libpod" else "real/tmp")
    (tmp_path / part).symlink_to(real if absolute else os.path.relpath(real, (tmp_path / part).parent))
    (tmp_path / "real/tmp/pause.pid").write_bytes(b"7")
    with opened(tmp_path) as state_dir:
        found = state_dir.read("pause.pid", limit=11)
        assert found is not None
        assert found.content == b"7"
        assert state_dir.write_new("new", b"8")
    assert (tmp_path / "real/tmp/new").read_bytes() == b"8"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give things away")


@needs_root
@pytest.mark.parametrize("of", ["link", "directory"])
@pytest.mark.parametrize("part", ["libpod", "libpod/tmp"])
def test_links_that_lead_to_others_are_not_followed(tmp_path: Path, part: str, of: str) -> None:
    (tmp_path / "real/tmp").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "real", tmp_path / "real/tmp"):
        os.chown(path, 7, 7)
    (tmp_path / part).parent.mkdir(exist_ok=True)
    os.chown((tmp_path / part).parent, 7, 7)
    (tmp_path / part).symlink_to(tmp_path / "real")
    os.chown(tmp_path / part if of == "link" else tmp_path / "real", 8, 8, follow_symlinks=False)
    with pytest.raises(StateDirError, match=r"symbolic link of UID 8|a directory of UID 8"):
        StateDir(runtime_dir=str(tmp_path), subdirectory="libpod/tmp", uid=7, syscalls=Syscalls())


@pytest.mark.parametrize("target", ["gone", "file", "."])
def test_links_that_lead_to_no_directory(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "libpod").symlink_to("libpod" if target == "." else target)
    with pytest.raises(StateDirError, match=f"{tmp_path}/libpod"):
        opened(tmp_path)


@needs_root
@pytest.mark.parametrize("above", [".", "libpod", "libpod/tmp"])
def test_a_directory_of_somebody_elses_is_not_entered(tmp_path: Path, path: Path, above: str) -> None:
    """What is below may be the user's: whoever owns the directory above can exchange it."""
    os.chown(tmp_path / above, 7, 7)
    with pytest.raises(StateDirError, match="is not owned by UID 0"):
        opened(path.parents[1])


def test_read(path: Path, state_dir: StateDir) -> None:
    assert state_dir.read("pause.pid", limit=11) is None
    (path / "pause.pid").write_bytes(b"12345")
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    assert (found.content, found.problem) == (b"12345", None)
    status = (path / "pause.pid").stat()
    assert found.identity == (status.st_dev, status.st_ino)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def to_a_directory(path: Path) -> None:
    path.symlink_to("/")


def to_a_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


def link(path: Path) -> None:
    path.with_name("other").write_bytes(b"12345")
    path.symlink_to("other")


def hard_link(path: Path) -> None:
    path.write_bytes(b"12345")
    os.link(path, path.with_name("other"))


def of_root(path: Path) -> None:
    path.write_bytes(b"12345")
    if os.geteuid() == 0:
        os.chown(path, 7, 7)


def sparse(path: Path) -> None:
    path.write_bytes(b"12345")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("plant", [link, hard_link, of_root, sparse])
def test_what_is_read_as_podman_does(path: Path, state_dir: StateDir, plant: Callable[[Path], None]) -> None:
    plant(path / "pause.pid")
    found = state_dir.read("pause.pid", limit=5)
    assert found is not None
    assert (found.content, found.problem) == (b"12345\0" if plant is sparse else b"12345", None)
    status = (path / "pause.pid").lstat()
    assert found.identity == (status.st_dev, status.st_ino)
    claimed = state_dir.claim("pause.pid", found.identity, limit=5, timeout=1)
    assert claimed == replace(found, lockable=True)
    # Root, who runs this, locks any file.
    assert found.lockable is (plant is not of_root or os.geteuid() != 0)
    assert state_dir.remove("pause.pid", found.identity)
    assert not os.path.lexists(path / "pause.pid")


@pytest.mark.parametrize(("mode", "lockable"), [(0o600, True), (0o644, True), (0o400, False), (0o200, True)])
def test_whether_podman_could_lock_it(path: Path, state_dir: StateDir, mode: int, lockable: bool) -> None:
    (path / "pause.pid").write_bytes(b"1")
    (path / "pause.pid").chmod(mode)
    found = state_dir.read("pause.pid", limit=5)
    assert found is not None
    if found.content is not None:
        assert found.lockable is lockable


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (dangling, "a symbolic link: nowhere does not exist"),
        (to_a_directory, "a symbolic link: / is not a regular file"),
        (to_a_fifo, "fifo is not a regular file"),
        (os.mkfifo, "a FIFO"),
        (Path.mkdir, "a directory"),
    ],
)
def test_what_is_not_read(path: Path, state_dir: StateDir, plant: Callable[[Path], None], told: str) -> None:
    plant(path / "pause.pid")
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    assert found.content is None
    assert told in str(found.problem)
    assert state_dir.remove("pause.pid", found.identity)
    assert not os.path.lexists(path / "pause.pid")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(path: Path, state_dir: StateDir) -> None:
    (path / "pause.pid").touch(0)
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    assert "Permission denied" in str(found.problem)


class NoTemporaryFiles(StateDir):
    """As on a file system without unnamed temporary files."""

    def write_new(self, name: str, content: bytes) -> bool:
        return self._write_renamed(name, content)


@pytest.mark.parametrize("kind", [StateDir, NoTemporaryFiles])
def test_write_new(path: Path, kind: type[StateDir]) -> None:
    with kind(
        runtime_dir=str(path.parents[1]), subdirectory="libpod/tmp", uid=os.geteuid(), syscalls=Syscalls()
    ) as state_dir:
        assert state_dir.write_new("pause.pid", b"1")
        assert not state_dir.write_new("pause.pid", b"2")
    assert [entry.name for entry in path.iterdir()] == ["pause.pid"]
    assert (path / "pause.pid").read_bytes() == b"1"
    assert (path / "pause.pid").stat().st_mode & 0o7777 == 0o600


class Failing(Syscalls):
    def rename_noreplace(self, dir_fd: int, old: str, new: str) -> None:
        raise OSError(errno.EIO, "broken disk")


def test_a_failed_write_leaves_nothing(path: Path) -> None:
    with (
        NoTemporaryFiles(
            runtime_dir=str(path.parents[1]), subdirectory="libpod/tmp", uid=os.geteuid(), syscalls=Failing()
        ) as state_dir,
        pytest.raises(OSError, match="broken disk"),
    ):
        state_dir.write_new("pause.pid", b"1")
    assert list(path.iterdir()) == []


def test_sweep_takes_ours_only(path: Path, state_dir: StateDir) -> None:
    for name in (".rootless-ns.pause.pid.1", "pause.pid.ABCDEF", "events"):
        (path / name).touch()
    state_dir.sweep()
    assert {entry.name for entry in path.iterdir()} == {"pause.pid.ABCDEF", "events"}


def test_remove_spares_what_has_changed(path: Path, state_dir: StateDir) -> None:
    (path / "pause.pid").write_bytes(b"1")
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    (path / "new").write_bytes(b"2")
    (path / "new").replace(path / "pause.pid")
    assert not state_dir.remove("pause.pid", found.identity)
    assert (path / "pause.pid").read_bytes() == b"2"
    assert not state_dir.remove("gone", found.identity)


def test_a_directory_with_content_cannot_be_removed(path: Path, state_dir: StateDir) -> None:
    (path / "pause.pid/content").mkdir(parents=True)
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    with pytest.raises(StateDirError, match=r"cannot remove .*pause\.pid"):
        state_dir.remove("pause.pid", found.identity)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
(fcntl.flock if sys.argv[2] == "flock" else fcntl.lockf)(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def take_lock(state_dir: StateDir, identity: tuple[int, int]) -> None:
    state_dir.lock("lock", timeout=0.05)


def take_file(state_dir: StateDir, identity: tuple[int, int]) -> None:
    assert state_dir.claim("pause.pid", identity, limit=11, timeout=0.05)
    assert state_dir.remove("pause.pid", identity)


def test_a_claim_shows_what_is_there_now(path: Path, state_dir: StateDir) -> None:
    (path / "pause.pid").write_bytes(b"1")
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    (path / "pause.pid").write_bytes(b"22")
    claimed = state_dir.claim("pause.pid", found.identity, limit=11, timeout=1)
    assert claimed is not None
    assert claimed.content == b"22"
    (path / "new").write_bytes(b"3")
    (path / "new").replace(path / "pause.pid")
    assert state_dir.claim("pause.pid", found.identity, limit=11, timeout=1) is None
    assert not state_dir.remove("pause.pid", found.identity)


def test_a_claim_keeps_others_out(path: Path, state_dir: StateDir) -> None:
    (path / "pause.pid").write_bytes(b"1")
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    state_dir.claim("pause.pid", found.identity, limit=11, timeout=1)
    take = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", take, str(path / "pause.pid")]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1
    state_dir.release("pause.pid")
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(("name", "how", "take"), [("lock", "flock", take_lock), ("pause.pid", "fcntl", take_file)])
def test_locks_that_others_hold(
    path: Path, state_dir: StateDir, name: str, how: str, take: Callable[[StateDir, tuple[int, int]], None]
) -> None:
    (path / "pause.pid").touch()
    found = state_dir.read("pause.pid", limit=11)
    assert found is not None
    command = [sys.executable, "-c", HOLD, str(path / name), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StateDirError, match="is locked by another process"):
            take(state_dir, found.identity)
        holder.communicate()
    take(state_dir, found.identity)


def test_a_lock_file_that_is_none(path: Path, state_dir: StateDir) -> None:
    os.mkfifo(path / "lock")
    with pytest.raises(StateDirError, match="lock is not a regular file"):
        state_dir.lock("lock", timeout=0.05)
    (path / "link").symlink_to("nowhere")
    with pytest.raises(StateDirError, match="link"):
        state_dir.lock("link", timeout=0.05)
