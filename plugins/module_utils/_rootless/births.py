# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the users' children come into the world.

A child is born with nothing open but its end of a socket pair, and an order: whose child it is to be.

Where many are needed, several are born at a time, and told later. After a fork, every page that the parent writes to
is copied: in Python, every page with an object that is looked at. Done for each child, that is a tenth of a call
about many users.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from .kernel import Syscalls

# What a child does with its end of the socket pair and its order.
Work = Callable[[socket.socket, bytes], None]

# Whoever has needed so many may need many more.
_BORN_SINGLY = 8
_LITTER = 16
# Somebody with thousands of groups has a child of its own that was born with the order.
_LONGEST_ORDER = 64 * 1024
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
# How long a killed child may take to be gone.
EXIT_GRACE_SECONDS = 1.0


class Births:
    """Bears children of the process that asks. Those that were born in vain end by `close`, or with that process."""

    def __init__(self, work: Work, syscalls: Syscalls) -> None:
        self._work = work
        self._syscalls = syscalls
        self._parent = 0
        self._born = 0
        self._waiting: list[tuple[int, socket.socket]] = []

    def bear(self, order: bytes) -> tuple[int, socket.socket]:
        """A child's PID, which is its own until `reap` or `kill`, and our end of the pair. Raises `OSError`."""
        if self._parent != os.getpid():
            # Of a copy of this process, the children of the first one are none.
            self._parent, self._born, self._waiting = os.getpid(), 0, []
        self._born += 1
        if self._born <= _BORN_SINGLY or len(order) > _LONGEST_ORDER:
            return self._fork(order)
        if not self._waiting:
            self._bear_litter()
        pid, channel = self._waiting.pop()
        try:
            channel.send(order)
        except OSError:
            # Somebody has killed it: nobody but root, or a lack of memory.
            channel.close()
            self.kill(pid)
            return self._fork(order)
        return pid, channel

    def reap(self, pid: int) -> None:
        """Forget a child that has closed its end."""
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            # Where SIGCHLD is ignored, the kernel reaps.
            pass

    def kill(self, pid: int, *, grace: float = EXIT_GRACE_SECONDS) -> bool:
        """End a child; False if it is left behind after `grace` seconds, stuck in a file system of the user's."""
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                # Without CAP_KILL not even root may, once it has become the user: then it is left behind as well.
                with suppress(PermissionError):
                    os.kill(pid, signal.SIGKILL)
            else:
                return True
            deadline = time.monotonic() + grace
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.001)
        except ChildProcessError:
            # It is gone, and its PID may be another's.
            pass
        return True

    def close(self) -> None:
        """End those that were born in vain."""
        if self._parent != os.getpid():
            return
        for _pid, channel in self._waiting:
            channel.close()
        for pid, _channel in self._waiting:
            self.reap(pid)
        # Who comes after this needs few.
        self._born, self._waiting = 0, []

    def _bear_litter(self) -> None:
        """At least one, or `OSError`."""
        for _child in range(_LITTER):
            try:
                self._waiting.append(self._fork(None))
            except OSError:
                if not self._waiting:
                    raise
                return

    def _fork(self, order: bytes | None) -> tuple[int, socket.socket]:
        caught = [signum for signum in _RESET if _is_to_be_reset(signum)]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                # Never returns, whatever happens: two copies of a module must not go on.
                try:
                    channel = self._alone(theirs, caught)
                    order = channel.recv(_LONGEST_ORDER) if order is None else order
                    # Nothing at all: it is not needed.
                    if order:
                        self._work(channel, order)
                except BaseException:
                    os._exit(1)
                os._exit(0)
        return pid, ours

    def _alone(self, channel: socket.socket, caught: Sequence[int]) -> socket.socket:
        """Leave this process nothing but the channel, as descriptor 3, and /dev/null as standard streams."""
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
        fd = channel.detach()
        if fd != 3:
            os.dup2(fd, 3, inheritable=False)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        self._syscalls.close_from(4)
        return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=3)


def _is_to_be_reset(number: int) -> bool:
    handler = signal.getsignal(number)
    if handler == signal.SIG_IGN:
        # Inherited by a process, it makes its wait for others fail.
        return number == signal.SIGCHLD
    return callable(handler) and handler is not signal.default_int_handler
