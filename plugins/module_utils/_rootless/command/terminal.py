# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command of a user's that must not get root's terminal: it gets a pseudo-terminal of its own.

Three processes. The relay is the caller itself: it stays at root's terminal and copies bytes both ways. The monitor
leads a session whose controlling terminal is the pseudo-terminal; it waits for the command, and stops and continues it.
The command runs in a process group of its own in that session, so that a shell's job control works as at a real
terminal. Streams that are pipes and files are passed on as they are. sudo with `use_pty` works likewise.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# tcgetattr(3) and tcsetattr(3) raise no `OSError`.
TerminalError = termios.error

_CHUNK = 32 * 1024
_LAST_OUTPUT_SECONDS = 0.05
# What is sent to the relay, and meant for the command.
_FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
# A message between relay and monitor: what, and a signal's number or a wait status.
_MESSAGE = struct.Struct("=ci")
_READY, _STOPPED, _ENDED = b"r", b"s", b"e"
_SEND, _TO_FRONT, _GO_ON = b"k", b"f", b"g"


def terminal_of_caller() -> int | None:
    """A descriptor of the terminal that a command started from here could reach; None where there is none.

    Raises `OSError` where there is one that cannot be opened here: in the namespace the command might.
    """
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        pass
    for stream in (0, 1, 2):
        if _is_terminal(stream):
            return os.dup(stream)
    with open("/proc/self/stat", "rb") as file:
        # tty_nr of proc_pid_stat(5), the seventh field; the first one here is the third.
        if int(file.read().rpartition(b")")[2].split()[4]):
            raise OSError(
                errno.ENXIO, "this process has a terminal, and /dev/tty cannot be opened: run it by setsid(1)"
            )
    return None


def run_in_own_terminal(terminal: int, run: Callable[[], NoReturn]) -> int:
    """Run `run` in a child at a pseudo-terminal, relayed to `terminal`; returns its exit status.

    A command that a signal has ended ends this process by the same signal. Raises `OSError`.
    """
    master, slave = os.openpty()
    _copy_size(terminal, slave)
    ours, theirs = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # With both at the terminal the command has it from the start; in a pipeline it gets it when it asks for it.
    starts_in_front = _is_terminal(0) and _is_terminal(1) and _is_in_front(terminal)
    monitor = os.fork()
    if monitor == 0:
        try:
            for fd in (master, terminal, ours[0], theirs[1]):
                os.close(fd)
            _Monitor(slave, requests=theirs[0], reports=ours[1]).watch(run, in_front=starts_in_front)
        finally:
            os._exit(1)
    for fd in (slave, ours[1], theirs[0]):
        os.close(fd)
    status = _Relay(terminal, master, reports=ours[0], requests=theirs[1]).run(raw=starts_in_front)
    with contextlib.suppress(ChildProcessError):
        # Where SIGCHLD is ignored, the kernel reaps.
        os.waitpid(monitor, 0)
    if os.WIFSIGNALED(status):
        _end_by(os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


class _Monitor:
    """Leads the session of the pseudo-terminal; does what the relay requests, reports what happens to the command."""

    def __init__(self, slave: int, *, requests: int, reports: int) -> None:
        self._slave = slave
        self._requests = requests
        self._reports = reports

    def watch(self, run: Callable[[], NoReturn], *, in_front: bool) -> NoReturn:
        os.setsid()
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)
        inherited = {number: signal.getsignal(number) for number in (*_FORWARDED, *_STOPS)}
        # The command's owner can make the terminal send these to the monitor's group.
        for number in inherited:
            signal.signal(number, signal.SIG_IGN)
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Those that come before the command takes them again must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, inherited)
        command = os.fork()
        if command == 0:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, handler in inherited.items():
                signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, inherited)
            for stream in (0, 1, 2):
                if _is_terminal(stream):
                    os.dup2(self._slave, stream)
            run()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, inherited)
        with contextlib.suppress(OSError):
            # Whoever is first: both the child and its parent do it.
            os.setpgid(command, command)
        if in_front:
            os.tcsetpgrp(self._slave, command)
        os.write(self._reports, _MESSAGE.pack(_READY, 0))
        self._serve(command, woken)
        os._exit(0)

    def _serve(self, command: int, woken: int) -> None:
        """Until the command has ended, or the relay is gone: then the terminal hangs up, too."""
        while True:
            ready = select.select([self._requests, woken], [], [])[0]
            if self._requests in ready:
                request = os.read(self._requests, _MESSAGE.size)
                if not request:
                    _signal_group(command, signal.SIGHUP)
                    return
                what, number = _MESSAGE.unpack(request)
                if what == _TO_FRONT:
                    os.tcsetpgrp(self._slave, command)
                if what in (_TO_FRONT, _GO_ON):
                    number = signal.SIGCONT
                _signal_group(command, number)
            if woken in ready:
                os.read(woken, _CHUNK)
                pid, status = os.waitpid(command, os.WNOHANG | os.WUNTRACED)
                if pid and os.WIFSTOPPED(status):
                    os.write(self._reports, _MESSAGE.pack(_STOPPED, os.WSTOPSIG(status)))
                elif pid:
                    os.write(self._reports, _MESSAGE.pack(_ENDED, status))
                    return


class _Relay:
    """Copies between the terminal and the pseudo-terminal, and behaves as a job of the shell that started it."""

    def __init__(self, terminal: int, master: int, *, reports: int, requests: int) -> None:
        self._terminal = terminal
        self._master = master
        self._reports = reports
        self._requests = requests
        self._settings: list[Any] | None = None
        self._was_taken = False
        self._typed = b""
        self._woken = -1
        self._continued = False
        os.set_blocking(master, False)

    def run(self, *, raw: bool) -> int:
        """The wait status of the command."""
        with self._handlers():
            try:
                return self._copy(raw=raw)
            finally:
                self._give_terminal_back()

    def _copy(self, *, raw: bool) -> int:
        reads_terminal = True
        while True:
            sources = [self._reports, self._master, self._woken]
            if self._settings is not None and reads_terminal and len(self._typed) < _CHUNK:
                sources.append(self._terminal)
            ready, writable, _failed = select.select(sources, [self._master] if self._typed else [], [])
            if self._woken in ready:
                self._on_signals(os.read(self._woken, _CHUNK))
            if self._terminal in ready:
                typed = os.read(self._terminal, _CHUNK)
                reads_terminal = bool(typed)
                self._typed += typed
            if writable:
                self._typed = self._typed[os.write(self._master, self._typed) :]
            if self._master in ready:
                self._show()
            if self._reports in ready:
                report = os.read(self._reports, _MESSAGE.size)
                if not report:
                    raise ChildProcessError(errno.ECHILD, "the process that watches the command was killed")
                what, number = _MESSAGE.unpack(report)
                if what == _ENDED:
                    # Until nobody has it open any more; what runs on in the background may have it open for ever.
                    while select.select([self._master], [], [], _LAST_OUTPUT_SECONDS)[0] and self._show():
                        pass
                    return int(number)
                if what == _STOPPED:
                    self._on_stop(number)
                elif raw:
                    # Not before the command is in front there: until then keys mean us, and are passed on as signals.
                    self._take_terminal()

    def _show(self) -> bool:
        """Pass on what the command has written; False where nothing can come any more."""
        try:
            output = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            # EIO: nobody has it open.
            return False
        while output:
            output = output[os.write(self._terminal, output) :]
        return True

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGWINCH:
                _copy_size(self._terminal, self._master)
            elif number in (*_FORWARDED, signal.SIGTSTP):
                self._request(_SEND, number)

    def _on_stop(self, number: int) -> None:
        """The command was stopped: it wants the terminal and may have it now, or else this process stops as well."""
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        if not (wants_terminal and self._settings is None and _is_in_front(self._terminal)):
            self._give_terminal_back()
            if not self._stop_ourselves(number) and wants_terminal:
                # No shell is there that could bring us to the front: the command would wait for ever.
                self._request(_SEND, signal.SIGHUP)
        if _is_in_front(self._terminal):
            _copy_size(self._terminal, self._master)
            self._take_terminal()
            self._request(_TO_FRONT)
        else:
            self._request(_GO_ON)

    def _stop_ourselves(self, number: int) -> bool:
        """Stop the whole job, as the terminal would have; true when the shell has continued it.

        False where it cannot be stopped: the kernel does not stop a group that no shell watches.
        """
        self._continued = False
        # Never SIGSTOP, which the command's owner can choose: it also stops a group that nobody will continue.
        number = number if number in _STOPS else signal.SIGTSTP
        handler = signal.signal(number, signal.SIG_DFL)
        os.killpg(os.getpgrp(), number)
        signal.signal(number, handler)
        return self._continued

    def _on_continue(self, *_: object) -> None:
        self._continued = True

    def _request(self, what: bytes, number: int = 0) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._requests, _MESSAGE.pack(what, number))

    def _take_terminal(self) -> None:
        """Every key goes to the pseudo-terminal, which makes of it what the command wants."""
        if self._settings is None:
            self._settings = termios.tcgetattr(self._terminal)
            if not self._was_taken:
                # Not before: a shell that has its prompt there uses other settings for itself.
                termios.tcsetattr(self._master, termios.TCSANOW, self._settings)
                self._was_taken = True
            tty.setraw(self._terminal, termios.TCSADRAIN)

    def _give_terminal_back(self) -> None:
        settings, self._settings = self._settings, None
        if settings is not None:
            # Who is no longer in front would be stopped for it.
            with _ignored(signal.SIGTTOU):
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, settings)

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        numbers = [number for number in (*_FORWARDED, signal.SIGTSTP) if signal.getsignal(number) != signal.SIG_IGN]
        numbers.append(signal.SIGWINCH)
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._on_continue)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _is_in_front(terminal: int) -> bool:
    """Whether this process may read from the terminal: of one that is not its own, always."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True


def _copy_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))


def _signal_group(leader: int, number: int) -> None:
    """To the process group of our own child, which is not reaped yet: its number can be nobody else's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


@contextlib.contextmanager
def _ignored(number: int) -> Iterator[None]:
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, handler)


def _end_by(number: int) -> NoReturn:
    """End as the command has ended, without a core of our own: shells look at that."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
