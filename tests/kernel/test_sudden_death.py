# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any system call, or failed by the kernel at any: the next run finds its way, and nothing is lost.

`make test` strikes at a sample of the calls that change something, `make test-long` at each of them with every error;
ROOTLESS_TEST_LONG=all at every system call, which takes hours.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import Cleaner, CleaningOptions
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinStore

CHECKOUT = Path(__file__).parents[2]
TRACER = Path(__file__).with_name("tracer.py")
LONG = os.environ.get("ROOTLESS_TEST_LONG", "")
SAMPLE = 8
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EINTR, errno.EIO)

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the tracer knows x86-64 only")


def act(user: Any, name: str, **options: Any) -> dict[str, Any]:
    """What the modules do, without a process of their own."""
    host = Host(environment={"PATH": "/usr/bin:/bin:/usr/sbin"}, podman_path="/nonexistent")
    if name == "clean":
        cleaner = Cleaner(Syscalls(), host=host, options=CleaningOptions(**options))
        outcome: dict[str, Any] = cleaner.clean(find_account(user.name)).as_dict()
        return outcome
    namespaces = Namespaces(Syscalls(), host=host, options=Options(**options))
    report = getattr(namespaces, name)(find_account(user.name))
    assert report.action != "failed" or name == "look", report.as_dict()["msg"]
    told: dict[str, Any] = {**report.as_dict(), **report.verdicts()}
    return told


def nothing(user: Any) -> None:
    act(user, "absent", force=True)


def alive(user: Any) -> None:
    act(user, "present", pin=True)


def without_pause_process(user: Any) -> None:
    alive(user)
    user.kill_pause()


def misled(user: Any) -> None:
    """A dead PID and corrupt handles, beside a pinned namespace."""
    alive(user)
    user.kill_pause()
    for path in (user.pause_file, user.handles_file):
        path.unlink(missing_ok=True)
        path.write_bytes(b"4194304")
        os.chown(path, user.uid, user.gid)


def stale(user: Any) -> None:
    """The same, and the namespace is gone."""
    misled(user)
    PinStore(Syscalls()).unpin(user.uid)


def left_by_another(user: Any) -> None:
    """As where an account with this UID was deleted while its pause process ran."""
    alive(user)
    (user.pin / "for").write_text("rnstest-gone\n/home/rnstest-gone\n")


@dataclass(frozen=True)
class Scenario:
    """`before` is set up, `do` is struck.

    `keeps`: the namespace must be the same one at the end; `replaces`: it must be another one.
    """

    name: str
    before: Callable[[Any], None]
    do: str
    options: dict[str, Any] = field(default_factory=dict)
    keeps: bool = False
    replaces: bool = False


SCENARIOS = [
    Scenario("create", nothing, "present", {"pin": True}),
    Scenario("create with handles", nothing, "present", {"pin": True, "method": "handles"}),
    Scenario("repair", without_pause_process, "present", {"pin": True}, keeps=True),
    Scenario("repair what misleads", misled, "present", {"pin": True}, keeps=True),
    Scenario("replace another's", left_by_another, "present", {"pin": True}, replaces=True),
    Scenario("remove", alive, "absent"),
    Scenario("remove another's", left_by_another, "absent"),
    Scenario("clean", stale, "clean", {"orphans": True}),
    Scenario("clean and repair", misled, "clean", {"orphans": True, "repair": True}, keeps=True),
]


def strike(user: Any, scenario: Scenario, at: int | None, error: int = 0) -> dict[str, Any]:
    """Do the scenario in a process of its own, struck at one system call."""
    job = {
        "site": str(CHECKOUT / ".collections"),
        "user": user.name,
        "do": scenario.do,
        "options": scenario.options,
        "at": at,
        "every": LONG == "all",
        "error": error,
    }
    command = [sys.executable, str(TRACER), json.dumps(job)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def settle(user: Any) -> None:
    """Until children of the struck process have noticed: all that may stay of the user are pause processes."""
    deadline = time.monotonic() + 20
    while True:
        names = [comm(pid) for pid in user.processes()]
        if all(name in ("catatonit", "podman-pause", "sleep", "sh") for name in names) or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "sh"


def whole_files(user: Any) -> list[str]:
    """What is wrong with the files that lie there right after the strike."""
    wrong = []
    if user.pause_file.exists() and not re.fullmatch(rb"[1-9][0-9]*", user.pause_file.read_bytes()):
        wrong.append(f"pause.pid holds {user.pause_file.read_bytes()!r}")
    if user.handles_file.exists() and user.handles_file.stat().st_size not in (272, len(b"4194304")):
        wrong.append(f"ns_handles has {user.handles_file.stat().st_size} bytes")
    return wrong


def mended(user: Any, scenario: Scenario, before: dict[str, Any]) -> list[str]:
    """Run again; what is not as it must be then."""
    if scenario.do == "absent":
        act(user, "absent")
        left = [*user.processes(), *(path for path in (user.pause_file, user.handles_file, user.pin) if path.exists())]
        return [f"left: {left}"] if left else []
    wrong = []
    if scenario.do == "clean":
        act(user, "clean", **scenario.options)
    if scenario.name == "clean":
        wrong += [f"{path.name} is still there" for path in (user.pause_file, user.handles_file) if path.exists()]
    after = act(user, "present", **(scenario.options if scenario.do == "present" else {"pin": True}))
    look = act(user, "look")
    if after["action"] not in ("created", "rejoined", "repaired"):
        wrong.append(f"the next run: {after['action']} {after['msg']}")
    if scenario.keeps and after["userns"] != before["userns"]:
        wrong.append(f"namespace {before['userns']} was lost, {after['userns']} is new")
    if scenario.replaces and f"process {after['pause_pid']} " in before["verdicts"]["pause_pid"]["evidence"]:
        wrong.append(f"the namespace of the account before was taken over, with its pause process {after['pause_pid']}")
    if look["state"] != "alive" or look["orphans"] or not look["pinned"]:
        wrong.append(f"{look['state']}, orphans {look['orphans']}, {look['verdicts']}")
    if user.processes() != [pid for pid in [look["pause_pid"]] if pid]:
        wrong.append(f"processes {user.processes()} beside pause process {look['pause_pid']}")
    extra = {entry.name for entry in user.state_dir.iterdir()} - {"pause.pid", "ns_handles", "ns_handles.lock"}
    extra |= {entry.name for entry in user.pin.iterdir()} - {"for", "user", "mnt"}
    return [*wrong, f"left: {extra}"] if extra else wrong


def points(calls: int) -> list[int]:
    """The calls to strike at: all, or as many as fit a short run, the last one among them."""
    if LONG or calls <= SAMPLE:
        return list(range(1, calls + 1))
    return sorted({round(1 + number * (calls - 1) / (SAMPLE - 1)) for number in range(SAMPLE)})


@pytest.fixture
def prepared(user: Any, request: pytest.FixtureRequest) -> tuple[Scenario, int]:
    """A scenario that works when nobody strikes, and how many calls it makes."""
    scenario = request.param
    if "handles" in scenario.name:
        probe = Namespaces(Syscalls(), host=Host(environment={}), options=Options())
        if not probe.probe_owner(find_account(user.name)):
            pytest.skip("needs a kernel with handles for users")
    scenario.before(user)
    calm = strike(user, scenario, None)
    assert calm["answer"]["action"] in ("created", "repaired", "removed", "cleaned"), calm
    assert calm["calls"] > 5
    return scenario, calm["calls"]


every_scenario = pytest.mark.parametrize("prepared", SCENARIOS, indirect=True, ids=lambda scenario: scenario.name)


@every_scenario
def test_killed_at_any_call(user: Any, prepared: tuple[Scenario, int]) -> None:
    scenario, calls = prepared
    wrong = {}
    struck = 0
    for at in points(calls):
        nothing(user)
        scenario.before(user)
        before = act(user, "look")
        answer = strike(user, scenario, at)
        struck += answer["struck"] is not None
        settle(user)
        found = whole_files(user) + mended(user, scenario, before)
        if found:
            wrong[f"{at} {answer['struck']}"] = found
    assert not wrong
    # The number of calls differs by a few between runs, so that the last ones may not come.
    assert struck >= 0.8 * len(points(calls))


@every_scenario
def test_failed_at_any_call(user: Any, prepared: tuple[Scenario, int]) -> None:
    scenario, calls = prepared
    wrong = {}
    struck = 0
    for number, at in enumerate(points(calls)):
        for error in ERRORS if LONG else ERRORS[number % len(ERRORS) :][:1]:
            nothing(user)
            scenario.before(user)
            before = act(user, "look")
            result = strike(user, scenario, at, error)
            struck += result["struck"] is not None
            settle(user)
            found = unclear(result["answer"]) + whole_files(user) + mended(user, scenario, before)
            if found:
                wrong[f"{at} {result['struck']} {errno.errorcode[error]}"] = found
    assert not wrong
    assert struck


def unclear(answer: dict[str, Any] | None) -> list[str]:
    """What a user cannot understand of an answer."""
    if answer is None:
        return ["no answer"]
    if "raised" in answer:
        return [f"raised {answer['raised']}"]
    message = answer["msg"]
    if "Traceback" in message or "internal error" in message:
        return [message]
    return ["failed without a word"] if answer["action"] == "failed" and len(message) < 10 else []
