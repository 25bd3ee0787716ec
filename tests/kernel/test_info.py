# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rootless_ns_info`: maps, ranges, and a verdict on every key."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jmespath
import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.as_user import Agent
from ansible_collections.userns.rootless.plugins.module_utils._rootless.asker import NothingThere
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host, Scene
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options
from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import comm
from ansible_collections.userns.rootless.plugins.module_utils._rootless.runtime_dir import no_runtime_directory

Run = Callable[..., dict[str, Any]]


def parsed(path: str) -> list[dict[str, int]]:
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    return [{"id": int(line[0]), "parent_id": int(line[1]), "count": int(line[2])} for line in lines]


def look(module: Run, user: Any, **args: Any) -> dict[str, Any]:
    result = module("rootless_ns_info", users=[user.name], **args)
    assert not result.get("failed"), result
    (entry,) = result["namespaces"]
    return dict(entry)


def test_available_is_this_process(module: Run) -> None:
    available = module("rootless_ns_info", users=[])["available"]
    for kind in ("uid", "gid"):
        expected = parsed(f"/proc/self/{kind}_map")
        assert available[f"{kind}_map"] == expected
        assert available[f"{kind}s"] == sum(entry["count"] for entry in expected)


@pytest.mark.alone
def test_configured_ranges_and_their_source(module: Run, user: Any, expected_maps: Any) -> None:
    result = module("rootless_ns_info", users=[user.name])
    (entry,) = result["configured"]
    assert (entry["user"], entry["source"]) == (user.name, "files")
    for kind in ("uid", "gid"):
        (range_,) = entry[f"{kind}_ranges"]
        assert range_["start"] == expected_maps(user)[f"{kind}_map"][1]["parent_id"]
        line = Path(f"/etc/sub{kind}").read_text().splitlines()[range_["line"] - 1]
        assert line == f"{user.name}:{range_['start']}:{range_['count']}"


def test_root_sees_everybody_with_a_range_or_a_state(module: Run, make_user: Any) -> None:
    with_ranges, without = make_user(), make_user(ranges=False)
    module("rootless_ns", users=[without.name])
    entries = module("rootless_ns_info")["namespaces"]
    assert jmespath.search(f"[?user=='{with_ranges.name}'].state", entries) == ["none"]
    assert jmespath.search(f"[?user=='{without.name}'].state", entries) == ["alive"]


# Seen by one run only; but whoever renames a new file over /etc/subuid takes the mount away.
OTHER_RANGES = (
    "mount -t tmpfs tmpfs /mnt; printf 'containers:3000000000:65536\\n0042:1:1\\n4000000001:2:1\\n' > /mnt/subuid; "
    'cat /etc/subuid >> /mnt/subuid; mount --bind /mnt/subuid /etc/subuid; exec "$@"'
)


@pytest.mark.alone
def test_owners_who_are_no_users_are_among_what_is_configured(module: Run, user: Any) -> None:
    start = ("unshare", "--mount", "sh", "-euc", OTHER_RANGES, "sh")
    configured = {entry["user"]: entry for entry in module("rootless_ns_info", prefix=start)["configured"]}
    strangers = {"containers": (None, 3_000_000_000), "0042": (None, 1), "4000000001": (4_000_000_001, 2)}
    for owner, (uid, first) in strangers.items():
        assert (configured[owner]["uid"], configured[owner]["uid_ranges"][0]["start"]) == (uid, first)
        assert configured[owner]["gid_ranges"] == []
    assert list(configured)[-3:] == sorted(strangers)
    named = module("rootless_ns_info", users=[user.name], prefix=start)["configured"]
    assert [entry["user"] for entry in named] == [user.name]


def test_alive(module: Run, ns: Run, user: Any) -> None:
    made = ns(user)
    entry = look(module, user)
    assert (entry["state"], entry["action"]) == ("alive", "none")
    for key in ("userns", "mntns", "pause_pid", "pinned", "uid_map", "gid_map", "method", "drift", "processes"):
        assert entry[key] == made[key]
    assert jmespath.search("verdicts.*.verdict", entry) == ["live", "missing", "live"]


def test_nothing_is_changed_by_looking(module: Run, user: Any) -> None:
    assert look(module, user)["state"] == "none"
    assert list(user.runtime_dir.iterdir()) == []
    assert user.processes() == []


def plant(user: Any, name: str, content: bytes) -> None:
    user.run("mkdir", "-p", str(user.state_dir))
    path = user.state_dir / name
    path.write_bytes(content)
    os.chown(path, user.uid, user.gid)


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (b"", "garbage"),
        (b"what", "garbage"),
        (b"12\n", "garbage"),
        (b"0", "garbage"),
        (b"-1", "garbage"),
        (b"99999999999999", "garbage"),
        (b"4194304", "dead"),
        (b"1", "recycled"),
        (b"ourselves", "recycled"),
    ],
)
def test_stale_pause_files(module: Run, ns: Run, user: Any, content: bytes, verdict: str) -> None:
    plant(user, "pause.pid", str(os.getpid()).encode() if content == b"ourselves" else content)
    entry = look(module, user)
    # Where Podman has not run since the host booted it stops: "cannot re-exec process to join".
    assert (entry["state"], entry["verdicts"]["pause_pid"]["verdict"]) == ("broken", verdict)
    assert entry["verdicts"]["pause_pid"]["evidence"]
    plant(user, "alive", b"")
    assert look(module, user)["state"] == "stale"
    assert ns(user)["action"] == "created"
    assert look(module, user)["state"] == "alive"


@pytest.mark.parametrize("content", [b"", b"x" * 271, b"\0" * 272, b"\xff" * 272, b"x" * 273])
def test_corrupt_handles(module: Run, ns: Run, user: Any, content: bytes, reads_handles: bool) -> None:
    plant(user, "ns_handles", content)
    entry = look(module, user)
    # A Podman before 6.0 does not look at them.
    state = "broken" if reads_handles else "stale"
    assert (entry["state"], entry["verdicts"]["ns_handles"]["verdict"]) == (state, "corrupt")
    assert ns(user)["action"] == "created"
    assert not user.handles_file.exists()


def test_dead_handles(module: Run, ns: Run, user: Any) -> None:
    ns(user, method="handles")
    content = user.handles_file.read_bytes()
    ns(user, state="absent")
    plant(user, "ns_handles", content)
    for as_user in (None, user):
        entry = look(module, user, as_user=as_user)
        assert (entry["state"], entry["verdicts"]["ns_handles"]["verdict"]) == ("stale", "dead")


def test_handles_probe_agrees_with_the_kernel(module: Run, user: Any, payload: Path, public_python: str) -> None:
    told = module("rootless_ns_info", users=[user.name])["kernel"]["nsfs_handles"]
    probe = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
mount = ctypes.c_int()
fd = os.open("/proc/self/ns/user", os.O_RDONLY)
if libc.name_to_handle_at(fd, b"", handle, ctypes.byref(mount), 0x1000):
    print("unsupported")
else:
    print("opened" if libc.open_by_handle_at(-10003, handle, 0) >= 0 else "refused")
"""
    seen = user.run("unshare", "--user", public_python, "-c", probe).strip()
    assert told == {"unsupported": "unsupported", "opened": "user", "refused": "root"}[seen]
    assert module("rootless_ns_info", as_user=user)["kernel"]["nsfs_handles"] == told


def a_runtime_directory(user: Any) -> None:
    user.runtime_dir.mkdir(parents=True)
    os.chown(user.runtime_dir, user.uid, user.gid)


def a_name_in_place_of_one(user: Any) -> None:
    user.runtime_dir.parent.mkdir(exist_ok=True)
    user.runtime_dir.symlink_to("/nonexistent")


def half_a_pin(user: Any) -> None:
    user.pin.mkdir(parents=True)


def a_process_in_a_namespace(user: Any) -> None:
    subprocess.Popen(user.command("unshare", "--user", "sleep", "100"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not any(comm("/proc", pid) == "sleep" for pid in user.processes()) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_whoever_has_nothing_needs_no_process_to_look(make_user: Any) -> None:
    user = make_user(runtime_dir=False)
    scene, account = Scene(Syscalls(), Host()), find_account(user.name)
    with scene.looker(account) as looker, scene.agent(account) as agent:
        assert not isinstance(looker, Agent)
        assert looker.call("inspect") == agent.call("inspect")


@pytest.mark.parametrize("plant", [a_runtime_directory, a_name_in_place_of_one, half_a_pin, a_process_in_a_namespace])
def test_of_everybody_else_a_process_of_theirs_looks(make_user: Any, plant: Callable[[Any], None]) -> None:
    user = make_user(runtime_dir=False)
    plant(user)
    try:
        with Scene(Syscalls(), Host()).looker(find_account(user.name)) as looker:
            assert isinstance(looker, Agent)
    finally:
        if user.runtime_dir.is_symlink():
            user.runtime_dir.unlink()


# Root's look at a file system of a user's that never answers; its daemon is the test, which does nothing.
HANGING = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.userns.rootless.plugins.module_utils._rootless.runtime_dir import may_have_state
fd, uid, path = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
options = f"fd={fd},rootmode=40000,user_id={uid},group_id={uid}{sys.argv[5]}".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"x", path.encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
print(may_have_state(uid))
"""


@pytest.mark.parametrize("others", ["", ",allow_other"])
def test_root_asks_no_file_system_of_a_users(make_user: Any, payload: Path, others: str) -> None:
    user = make_user()
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"needs /dev/fuse: {error.strerror}")
    line = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", HANGING]
    line += [str(payload), str(fd), str(user.uid), str(user.runtime_dir), others]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, pass_fds=[fd]) as process:
        try:
            assert process.communicate(timeout=10)[0] == "True\n"
        finally:
            # Whoever waits for an answer waits no more.
            process.kill()
            os.close(fd)


def test_a_namespace_that_comes_while_one_looks_is_seen(ns: Run, user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first glance still finds nothing of a user who has a namespace by now."""
    made = ns(user)
    # The pin alone: processes are counted once only.
    user.kill_pause()
    monkeypatch.setattr(Scene, "looker", lambda _self, account: NothingThere(no_runtime_directory(account.uid)))
    report = Namespaces(Syscalls(), host=Host(), options=Options()).look(find_account(user.name)).as_dict()
    assert (report["userns"], report["uid_map"]) == (made["userns"], made["uid_map"])


def test_what_only_the_namespace_has_mounted_is_listed(module: Run, ns: Run, user: Any, tmp_path: Path) -> None:
    point = tmp_path / "a volume"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "the volume", str(point)], check=True)
    try:
        subprocess.run(["mount", "--make-private", str(point)], check=True)
        status = point.stat()
        ns(user)
        user.kill_pause()
        assert str(point) not in [mount["point"] for mount in look(module, user)["mounts"]]
    finally:
        subprocess.run(["umount", str(point)], check=True)
    (found,) = [mount for mount in look(module, user)["mounts"] if mount["point"] == str(point)]
    assert (found["type"], found["source"]) == ("tmpfs", "the volume")
    assert found["device"] == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    ns(user, state="absent")
    assert look(module, user)["mounts"] == []
