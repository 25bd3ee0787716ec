# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal for tests: a pseudo-terminal with a process of ours in the place of root's shell."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_SECONDS = 20.0


class Terminal:
    """What somebody sees and types there; `slave` is what programs have open."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.seen = b""

    @contextlib.contextmanager
    def start(self, command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A program as the leader of the terminal's session; killed at the end if it still runs."""

        def lead() -> None:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            # A test run in the background ignores some of them, and what it starts would as well.
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                signal.signal(number, signal.SIG_DFL)

        streams = {name: options.pop(name, self.slave) for name in ("stdin", "stdout", "stderr")}
        with subprocess.Popen(command, preexec_fn=lead, cwd="/", **streams, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, found: str | Callable[[str], bool]) -> str:
        """Read until the text was seen; returns all that came since the last call, without carriage returns."""
        deadline = time.monotonic() + _SECONDS
        matches = (lambda text: found in text) if isinstance(found, str) else found
        while True:
            text = self.seen.decode(errors="replace").replace("\r", "")
            if matches(text):
                self.seen = b""
                return text
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {found!r}: {text!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 4096)

    def rest(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for the end of the program; returns what it has written since the last `wait_for`."""
        deadline = time.monotonic() + _SECONDS
        while process.poll() is None or select.select([self.master], [], [], 0.1)[0]:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 4096)
        seen, self.seen = self.seen, b""
        return seen.decode(errors="replace").replace("\r", "")

    def unread(self) -> bytes:
        """What waits there for whoever reads next, as root's shell does."""
        os.set_blocking(self.slave, False)
        try:
            return os.read(self.slave, 4096)
        except BlockingIOError:
            return b""
        finally:
            os.set_blocking(self.slave, True)


@contextlib.contextmanager
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    try:
        yield made
    finally:
        os.close(made.master)
        os.close(made.slave)
