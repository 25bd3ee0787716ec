# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are changed as shadow does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import subid_edit
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_edit import (
    EditError,
    accounts_locked,
    locked,
    replace_file,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "subuid"
    path.write_text("alice:1:1\n")
    return path


def test_the_lock_is_shadows(path: Path) -> None:
    lock = Path(f"{path}.lock")
    with locked(str(path)):
        assert lock.read_bytes() == f"{os.getpid()}\0".encode()
        assert [entry.name for entry in sorted(path.parent.iterdir())] == ["subuid", "subuid.lock"]
    assert list(path.parent.iterdir()) == [path]


def test_a_lock_of_a_living_process_is_respected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subid_edit, "_LOCK_SECONDS", 0.1)
    Path(f"{path}.lock").write_text(str(os.getppid()))
    with pytest.raises(EditError, match=f"by process {os.getppid()}: try again"), locked(str(path)):
        pass
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["subuid", "subuid.lock"]


def test_a_lock_that_names_no_process_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subid_edit, "_LOCK_SECONDS", 0.2)
    Path(f"{path}.lock").write_text("somebody")
    with pytest.raises(EditError, match="names no process: remove it"), locked(str(path)):
        pass
    assert Path(f"{path}.lock").read_text() == "somebody"


def test_a_lock_of_a_dead_process_is_taken_over(path: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    Path(f"{path}.lock").write_text(str(process.pid))
    with locked(str(path)):
        pass
    assert list(path.parent.iterdir()) == [path]


def test_whoever_changes_accounts_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subid_edit, "_LOCK_SECONDS", 0.1)
    take = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    take += "; print(flush=True); input()"
    command = [sys.executable, "-c", take, str(path.parent / ".pwd.lock")]
    with accounts_locked(str(path.parent)):
        assert b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(EditError, match="locked by another process"), accounts_locked(str(path.parent)):
            pass
        holder.communicate(b"\n")


def test_mode_is_kept_and_nothing_is_left(path: Path) -> None:
    path.chmod(0o640)
    Path(f"{path}.rootless").symlink_to("/nonexistent")
    replace_file(str(path), b"bob:2:2\n")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"bob:2:2\n", 0o640)
    assert list(path.parent.iterdir()) == [path]


def test_a_new_file_can_be_read_by_all(path: Path) -> None:
    path.unlink()
    replace_file(str(path), b"bob:2:2\n")
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "subuid"
    link.parent.mkdir()
    link.symlink_to("../subuid")
    replace_file(str(link), b"bob:2:2\n")
    assert (link.is_symlink(), path.read_bytes()) == (True, b"bob:2:2\n")
    assert list(link.parent.iterdir()) == [link]


def test_a_full_disk_leaves_nothing_behind(path: Path) -> None:
    """A limit on the size of files fails the same write, for anybody."""
    code = "import resource, signal, sys; sys.path.insert(0, sys.argv[1])"
    code += "; from _rootless.subid_edit import locked, replace_file"
    code += "; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    library = Path(subid_edit.__file__).parents[1]
    for change in ("with locked(sys.argv[2]): pass", "replace_file(sys.argv[2], b'bob:2:2')"):
        command = [sys.executable, "-c", f"{code}\n{change}", str(library), str(path)]
        assert b"EditError" in subprocess.run(command, capture_output=True, check=False).stderr
        assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == "alice:1:1\n"


def test_a_directory_that_is_not_there(path: Path) -> None:
    with pytest.raises(EditError, match="cannot lock"), locked(f"{path}/none"):
        pass
    with pytest.raises(EditError, match="cannot write"):
        replace_file(f"{path}/none", b"")
