# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rootless_subid` on the real files, beside the real tools of shadow."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

FILES = [Path("/etc/subuid"), Path("/etc/subgid")]

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def _as_they_were(as_root: None) -> Iterator[None]:
    """Owners without an account are not taken away with the test's users, and neither are notes."""
    yield
    for path in FILES:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if "rnstest" not in line]
        if kept != lines:
            path.write_text("".join(kept))


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user(ranges=False)


def owned(name: str, path: Path = FILES[0]) -> list[tuple[int, int]]:
    lines = [line.split(":") for line in path.read_text().splitlines() if line.startswith(f"{name}:")]
    return [(int(start), int(count)) for _name, start, count in lines]


def test_a_range_that_works(module: Run, ns: Run, user: Any, expected_maps: Any) -> None:
    foretold = module("rootless_subid", owners=[user.name], check=True, diff=True)
    assert (foretold["changed"], owned(user.name)) == (True, [])
    assert f"{user.name}:" in foretold["diff"][0]["after"]
    result = module("rootless_subid", owners=[user.name], backup=True)
    (entry,) = result["owners"]
    assert (result["changed"], entry["action"], entry["uid"]) == (True, "changed", user.uid)
    assert [(range_["start"], range_["count"]) for range_ in entry["uid_ranges"]] == owned(user.name)
    assert owned(user.name, FILES[1]) == [(range_["start"], range_["count"]) for range_ in entry["gid_added"]]
    for backup in result["backup_files"].values():
        Path(backup).unlink()
    again = module("rootless_subid", owners=[str(user.uid)])
    assert (again["changed"], again["owners"][0]["action"]) == (False, "none")
    # newuidmap takes them.
    made = ns(user)
    assert (made["action"], made["uid_map"]) == ("created", expected_maps(user)["uid_map"])
    if shutil.which("getsubids"):
        told = subprocess.run(["getsubids", user.name], capture_output=True, text=True, check=True).stdout
        assert told.split()[-2:] == [str(owned(user.name)[0][0]), "65536"]
    assert module("rootless_subid", owners=[user.name], state="absent")["changed"]
    assert owned(user.name) == []
    assert ns(user)["drift"] is True


def test_useradd_goes_round_what_we_gave_out(module: Run, make_user: Any) -> None:
    module("rootless_subid", owners=["rnstestcontainers"])
    mine = owned("rnstestcontainers")
    shadows = owned(make_user().name)
    assert not set(range(mine[0][0], sum(mine[0]))) & set(range(shadows[0][0], sum(shadows[0])))


def test_overlaps_are_told_or_refused(module: Run, user: Any) -> None:
    with FILES[0].open("a") as file:
        file.write("rnstestone:3900000000:100\nrnstesttwo:3900000050:100\n")
    before = FILES[0].read_text()
    refused = module("rootless_subid", owners=[user.name], on_overlap="fail")
    assert refused["failed"]
    assert FILES[0].read_text() == before
    told = module("rootless_subid", owners=[user.name])
    assert {(told["overlaps"][0][side]["owner"]) for side in ("first", "second")} == {"rnstestone", "rnstesttwo"}
    assert owned(user.name)
    seen = module("rootless_ns_info", users=[user.name])["overlaps"]
    assert [entry for entry in seen if "rnstestone" in entry["msg"]] == told["overlaps"]


def test_one_owners_failure_is_nobody_elses(module: Run, user: Any) -> None:
    ranges = [{"owner": "rnstestbad", "start": user.uid, "count": 10}]
    result = module("rootless_subid", owners=["rnstestbad", "a:b", user.name], ranges=ranges)
    assert [entry["action"] for entry in result["owners"]] == ["failed", "failed", "changed"]
    assert result["failed"]
    assert owned(user.name)
    assert not owned("rnstestbad")


def test_only_root(module: Run, user: Any) -> None:
    result = module("rootless_subid", owners=[user.name], as_user=user)
    assert result["failed"]
    assert "Permission denied" in result["msg"]


def test_the_same_owner_twice(module: Run, user: Any) -> None:
    assert "are one owner" in module("rootless_subid", owners=[user.name, str(user.uid)])["msg"]


def test_beside_usermod(module: Run, make_user: Any) -> None:
    """Two runs of ours and a loop of usermod: every line is there in the end, and none shares IDs with another."""
    users = [make_user(ranges=False) for _number in range(3)]
    by_hand = range(3_800_000_000, 3_800_000_000 + 20 * 1000, 1000)

    def usermod() -> None:
        for start in by_hand:
            command = ["usermod", "--add-subuids", f"{start}-{start + 9}", users[0].name]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    def ours(part: int) -> None:
        for number in range(10):
            names = [f"rnstest{part}n{number}m{more}" for more in range(5)]
            assert module("rootless_subid", owners=[*names, users[part].name], count=100).get("failed") is None

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(usermod), pool.submit(ours, 1), pool.submit(ours, 2)]:
            future.result()
    assert {start for start, _count in owned(users[0].name)} >= set(by_hand)
    for part in (1, 2):
        assert owned(users[part].name)
        for number in range(10):
            for more in range(5):
                assert len(owned(f"rnstest{part}n{number}m{more}")) == 1
    overlaps = module("rootless_subid", owners=[users[1].name], check=True)["overlaps"]
    assert [told["msg"] for told in overlaps if "rnstest" in told["msg"]] == []
    assert not Path("/etc/subuid.lock").exists()


def test_shadows_lock_is_waited_for(module: Run, user: Any) -> None:
    lock = Path("/etc/subgid.lock")
    lock.write_text(f"{os.getpid()}\0")
    try:
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(module, "rootless_subid", owners=[user.name])
            time.sleep(1)
            waited = not run.done() and owned(user.name) == []
            lock.unlink()
            assert run.result()["changed"]
    finally:
        lock.unlink(missing_ok=True)
    assert waited
    assert owned(user.name)


def test_half_a_change_is_told(module: Run, user: Any, tmp_path: Path) -> None:
    """A bind mount cannot be replaced: one of the files is written, the other is not."""
    copy = tmp_path / "subgid"
    shutil.copy(FILES[1], copy)
    subprocess.run(["mount", "--bind", str(copy), str(FILES[1])], check=True)
    try:
        told = module("rootless_subid", owners=[user.name], backup=True)
        assert (told["failed"], told["changed"], len(owned(user.name))) == (True, True, 1)
        assert "cannot write /etc/subgid" in told["msg"]
        assert "/etc/subuid was written before" in told["msg"]
    finally:
        subprocess.run(["umount", str(FILES[1])], check=True)
    for backup in told["backup_files"].values():
        Path(backup).unlink()
    again = module("rootless_subid", owners=[user.name])
    assert (again["changed"], len(owned(user.name)), len(owned(user.name, FILES[1]))) == (True, 1, 1)


def test_names_that_are_no_utf8_are_told(module: Run, user: Any) -> None:
    before = FILES[0].read_bytes()
    FILES[0].write_bytes(before + b"rnstest\xe9:3900000000:100\nrnstesttwo:3900000050:100\n")
    try:
        told = module("rootless_subid", owners=[user.name])
        info = module("rootless_ns_info", users=[user.name])
    finally:
        FILES[0].write_bytes(b"".join(line for line in FILES[0].read_bytes().splitlines(True) if b"\xe9" not in line))
    for result in (told, info):
        assert r"rnstest\xe9" in {pair["first"]["owner"] for pair in result["overlaps"]}
