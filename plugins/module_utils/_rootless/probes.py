# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can only be tried, as the user itself: does the kernel let it have a namespace, its maps, and handles.

Nothing of a probe outlasts it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Sequence

from . import pause
from .errors import RootlessError
from .idmap import IdMapEntry
from .kernel import CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC, Syscalls
from .map_writer import write_maps

UNSHARE = "unshare"
MAPS = "maps"
HANDLE = "name_to_handle_at"

_MAX_ANSWER = 4096
_KILLED = "the process that tried it was killed"


# What a kernel without these calls answers, or a filter that forbids them.
_NO_SUCH_CALL = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
# What it answers to somebody who must not open a handle.
_REFUSALS = (errno.ESTALE, *_NO_SUCH_CALL)
_SETTING = "user.max_user_namespaces"


def opens_handles(syscalls: Syscalls, *, proc: str) -> tuple[bool | None, str]:
    """Whether this user can reopen a handle of a namespace of its own that it is not in; None, and why, if not tried.

    Only the kernel's own refusal is a False: of a handle that was made, while the namespace was seen to be alive
    after the refusal. Whatever lacks, limits that are reached or a process that is killed, is None.
    """
    try:
        ours, theirs = socket.socketpair()
        pid = os.fork()
    except OSError as error:
        return None, _why_not_tried("fork", error.errno or 0)
    if pid == 0:
        try:
            ours.close()
            _hold_a_namespace(theirs, syscalls, proc)
        finally:
            os._exit(0)
    theirs.close()
    try:
        with ours:
            return _try_to_open(ours, syscalls)
    except ConnectionError:
        return None, _KILLED
    finally:
        # Our own child, not reaped yet: the PID can be nobody else's.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _hold_a_namespace(channel: socket.socket, syscalls: Syscalls, proc: str) -> None:
    """Make a namespace, send its handle, or the step that failed with its errno; answer each byte until the end."""
    step = UNSHARE
    try:
        syscalls.unshare(CLONE_NEWUSER)
        step = "open"
        fd = os.open(f"{proc}/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        step = HANDLE
        kind, payload = syscalls.name_to_handle(fd)
    except OSError as error:
        channel.sendall(f"{step} {error.errno}".encode())
        return
    channel.sendall(f"handle {kind} {payload.hex()}".encode())
    while channel.recv(1):
        channel.sendall(b"1")


def _try_to_open(holder: socket.socket, syscalls: Syscalls) -> tuple[bool | None, str]:
    answer = holder.recv(_MAX_ANSWER).decode().split()
    if len(answer) == 2:
        step, number = answer[0], int(answer[1])
        if step == HANDLE and number in _NO_SUCH_CALL:
            return False, ""
        return None, _why_not_tried(step, number)
    if len(answer) != 3:
        return None, _KILLED
    try:
        os.close(syscalls.open_nsfs_handle(int(answer[1]), bytes.fromhex(answer[2])))
        return True, ""
    except OSError as error:
        number = error.errno or 0
    if number not in _REFUSALS:
        return None, _why_not_tried("open_by_handle_at", number)
    # It runs still, in its namespace: of one that was killed, the handle of a dead namespace would have been refused.
    holder.sendall(b"1")
    return (False, "") if holder.recv(1) == b"1" else (None, _KILLED)


def _why_not_tried(step: str, number: int) -> str:
    if step == UNSHARE and number in (errno.ENOSPC, errno.EUSERS):
        return f"{step}: {os.strerror(number)}. The user's namespaces are off or used up: see sysctl {_SETTING}"
    return f"{step}: {os.strerror(number)}"


def why_no_namespace(
    syscalls: Syscalls, *, uid_map: Sequence[IdMapEntry], gid_map: Sequence[IdMapEntry], path: str
) -> tuple[str, int, str] | None:
    """Make a namespace, use power in it, give it the maps; None if all went well, else the step, errno and text.

    The step is `unshare` or `maps`; errno is 0 where a map tool refused.
    """

    def enter() -> None:
        syscalls.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        # Where AppArmor restricts user namespaces, they can be had, but nothing can be done in them.
        syscalls.mount(None, "/", MS_REC | MS_PRIVATE)

    try:
        # Without the marks of a pause process: nobody may take this namespace for the user's.
        pid = pause.spawn(enter, environment={}, syscalls=syscalls)
    except OSError as error:
        return UNSHARE, error.errno or 0, str(error.strerror)
    try:
        write_maps(pid, uid_map=uid_map, gid_map=gid_map, path=path)
    except OSError as error:
        return MAPS, error.errno or 0, str(error)
    except RootlessError as error:
        return MAPS, 0, str(error)
    finally:
        # Our own child, not reaped yet: the PID can be nobody else's.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None
