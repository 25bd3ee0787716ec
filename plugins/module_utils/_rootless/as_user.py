# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A forked child that has become a user, for every look and every change that must not be root's.

The child serves requests over a socket pair: JSON there and back, descriptors by SCM_RIGHTS. When the parent is
root, the child cannot be traced or read by the user, not even from inside the user's namespace: it is not dumpable
and its memory belongs to the parent's user namespace (see ptrace_may_access in the kernel). It starts with no
descriptor but the socket.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from .accounts import Account
from .errors import RootlessError
from .kernel import Syscalls

_MESSAGE_SIZE = 128 * 1024
_MAX_FDS = 4
_EXIT_GRACE_SECONDS = 2.0

# An operation: its descriptors, then its arguments by name; returns what JSON can carry.
Operation = Callable[..., Any]


class AgentError(RootlessError):
    """The child could not do what it was asked, or did not answer."""


class Agent:
    """The parent's end: `call` runs one operation in the child."""

    def __init__(
        self,
        account: Account,
        operations: Mapping[str, Operation],
        *,
        syscalls: Syscalls,
        timeout: float,
    ) -> None:
        """Fork. `operations` are looked up by name in the child; `timeout` in seconds bounds every call."""
        self._account = account
        self._timeout = timeout
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Asked here, where the name service is loaded once: each child would load it anew.
        groups = [] if account.is_self else os.getgrouplist(account.name, account.gid)
        self.pid = os.fork()
        if self.pid == 0:
            # Never returns, whatever happens: two copies of a module must not go on.
            try:
                ours.close()
                _serve(_move_low(theirs), account, groups, operations, syscalls)
            except BaseException:
                os._exit(1)
            os._exit(0)
        theirs.close()
        self._socket = ours
        self._socket.settimeout(timeout)

    def call(self, operation: str, *, fds: Sequence[int] = (), **arguments: Any) -> Any:
        """Run one operation as the user.

        Raises `RootlessError` with the child's message, `OSError` as the child met it, and `AgentError` when
        the child died or did not answer in time.
        """
        request = json.dumps([operation, arguments]).encode()
        try:
            socket.send_fds(self._socket, [request], list(fds))
            answer = self._socket.recv(_MESSAGE_SIZE)
        except socket.timeout:
            self.close(kill=True)
            raise AgentError(
                f"the process that acts for {self._account.name} did not finish {operation!r} in {self._timeout:g} s; "
                "it was stopped"
            ) from None
        except OSError as error:
            raise AgentError(f"the process that acts for {self._account.name} is gone: {error.strerror}") from None
        if not answer:
            raise AgentError(f"the process that acts for {self._account.name} was killed during {operation!r}")
        kind, value = json.loads(answer)
        if kind == "ok":
            return value
        if kind == "os":
            raise OSError(*value)
        raise (RootlessError if kind == "error" else AgentError)(value)

    def close(self, *, kill: bool = False) -> None:
        """End the child: it exits when the socket closes; if it does not, it is killed (it is our own, unreaped).

        A child that does not even die, stuck in a file system of the user's, is left behind.
        """
        if self.pid <= 0:
            return
        try:
            if kill:
                raise socket.timeout
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_EXIT_GRACE_SECONDS)
            # Its end of the socket closes when the child exits: no need to poll for that.
            while self._socket.recv(_MESSAGE_SIZE):
                pass
            os.waitpid(self.pid, 0)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            deadline = time.monotonic() + _EXIT_GRACE_SECONDS
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.001)
        self._socket.close()
        self.pid = 0

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _move_low(channel: socket.socket) -> socket.socket:
    """Leave the child nothing open but the channel, as descriptor 3, and /dev/null as standard streams."""
    fd = channel.detach()
    if fd != 3:
        os.dup2(fd, 3, inheritable=False)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 3:
            try:
                os.close(int(name))
            except OSError:
                # The descriptor that listed the directory.
                pass
    return socket.socket(fileno=3)


def become(account: Account, groups: Sequence[int], syscalls: Syscalls) -> None:
    """Turn this process into the user for good: groups, GID, UID, no tracing, umask 077, working directory `/`."""
    if not account.is_self:
        os.setgroups(groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        # Whatever fs.suid_dumpable says: this memory is a copy of root's.
        syscalls.set_dumpable(False)
    os.umask(0o077)
    os.chdir("/")


def _serve(
    channel: socket.socket,
    account: Account,
    groups: Sequence[int],
    operations: Mapping[str, Operation],
    syscalls: Syscalls,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        become(account, groups, syscalls)
        refused = None
    except OSError as error:
        refused = f"cannot become user {account.name}: {error.strerror}"
    while True:
        request, fds, _flags, _address = socket.recv_fds(channel, _MESSAGE_SIZE, _MAX_FDS)
        if not request:
            return
        answer: list[Any]
        try:
            name, arguments = json.loads(request)
            if refused:
                raise RootlessError(refused)
            answer = ["ok", operations[name](*fds, **arguments)]
        except RootlessError as error:
            answer = ["error", str(error)]
        except OSError as error:
            answer = ["os", [error.errno, error.strerror, error.filename]]
        except Exception:
            answer = ["internal", f"internal error in the child:\n{traceback.format_exc()}"]
        finally:
            for fd in fds:
                os.close(fd)
        channel.send(json.dumps(answer).encode())
