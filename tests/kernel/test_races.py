# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several runs at once, for the same user: one namespace, one pause process, and every run tells the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

# How many runs of ours at once, of all kinds together.
CROWD = 50 if os.environ.get("ROOTLESS_TEST_LONG") else 20


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


def test_a_crowd_of_every_kind(module: Run, ns: Run, user: Any, podman: Callable[[Any, str], str]) -> None:
    """present, absent and the cleaner, of root and of the user, beside real Podmans; then it is quiet."""

    def run(number: int) -> dict[str, Any]:
        if number % 5 == 1:
            return module("rootless_pause", users=[user.name], orphans=True)
        if number % 5 == 3:
            try:
                podman(user, "true")
            except AssertionError as error:
                # What it was about to join may be taken away under its hands; it must say so, and not crash.
                return {"panic": "panic" in str(error)}
            return {}
        if number % 10 == 4:
            return ns(user, state="absent")
        return ns(user, as_user=user if number % 10 == 9 else None)

    with ThreadPoolExecutor(CROWD) as pool:
        results = list(pool.map(run, range(CROWD)))
    assert not any(result.get("panic") for result in results)
    assert [result["msg"] for result in results if "internal error" in result.get("msg", "")] == []
    # At rest: one namespace, one pause process, and all keys agree.
    settled = ns(user)
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    assert (entry["state"], entry["pinned"], entry["userns"]) == ("alive", True, settled["userns"])
    assert {key: told["verdict"] for key, told in entry["verdicts"].items()} == {
        "pause_pid": "live",
        "ns_handles": "missing",
        "pin": "live",
    }
    assert podman(user, "readlink /proc/self/ns/user") == f"user:[{settled['userns']}]"
    assert user.processes() == [user.pause_pid()]
    assert module("rootless_pause", users=[user.name], orphans=True)["changed"] is False
    extra = {entry.name for entry in user.state_dir.iterdir()} - {"pause.pid", "ns_handles.lock"}
    assert {name for name in extra if name.startswith((".rootless-ns", "pause", "ns_handles"))} == set()
