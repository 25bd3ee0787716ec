# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away users on the real kernel, and the modules run as they run on a target: in a process of their own."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible
import pytest

PREFIX = "rnstest"
# In passwd(5), before the run that made the user: by this the next run knows what a crashed one has left.
COMMENT = "userns.rootless test"
PINS = Path("/run/rootless-ns")
CHECKOUT = Path(__file__).parents[2]

RUNNER = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.userns.rootless.plugins.modules." + sys.argv[2])
with patch_module_args(json.loads(sys.argv[3])):
    module.main()
"""


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


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int

    @property
    def runtime_dir(self) -> Path:
        return Path(f"/run/user/{self.uid}")

    @property
    def state_dir(self) -> Path:
        return self.runtime_dir / "libpod/tmp"

    @property
    def pause_file(self) -> Path:
        return self.state_dir / "pause.pid"

    @property
    def handles_file(self) -> Path:
        return self.state_dir / "ns_handles"

    @property
    def pin(self) -> Path:
        return PINS / str(self.uid)

    def command(self, *command: str, env: dict[str, str] | None = None) -> list[str]:
        """The command line that runs a command as this user with a clean environment."""
        variables = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": "/", "XDG_RUNTIME_DIR": str(self.runtime_dir)}
        variables.update(env or {})
        return [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--init-groups",
            "env",
            "-i",
            *(f"{name}={value}" for name, value in variables.items()),
            *command,
        ]

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        result = subprocess.run(
            self.command(*command, env=env),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def processes(self) -> list[int]:
        """Everything that runs with this UID, zombies left out."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if entry.stat().st_uid == self.uid and "\nState:\tZ" not in (entry / "status").read_text():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def add_subuids(self) -> None:
        """A range more, so that the namespace drifts."""
        shadow("usermod", "--add-subuids", "3950000000-3950000099", self.name)

    def pause_pid(self) -> int:
        return int(self.pause_file.read_bytes())

    def kill_pause(self) -> None:
        kill_and_wait(self.pause_pid())


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    for _attempt in range(200):
        if not Path(f"/proc/{pid}/ns/mnt").exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} survived SIGKILL")


def detach(path: Path) -> None:
    """Unmount everything at a path."""
    libc = ctypes.CDLL(None)
    while libc.umount2(os.fsencode(path), 2) == 0:
        pass


@contextlib.contextmanager
def _lock(name: str, operation: int) -> Iterator[None]:
    """A lock among the processes that run tests side by side (`pytest -n`)."""
    # Not in /tmp, where others could put a link there.
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "userns-rootless-tests"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(directory / f"kernel-{name}.lock", "w") as lock:
        fcntl.flock(lock, operation)
        yield


def shadow(*command: str) -> None:
    """One of shadow's tools; one at a time, since they lose patience with each other's locks, or sleep for seconds."""
    with _lock("shadow", fcntl.LOCK_EX):
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL if command[0] == "userdel" else None)


def _remove(user: User) -> None:
    for pid in user.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for name in ("user", "mnt"):
        detach(user.pin / name)
    shutil.rmtree(user.pin, ignore_errors=True)
    detach(user.runtime_dir)
    shutil.rmtree(user.runtime_dir, ignore_errors=True)
    for name in (f"storage-run-{user.uid}", f"podman-run-{user.uid}", f"containers-user-{user.uid}"):
        shutil.rmtree(Path("/tmp") / name, ignore_errors=True)
    shadow("userdel", "--force", user.name)


def _comment(pid: int) -> str | None:
    """What the users of a run are marked with, a PID being used again by others; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return f"{COMMENT} {pid} {fields[19]}"


def _users_of_runs(wanted: Callable[[str, int], bool]) -> list[User]:
    """The test users for whose mark and PID `wanted` holds."""
    found = []
    for entry in pwd.getpwall():
        mark = re.fullmatch(rf"{COMMENT} (\d+) \d+", entry.pw_gecos)
        if mark and wanted(entry.pw_gecos, int(mark.group(1))):
            found.append(User(entry.pw_name, entry.pw_uid, entry.pw_gid))
    return found


@pytest.fixture(scope="session", autouse=True)
def _sweep() -> Iterator[None]:
    """What crashed runs left goes first, what this run made goes last; another run's users, beside this one, stay."""
    if os.geteuid() == 0:
        # One worker at a time: they all see the same users.
        with _lock("sweep", fcntl.LOCK_EX):
            for user in _users_of_runs(lambda mark, pid: mark != _comment(pid)):
                _remove(user)
    yield
    if os.geteuid() == 0:
        for user in _users_of_runs(lambda mark, pid: mark == _comment(os.getpid())):
            _remove(user)
        with _lock("turn", fcntl.LOCK_EX):
            if PINS.is_mount() and not any(PINS.iterdir()):
                detach(PINS)
                PINS.rmdir()


@pytest.fixture(autouse=True)
def _side_by_side(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests marked `alone` change what all share (/etc/subuid), or look at everybody: none runs beside them."""
    alone = request.node.get_closest_marker("alone") is not None
    with _lock("turn", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="session")
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make throw-away users")


@pytest.fixture
def make_user(as_root: None) -> Iterator[Callable[..., User]]:
    """Makes users with ranges and a runtime directory; they are gone after the test."""
    made: list[User] = []

    def make(*, name: str | None = None, ranges: bool = True, runtime_dir: bool = True) -> User:
        name = name or f"{PREFIX}{os.getpid()}x{len(made)}"
        mark = _comment(os.getpid()) or COMMENT
        shadow("useradd", "--user-group", "--no-create-home", "--home-dir", "/", "--comment", mark, name)
        entry = pwd.getpwnam(name)
        user = User(name, entry.pw_uid, entry.pw_gid)
        made.append(user)
        for kind in ("uid", "gid"):
            lines = [line for line in Path(f"/etc/sub{kind}").read_text().splitlines() if line.startswith(f"{name}:")]
            if lines and not ranges:
                _owner, start, count = lines[0].split(":")
                last = int(start) + int(count) - 1
                shadow("usermod", f"--del-sub{kind}s", f"{start}-{last}", name)
            elif not lines and ranges:
                start = str(3_000_000_000 + 65536 * (user.uid % 10000))
                last = int(start) + 65535
                shadow("usermod", f"--add-sub{kind}s", f"{start}-{last}", name)
        if runtime_dir:
            user.runtime_dir.mkdir(parents=True)
            os.chown(user.runtime_dir, user.uid, user.gid)
            user.runtime_dir.chmod(0o700)
        return user

    yield make
    for user in made:
        _remove(user)


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection and Ansible's module_utils, where every user may read them."""
    root = tmp_path_factory.mktemp("payload")
    shutil.copytree(Path(ansible.__file__).parent / "module_utils", root / "ansible/module_utils")
    (root / "ansible/__init__.py").touch()
    collection = root / "ansible_collections/userns/rootless"
    shutil.copytree(CHECKOUT / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    return root


@functools.cache
def _python_for_everyone() -> str | None:
    for path in ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11", "/usr/bin/python3"):
        probe = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]
        if os.path.exists(path) and subprocess.run(probe, check=False).returncode == 0:
            return path
    return None


@pytest.fixture(scope="session")
def public_python() -> str:
    path = _python_for_everyone()
    if path is None:
        pytest.skip("needs a Python 3.9 or later in /usr/bin, which ordinary users can run")
    return path


@pytest.fixture(scope="session")
def module_server(payload: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that runs modules as we are (see `module_server.py`)."""
    path = tmp_path_factory.mktemp("server") / "socket"
    modules = sorted(file.stem for file in (CHECKOUT / "plugins/modules").glob("*.py"))
    command = [sys.executable, str(Path(__file__).with_name("module_server.py")), str(payload), str(path), *modules]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd="/") as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield path
        server.kill()


def _ask_server(path: Path, module: str, args: dict[str, Any], env: dict[str, str]) -> tuple[str, str]:
    request = json.dumps({"module": module, "args": args, "env": env}).encode()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        connection.settimeout(120)
        connection.connect(str(path))
        socket.send_fds(connection, [request], [out.fileno(), err.fileno()])
        assert connection.recv(1) == b""
        out.seek(0)
        err.seek(0)
        return out.read(), err.read()


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
        variables = dict(os.environ, **(env or {}))
        if as_user or prefix:
            python = _python_for_everyone()
            if python is None:
                pytest.skip("needs a Python 3.9 or later in /usr/bin, which ordinary users can run")
            command = [*prefix, python, "-c", RUNNER, str(payload), name, json.dumps(args)]
            if as_user:
                command = as_user.command(*command, env=env)
            result = subprocess.run(
                command, capture_output=True, text=True, check=False, env=variables, cwd="/", timeout=120
            )
            output, errors = result.stdout, result.stderr
        else:
            output, errors = _ask_server(module_server, name, args, variables)
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
