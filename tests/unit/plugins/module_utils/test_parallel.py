# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal

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
