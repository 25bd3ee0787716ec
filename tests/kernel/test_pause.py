# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rootless_pause`: what is stale goes, what is alive or cannot be judged stays, and every file is told of."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_handles import handles_file

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def clean(module: Run) -> Run:
    """`rootless_pause` for one user: the task's result with the user's entry merged in."""

    def run(user: Any, **args: Any) -> dict[str, Any]:
        named = {} if args.get("as_user") else {"users": [user.name]}
        result = module("rootless_pause", **named, **args)
        (entry,) = result["users"]
        return {**result, **entry}

    return run


def plant(user: Any, name: str, content: bytes, directory: Path | None = None) -> Path:
    directory = directory or user.state_dir
    user.run("mkdir", "-p", str(directory))
    path = directory / name
    path.write_bytes(content)
    os.chown(path, user.uid, user.gid)
    return path


@pytest.mark.parametrize(
    ("name", "content", "verdict"),
    [
        ("pause.pid", b"", "garbage"),
        ("pause.pid", b"nonsense", "garbage"),
        ("pause.pid", b"4194304", "dead"),
        ("pause.pid", b"1", "recycled"),
        ("ns_handles", b"", "corrupt"),
        ("ns_handles", b"x" * 272, "corrupt"),
    ],
)
@pytest.mark.parametrize("who", ["root", "owner"])
def test_what_is_stale_goes(clean: Run, user: Any, name: str, content: bytes, verdict: str, who: str) -> None:
    path = plant(user, name, content)
    as_user = user if who == "owner" else None
    foretold = clean(user, check=True, diff=True, as_user=as_user)
    assert (foretold["changed"], foretold["removed"], path.exists()) == (True, [str(path)], True)
    assert str(path) in foretold["diff"][0]["before"]
    assert str(path) not in foretold["diff"][0]["after"]
    result = clean(user, as_user=as_user)
    (file,) = result["files"]
    assert (file["path"], file["verdict"], file["action"]) == (str(path), verdict, "removed")
    assert file["evidence"]
    assert (result["changed"], result["action"], result["removed"]) == (True, "cleaned", [str(path)])
    assert not path.exists()
    again = clean(user, as_user=as_user)
    assert (again["changed"], again["action"], again["files"]) == (False, "none", [])


def test_the_evidence_names_the_process(clean: Run, user: Any) -> None:
    plant(user, "pause.pid", b"1")
    (file,) = clean(user)["files"]
    assert (file["pid"], file["owner"]) == (1, 0)
    assert file["command"] == Path("/proc/1/comm").read_text().strip()


@pytest.mark.parametrize("method", ["pause", "handles"])
def test_what_is_alive_stays(clean: Run, ns: Run, user: Any, method: str) -> None:
    made = ns(user, method=method)
    result = clean(user, orphans=True)
    (file,) = result["files"]
    assert (result["changed"], file["verdict"], file["action"], file["why"]) == (False, "live", "left", "it is alive")
    assert (file["userns"], file["mntns"]) == (made["userns"], made["mntns"])
    assert result["pin"]["verdict"] == "live"
    assert ns(user, method=method)["action"] == "rejoined"


def test_dead_handles_go(clean: Run, ns: Run, user: Any) -> None:
    if ns(user, method="handles").get("failed"):
        pytest.skip("needs a kernel with handles for users")
    ns(user, method="pause", pin=True)
    kept = user.handles_file.read_bytes() if user.handles_file.exists() else None
    ns(user, state="absent")
    plant(user, "ns_handles", kept or b"")
    deadline = time.monotonic() + 30
    while clean(user, check=True)["files"][0]["verdict"] == "live" and time.monotonic() < deadline:
        time.sleep(0.2)
    (file,) = clean(user)["files"]
    assert (file["verdict"], file["action"]) == ("dead", "removed")


def test_every_place_is_looked_at(clean: Run, user: Any) -> None:
    places = [Path(f"/tmp/{name}-{user.uid}") for name in ("storage-run", "podman-run")]
    try:
        for place in places:
            place.mkdir(mode=0o700)
            os.chown(place, user.uid, user.gid)
        planted = [plant(user, "pause.pid", b"junk", place / "libpod/tmp") for place in places]
        planted.append(plant(user, "pause.pid", b"junk"))
        assert sorted(clean(user)["removed"]) == sorted(map(str, planted))
        assert not any(path.exists() for path in planted)
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


def test_a_state_directory_of_its_own(clean: Run, module: Run, user: Any, make_user: Any) -> None:
    there = user.runtime_dir / "elsewhere"
    named = plant(user, "pause.pid", b"junk", there)
    usual = plant(user, "pause.pid", b"junk")
    assert clean(user, state_dir=str(there))["removed"] == [str(named)]
    assert usual.exists()
    other = make_user()
    refused = clean(other, state_dir=str(user.state_dir))
    assert refused["failed"]
    assert usual.exists()
    assert "only that one" in module("rootless_pause", users=[user.name, other.name], state_dir=str(there))["msg"]
    assert "only that one" in module("rootless_pause", state_dir=str(there))["msg"]
    assert "absolute" in module("rootless_pause", users=[user.name], state_dir="x")["msg"]


def started(command: list[str]) -> Any:
    process = subprocess.Popen([*command, "sh", "-c", "echo; exec sleep 100"], stdout=subprocess.PIPE, cwd="/")
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def orphan(ns: Run, user: Any) -> dict[str, Any]:
    """A pause process whose file somebody has removed; old enough to be reaped."""
    made = ns(user, pin=False)
    user.pause_file.unlink()
    time.sleep(10.5)
    return made


def test_orphans(clean: Run, ns: Run, user: Any, orphan: dict[str, Any]) -> None:
    pid = orphan["pause_pid"]
    (told,) = clean(user)["orphans"]
    assert (told["pid"], told["userns"], told["action"]) == (pid, orphan["userns"], "left")
    assert "orphans: false" in told["why"]
    foretold = clean(user, orphans=True, check=True)
    assert (foretold["reaped"], user.processes()) == ([pid], [pid])
    # Somebody lives there.
    line = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={pid}"]
    with started(user.command(*line)) as process:
        (told,) = clean(user, orphans=True)["orphans"]
        assert "1 other process(es) live in its namespace" in told["why"]
        process.kill()
    # A Podman with a runtime directory of its own would find it.
    reaped = clean(user, orphans=True)
    assert (reaped["changed"], reaped["reaped"]) == (True, [pid])
    assert user.processes() == []
    assert clean(user, orphans=True)["changed"] is False


def test_an_orphan_that_handles_depend_on_stays(clean: Run, user: Any, orphan: dict[str, Any]) -> None:
    place = f"/proc/{orphan['pause_pid']}/ns"
    content = handles_file(f"{place}/user", f"{place}/mnt")
    if content is None:
        pytest.skip("needs file handles of namespaces (Linux 6.18, no seccomp filter)")
    plant(user, "ns_handles", content)
    result = clean(user, orphans=True)
    (told,) = result["orphans"]
    assert (told["action"], result["changed"]) == ("left", False)
    assert "nothing else keeps alive" in told["why"]
    assert user.processes() == [orphan["pause_pid"]]


def test_young_pause_processes_are_no_orphans_yet(clean: Run, ns: Run, user: Any) -> None:
    made = ns(user, pin=False)
    user.pause_file.unlink()
    (told,) = clean(user, orphans=True)["orphans"]
    assert (told["action"], user.processes()) == ("left", [made["pause_pid"]])
    assert "younger than 10 s" in told["why"]


@pytest.fixture
def own_runtime_dir(user: Any) -> Iterator[Path]:
    path = Path(f"/tmp/rnstest-run-{user.uid}")
    path.mkdir(mode=0o700)
    os.chown(path, user.uid, user.gid)
    yield path
    shutil.rmtree(path)


def test_pause_processes_of_other_runtime_directories_are_no_orphans(
    clean: Run, ns: Run, user: Any, own_runtime_dir: Path
) -> None:
    made = ns(user, as_user=user, env={"XDG_RUNTIME_DIR": str(own_runtime_dir)})
    assert made["state_dir"].startswith(str(own_runtime_dir))
    result = clean(user, orphans=True)
    assert (result["changed"], result["orphans"]) == (False, [])
    assert [file["path"] for file in result["files"]] == [f"{own_runtime_dir}/libpod/tmp/pause.pid"]
    assert user.processes() == [made["pause_pid"]]


def test_directories_that_podman_would_not_use(clean: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    path = plant(user, "pause.pid", b"junk")
    user.runtime_dir.chmod(0)
    result = clean(user)
    assert (result["changed"], result["files"], result.get("failed", False)) == (False, [], False)
    assert f"{user.runtime_dir}/libpod: Permission denied" in result["problems"][0]
    user.runtime_dir.chmod(0o700)
    os.chown(user.runtime_dir, other.uid, other.gid)
    assert f"owned by UID {other.uid}" in clean(user)["problems"][0]
    assert path.exists()
    os.chown(user.runtime_dir, user.uid, user.gid)


@pytest.mark.alone
def test_root_looks_at_everybody(module: Run, make_user: Any, ns: Run) -> None:
    stale, live, none = make_user(), make_user(), make_user(runtime_dir=False)
    path = plant(stale, "pause.pid", b"junk")
    ns(live)
    result = module("rootless_pause")
    entries = {entry["user"]: entry["action"] for entry in result["users"]}
    assert (entries[stale.name], entries[live.name]) == ("cleaned", "none")
    assert none.name not in entries
    assert str(path) in result["removed"]


def test_one_users_failure_is_nobody_elses(module: Run, make_user: Any) -> None:
    first, second = make_user(), make_user()
    first.run("mkdir", "-p", str(first.state_dir / "pause.pid/content"))
    path = plant(second, "pause.pid", b"junk")
    result = module("rootless_pause", users=[first.name, "no-such-user", second.name])
    assert [entry["action"] for entry in result["users"]] == ["failed", "failed", "cleaned"]
    assert (result["failed"], result["changed"], result["removed"]) == (True, True, [str(path)])
    assert "cannot remove" in result["msg"]


def test_nobody_cleans_for_others(module: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    path = plant(other, "pause.pid", b"junk")
    result = module("rootless_pause", as_user=user, users=[other.name])
    assert result["failed"]
    assert path.exists()
