# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread independent work over the CPUs by forking: namespaces need single-threaded processes, so no threads."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below this many items a further process costs more than it saves.
_ITEMS_PER_WORKER = 4
_MAX_WORKERS = 16
# Seconds in which an interrupted worker closes what it has open.
_PATIENCE = 3.0


class WorkerError(RuntimeError):
    """A function failed in a worker in a way nobody expected; carries the worker's traceback."""


def map_forked(
    function: Callable[[Item], Result], items: Sequence[Item], *, finish: Callable[[], None] = lambda: None
) -> list[Result | None]:
    """`function` of every item, in order; None where a worker was killed. Results must be picklable.

    `finish` is called where the work was done, at its end. Who interrupts this interrupts the workers, too.

    The workers are copies of this process, as trusted as it is. Raises `WorkerError` when the function raised.
    """
    workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS, len(items) // _ITEMS_PER_WORKER)
    if workers < 2:
        try:
            return [function(item) for item in items]
        finally:
            finish()
    running: list[tuple[int, IO[bytes]]] = []
    try:
        for worker in range(workers):
            running.append(_start(function, items[worker::workers], finish))
        answers = [file.read() for _pid, file in running]
    except BaseException:
        for pid, file in running:
            # Who is about to answer must not wait for somebody who listens.
            file.close()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        for pid, _file in running:
            _end(pid)
        raise
    for pid, file in running:
        file.close()
        # Where SIGCHLD is ignored, the kernel reaps.
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    results: list[Result | None] = [None] * len(items)
    for worker, answer in enumerate(answers):
        try:
            failure, part = pickle.loads(answer)
        except (EOFError, pickle.UnpicklingError):
            # Killed before it had written everything.
            continue
        if failure:
            raise WorkerError(failure)
        results[worker::workers] = part
    return results


def _start(
    function: Callable[[Item], Result], items: Sequence[Item], finish: Callable[[], None]
) -> tuple[int, IO[bytes]]:
    """A worker, and the file that its answer comes through."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        # Never returns, whatever happens: two copies of a module must not go on.
        try:
            # By which the parent ends it, also where a shell has started that one to ignore it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(reader)
            with os.fdopen(writer, "wb") as file:
                file.write(_answer(function, items))
            finish()
        finally:
            os._exit(0)
    os.close(writer)
    return pid, os.fdopen(reader, "rb")


def _end(pid: int) -> None:
    """Wait for an interrupted worker; one that was not listening yet is interrupted again."""
    with suppress(ChildProcessError, ProcessLookupError):
        while True:
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.01)
            os.kill(pid, signal.SIGINT)


def _answer(function: Callable[[Item], Result], items: Sequence[Item]) -> bytes:
    try:
        return pickle.dumps((None, [function(item) for item in items]))
    except Exception:
        return pickle.dumps((traceback.format_exc(), []))
