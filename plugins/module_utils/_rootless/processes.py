# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc says of processes: one pass for all users, and careful looks at single PIDs.

Everything read here is the kernel's word about a process, except its environment and command line, which are
the process's own word. The proc root is a parameter.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .kernel import Syscalls
from .nsfs import NamespacePair

# Set by Podman, and by us, in the environment of a process that only keeps a namespace alive.
PAUSE_VARIABLE = b"_PODMAN_PAUSE"
# Inherited by everything that Podman starts inside its namespace, container monitors first of all.
CONFIGURED_VARIABLE = b"_CONTAINERS_USERNS_CONFIGURED"

_MAX_ENVIRON = 4 * 1024 * 1024


def environ(proc: str, pid: int) -> dict[bytes, bytes]:
    """The environment a process started with.

    Only to be called as the process's own user: its memory can be one that never answers (a file system in user
    space), and a reader that waits for it cannot always be killed.
    Raises `OSError`: EACCES for other users' processes, `ProcessLookupError` for a zombie, which has none any more.
    """
    with open(f"{proc}/{pid}/environ", "rb") as file:
        content = file.read(_MAX_ENVIRON)
    if not content and not has_namespaces(f"{proc}/{pid}"):
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has exited")
    pairs = (item.partition(b"=") for item in content.split(b"\0") if item)
    return {name: value for name, _separator, value in pairs}


def comm(proc: str, pid: int) -> str:
    """The process's name, at most 15 bytes; `?` when it is gone."""
    try:
        with open(f"{proc}/{pid}/comm", "rb") as file:
            return file.read(64).decode("utf-8", "surrogateescape").removesuffix("\n")
    except OSError:
        return "?"


def owner(proc: str, pid: int) -> int:
    """The effective UID of a process (0 for one that may not be dumped). Raises `OSError` when there is none."""
    return os.stat(f"{proc}/{pid}").st_uid


def parent(proc: str, pid: int) -> int:
    """The PID of a process's parent; 0 for one that has none here. Raises `OSError` when the process is gone."""
    return int(_stat(proc, pid)[1])


def is_nested(proc: str, pid: int) -> bool:
    """Whether a process lives in a PID namespace below ours: in a container, whose users are not this host's.

    False where the process is gone. By `NSpid` of proc_pid_status(5), which anybody may read.
    """
    try:
        with open(f"{proc}/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return len(line.split()) > 2
    except OSError:
        pass
    return False


def start_time(proc: str, pid: int) -> int:
    """When a process was started, in clock ticks since boot. Raises `OSError` when there is none, or only a zombie."""
    fields = _stat(proc, pid)
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has exited")
    return int(fields[19])


def age(proc: str, pid: int) -> float:
    """Seconds since a process was started; 0 for one that is gone."""
    try:
        started = int(_stat(proc, pid)[19])
    except OSError:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def waits_in(proc: str, pid: int) -> str:
    """The state of a process and, where it can be read, the kernel function that it waits in."""
    try:
        state = _stat(proc, pid)[0].decode("utf-8", "surrogateescape")
    except OSError:
        return "gone"
    try:
        with open(f"{proc}/{pid}/wchan", "rb") as file:
            function = file.read(64).decode("utf-8", "surrogateescape")
    except OSError:
        function = ""
    return f"state {state}, in {function}" if function not in ("", "0") else f"state {state}"


def _stat(proc: str, pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third, the state, on: the second, a name, may contain anything."""
    with open(f"{proc}/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


@contextmanager
def pinned_pid(syscalls: Syscalls, pid: int) -> Iterator[int]:
    """A pidfd for `pid`: what is read of the PID inside the block is of one process if `is_running` holds after it."""
    fd = syscalls.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def is_running(pidfd: int, *, wait: float = 0.0) -> bool:
    """Whether the process behind a pidfd still runs, after `wait` seconds at most; the descriptor tells of its exit."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(wait * 1000)


@dataclass
class UsernsProcesses:
    """The processes of one user namespace other than ours."""

    userns: int
    owner_uid: int
    parent: int | None
    pids: list[int] = field(default_factory=list)


class ProcessTable:
    """All processes by user namespace, from one pass over the proc root.

    Unprivileged callers see the namespaces of their own processes only.
    """

    def __init__(self, namespaces: dict[int, UsernsProcesses], ancestors: dict[int, tuple[int, ...]]) -> None:
        self.namespaces = namespaces
        self._ancestors = ancestors
        self._by_owner: dict[int, list[UsernsProcesses]] = defaultdict(list)
        for namespace in namespaces.values():
            self._by_owner[namespace.owner_uid].append(namespace)
        self._inside: dict[int, list[int]] = defaultdict(list)
        for namespace in namespaces.values():
            for userns in (namespace.userns, *ancestors.get(namespace.userns, ())):
                self._inside[userns].extend(namespace.pids)

    @classmethod
    def scan(cls, syscalls: Syscalls, *, proc: str = "/proc") -> ProcessTable:
        """Read the proc root once; a namespace's owner and parents are asked once per namespace."""
        own = os.stat(f"{proc}/self/ns/user").st_ino
        namespaces: dict[int, UsernsProcesses] = {}
        ancestors: dict[int, tuple[int, ...]] = {}
        for entry in os.listdir(proc):
            if not entry.isdigit():
                continue
            try:
                userns = os.stat(f"{proc}/{entry}/ns/user").st_ino
            except OSError:
                continue
            if userns == own or not has_namespaces(f"{proc}/{entry}"):
                continue
            if userns not in namespaces:
                found = _describe(syscalls, f"{proc}/{entry}/ns/user", userns=userns, own=own)
                if found is None:
                    continue
                namespaces[userns], ancestors[userns] = found
            namespaces[userns].pids.append(int(entry))
        return cls(namespaces, ancestors)

    def owners(self) -> set[int]:
        """The UIDs that own one of the user namespaces."""
        return set(self._by_owner)

    def owns_any(self, uid: int) -> bool:
        """Whether a user namespace of anybody's here belongs to this UID."""
        return uid in self._by_owner

    def owned_by(self, uid: int, *, parent: int) -> list[UsernsProcesses]:
        """The user namespaces of `uid` that are direct children of the one with inode number `parent`."""
        return [namespace for namespace in self._by_owner.get(uid, ()) if namespace.parent == parent]

    def pids_inside(self, userns: int) -> list[int]:
        """Every process that lives in a user namespace or in one below it, sorted."""
        return sorted(self._inside.get(userns, ()))


def has_namespaces(path: str) -> bool:
    """False for a zombie: it keeps its user namespace's name but lives nowhere any more. `path` is its directory.

    Where only the first thread has ended, the others live on, and so does the process.
    """
    if os.path.exists(f"{path}/ns/mnt"):
        return True
    try:
        threads = os.listdir(f"{path}/task")
    except OSError:
        return False
    return any(os.path.exists(f"{path}/task/{thread}/ns/mnt") for thread in threads)


def _describe(
    syscalls: Syscalls, path: str, *, userns: int, own: int
) -> tuple[UsernsProcesses, tuple[int, ...]] | None:
    """Owner, parent and all ancestors up to our own namespace; None when the process is gone or not ours to see."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_ino != userns:
            return None
        namespace = UsernsProcesses(userns=userns, owner_uid=syscalls.ns_owner_uid(fd), parent=None)
        above = []
        while True:
            try:
                parent_fd = syscalls.ns_parent(fd)
            except OSError:
                break
            os.close(fd)
            fd = parent_fd
            above.append(os.fstat(fd).st_ino)
            if above[-1] == own:
                break
        namespace.parent = above[0] if above else None
        return namespace, tuple(above)
    except OSError:
        return None
    finally:
        os.close(fd)


def open_namespaces(pid: int, *, proc: str = "/proc") -> NamespacePair:
    """The namespaces of a process. Raises `OSError`: ENOENT when it is gone, EACCES when it is not ours."""
    return NamespacePair.open(f"{proc}/{pid}/ns/user", f"{proc}/{pid}/ns/mnt")
