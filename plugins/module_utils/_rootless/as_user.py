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
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from .accounts import Account
from .births import EXIT_GRACE_SECONDS, Births
from .errors import RootlessError
from .handover import Excess, switch_user
from .kernel import Syscalls
from .patience import UserTime

_MESSAGE_SIZE = 128 * 1024
_MAX_FDS = 4
# A child of a user that has left one behind is not waited for at length.
_SHORT_GRACE_SECONDS = 0.1
# What is not a question to the user's own processes and files, but may wait for somebody who holds a lock.
_LOCK_SECONDS = 10.0
# What a child needs of the time left to report that a lock was not to be had.
_REPORTING_SECONDS = 0.5

# What a child is told before it begins: JSON.
Order = dict[str, Any]
# An operation: its descriptors, then its arguments by name; returns what JSON can carry.
Operation = Callable[..., Any]


class AgentError(RootlessError):
    """The child could not do what it was asked, or did not answer."""


class Agent:
    """The parent's end: `call` runs one operation in the child."""

    def __init__(
        self,
        account: Account,
        births: Births,
        order: Order,
        *,
        patience: UserTime,
        left_behind: Callable[[int], str] = lambda _pid: "",
    ) -> None:
        """Have a child started that knows what it is to be. Its calls take no longer than `patience` allows.

        `left_behind` gets the PID of a child that cannot be ended, and returns what to report of it.
        Raises `GivenUpError` where nothing is to be asked any more.
        """
        patience.check()
        self._account = account
        self._births = births
        self._patience = patience
        self._left_behind = left_behind
        # The PID is its own until this object is closed.
        self.pid, self._socket = births.bear(json.dumps(order).encode())

    def call(self, operation: str, *, fds: Sequence[int] = (), **arguments: Any) -> Any:
        """Run one operation as the user.

        Raises `RootlessError` with the child's message, `OSError` as the child met it, `AgentError` when the child
        died, did not answer in time or not as it should, and `GivenUpError` when nothing is to be asked any more.
        """
        self._patience.check()
        return self._value_of(self._exchange(operation, json.dumps([operation, arguments]).encode(), fds), operation)

    def lock_seconds(self) -> float:
        """How long an operation of this child may wait for a lock, so that it can still report in time."""
        return max(0.0, min(_LOCK_SECONDS, self._patience.left - _REPORTING_SECONDS))

    def _exchange(self, operation: str, request: bytes, fds: Sequence[int]) -> bytes:
        started = time.monotonic()
        try:
            self._socket.settimeout(self._patience.left)
            socket.send_fds(self._socket, [request], list(fds))
            answer, _ancillary, flags, _address = self._socket.recvmsg(_MESSAGE_SIZE)
        except socket.timeout:
            self._patience.spend(time.monotonic() - started)
            raise self._given_up(operation) from None
        except OSError as error:
            self._patience.spend(time.monotonic() - started)
            raise AgentError(f"{self._name} is gone: {error.strerror}") from None
        self._patience.spend(time.monotonic() - started)
        if not answer:
            raise AgentError(f"{self._name} was killed during {operation!r}")
        if flags & socket.MSG_TRUNC:
            raise AgentError(f"{self._name} gave an answer to {operation!r} of more than {_MESSAGE_SIZE} bytes")
        return answer

    def _value_of(self, answer: bytes, operation: str) -> Any:
        malformed = AgentError(f"{self._name} gave an answer to {operation!r} that makes no sense")
        try:
            kind, value = json.loads(answer)
        except (ValueError, TypeError, RecursionError):
            raise malformed from None
        if kind == "ok":
            return value
        if kind == "os" and isinstance(value, list) and len(value) == 3 and isinstance(value[0], int):
            raise OSError(*value)
        if kind in ("error", "internal") and isinstance(value, str):
            raise (RootlessError if kind == "error" else AgentError)(value)
        raise malformed

    @property
    def _name(self) -> str:
        return f"the process that acts for {self._account.name}"

    def _given_up(self, operation: str) -> AgentError:
        """Give the user up, and end the child."""
        limit = self._patience.allowed
        why = (
            f"{self._name} did not finish {operation!r}: all questions to a user may take {limit:g} s"
            f"{self._patience.why_so_little()}"
        )
        self._patience.give_up(why)
        left_behind = self.close(kill=True)
        return AgentError(f"{why}; {left_behind or 'it was stopped'}")

    def close(self, *, kill: bool = False) -> str:
        """End the child: it exits when the socket closes; if it does not, it is killed.

        Returns what to report of a child that cannot be ended.
        """
        if self.pid <= 0:
            return ""
        pid, self.pid = self.pid, 0
        started = time.monotonic()
        gone = True
        try:
            if kill or self._patience.given_up or self._patience.unwilling:
                raise socket.timeout
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(EXIT_GRACE_SECONDS)
            # Its end of the socket closes when the child exits: no need to poll for that.
            while self._socket.recv(_MESSAGE_SIZE):
                pass
            self._births.reap(pid)
        except OSError:
            grace = _SHORT_GRACE_SECONDS if self._patience.unwilling else EXIT_GRACE_SECONDS
            self._patience.unwilling = True
            gone = self._births.kill(pid, grace=grace)
        self._socket.close()
        self._patience.spend(time.monotonic() - started)
        return "" if gone else self._left_behind(pid)

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
        reply = json.dumps(answer).encode()
        if len(reply) > _MESSAGE_SIZE:
            reply = json.dumps(["error", f"the answer to {name!r} is too long: {len(reply)} bytes"]).encode()
        channel.send(reply)


def _lines_of(error: BaseException) -> str:
    """Where it was raised. Without an import: a child that has joined a namespace would find files of the user's."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        lines.append(f"\n{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return "".join(lines)
