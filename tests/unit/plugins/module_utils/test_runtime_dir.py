# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.podman_version import Version
from ansible_collections.userns.rootless.plugins.module_utils._rootless.runtime_dir import (
    NoRuntimeDirectoryError,
    RefusedVariableError,
    RuntimeDirectory,
    all_podmans_agree,
    candidates,
    find_runtime_directory,
    make_state_dir,
    may_have_state,
    old_places,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.user_paths import LinkError, UserPaths

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


# The version, the name in the temporary directory, what it says of a variable that names nothing (None: it passes it
# over), and of one that names somebody else's directory. From the sources; 4.3.1, 5.4 and 5.8 also seen.
PODMANS: list[tuple[Version | None, str, str | None, str]] = [
    ((3, 4, 4), "podman-run", "stat {}: no such file", 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((4, 2, 0), "podman-run", "stat {}: no such file", 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((4, 3, 1), "podman-run", None, 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((4, 4, 4), "podman-run", None, 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((4, 5, 0), "podman-run", "lstat {}: no such file", 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((4, 9, 5), "podman-run", "lstat {}: no such file", 'XDG_RUNTIME_DIR directory "{}" is not owned'),
    ((5, 4, 2), "storage-run", "lstat {}: no such file", "mkdir {}/libpod: permission denied"),
    ((6, 0, 0), "storage-run", "lstat {}: no such file", "mkdir {}/libpod: permission denied"),
    (None, "storage-run", "lstat {}: no such file", "mkdir {}/libpod: permission denied"),
]


def found_by(
    podman: Version | None, root: Path, *, uid: int = UID, home: str = "/", **environment: str
) -> RuntimeDirectory:
    return find_runtime_directory(
        uid,
        paths=PATHS,
        run=str(root / "run"),
        tmp=str(root / "tmp"),
        home=home,
        environment=environment,
        podman=podman,
    )


@pytest.mark.parametrize(("podman", "name", "missing", "anothers"), PODMANS)
def test_each_podman(root: Path, podman: Version | None, name: str, missing: str | None, anothers: str) -> None:
    fallback = str(root / f"tmp/{name}-{UID}")
    found = found_by(podman, root)
    assert (found.path, found.exists) == (fallback, False)
    said = "Podman " + ".".join(map(str, podman)) + " does" if podman else "Podman 5.0 and later do"
    assert f"using {fallback}, as {said};" in str(found.warning)
    gone = str(root / "gone")
    if missing is None:
        found = found_by(podman, root, XDG_RUNTIME_DIR=gone)
        assert found.path == fallback
        assert gone in str(found.warning)
    else:
        with pytest.raises(RefusedVariableError, match=re.escape(missing.format(gone))):
            found_by(podman, root, XDG_RUNTIME_DIR=gone)
    there = str(directory(root / "there"))
    with pytest.raises(RefusedVariableError, match=re.escape(anothers.format(there))) as caught:
        found_by(podman, root, uid=UID + 1, XDG_RUNTIME_DIR=there)
    assert f"{there} is owned by UID {UID}" in str(caught.value)
    (root / "file").touch()
    with pytest.raises(RefusedVariableError, match="file/libpod: not a directory"):
        found_by(podman, root, XDG_RUNTIME_DIR=str(root / "file"))
    with pytest.raises(RefusedVariableError, match="does not start with /"):
        found_by(podman, root, XDG_RUNTIME_DIR="there")


@pytest.mark.parametrize(
    ("podman", "modes"),
    [
        ((4, 0, 3), {0o700}),
        ((4, 3, 1), {0o700, 0o711, 0o755}),
        ((4, 9, 5), {0o700, 0o711, 0o755, 0o770, 0o702, 0o777}),
        ((5, 4, 2), {0o700, 0o711, 0o755}),
        (None, {0o700, 0o711, 0o755}),
    ],
)
def test_modes(root: Path, podman: Version | None, modes: set[int]) -> None:
    path = directory(root / f"run/user/{UID}")
    used = set()
    for mode in (0o700, 0o711, 0o755, 0o770, 0o702, 0o777, 0o500, 0o300):
        path.chmod(mode)
        found = found_by(podman, root)
        if found.path == str(path):
            used.add(mode)
        else:
            assert f"has mode {mode:04o}" in str(found.warning)
        # A variable is followed without a look at the mode.
        assert found_by(podman, root, XDG_RUNTIME_DIR=str(path)).path == str(path)
    path.chmod(0o700)
    assert used == modes


@pytest.mark.parametrize(
    ("podman", "follows"), [((4, 3, 1), True), ((4, 9, 5), True), ((5, 4, 2), False), (None, False)]
)
def test_links_in_the_usual_places(root: Path, podman: Version | None, follows: bool) -> None:
    real = directory(root / "real")
    (root / "run/user").mkdir(parents=True)
    (root / f"run/user/{UID}").symlink_to(real)
    assert (found_by(podman, root).path == str(real)) == follows
    (root / f"run/user/{UID}").unlink()
    for name in ("storage-run", "podman-run"):
        (root / f"tmp/{name}-{UID}").symlink_to(real)
    if follows:
        assert found_by(podman, root).path == str(real)
    else:
        with pytest.raises(NoRuntimeDirectoryError, match="is not a directory"):
            found_by(podman, root)


def test_a_link_in_the_variable(root: Path) -> None:
    real = directory(root / "real", 0o777)
    (root / "link").symlink_to("real")
    assert found_by(None, root, XDG_RUNTIME_DIR=str(root / "link")).path == str(real)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a link away")
def test_a_link_of_somebody_elses_in_a_shared_directory(root: Path) -> None:
    """As fs.protected_symlinks has it: everybody may make one there that leads into the user's own."""
    real = directory(root / "real")
    (root / "tmp").chmod(0o1777)
    os.chown(root / "tmp", 7, 7)
    link = root / f"tmp/podman-run-{UID}"
    link.symlink_to(real)
    assert found_by((4, 3, 1), root).path == str(real)
    os.chown(link, 8, 8, follow_symlinks=False)
    with pytest.raises(NoRuntimeDirectoryError, match=f"{link}: Permission denied"):
        found_by((4, 3, 1), root)


def test_the_home_comes_last(root: Path) -> None:
    home = directory(root / "home")
    (root / f"tmp/podman-run-{UID}").touch()
    with pytest.raises(NoRuntimeDirectoryError, match=rf"mkdir {home}/rundir/libpod: no such file"):
        found_by((4, 3, 1), root, home=str(home))
    rundir = directory(home / "rundir", 0o755)
    found = found_by((4, 3, 1), root, home=str(home))
    assert (found.path, found.exists) == (str(rundir), True)
    assert found_by((4, 3, 1), root, HOME=str(home)).path == str(rundir)
    (root / f"tmp/storage-run-{UID}").touch()
    with pytest.raises(NoRuntimeDirectoryError, match="is not writeable only by the current user"):
        found_by((5, 4, 2), root, home=str(home))


def test_when_the_version_matters(root: Path) -> None:
    def agree(uid: int = UID, **environment: str) -> bool:
        return all_podmans_agree(uid, paths=PATHS, run=str(root / "run"), environment=environment)

    assert not agree()
    path = directory(root / f"run/user/{UID}")
    assert agree()
    assert not agree(UID + 1)
    path.chmod(0o755)
    assert not agree()
    assert agree(XDG_RUNTIME_DIR=str(path))
    assert not agree(XDG_RUNTIME_DIR=str(root / "gone"))
    (root / "link").symlink_to(path)
    assert not agree(XDG_RUNTIME_DIR=str(root / "link"))


def test_old_places(root: Path) -> None:
    where = {"run": str(root / "run"), "tmp": str(root / "tmp")}
    assert candidates(UID, **where) == []
    assert old_places([], str(root / "home"), paths=PATHS) == []
    places = [directory(root / f"tmp/{name}-{UID}") for name in ("storage-run", "podman-run", "run")]
    assert [place.state_dir for place in candidates(UID, **where)] == [f"{place}/libpod/tmp" for place in places]
    directory(places[0] / "libpod").joinpath("pause.pid").touch()
    directory(root / "home/rundir/libpod/tmp")
    found = old_places([str(place) for place in places], str(root / "home"), paths=PATHS)
    assert [place.state_dir for place in found] == [f"{places[0]}/libpod", str(root / "home/rundir/libpod/tmp")]
    assert len(old_places([str(place) for place in places], None, paths=PATHS)) == 1


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


def test_the_state_directory_is_made_where_a_link_of_the_users_leads(root: Path) -> None:
    found = find_runtime_directory(UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    elsewhere = directory(root / "elsewhere")
    link = directory(Path(found.path)) / "libpod"
    link.symlink_to(elsewhere)
    make_state_dir(found, UID, paths=PATHS)
    assert [path.name for path in elsewhere.iterdir()] == ["tmp"]
    link.unlink()
    link.symlink_to("nowhere")
    with pytest.raises(LinkError, match="does not exist"):
        make_state_dir(found, UID, paths=PATHS)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a link away")
@pytest.mark.parametrize("of", ["link", "directory"])
def test_no_link_is_followed_to_what_is_somebody_elses(root: Path, of: str) -> None:
    found = find_runtime_directory(UID, paths=PATHS, run=str(root / "run"), tmp=str(root / "tmp"))
    elsewhere = directory(root / "elsewhere")
    link = directory(Path(found.path)) / "libpod"
    link.symlink_to(elsewhere)
    os.chown(link if of == "link" else elsewhere, 7, 7, follow_symlinks=False)
    with pytest.raises(LinkError, match="UID 7"):
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
