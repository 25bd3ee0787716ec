# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away users with ranges and runtime directories, and how they vanish again, also after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# In passwd(5), before the run that made the user: by this the next run knows what a crashed one has left.
COMMENT = "userns.rootless test"
PINS = Path("/run/rootless-ns")
# Where systemd does not run.
CGROUPS = (Path("/sys/fs/cgroup/pids/rootless-ns"), Path("/sys/fs/cgroup/rootless-ns"))
# Records of processes that could not be ended.
STUCK = Path("/run/rootless-ns-stuck")


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

    @property
    def temporary_dir(self) -> Path:
        """The runtime directory that this host's Podman falls back to."""
        return Path(f"/tmp/{'podman' if is_podman_before_5() else 'storage'}-run-{self.uid}")

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


@functools.cache
def podman_version() -> tuple[int, int] | None:
    if shutil.which("podman") is None:
        return None
    told = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, *_rest = told.split()[-1].split(".")
    return int(major), int(minor)


def is_podman_before_5() -> bool:
    version = podman_version()
    return version is not None and version < (5, 0)


def goes_by_its_database() -> bool:
    version = podman_version()
    return version is not None and (2, 2) <= version < (4, 5)


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    for _attempt in range(200):
        if not Path(f"/proc/{pid}/ns/mnt").exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} survived SIGKILL")


def mounts_below(top: Path) -> list[Path]:
    """Mount points at a path and below it, the last made first; none is asked."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if point == top or top in point.parents]


def detach(path: Path) -> None:
    """Unmount everything at a path."""
    libc = ctypes.CDLL(None)
    while libc.umount2(os.fsencode(path), 2) == 0:
        pass


@contextlib.contextmanager
def lock(name: str, operation: int) -> Iterator[None]:
    """A lock among the processes that run tests side by side (`pytest -n`)."""
    # Not in /tmp, where others could put a link there.
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "userns-rootless-tests"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(directory / f"kernel-{name}.lock", "w") as file:
        fcntl.flock(file, operation)
        yield


def shadow(*command: str) -> None:
    """One of shadow's tools; one at a time, since they lose patience with each other's locks, or sleep for seconds."""
    with lock("shadow", fcntl.LOCK_EX):
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL if command[0] == "userdel" else None)


def make(name: str, *, ranges: bool, runtime_dir: bool, uid: int | None = None, home: str = "/") -> User:
    """A user of this run's, with one range of each kind however useradd is set up, or with none."""
    mark = _comment(os.getpid()) or COMMENT
    number = () if uid is None else ("--uid", str(uid))
    shadow("useradd", *number, "--user-group", "--no-create-home", "--home-dir", home, "--comment", mark, name)
    entry = pwd.getpwnam(name)
    user = User(name, entry.pw_uid, entry.pw_gid)
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


def remove(user: User) -> None:
    for pid in user.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for hierarchy in CGROUPS:
        with contextlib.suppress(OSError):
            (hierarchy / str(user.uid)).rmdir()
    for name in ("user", "mnt"):
        detach(user.pin / name)
    shutil.rmtree(user.pin, ignore_errors=True)
    for point in mounts_below(user.runtime_dir):
        detach(point)
    shutil.rmtree(user.runtime_dir, ignore_errors=True)
    (STUCK / str(user.uid)).unlink(missing_ok=True)
    for name in (f"storage-run-{user.uid}", f"podman-run-{user.uid}", f"run-{user.uid}", f"containers-user-{user.uid}"):
        shutil.rmtree(Path("/tmp") / name, ignore_errors=True)
    with contextlib.suppress(KeyError):
        pwd.getpwnam(user.name)
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


def sweep() -> None:
    """Remove what crashed runs left; the users of a run beside this one stay."""
    # One worker at a time: they all see the same users.
    with lock("sweep", fcntl.LOCK_EX):
        for user in _users_of_runs(lambda mark, pid: mark != _comment(pid)):
            remove(user)


def remove_all() -> None:
    """Remove what this run made, and the directory of pins when nobody has one."""
    for user in _users_of_runs(lambda mark, pid: mark == _comment(os.getpid())):
        remove(user)
    with lock("turn", fcntl.LOCK_EX):
        if PINS.is_mount() and not any(PINS.iterdir()):
            detach(PINS)
            PINS.rmdir()
