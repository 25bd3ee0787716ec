# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread independent work over the CPUs by forking: namespaces need single-threaded processes, so no threads.

A worker hands over each result when it has it, and keeps none: a copy of a worker holds nothing of other items.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import describe

Item = TypeVar("Item")
Result = TypeVar("Result")

# Below this many items a further process costs more than it saves.
_ITEMS_PER_WORKER = 4
_MAX_WORKERS = 16
# Seconds in which an interrupted worker closes what it has open.
_PATIENCE = 3.0
# In front of each answer: its length in bytes.
_LENGTH = struct.Struct("=Q")
_CHUNK = 1 << 20

DIED = "the process that worked on this user died before it could report; run again"


@dataclass(frozen=True)
class Lost:
    """Takes the place of a result, with the reason why there is none."""

    why: str


def map_forked(
    function: Callable[[Item], Result], items: Sequence[Item], *, finish: Callable[[], None] = lambda: None
) -> list[Result | Lost]:
    """`function` of every item, in order; a `Lost` where it raised, or where a worker was killed before it was done.

    Results must be picklable. `finish` is called where the work was done, at its end. Who interrupts this interrupts
    the workers, too.

    The workers are copies of this process, as trusted as it is.
    """
    workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS, len(items) // _ITEMS_PER_WORKER)
    if workers < 2:
        try:
            return [_attempt(function, item) for item in items]
        finally:
            finish()
    running: list[tuple[int, int]] = []
    try:
        for worker in range(workers):
            running.append(_start(function, items[worker::workers], finish))
        answers = _read_all([fd for _pid, fd in running])
    except BaseException:
        for pid, fd in running:
            # Who is about to answer must not wait for somebody who listens.
            os.close(fd)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        for pid, _fd in running:
            _end(pid)
        raise
    for pid, fd in running:
        os.close(fd)
        # Where SIGCHLD is ignored, the kernel reaps.
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    results: list[Result | Lost] = [Lost(DIED)] * len(items)
    for worker, answer in enumerate(answers):
        for place, result in zip(range(worker, len(items), workers), _unpack(answer)):
            results[place] = result
    return results


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Lost:
    try:
        return function(item)
    except Exception as error:
        return Lost(describe(error))


def _read_all(fds: Sequence[int]) -> list[bytearray]:
    """All that comes through each descriptor until its end; nobody who writes has to wait for another one."""
    contents = [bytearray() for _fd in fds]
    with selectors.DefaultSelector() as selector:
        for fd, content in zip(fds, contents):
            selector.register(fd, selectors.EVENT_READ, content)
        while selector.get_map():
            for key, _events in selector.select():
                chunk = os.read(key.fd, _CHUNK)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fd)
    return contents


def _pack(result: Any) -> bytes:
    try:
        answer = pickle.dumps(result)
    except Exception as error:
        answer = pickle.dumps(Lost(describe(error)))
    return _LENGTH.pack(len(answer)) + answer


def _unpack(content: bytearray) -> Iterator[Any]:
    """The results of one worker; the last one may be cut off, where the worker was killed."""
    place = 0
    while place + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, place)
        place += _LENGTH.size
        if place + length > len(content):
            return
        yield pickle.loads(content[place : place + length])
        place += length


def _start(function: Callable[[Item], Result], items: Sequence[Item], finish: Callable[[], None]) -> tuple[int, int]:
    """A worker, and the descriptor that its results come through."""
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
            with os.fdopen(writer, "wb", buffering=0) as file:
                for item in items:
                    _write(file.fileno(), _pack(_attempt(function, item)))
            finish()
        finally:
            os._exit(0)
    os.close(writer)
    return pid, reader


def _write(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


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
