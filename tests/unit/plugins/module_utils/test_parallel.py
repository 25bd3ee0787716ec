# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import re
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.parallel import DIED, Lost, map_forked


def square(number: int) -> int:
    return number * number


def test_results_stand_in_order() -> None:
    for size in (0, 1, 7, 8, 50):
        assert map_forked(square, range(size)) == [number * number for number in range(size)]


def rooms(results: list[int | Lost]) -> list[int | None]:
    return [None if isinstance(result, Lost) else result for result in results]


def test_a_killed_worker_loses_only_what_it_had_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})

    def work(number: int) -> int:
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results = map_forked(work, range(40))
    # Every second one was the killed worker's.
    assert rooms(results) == [None if number >= 20 and number % 2 == 0 else number for number in range(40)]
    assert results[20] == Lost(DIED)


class Unforeseen:
    """Cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("no such thing")


@pytest.mark.parametrize("cpus", [1, 2])
def test_what_nobody_expected_is_lost_alone(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)))

    def work(number: int) -> int | Unforeseen:
        if number == 7 and cpus > 1:
            return Unforeseen()
        return number // (0 if number == 6 else 1)

    results = map_forked(work, range(40))
    lost = {number: result.why for number, result in enumerate(results) if isinstance(result, Lost)}
    assert list(lost) == ([6, 7] if cpus > 1 else [6])
    assert re.fullmatch(
        r"internal error: ZeroDivisionError: .* zero \(test_parallel.py, line \d+\); please report it", lost[6]
    )


def test_nobody_waits_for_one_that_has_much_to_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """More than a pipe holds."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    released = tmp_path / "released"

    def work(number: int) -> bytes:
        # The first worker waits for the last item of the second one.
        deadline = time.monotonic() + 20
        while number == 0 and not released.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if number == 19:
            released.touch()
        return bytes(1 << 20)

    started = time.monotonic()
    assert [len(result) for result in map_forked(work, range(20)) if not isinstance(result, Lost)] == [1 << 20] * 20
    assert time.monotonic() - started < 15


def test_a_fork_that_fails_ends_those_before_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing goes on behind the back of a call that has failed."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    fork, forked = os.fork, []

    def once() -> int:
        if forked:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        forked.append(1)
        return fork()

    def slowly(number: int) -> None:
        time.sleep(0.5)
        (tmp_path / str(number)).touch()

    monkeypatch.setattr(os, "fork", once)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        map_forked(slowly, range(40))
    done = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) == done < 20
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_nobody_waits_for_children_work_is_done_all_the_same() -> None:
    was = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert map_forked(str, range(40)) == [str(number) for number in range(40)]
    finally:
        signal.signal(signal.SIGCHLD, was)


def test_each_process_that_worked_finishes(tmp_path: Path) -> None:
    def finish() -> None:
        (tmp_path / str(os.getpid())).touch()

    def work(_number: int) -> int:
        return os.getpid()

    pids = map_forked(work, range(40), finish=finish)
    assert {entry.name for entry in tmp_path.iterdir()} == {str(pid) for pid in pids}
