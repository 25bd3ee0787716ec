# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.parallel import WorkerError, map_forked


def square(number: int) -> int:
    return number * number


def test_results_stand_in_order() -> None:
    for size in (0, 1, 7, 8, 50):
        assert map_forked(square, range(size)) == [number * number for number in range(size)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: no workers")
def test_a_killed_worker_loses_its_own_results_only() -> None:
    here = os.getpid()

    def work(number: int) -> int:
        if number == 2 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    results = map_forked(work, range(40))
    assert None in results
    assert all(result in (None, number) for number, result in enumerate(results))
    assert [result for result in results if result is not None]


def test_what_nobody_expected_is_not_swallowed() -> None:
    def work(number: int) -> int:
        return 1 // number

    with pytest.raises((WorkerError, ZeroDivisionError), match="zero"):
        map_forked(work, range(40))


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
