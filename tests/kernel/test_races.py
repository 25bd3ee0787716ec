# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several runs at once, for the same user: one namespace, one pause process, and every run tells the same."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


def test_many_runs_at_once_end_with_one_namespace(ns: Run, user: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = [future.result() for future in [pool.submit(ns, user) for _number in range(8)]]
    assert {run["action"] for run in runs} <= {"created", "rejoined", "repaired"}, [run["msg"] for run in runs]
    assert sorted(run["action"] for run in runs).count("created") == 1
    assert len({(run["userns"], run["mntns"]) for run in runs}) == 1
    assert user.processes() == [user.pause_pid()]
    after = ns(user)
    assert (after["changed"], after["pinned"], after["userns"]) == (False, True, runs[0]["userns"])


def test_the_user_and_root_at_once(ns: Run, user: Any, public_python: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(ns, user, as_user=user if number % 2 else None) for number in range(6)]
        runs = [future.result() for future in futures]
    assert len({run["userns"] for run in runs}) == 1, [run["msg"] for run in runs]
    assert user.processes() == [user.pause_pid()]


@pytest.mark.parametrize("method", ["pause", "handles"])
def test_present_beside_absent(ns: Run, user: Any, method: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        states = ["present", "absent"] * 3
        futures = [pool.submit(ns, user, state=state, method=method) for state in states]
        assert all(future.result()["action"] for future in futures)
    # Whoever came last: it is all there, or nothing is.
    settled = ns(user, method=method)
    assert settled["action"] in ("created", "rejoined", "repaired")
    assert user.processes() == ([] if method == "handles" else [settled["pause_pid"]])
    assert ns(user, state="absent")["action"] == "removed"
    assert (user.processes(), user.pin.exists()) == ([], False)
    assert [path.name for path in user.state_dir.iterdir()] == ["ns_handles.lock"], "temporary files stayed"


def test_beside_podman(ns: Run, user: Any, podman: Callable[[Any, str], str]) -> None:
    with ThreadPoolExecutor(6) as pool:
        ours = [pool.submit(ns, user) for _number in range(4)]
        theirs = [pool.submit(podman, user, "readlink /proc/self/ns/user") for _number in range(2)]
        runs = [future.result() for future in ours]
        places = {future.result() for future in theirs}
    assert places == {f"user:[{runs[-1]['userns']}]"}
    assert len({run["userns"] for run in runs}) == 1
    assert user.processes() == [user.pause_pid()]
