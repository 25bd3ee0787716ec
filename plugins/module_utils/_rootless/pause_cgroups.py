# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups for pause processes that root starts: not those of root's session or service, whose end would end them.

Whoever owns a pause process can trace it, and make it start others. So each user has a cgroup of its own with room
for a few processes, and a child that will start a pause process is moved there before anything of the user's runs.

- Where systemd runs, in a transient scope in the slice `rootless_ns.slice`: one for each call, made when the first
  pause process is needed. It ends with the last pause process in it. Not below `user.slice`, which belongs to logind,
  nor in the user's own manager, which ends with the user's last session. Users who start pause processes themselves
  have those in their own managers (see `user_scope`).
- Elsewhere below `rootless-ns` at the root of the hierarchies of cgroup version 2 and of version 1's `pids`.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from .errors import RootlessError
from .mountinfo import Mount, read_mounts
from .systemd_scopes import INFINITY, UNIT_EXISTS, SystemdError, attach, start_scope, systemd_runs

SLICE = "rootless_ns.slice"
BASE = "rootless-ns"
# A child of root's, a map tool for each kind of ID, the pause process, and another one that it replaces.
MAX_PROCESSES = 16

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# systemd needs some milliseconds; one that loads its units anew, some seconds.
_SCOPE_SECONDS = 10.0
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.002
# Where the processes are that keep the scope of a call for as long as it works.
_HOLDERS = "holders"


_PROPERTIES = (
    ("Description", "s", "Pause processes of rootless namespaces"),
    ("Slice", "s", SLICE),
    # Its cgroups are made and written here.
    ("Delegate", "b", True),
    # It is to last until the host goes down, and then not to hold that up.
    ("DefaultDependencies", "b", False),
    ("TimeoutStopUSec", "t", 5_000_000),
    ("CollectMode", "s", "inactive-or-failed"),
    ("TasksMax", "t", INFINITY),
)


class _CgroupError(RootlessError):
    """Why a process has to stay where it is."""


@dataclass(frozen=True)
class _Hierarchy:
    """A mounted hierarchy; `path` is a cgroup in it, `controllers` as in proc_pid_cgroup(5).

    `optional`: this process is in no cgroup there that is to be left.
    """

    mount: Mount
    controllers: str
    path: str
    optional: bool = False

    def directory(self, path: str) -> str:
        return os.path.join(self.mount.point, os.path.relpath(path, self.mount.root))


class PauseCgroups:
    """The cgroups of one call. Copies of this process that work for others share its scope."""

    def __init__(self, *, proc: str = "/proc", run: str = "/run", seconds: float = _SCOPE_SECONDS) -> None:
        """`seconds`: how long systemd may take to make a scope."""
        self._proc = proc
        self._run = run
        self._seconds = seconds
        self._scope = f"rootless_ns-{os.getpid()}-{os.urandom(4).hex()}.scope"
        self._places: list[_Hierarchy] | None = None
        self._failure: _CgroupError | OSError | None = None
        self._holder: subprocess.Popen[bytes] | None = None

    def receive(self, pid: int, uid: int) -> str | None:
        """Move a child of this process into the user's cgroup; None, or a warning that says why it could not be moved.

        The child must not be reaped yet, so that the PID is its own.
        """
        try:
            self.take_in(pid, uid)
        except _CgroupError as error:
            return f"the pause process stays in {self._own_path()}, and may end with what else is there: {error}"
        return None

    def take_in(self, pid: int, uid: int) -> None:
        """Move a process into the user's cgroup. Raises `RootlessError` with the reason where that cannot be done.

        Whoever calls this makes sure that the PID stays that of the process.
        """
        try:
            if self._failure is not None:
                raise self._failure
            if self._places is None:
                try:
                    self._places = list(self._make_places())
                except (_CgroupError, OSError) as error:
                    # The next user's would fail the same way, and as late.
                    self._failure = error
                    raise
            for place in list(self._places):
                try:
                    _enter(place, pid, uid)
                except OSError:
                    if not place.optional:
                        raise
                    self._places.remove(place)
            self._check(pid, uid)
        except OSError as error:
            raise _CgroupError(f"{error.filename}: {error.strerror}") from None

    def forget(self, uid: int) -> None:
        """Remove the user's cgroup where it does not vanish by itself, if nothing runs in it."""
        if systemd_runs(self._run):
            self._forget_in_scopes(uid)
            return
        for hierarchy in self._own_hierarchies():
            base = os.path.join(hierarchy.mount.point, BASE)
            for path in (os.path.join(base, str(uid)), base):
                with suppress(OSError):
                    os.rmdir(path)

    def close(self) -> None:
        """Let go of the scope: it stays for as long as a pause process runs in it. Elsewhere, remove empty cgroups."""
        holder, places = self._holder, self._places
        self._holder, self._places, self._failure = None, None, None
        if holder is not None:
            _end(holder)
        for place in places or ():
            _sweep(place.directory(place.path))

    def _forget_in_scopes(self, uid: int) -> None:
        for hierarchy in self._hierarchies("self"):
            slice_ = os.path.join(hierarchy.mount.point, SLICE)
            with suppress(OSError):
                for name in os.listdir(slice_):
                    with suppress(OSError):
                        os.rmdir(os.path.join(slice_, name, str(uid)))

    def _make_places(self) -> Iterator[_Hierarchy]:
        """In each hierarchy that matters, the cgroup in which those of the users are to be."""
        if systemd_runs(self._run):
            self._holder = _start_holder()
            yield from self._places_in_scope(self._holder.pid)
            return
        for hierarchy in self._own_hierarchies():
            base = os.path.join(hierarchy.mount.root, BASE)
            optional = hierarchy.path == hierarchy.mount.root
            place = _Hierarchy(hierarchy.mount, hierarchy.controllers, base, optional)
            try:
                os.makedirs(place.directory(base), mode=0o755, exist_ok=True)
            except OSError:
                if optional:
                    continue
                raise
            _enable_pids(hierarchy.mount.point)
            yield place

    def _places_in_scope(self, holder: int) -> Iterator[_Hierarchy]:
        """The scope in each hierarchy that it is in; it stays for as long as the holder, a process, runs."""
        self._enter_scope(holder)
        found = [one for one in self._hierarchies(str(holder)) if self._scope in one.path.split("/")]
        if not found:
            raise _CgroupError(f"the scope {self._scope} is in none of the mounted hierarchies")
        for one in found:
            place = _Hierarchy(one.mount, one.controllers, one.path.removesuffix(f"/{_HOLDERS}"))
            directory = os.path.join(place.directory(place.path), _HOLDERS)
            # Controllers of most kinds can be enabled only where no process is.
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755)
            _write(os.path.join(directory, "cgroup.procs"), str(holder))
            yield place

    def _enter_scope(self, holder: int) -> None:
        """Have systemd put a process into the scope of this call, which another copy of this one may have made."""
        sockets = (f"{self._run}/systemd/private", f"{self._run}/dbus/system_bus_socket")
        deadline = time.monotonic() + self._seconds
        while True:
            left = deadline - time.monotonic()
            try:
                return start_scope(self._scope, _PROPERTIES, [holder], sockets=sockets, seconds=left)
            except SystemdError as error:
                if error.name != UNIT_EXISTS:
                    raise _CgroupError(f"systemd makes no scope: {error}") from None
            try:
                return attach(self._scope, f"/{_HOLDERS}", [holder], sockets=sockets, seconds=left)
            except SystemdError as error:
                # It is being made, or has just ended.
                if left <= 0:
                    raise _CgroupError(f"systemd does not let this process into {self._scope}: {error}") from None
            time.sleep(_PAUSE_SECONDS)

    def _own_path(self) -> str:
        """This process's cgroup: that of systemd, or the one that limits processes."""
        paths = {found.controllers: found.path for found in self._hierarchies("self")}
        for controllers in ("", "name=systemd", "pids"):
            if paths.get(controllers, "/") != "/":
                return f"the cgroup {paths[controllers]}"
        return "the cgroup of its starter"

    def _own_hierarchies(self) -> Iterator[_Hierarchy]:
        """Those in which a cgroup of our own is of use, where nobody manages them."""
        for hierarchy in self._hierarchies("self"):
            if hierarchy.controllers:
                if "pids" in hierarchy.controllers.split(","):
                    yield hierarchy
            elif hierarchy.path != hierarchy.mount.root or "pids" in _controllers(hierarchy.mount.point):
                yield hierarchy

    def _hierarchies(self, process: str) -> Iterator[_Hierarchy]:
        """The mounted ones, with the process's cgroup in each."""
        mounts = [mount for mount in read_mounts(self._proc) if mount.type in ("cgroup", "cgroup2")]
        for controllers, path in _cgroups_of(self._proc, process):
            for mount in mounts:
                if mount.type == "cgroup2":
                    fits = not controllers
                else:
                    fits = bool(controllers) and set(controllers.split(",")) <= set(mount.options.split(","))
                # A cgroup outside the mount, or of a namespace, cannot be named through it.
                if fits and "/.." not in path and (path + "/").startswith(mount.root.rstrip("/") + "/"):
                    yield _Hierarchy(mount, controllers, path)
                    break

    def _check(self, pid: int, uid: int) -> None:
        """Check in /proc/PID/cgroup that the process was moved. Raises `_CgroupError`."""
        # Without the mounts: where there are many pins, there are as many.
        found = dict(_cgroups_of(self._proc, str(pid)))
        for place in self._places or ():
            if found.get(place.controllers) != os.path.join(place.path, str(uid)):
                raise _CgroupError(f"it is in {found.get(place.controllers)}, not in {place.path}/{uid}")


def _cgroups_of(proc: str, process: str) -> Iterator[tuple[str, str]]:
    """The controllers of each hierarchy, and the cgroup in it that a process is in."""
    with open(f"{proc}/{process}/cgroup", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            _number, controllers, path = line.rstrip("\n").split(":", 2)
            yield controllers, path


def _start_holder() -> subprocess.Popen[bytes]:
    """A process that ends when its standard input is closed."""
    try:
        # It is not a command that ends: AnsibleModule.run_command waits for that.
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            ["cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": _PATH, "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _CgroupError(f"cannot run cat: {error.strerror}") from None


def _end(holder: subprocess.Popen[bytes]) -> None:
    if holder.stdin is not None:
        holder.stdin.close()
    try:
        holder.wait(2)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()


def _enter(place: _Hierarchy, pid: int, uid: int) -> None:
    base = place.directory(place.path)
    leaf = os.path.join(base, str(uid))
    for attempt in range(_ATTEMPTS):
        try:
            with suppress(FileExistsError):
                os.mkdir(leaf, 0o755)
            if attempt == 0:
                _limit(base, leaf)
            _write(os.path.join(leaf, "cgroup.procs"), str(pid))
            return
        except OSError as error:
            # Somebody swept an empty one away.
            if error.errno not in (errno.ENOENT, errno.ENODEV) or not os.path.isdir(base):
                raise
    raise _CgroupError(f"{leaf} is removed over and over")


def _limit(base: str, leaf: str) -> None:
    """Where the controller is not to be had, the user's own limit of processes holds alone."""
    limit = os.path.join(leaf, "pids.max")
    if not os.path.exists(limit):
        _enable_pids(base)
    with suppress(OSError):
        _write(limit, str(MAX_PROCESSES))


def _enable_pids(directory: str) -> None:
    """For the cgroups below one of version 2."""
    if "pids" in _controllers(directory):
        with suppress(OSError):
            _write(os.path.join(directory, "cgroup.subtree_control"), "+pids")


def _controllers(directory: str) -> list[str]:
    """The controllers that can be enabled below a cgroup of version 2."""
    try:
        with open(os.path.join(directory, "cgroup.controllers"), encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _sweep(base: str) -> None:
    """Remove the cgroups in which nothing runs any more."""
    with suppress(OSError):
        for name in os.listdir(base):
            if name.isdigit() or name == _HOLDERS:
                with suppress(OSError):
                    os.rmdir(os.path.join(base, name))


def _write(path: str, content: str) -> None:
    # Not to be made where it is missing, which a cgroup file system refuses anyway.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)
