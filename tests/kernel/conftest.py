# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the real kernel ask for: users, modules, Podman, and what to expect."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import module_runs
import pytest
import throwaway_users
from throwaway_users import User, lock

from ansible_collections.userns.rootless.plugins.module_utils._rootless.podman_version import PodmanVersion

CHECKOUT = Path(__file__).parents[2]

# Runs a command as root of a new user namespace with the given maps: `MAPS SETUP COMMAND...`.
IN_USERNS = """
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
maps, setup, command = sys.argv[1], sys.argv[2], sys.argv[3:]
ready, mapped = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    if libc.unshare(0x10000000 | 0x00020000):
        os._exit(98)
    os.write(ready[1], b"1")
    os.read(mapped[0], 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    libc.mount(None, b"/", None, 0x4000 | (1 << 18), None)
    if setup and subprocess.run(["sh", "-c", setup]).returncode:
        os._exit(97)
    os.execvp(command[0], command)
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(maps)
os.write(mapped[1], b"1")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(scope="session", autouse=True)
def _sweep() -> Iterator[None]:
    """What crashed runs left goes first, what this run made goes last."""
    if os.geteuid() == 0:
        throwaway_users.sweep()
    yield
    if os.geteuid() == 0:
        throwaway_users.remove_all()


@pytest.fixture(autouse=True)
def _side_by_side(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `alone` change what all share (/etc/subuid), or look at everybody: none runs beside them."""
    alone = request.node.get_closest_marker("alone") is not None
    with lock("turn", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="session")
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make throw-away users")


@pytest.fixture
def make_user(as_root: None) -> Iterator[Callable[..., User]]:
    """Makes users with ranges and a runtime directory; they are gone after the test."""
    made: list[User] = []

    def make(*, name: str | None = None, **how: Any) -> User:
        name = name or f"rnstest{os.getpid()}x{len(made)}"
        made.append(throwaway_users.make(name, **{"ranges": True, "runtime_dir": True, **how}))
        return made[-1]

    yield make
    for user in made:
        throwaway_users.remove(user)


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection and Ansible's module_utils, where every user may read them."""
    root = tmp_path_factory.mktemp("payload")
    module_runs.lay_out(root)
    return root


@pytest.fixture(scope="session")
def public_python() -> str:
    path = module_runs.python_for_everyone()
    if path is None:
        pytest.skip(module_runs.NO_PYTHON)
    return path


@pytest.fixture(scope="session")
def module_server(payload: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that runs modules as we are."""
    path = tmp_path_factory.mktemp("server") / "socket"
    with module_runs.server(payload, path):
        yield path


Module = Callable[..., dict[str, Any]]


@pytest.fixture
def module(payload: Path, module_server: Path) -> Module:
    """Runs a module in a process of its own and returns its result, failed or not."""

    def run(
        name: str,
        *,
        check: bool = False,
        diff: bool = False,
        as_user: User | None = None,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        **args: Any,
    ) -> dict[str, Any]:
        args.update(_ansible_check_mode=check, _ansible_diff=diff)
        if as_user or prefix:
            output, errors = module_runs.run(payload, name, args, prefix=prefix, user=as_user, env=env or {})
        else:
            output, errors = module_runs.ask(module_server, name, args, {**os.environ, **(env or {})})
        assert "Traceback" not in errors, errors
        answer: dict[str, Any] = json.loads(output)
        return answer

    return run


@pytest.fixture
def ns(module: Module) -> Module:
    """`rootless_ns` for one user: the task's result with the user's entry merged in."""

    def run(user: User | str | int, **args: Any) -> dict[str, Any]:
        named = {} if args.get("as_user") else {"users": [user.name if isinstance(user, User) else str(user)]}
        result = module("rootless_ns", **named, **args)
        (entry,) = result["namespaces"]
        return {**result, **entry}

    return run


@pytest.fixture
def home(user: Any, tmp_path: Path) -> Path:
    """A directory of the user's, seen in its namespace."""
    path = tmp_path / "home"
    path.mkdir()
    for directory in (path, *path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    os.chown(path, user.uid, user.gid)
    return path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, public_python: str) -> Path:
    """The command, installed as a role would do, where every user can run it."""
    root = tmp_path_factory.mktemp("installed")
    (root / "bin").mkdir()
    library = CHECKOUT / "plugins/module_utils/_rootless"
    shutil.copytree(library, root / "lib/rootless-ns/_rootless", ignore=shutil.ignore_patterns("__pycache__"))
    command = root / "bin/rootless-ns"
    first, rest = (CHECKOUT / "roles/rootless_persist/files/rootless-ns").read_text().split("\n", 1)
    assert first == "#!/usr/bin/python3 -I"
    command.write_text(f"#!{public_python} -I\n{rest}")
    command.chmod(0o755)
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    return command


@pytest.fixture
def command(installed: Path) -> Callable[..., Any]:
    def run(*arguments: str, as_user: Any = None, env: dict[str, str] | None = None, **how: Any) -> Any:
        line = [str(installed), *arguments]
        if as_user is not None:
            line = as_user.command(*line, env=env)
        how = {"cwd": "/", "stdin": subprocess.DEVNULL, **how} if "input" not in how else {"cwd": "/", **how}
        result = subprocess.run(
            line,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=None if as_user is not None else {**os.environ, **(env or {})},
            **how,
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


@pytest.fixture
def podman() -> Callable[[User, str], str]:
    """Runs Podman as a user, with cgroup 2 where old Podmans look for it; returns what it prints."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman (Debian: apt-get install podman)")
    script = (
        "while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup || break; done; "
        'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    )

    def run(user: User, command: str) -> str:
        line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        line += user.command("podman", "unshare", "sh", "-c", command, env={"HOME": str(user.runtime_dir)})
        result = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/", timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return run


@pytest.fixture(scope="session")
def reads_handles() -> bool:
    """Whether this host's Podman reads ns_handles; where there is none, one of tomorrow is expected."""
    return PodmanVersion().reads_handles()


def namespaces_of(pid: int | str) -> tuple[int, int]:
    """The inode numbers of a process's user and mount namespace, straight from /proc."""
    return os.stat(f"/proc/{pid}/ns/user").st_ino, os.stat(f"/proc/{pid}/ns/mnt").st_ino


@pytest.fixture
def inodes() -> Callable[[int | str], tuple[int, int]]:
    return namespaces_of


@pytest.fixture
def expected_maps() -> Callable[[User], dict[str, list[dict[str, int]]]]:
    """What the maps ought to be, worked out here from the files by hand."""

    def work_out(user: User) -> dict[str, list[dict[str, int]]]:
        maps = {}
        for kind, own in (("uid", user.uid), ("gid", user.gid)):
            entries = [{"id": 0, "parent_id": own, "count": 1}]
            ranges = []
            for line in Path(f"/etc/sub{kind}").read_text().splitlines():
                owner, start, count = line.split(":")
                if owner in (user.name, str(user.uid)):
                    ranges.append((int(start), int(count)))
            place = 1
            for first, length in sorted(ranges):
                entries.append({"id": place, "parent_id": first, "count": length})
                place += length
            maps[f"{kind}_map"] = entries
        return maps

    return work_out


@pytest.fixture
def in_userns(as_root: None, public_python: str) -> Callable[..., tuple[str, ...]]:
    """The start of a command line that runs the rest as root of a user namespace with other maps than ours."""

    def start(maps: str, setup: str = "") -> tuple[str, ...]:
        return (public_python, "-c", IN_USERNS, maps, setup)

    return start
