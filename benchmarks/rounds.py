# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples: taken in turns, so that what happens to the machine meanwhile happens to all, and what is made of them."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .arena import User

# Runs once and returns seconds.
Candidate = Callable[[], float]
# By the candidate's name.
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Point:
    """What was measured at one size: one sample a round."""

    size: int
    samples: list[float]
    # The size that was really run, where the samples were worked out from a smaller one.
    measured: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Series:
    name: str
    points: list[Point] = field(default_factory=list)

    def at(self, size: int) -> Point | None:
        return next((point for point in self.points if point.size == size), None)


@dataclass(frozen=True)
class Table:
    """Series side by side. The first one is ours; the ratios are those to `reference`."""

    key: str
    title: str
    # What was run, in a sentence or two.
    about: str
    series: list[Series]
    # What sizes count ("users"); empty where there is just one.
    size_name: str = ""
    unit: str = "s"
    reference: str = ""

    def named(self, name: str) -> Series | None:
        return next((series for series in self.series if series.name == name), None)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interleaved(candidates: Mapping[str, Candidate], rounds: int) -> Samples:
    """A B C A B C ..., after one of each that does not count."""
    for candidate in candidates.values():
        candidate()
    samples: Samples = {name: [] for name in candidates}
    for _round in range(rounds):
        for name, candidate in candidates.items():
            samples[name].append(candidate())
    return samples


def spawned(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a command to its end. Raises `RuntimeError` when it fails."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    started = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, environment, file_actions=null)
    status = os.waitpid(pid, 0)[1]
    elapsed = time.perf_counter() - started
    if status:
        raise RuntimeError(f"exit status {os.waitstatus_to_exitcode(status)}: {' '.join(command)[:300]}")
    return elapsed


def as_user(user: User, work: Callable[[], Samples]) -> Samples:
    """Take samples in a child that has become the user, so that nothing but the command itself is measured."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            user.become()
            with os.fdopen(writer, "w") as file:
                json.dump(work(), file)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"what was to be measured as {user.name} failed")
    samples: Samples = json.loads(answer)
    return samples
