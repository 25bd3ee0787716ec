# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done as the user: the operations that an `as_user.Agent` serves.

One `UserSide` lives in the child. It keeps the open state directory, its lock, and the processes it started.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from . import handles, pause, probes, processes
from .accounts import Account
from .as_user import Operation, Order, serve
from .containers import container_of
from .errors import RootlessError
from .graph_root import device_of, find_graph_root
from .handover import Excess
from .idmap import IdMapEntry
from .kernel import CLONE_NEWNS, CLONE_NEWUSER, Syscalls
from .map_writer import TOOL_PATH, write_maps
from .podman_places import PodmanPlaces, cached_state_dir, follows_database
from .podman_version import Version
from .runtime_dir import (
    STATE_SUBDIRECTORY,
    Candidate,
    NoRuntimeDirectoryError,
    RuntimeDirectory,
    check_candidate,
    find_runtime_directory,
    make_state_dir,
    old_places,
)
from .statedir import Artefact, StateDir, StateDirError
from .text import shorten
from .user_paths import UserPaths

# How long a killed process may take to be gone, so that the next look does not count it.
KILL_SECONDS = 2.0

_MAX_PATH = 1024
# The settings are in one of the first pages of the database.
_MAX_DATABASE = 1 << 20

# What Podman leaves when it first runs after the host has booted.
_HAS_RUN = "alive"

# The files we know, and how long they can be.
_LIMITS = {pause.FILE_NAME: pause.FILE_LIMIT, handles.FILE_NAME: handles.FILE_SIZE}


def order_for(
    account: Account,
    *,
    proc: str,
    run: str,
    tmp: str,
    environment: Mapping[str, str],
    candidate: Candidate | None,
    podman: Version | None = None,
    starts: bool = False,
) -> Order:
    """What `work_for_user` needs. `environment`, `candidate` and `podman` as in `UserSide`.

    `starts`: it may start processes.
    """
    return {
        "account": asdict(account),
        # Asked here, where the name service is loaded once: each child would load it anew.
        "groups": [] if account.is_self or not account.exists else os.getgrouplist(account.name, account.gid),
        "places": {"proc": proc, "run": run, "tmp": tmp, "environment": dict(environment)},
        "candidate": candidate and asdict(candidate),
        "podman": podman,
        "starts": starts,
    }


def work_for_user(
    channel: socket.socket, order: bytes, syscalls: Syscalls, paths: UserPaths, *, excess: Excess | None = None
) -> None:
    """All that a user's child does (see `as_user`).

    `paths` is what the parent knows of the mounts there are, `excess` what the parent has more than users.
    """
    told = json.loads(order)
    account = Account(**told["account"])
    candidate = told["candidate"] and Candidate(**told["candidate"])
    podman = told["podman"] and tuple(told["podman"])
    side = UserSide(account, syscalls=syscalls, **told["places"], paths=paths, candidate=candidate, podman=podman)
    serve(channel, account, told["groups"], side.operations(), syscalls, excess=excess, login=told["starts"])


class UserSide:
    """The child's side of the conversation; every public method listed in `operations` is one operation."""

    def __init__(
        self,
        account: Account,
        *,
        syscalls: Syscalls,
        proc: str,
        run: str,
        tmp: str,
        environment: Mapping[str, str],
        paths: UserPaths,
        candidate: Candidate | None = None,
        podman: Version | None = None,
    ) -> None:
        """`environment` is empty unless the caller acts for itself; `candidate` stands for Podman's choice.

        `podman` is the version whose choice it is, where that matters (see `runtime_dir.all_podmans_agree`).
        """
        self._account = account
        self._syscalls = syscalls
        self._proc = proc
        self._run = run
        self._tmp = tmp
        self._environment = environment
        self._candidate = candidate
        self._podman = podman
        self._paths = paths
        self._state_dir: StateDir | None = None
        self._started: set[int] = set()
        # Asked before this process becomes the user.
        self._is_ours = account.is_self

    def operations(self) -> dict[str, Operation]:
        return {
            "inspect": self.inspect,
            "marks": self.marks,
            "runtime_directories": self.runtime_directories,
            "old_places": self.old_places,
            "containers": self.containers,
            "lock": self.lock,
            "create": self.create,
            "start_pause": self.start_pause,
            "discard": self.discard,
            "write": self.write,
            "claim": self.claim,
            "release": self.release,
            "remove": self.remove,
            "kill_pause": self.kill_pause,
            "probe_handles": self.probe_handles,
            "why_no_namespace": self.why_no_namespace,
            "graph_root": self.graph_root,
            "join": self.join,
        }

    def inspect(self) -> dict[str, Any]:
        """Where the state is and what lies there, unjudged, and whether Podman has run there.

        `refused` tells why a candidate was not looked into.
        """
        try:
            directory = self._runtime_directory()
        except NoRuntimeDirectoryError as error:
            if self._candidate is None:
                raise
            return {
                "state_dir": self._candidate.state_dir,
                "warning": None,
                "files": {},
                "refused": str(error),
                "may_hold_state": error.may_hold_state,
            }
        cached = self._cached_state_dir(directory)
        found: dict[str, Any] = {
            "state_dir": directory.state_dir,
            "warning": "; ".join(filter(None, (directory.warning, cached))) or None,
            "cached": cached,
            "files": {},
            "has_run": False,
        }
        if not directory.exists:
            return found
        try:
            state_dir = self._state_dir or self._open(directory)
        except FileNotFoundError:
            return found
        except StateDirError as error:
            if self._candidate is None:
                raise
            # A user can make this of a place at any time: it is the user's problem, and nobody else's.
            return {**found, "refused": str(error), "may_hold_state": True}
        try:
            for name, limit in _LIMITS.items():
                artefact = state_dir.read(name, limit=limit)
                if artefact is not None:
                    found["files"][name] = _as_found(artefact)
            found["has_run"] = state_dir.has(_HAS_RUN)
        finally:
            if state_dir is not self._state_dir:
                state_dir.close()
        return found

    def marks(self, *, pids: list[int]) -> list[list[int]]:
        """What the processes say of themselves: `[pid, is a pause process, was started by Podman]`, if readable."""
        found = []
        for pid in pids:
            try:
                variables = processes.environ(self._proc, pid)
            except OSError:
                continue
            pausing = bool(variables.get(processes.PAUSE_VARIABLE))
            found.append([pid, int(pausing), int(bool(variables.get(processes.CONFIGURED_VARIABLE)))])
        return found

    def runtime_directories(self, *, pids: list[int]) -> tuple[list[str], list[str]]:
        """The runtime directories that processes were started with, where they name one that is there.

        And why others, which may be there, cannot be looked at.
        """
        found, problems = set(), []
        for pid in pids:
            try:
                value = os.fsdecode(processes.environ(self._proc, pid).get(b"XDG_RUNTIME_DIR", b""))
            except OSError:
                continue
            if not value.startswith("/"):
                continue
            if len(value) > _MAX_PATH:
                problems.append(
                    f"the XDG_RUNTIME_DIR of process {pid} is {len(value)} characters long: not looked into"
                )
                continue
            # The name is the user's choice: looked up as the user only.
            try:
                self._paths.status(value)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                # Whoever looks into it reports that.
                pass
            except RootlessError as error:
                problems.append(str(error))
                continue
            found.add(value.rstrip("/"))
        return sorted(found), problems

    def old_places(self, *, places: list[str], home: bool, database: bool) -> list[dict[str, str]]:
        """Further places with state of old Podmans, as candidates: below the runtime directories, and in the home.

        `database`: also where the host's Podman goes by its database.
        """
        directory = (self._environment.get("HOME") or self._account.home) if home else None
        found = old_places(places, directory, paths=self._paths)
        if database:
            with suppress(FileNotFoundError, NotADirectoryError):
                cached = self._state_dir_in_database() or ""
                path = cached.removesuffix(f"/{STATE_SUBDIRECTORY}")
                # Another one is `tmp_dir` of containers.conf(5).
                place = Candidate(path, STATE_SUBDIRECTORY if path != cached else "")
                if path and path not in places and place not in found:
                    found.append(place)
        return [asdict(candidate) for candidate in found]

    def _cached_state_dir(self, directory: RuntimeDirectory) -> str | None:
        """What to know where this host's Podman goes by its database, and that names another directory."""
        if self._candidate is not None or not follows_database(self._podman):
            return None
        try:
            cached = self._state_dir_in_database()
        except (OSError, RootlessError):
            return None
        if cached is None or cached == directory.state_dir or not cached.endswith(f"/{STATE_SUBDIRECTORY}"):
            return None
        return (
            f"{PodmanPlaces.of(self._podman).name} keeps {cached} in its database ({self._database}): without "
            "XDG_RUNTIME_DIR it "
            f"goes on there, in another namespace. Set XDG_RUNTIME_DIR={directory.path} for it, or, without the user's "
            "images and containers: podman system reset"
        )

    def _state_dir_in_database(self) -> str | None:
        """What Podman has written there. Raises `OSError` and `RootlessError` where that cannot be read."""
        fd = self._paths.open_file(self._database, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            return cached_state_dir(file.read(_MAX_DATABASE))

    @property
    def _database(self) -> str:
        home = self._environment.get("HOME") or self._account.home
        return f"{home}/.local/share/containers/storage/libpod/bolt_state.db"

    def containers(self, *, pids: list[int]) -> list[str | None]:
        """The name of the container that each process belongs to, where a command line tells it."""
        names = (container_of(self._proc, pid) for pid in pids)
        return [name and shorten(name) for name in names]

    def lock(self, *, make: bool, seconds: float) -> bool:
        """Lock the state directory until the child ends; False when there is none and it is not to be made.

        A lock that Podman or somebody hostile holds is waited for as long as `seconds`.
        """
        directory = self._runtime_directory()
        try:
            if make:
                make_state_dir(directory, self._account.uid, paths=self._paths)
            self._state_dir = self._open(directory)
        except FileNotFoundError:
            if make:
                raise StateDirError(f"{directory.state_dir} was removed while it was made; run again") from None
            return False
        except OSError as error:
            raise StateDirError(f"cannot make {directory.state_dir}: {error.strerror}") from None
        self._state_dir.lock(handles.LOCK_NAME, timeout=seconds)
        self._state_dir.sweep()
        return True

    def create(self, *, uid_map: list[dict[str, int]], gid_map: list[dict[str, int]]) -> int:
        """A new namespace with the given maps and a pause process in it; returns its PID."""
        pid = self._spawn(lambda: self._syscalls.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        path = self._environment.get("PATH", "")
        try:
            write_maps(
                pid,
                uid_map=[IdMapEntry(**entry) for entry in uid_map],
                gid_map=[IdMapEntry(**entry) for entry in gid_map],
                path=f"{path}:{TOOL_PATH}" if path else TOOL_PATH,
            )
        except BaseException:
            self.discard(pid=pid)
            raise
        return pid

    def start_pause(self, user_fd: int, mnt_fd: int) -> int:
        """A pause process inside an existing namespace; returns its PID."""
        return self._spawn(lambda: self._enter(user_fd, mnt_fd))

    def discard(self, *, pid: int) -> None:
        """End a process that this child started itself and has not reaped: its PID can be nobody else's."""
        if pid in self._started:
            self._started.remove(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def write(self, *, name: str, content: str) -> bool:
        """Put a new file in place; False when there is one already."""
        try:
            return self._locked().write_new(name, bytes.fromhex(content))
        except OSError as error:
            raise StateDirError(f"cannot write {self._locked().path}/{name}: {error.strerror}") from None

    def claim(self, *, name: str, identity: list[int], seconds: float) -> dict[str, Any] | None:
        """Lock the file that was seen under this name and look again; None when it is another one by now.

        A lock that somebody holds is waited for as long as `seconds`.
        """
        state_dir = self._locked()
        artefact = state_dir.claim(name, (identity[0], identity[1]), limit=_LIMITS[name], timeout=seconds)
        return _as_found(artefact) if artefact else None

    def release(self, *, name: str) -> None:
        """Let go of a claim."""
        self._locked().release(name)

    def remove(self, *, name: str, identity: list[int]) -> bool:
        """Remove the file that was claimed; False when it is another one by now."""
        return self._locked().remove(name, (identity[0], identity[1]))

    def kill_pause(self, *, pid: int, userns: int) -> bool:
        """End a pause process of the user; False when the PID is not (or no longer) one in that user namespace."""
        if pid in self._started:
            self.discard(pid=pid)
            return True
        try:
            with processes.pinned_pid(self._syscalls, pid) as pidfd:
                variables = processes.environ(self._proc, pid)
                if processes.owner(self._proc, pid) != self._account.uid:
                    return False
                if os.stat(f"{self._proc}/{pid}/ns/user").st_ino != userns:
                    return False
                if not variables.get(processes.PAUSE_VARIABLE):
                    return False
                # What was read was of the process behind the descriptor only if that one still runs.
                if not processes.is_running(pidfd):
                    return False
                self._syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
                processes.is_running(pidfd, wait=KILL_SECONDS)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False
        return True

    def probe_handles(self) -> tuple[bool | None, str]:
        """See `probes.opens_handles`."""
        return probes.opens_handles(self._syscalls, proc=self._proc)

    def why_no_namespace(
        self, *, uid_map: list[dict[str, int]], gid_map: list[dict[str, int]], path: str
    ) -> tuple[str, int, str] | None:
        """Try a namespace with these maps; None if it can be had, else the step that failed, errno and text."""
        return probes.why_no_namespace(
            self._syscalls,
            uid_map=[IdMapEntry(**entry) for entry in uid_map],
            gid_map=[IdMapEntry(**entry) for entry in gid_map],
            path=path,
        )

    def graph_root(self, *, etc: str) -> dict[str, str | None]:
        """Where Podman keeps this user's images, the device it lies on, and the user's own file of settings."""
        path, own_file = find_graph_root(self._account, environment=self._environment, etc=etc)
        return {"path": path, "device": device_of(path), "own_file": own_file}

    def join(self, user_fd: int, mnt_fd: int) -> tuple[int, int]:
        """Join a namespace for good, as Podman does: the last operation of a child.

        Returns the inode numbers of the user and the mount namespace that it has joined.
        """
        self._enter(user_fd, mnt_fd)
        return os.fstat(user_fd).st_ino, os.fstat(mnt_fd).st_ino

    def _enter(self, user_fd: int, mnt_fd: int) -> None:
        self._syscalls.setns(user_fd, CLONE_NEWUSER)
        if os.geteuid() != 0:
            raise RootlessError("the user is not root of that namespace: ID 0 there is another's")
        self._syscalls.setns(mnt_fd, CLONE_NEWNS)
        os.setresgid(0, 0, 0)
        self._hide()
        os.setresuid(0, 0, 0)
        self._hide()
        os.chdir("/")

    def _hide(self) -> None:
        """A change of IDs may have made this process dumpable again; the memory of one of root's is not the user's."""
        if not self._is_ours:
            self._syscalls.set_dumpable(False)

    def _spawn(self, enter: Any) -> int:
        try:
            runtime_dir = self._runtime_directory().path
            marks = pause.marks(uid=self._account.uid, gid=self._account.gid, runtime_dir=runtime_dir)
            pid = pause.spawn(enter, environment=marks, syscalls=self._syscalls)
        except OSError as error:
            raise RootlessError(_why_no_namespace(error, self._account)) from None
        self._started.add(pid)
        return pid

    def _runtime_directory(self) -> RuntimeDirectory:
        if self._candidate is not None:
            return check_candidate(self._candidate, self._account.uid, paths=self._paths)
        return find_runtime_directory(
            self._account.uid,
            paths=self._paths,
            run=self._run,
            tmp=self._tmp,
            home=self._account.home,
            environment=self._environment,
            podman=self._podman,
        )

    def _open(self, directory: RuntimeDirectory) -> StateDir:
        return StateDir(
            runtime_dir=directory.path,
            subdirectory=directory.subdirectory,
            uid=self._account.uid,
            syscalls=self._syscalls,
            paths=self._paths,
        )

    def _locked(self) -> StateDir:
        if self._state_dir is None:
            raise RootlessError("internal error: the state directory is changed without its lock")
        return self._state_dir


def _as_found(artefact: Artefact) -> dict[str, Any]:
    return {
        "identity": artefact.identity,
        "content": None if artefact.content is None else artefact.content.hex(),
        "problem": artefact.problem,
        "lockable": artefact.lockable,
    }


def _why_no_namespace(error: OSError, account: Account) -> str:
    """An operator's view of what unshare(2) and exec(3) answer."""
    said = f"cannot start a process in a namespace of {account.name}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        return f"{said}. User namespaces are off or used up: see sysctl user.max_user_namespaces"
    if error.errno in (errno.EPERM, errno.EACCES):
        return (
            f"{said}. Something forbids unprivileged user namespaces: see sysctl kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns, and the seccomp filter if this is a container"
        )
    if error.errno == errno.EAGAIN:
        return f"{said}. The user's limit of processes (ulimit -u, or the pids cgroup) is reached"
    return said
