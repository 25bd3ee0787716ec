# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that were started for a user and that not even SIGKILL ends: counted, and not made again at each run.

A process that waits for a file system in user space is one (see fuse(4)). Each holds a copy of root's memory, so
that there must not be more of them after each run. The record is root's: `RUN/rootless-ns-stuck/UID`, a line with PID
and start time for each. It goes when the processes are gone.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from .processes import start_time, waits_in

DIRECTORY = "rootless-ns-stuck"
# More than one user's runs leave, each of which leaves a few.
_LONGEST_RECORD = 16 * 1024
_NAMED_PROCESSES = 5
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StuckProcesses:
    """The records of one host. Whoever is not root keeps none: its processes are its own affair."""

    def __init__(self, *, run: str, proc: str) -> None:
        self._path = os.path.join(run, DIRECTORY)
        self._proc = proc
        self._recorded = self._listed()

    def why_not_to_start(self, uid: int) -> str:
        """Why no process is to be started for a user; empty when there is no reason. Forgets those that are gone."""
        if str(uid) not in self._recorded:
            return ""
        there = [pid for pid, started in self._read(uid) if self._is_there(pid, started)]
        if not there:
            self._forget(uid)
            return ""
        return (
            f"{len(there)} process(es) that an earlier run started for this user cannot be ended: "
            f"{self._named(there)}. No further one is started while they are there. Abort the file system in user "
            "space that they wait for (grep fuse /proc/self/mountinfo; umount -f), then end them with SIGKILL"
        )

    def record(self, uid: int, pid: int) -> str:
        """Note a process that SIGKILL has not ended; what to report of it, empty when it is gone after all."""
        try:
            started = start_time(self._proc, pid)
        except OSError:
            return ""
        where = self._named([pid])
        # Without a record it is reported all the same.
        with suppress(OSError):
            self._append(uid, f"{pid} {started}\n".encode())
            self._recorded.add(str(uid))
        return f"it cannot be ended: {where}"

    def _named(self, pids: list[int]) -> str:
        named = ", ".join(f"{pid} ({waits_in(self._proc, pid)})" for pid in pids[:_NAMED_PROCESSES])
        return f"{named} and {len(pids) - _NAMED_PROCESSES} more" if len(pids) > _NAMED_PROCESSES else named

    def _is_there(self, pid: int, started: int) -> bool:
        try:
            return start_time(self._proc, pid) == started
        except OSError:
            return False

    def _listed(self) -> set[str]:
        try:
            fd = self._open_directory()
        except OSError:
            return set()
        try:
            return set(os.listdir(fd))
        finally:
            os.close(fd)

    def _open_directory(self) -> int:
        if os.geteuid() != 0:
            raise PermissionError(errno.EPERM, "only root keeps records", self._path)
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(fd)
        if status.st_uid != 0 or status.st_mode & 0o077:
            os.close(fd)
            raise PermissionError(errno.EPERM, "is not root's alone", self._path)
        return fd

    def _append(self, uid: int, line: bytes) -> None:
        if os.geteuid() == 0:
            with suppress(FileExistsError):
                os.mkdir(self._path, 0o700)
        directory = self._open_directory()
        try:
            fd = os.open(str(uid), os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FILE, 0o600, dir_fd=directory)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        finally:
            os.close(directory)

    def _read(self, uid: int) -> list[tuple[int, int]]:
        try:
            directory = self._open_directory()
        except OSError:
            return []
        try:
            fd = os.open(str(uid), os.O_RDONLY | _FILE, dir_fd=directory)
            with os.fdopen(fd, "rb") as file:
                lines = file.read(_LONGEST_RECORD).splitlines()
        except OSError:
            return []
        finally:
            os.close(directory)
        words = (line.split() for line in lines)
        return [(int(found[0]), int(found[1])) for found in words if len(found) == 2 and all(map(bytes.isdigit, found))]

    def _forget(self, uid: int) -> None:
        self._recorded.discard(str(uid))
        with suppress(OSError):
            directory = self._open_directory()
            try:
                os.unlink(str(uid), dir_fd=directory)
            finally:
                os.close(directory)
