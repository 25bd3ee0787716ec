# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that has become a user, for every look and every change that must not be root's.

The child serves requests over a socket pair: JSON there and back, descriptors by SCM_RIGHTS. When the parent is
root, the child cannot be traced or read by the user, not even from inside the user's namespace: it is not dumpable
and its memory belongs to the parent's user namespace (see ptrace_may_access in the kernel). It starts with no
descriptor but the socket. Who forks it is a parameter (see `births`).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from .accounts import Account
from .births import Births
from .errors import RootlessError
from .handover import Excess, switch_user
from .kernel import Syscalls

_MESSAGE_SIZE = 128 * 1024
_MAX_FDS = 4
_EXIT_GRACE_SECONDS = 2.0

# What a child is told before it begins: JSON.
Order = dict[str, Any]
# An operation: its descriptors, then its arguments by name; returns what JSON can carry.
Operation = Callable[..., Any]


class AgentError(RootlessError):
    """The child could not do what it was asked, or did not answer."""


class Agent:
    """The parent's end: `call` runs one operation in the child."""

    def __init__(self, account: Account, births: Births, order: Order, *, timeout: float) -> None:
        """Have a child born that knows what it is to be; `timeout` in seconds bounds every call."""
        self._account = account
        self._births = births
        self._timeout = timeout
        # The PID is its own until this object is closed.
        self.pid, self._socket = births.bear(json.dumps(order).encode())
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
        """End the child: it exits when the socket closes; if it does not, it is killed."""
        if self.pid <= 0:
            return
        pid, self.pid = self.pid, 0
        try:
            if kill:
                raise socket.timeout
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_EXIT_GRACE_SECONDS)
            # Its end of the socket closes when the child exits: no need to poll for that.
            while self._socket.recv(_MESSAGE_SIZE):
                pass
            self._births.reap(pid)
        except OSError:
            self._births.kill(pid)
        self._socket.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def become(
    account: Account,
    groups: Sequence[int],
    syscalls: Syscalls,
    *,
    excess: Excess | None = None,
    login: bool = False,
) -> None:
    """Turn this process into the user for good (see `handover.switch_user`); umask 077, working directory `/`."""
    if not account.is_self:
        # This memory is a copy of root's: no other process of the user's may ever read it.
        switch_user(account.uid, account.gid, groups, syscalls, excess=excess, login=login)
    os.umask(0o077)
    os.chdir("/")


def serve(
    channel: socket.socket,
    account: Account,
    groups: Sequence[int],
    operations: Mapping[str, Operation],
    syscalls: Syscalls,
    *,
    excess: Excess | None = None,
    login: bool = False,
) -> None:
    """Become the user, and answer until the parent closes its end. Operations are found by name."""
    try:
        become(account, groups, syscalls, excess=excess, login=login)
        refused = None
    except OSError as error:
        refused = f"cannot become user {account.name}: {error.strerror}"
    while True:
        request, fds, _flags, _address = socket.recv_fds(channel, _MESSAGE_SIZE, _MAX_FDS)
        # recv_fds has no way to ask for that; what is started from here must not inherit them.
        for fd in fds:
            os.set_inheritable(fd, False)
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
        except Exception as error:
            answer = ["internal", f"internal error in the child: {type(error).__name__}: {error}{_lines_of(error)}"]
        finally:
            for fd in fds:
                os.close(fd)
        channel.send(json.dumps(answer).encode())


def _lines_of(error: BaseException) -> str:
    """Where it was raised. Without an import: a child that has joined a namespace would find files of the user's."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f"\n{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return "".join(lines)
