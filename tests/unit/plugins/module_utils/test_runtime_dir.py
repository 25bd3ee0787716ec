# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.runtime_dir import (
    NoRuntimeDirectoryError,
    find_runtime_directory,
    make_state_dir,
    may_have_state,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.user_paths import UserPaths

UID = os.geteuid()
PATHS = UserPaths(Syscalls())


def directory(path: Path, mode: int = 0o700) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def find(root: Path, **environment: str) -> str:
    found = find_runtime_directory(
        UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"), environment=environment
    )
    return str(Path(found.path).relative_to(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory(tmp_path / "tmp")
    return tmp_path


def test_the_order(root: Path) -> None:
    assert find(root) == f"tmp/storage-run-{UID}"
    directory(root / f"tmp/storage-run-{UID}")
    assert find(root) == f"tmp/storage-run-{UID}"
    directory(root / f"run/user/{UID}")
    assert find(root) == f"run/user/{UID}"
    xdg = directory(root / "xdg")
    assert find(root, XDG_RUNTIME_DIR=str(xdg)) == "xdg"
    assert find(root, XDG_RUNTIME_DIR="") == f"run/user/{UID}"


def test_the_temporary_directory_of_the_environment(root: Path) -> None:
    directory(root / "mine")
    assert find(root, TMPDIR=str(root / "mine")) == f"mine/storage-run-{UID}"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o720, 0o500, 0o300])
def test_directories_that_others_may_write_to_are_passed_over(root: Path, mode: int) -> None:
    directory(root / f"run/user/{UID}", mode)
    found = find_runtime_directory(UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    assert found.path == str(root / f"tmp/storage-run-{UID}")
    assert not found.exists
    assert f"has mode {mode:04o}" in str(found.warning)


@pytest.mark.parametrize("mode", [0o700, 0o711, 0o755, 0o1700])
def test_directories_that_others_may_read_are_fine(root: Path, mode: int) -> None:
    directory(root / f"run/user/{UID}", mode)
    assert find(root) == f"run/user/{UID}"


def test_a_wrong_variable_is_ignored_and_told(root: Path) -> None:
    directory(root / f"run/user/{UID}")
    found = find_runtime_directory(
        UID, paths=PATHS, run=str(root / "run"), environment={"XDG_RUNTIME_DIR": str(root / "gone")}
    )
    assert found.path == str(root / f"run/user/{UID}")
    assert "XDG_RUNTIME_DIR" in str(found.warning)


@pytest.mark.parametrize("kind", ["symlink", "file", "mode"])
def test_no_directory_at_all(root: Path, kind: str) -> None:
    fallback = root / f"tmp/storage-run-{UID}"
    if kind == "symlink":
        fallback.symlink_to(directory(root / "elsewhere"))
    elif kind == "file":
        fallback.touch()
    else:
        directory(fallback, 0o777)
    with pytest.raises(NoRuntimeDirectoryError) as caught:
        find(root)
    for told in (f"run/user/{UID}", str(fallback), "enable-linger"):
        assert told in str(caught.value)


def test_somebody_elses_directory(root: Path) -> None:
    directory(root / f"run/user/{UID + 1}")
    directory(root / f"tmp/storage-run-{UID + 1}")
    name = pwd.getpwuid(UID).pw_name
    with pytest.raises(NoRuntimeDirectoryError, match=rf"owned by UID {UID} \({name}\), not {UID + 1}") as caught:
        find_runtime_directory(UID + 1, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    assert f"As root remove {root}/tmp/storage-run-{UID + 1} (rm -r)" in str(caught.value)
    assert f"loginctl enable-linger {UID + 1}" in str(caught.value)


@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_somebody_else_was_faster(root: Path, kind: str) -> None:
    """Between the look and the mkdir."""
    found = find_runtime_directory(UID + 1, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    assert not found.exists
    elsewhere = directory(root / "elsewhere")
    if kind == "directory":
        directory(Path(found.path), 0o777)
    elif kind == "link":
        Path(found.path).symlink_to(elsewhere)
    else:
        Path(found.path).touch()
    with pytest.raises((NoRuntimeDirectoryError, NotADirectoryError)):
        make_state_dir(found, UID + 1, paths=PATHS)
    assert list(elsewhere.iterdir()) == []
    assert kind != "directory" or os.listdir(found.path) == []


def test_no_link_is_followed_to_make_the_state_directory(root: Path) -> None:
    found = find_runtime_directory(UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    elsewhere = directory(root / "elsewhere")
    directory(Path(found.path)).joinpath("libpod").symlink_to(elsewhere)
    make_state_dir(found, UID, paths=PATHS)
    assert list(elsewhere.iterdir()) == []


def test_the_state_directory_is_made_private(root: Path) -> None:
    found = find_runtime_directory(UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    make_state_dir(found, UID, paths=PATHS)
    make_state_dir(found, UID, paths=PATHS)
    for path in (found.path, f"{found.path}/libpod", found.state_dir):
        assert os.stat(path).st_mode & 0o7777 == 0o700


def test_who_is_worth_asking(root: Path) -> None:
    assert not may_have_state(UID, run=str(root / "run"), tmp=str(root / "tmp"))
    (root / f"tmp/storage-run-{UID}").symlink_to("nowhere")
    assert may_have_state(UID, run=str(root / "run"), tmp=str(root / "tmp"))


def test_a_directory_of_anothers_makes_nobody_worth_asking(root: Path) -> None:
    """Everybody can make one for each account of the host."""
    where = {"run": str(root / "run"), "tmp": str(root / "tmp")}
    directory(root / f"tmp/storage-run-{UID}")
    directory(root / f"tmp/storage-run-{UID + 1}")
    assert may_have_state(UID, **where)
    assert not may_have_state(UID + 1, **where)
