# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `rootless_ns_info` makes of keys that are odd but real: live, lost, disagreeing, somebody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
KEYS = ("pause_pid", "ns_handles", "pin")


def look(module: Run, user: Any) -> dict[str, Any]:
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    return {**entry, **{key: entry["verdicts"][key]["verdict"] for key in KEYS}}


@pytest.fixture
def own_process(user: Any) -> Iterator[int]:
    """Something that the user runs, and that is no pause process."""
    command = user.command("sh", "-c", "echo; exec sleep 100")
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_all_keys_live(module: Run, ns: Run, user: Any) -> None:
    ns(user, method="handles")
    ns(user, method="pause")
    entry = look(module, user)
    assert [entry[key] for key in KEYS] == ["live", "live", "live"]
    assert (entry["state"], entry["orphans"]) == ("alive", [])
    assert (entry["pinned"], entry["pause_pid"], entry["method"]) == (True, "live", "pause")


def test_a_pid_that_is_now_another_process_of_the_user(module: Run, ns: Run, user: Any, own_process: int) -> None:
    user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf %s {own_process} > {user.pause_file}")
    entry = look(module, user)
    # Podman would stop: it has not run here, and the process is in no namespace that it could join.
    assert (entry["state"], entry["pause_pid"]) == ("broken", "recycled")
    assert f"process {own_process} (sleep) of UID {user.uid}" in entry["verdicts"]["pause_pid"]["evidence"]
    assert ns(user)["action"] == "created"
    assert own_process in user.processes()


def test_orphans_are_listed_and_taken_up(module: Run, ns: Run, user: Any) -> None:
    made = ns(user, pin=False)
    user.pause_file.unlink()
    entry = look(module, user)
    assert entry["orphans"] == [{"pid": made["pause_pid"], "userns": made["userns"], "mntns": made["mntns"]}]
    # Podman finds it by no file, and would make another one.
    assert (entry["state"], entry["pause_pid"], entry["pin"]) == ("broken", "missing", "missing")
    taken_up = ns(user, pin=False)
    assert (taken_up["action"], taken_up["pause_pid"]) == ("repaired", made["pause_pid"])
    assert user.processes() == [made["pause_pid"]]
    assert look(module, user)["orphans"] == []


def test_an_orphan_is_removed_with_the_rest(module: Run, ns: Run, user: Any) -> None:
    ns(user, pin=False)
    user.pause_file.unlink()
    assert ns(user, state="absent")["action"] == "removed"
    assert (user.processes(), look(module, user)["state"]) == ([], "none")


def test_keys_that_disagree_are_broken_and_become_one(module: Run, ns: Run, user: Any) -> None:
    pinned = ns(user)
    user.kill_pause()
    user.pause_file.unlink()
    # Behind the pin's back: a new namespace, as a Podman that knows no pins makes one.
    command = ["unshare", "-Urm", "env", "_PODMAN_PAUSE=1", "sh", "-c", "echo; exec sleep 100"]
    with subprocess.Popen(user.command(*command), stdout=subprocess.PIPE, cwd="/") as newer:
        assert newer.stdout is not None
        newer.stdout.readline()
        user.run("sh", "-c", f"printf %s {newer.pid} > {user.pause_file}")
        entry = look(module, user)
        assert (entry["state"], entry["pause_pid"], entry["pin"]) == ("broken", "live", "live")
        one = ns(user)
        assert (one["action"], one["userns"], one["pinned"]) == ("repaired", pinned["userns"], True)
        assert user.processes() == [one["pause_pid"]], "the empty one's pause process is superfluous"
    entry = look(module, user)
    assert (entry["state"], entry["userns"]) == ("alive", pinned["userns"])


def test_a_pin_of_somebody_elses_namespace_is_foreign(module: Run, ns: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    theirs = ns(other)
    user.pin.mkdir()
    for name in ("mnt", "user"):
        (user.pin / name).touch()
        source = f"/proc/{theirs['pause_pid']}/ns/mnt"
        subprocess.run(["mount", "--bind", source, str(user.pin / name)], check=True)
    subprocess.run(["mount", "--bind", f"/proc/{theirs['pause_pid']}/ns/user", str(user.pin / "user")], check=True)
    entry = look(module, user)
    assert (entry["state"], entry["pin"]) == ("stale", "foreign")
    assert f"belongs to UID {other.uid}" in entry["verdicts"]["pin"]["evidence"]
    ours = ns(user)
    assert (ours["action"], ours["pinned"], ours["userns"] == theirs["userns"]) == ("created", True, False)
    assert ns(other)["changed"] is False


def test_half_a_pin_is_none(module: Run, ns: Run, user: Any) -> None:
    user.pin.parent.mkdir(mode=0o711, exist_ok=True)
    user.pin.mkdir()
    (user.pin / "mnt").touch()
    assert look(module, user)["pin"] == "missing"
    assert (ns(user)["pinned"], ns(user)["changed"]) == (True, False)


def test_a_zombie_pause_process_is_dead(module: Run, ns: Run, user: Any) -> None:
    # Of a parent that does not wait: it keeps its PID and its owner.
    script = "import os, sys, time; pid = os.fork() or os._exit(0); print(pid, flush=True); time.sleep(100)"
    command = user.command("env", "_PODMAN_PAUSE=1", "/usr/bin/python3", "-c", script)
    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs /usr/bin/python3, which ordinary users can run")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as parent:
        try:
            assert parent.stdout is not None
            pid = parent.stdout.readline().strip()
            while os.path.exists(f"/proc/{pid}/ns/mnt"):
                pass
            user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf %s {pid} > {user.pause_file}")
            assert look(module, user)["pause_pid"] in ("dead", "recycled")
            assert ns(user)["action"] == "created"
        finally:
            parent.kill()
