# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranges that change under a live namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def drifted(ns: Run, user: Any) -> dict[str, Any]:
    """A user whose ranges have grown since its namespace was set up."""
    result = ns(user)
    user.add_subuids()
    return result


@pytest.fixture
def sleeper(drifted: dict[str, Any], user: Any) -> Iterator[int]:
    target = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={drifted['pause_pid']}"]
    with subprocess.Popen(user.command(*target, "sh", "-c", "echo; exec sleep 100"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_drift_is_reported(ns: Run, user: Any, drifted: dict[str, Any]) -> None:
    result = ns(user)
    assert (result["action"], result["changed"], result["drift"]) == ("rejoined", False, True)
    assert result["userns"] == drifted["userns"]


def test_drift_can_fail(ns: Run, user: Any, drifted: dict[str, Any]) -> None:
    user.pause_file.unlink()
    result = ns(user, on_drift="fail")
    assert (result["failed"], result["changed"]) == (True, False)
    assert "on_drift" in result["msg"]
    assert not user.pause_file.exists(), "something was repaired in spite of the failure"


def test_recreate(ns: Run, user: Any, drifted: dict[str, Any], expected_maps: Any) -> None:
    predicted = ns(user, on_drift="recreate", check=True)
    assert (predicted["action"], predicted["uid_map"]) == ("recreated", expected_maps(user)["uid_map"])
    result = ns(user, on_drift="recreate")
    assert (result["action"], result["changed"], result["drift"]) == ("recreated", True, False)
    assert result["uid_map"] == expected_maps(user)["uid_map"]
    assert user.processes() == [result["pause_pid"]]
    again = ns(user, on_drift="recreate")
    assert (again["action"], again["changed"], again["userns"]) == ("rejoined", False, result["userns"])


def test_recreate_refuses_while_somebody_lives_there(ns: Run, user: Any, drifted: dict[str, Any], sleeper: int) -> None:
    refused = ns(user, on_drift="recreate")
    assert (refused["failed"], refused["changed"]) == (True, False)
    assert f"{sleeper} (sleep)" in refused["msg"]
    assert user.pause_pid() == drifted["pause_pid"]
    forced = ns(user, on_drift="recreate", force=True)
    assert (forced["action"], forced["drift"]) == ("recreated", False)
    assert forced["userns"] != drifted["userns"]
    assert ns(user)["userns"] == forced["userns"]


def test_the_container_in_the_way_is_named(ns: Run, user: Any, drifted: dict[str, Any]) -> None:
    """A stand-in with the monitor's name and command line; the real one is met in the molecule scenarios."""
    target = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={drifted['pause_pid']}"]
    script = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'conmon'); print(flush=True); sys.stdin.read()"
    command = user.command(*target, "/usr/bin/python3", "-c", script, "-n", "web")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused = ns(user, on_drift="recreate")
        kept = ns(user, state="absent")
        assert process.stdin is not None
        process.stdin.close()
    expected = [{"pid": process.pid, "command": "conmon", "container": "web"}]
    assert (refused["failed"], refused["in_the_way"]) == (True, expected)
    assert (kept["failed"], kept["in_the_way"]) == (True, expected)
    assert "(conmon, container web)" in refused["msg"]
    assert ns(user, on_drift="recreate")["in_the_way"] == []
