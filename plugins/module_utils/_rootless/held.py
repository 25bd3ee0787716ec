# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a process so that its PID stays its own, whatever its owner does to it.

Between a check of a PID and what is done with the PID, the process can end and the PID become another's. A descriptor
of the process (pidfd_open(2)) reports that only afterwards. A traced process, though, is not reaped before its tracer
has waited for it: ptrace(2). The tracer is a child that does nothing else, does not stop the process, and lets go by
ending.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RootlessError
from .kernel import Syscalls


class NotHeldError(RootlessError):
    """The process is gone, is traced by somebody else, or must not be traced."""


@contextmanager
def held(syscalls: Syscalls, pid: int) -> Iterator[None]:
    """Inside the block the PID is that of the process that has it at the beginning. Raises `NotHeldError`."""
    answer, ready = os.pipe()
    until, holding = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(answer)
            os.close(holding)
            _trace(syscalls, pid, ready)
            # Until the parent closes its end, or is gone.
            os.read(until, 1)
        finally:
            os._exit(0)
    os.close(ready)
    os.close(until)
    try:
        said = os.read(answer, 200)
        if said != b"held":
            raise NotHeldError(
                f"process {pid} cannot be held: {said.decode() or 'the process that was to hold it died'}"
            )
        yield
    finally:
        os.close(answer)
        os.close(holding)
        os.waitpid(child, 0)


def _trace(syscalls: Syscalls, pid: int, ready: int) -> None:
    # Where it is ignored, the kernel reaps.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        syscalls.ptrace_seize(pid)
    except OSError as error:
        os.write(ready, str(error.strerror).encode())
        os._exit(1)
    os.write(ready, b"held")
