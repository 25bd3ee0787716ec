# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a namespace: set up, found again, repaired, removed; each action checked, done, done again, checked."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls

Run = Callable[..., dict[str, Any]]


def lost_pause_process(user: Any) -> None:
    user.kill_pause()


def lost_pause_file(user: Any) -> None:
    user.pause_file.unlink()


def lost_pin(user: Any) -> None:
    for name in ("user", "user", "mnt"):
        subprocess.run(["umount", "-l", str(user.pin / name)], check=True)


def lost_pin_directory(user: Any) -> None:
    lost_pin(user)
    shutil.rmtree(user.pin)


def lost_upper_pin(user: Any) -> None:
    subprocess.run(["umount", "-l", str(user.pin / "user")], check=True)


@pytest.fixture
def one_cpu() -> str:
    """Namespaces' IDs grow on each CPU by itself."""
    return str(min(os.sched_getaffinity(0)))


def has_id(fd: int) -> bool:
    try:
        return Syscalls().ns_id(fd) > 0
    except OSError:
        return False


def same_namespace(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return (first["userns"], first["mntns"]) == (second["userns"], second["mntns"])


def test_set_up_is_as_configured(ns: Run, user: Any, inodes: Any, expected_maps: Any) -> None:
    result = ns(user)
    assert (result["action"], result["changed"], result["method"], result["pinned"]) == ("created", True, "pause", True)
    assert (result["userns"], result["mntns"]) == inodes(result["pause_pid"])
    assert result["userns"] != os.stat("/proc/self/ns/user").st_ino
    assert result["pause_pid"] == user.pause_pid()
    expected = expected_maps(user)
    assert {"uid_map": result["uid_map"], "gid_map": result["gid_map"]} == expected
    for kind in ("uid_map", "gid_map"):
        lines = Path(f"/proc/{result['pause_pid']}/{kind}").read_text().splitlines()
        assert [tuple(map(int, line.split())) for line in lines] == [
            (entry["id"], entry["parent_id"], entry["count"]) for entry in expected[kind]
        ]
    assert result["state_dir"] == str(user.state_dir)
    assert (result["drift"], result["processes"], result["msg"]) == (False, 0, "")


def test_the_pause_process_follows_the_protocol(ns: Run, user: Any) -> None:
    pid = ns(user)["pause_pid"]
    assert b"_PODMAN_PAUSE=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) == pid, "not the leader of its own session"
    opened = {int(entry.name): os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert [opened.pop(number) for number in (0, 1, 2)] == ["/dev/null"] * 3
    # catatonit waits on one of its own
    assert all(target == "anon_inode:[signalfd]" for target in opened.values())
    assert user.processes() == [pid], "something else was left running"
    assert user.pause_file.read_bytes() == str(pid).encode()
    assert user.pause_file.stat().st_mode & 0o7777 == 0o600


def test_the_pause_process_costs_no_more_than_catatonit(ns: Run, user: Any) -> None:
    catatonit = shutil.which("catatonit")
    if catatonit is None:
        pytest.skip("needs catatonit (Debian: apt-get install catatonit)")

    def private_kilobytes(pid: int) -> int:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Swap:")))

    pid = ns(user)["pause_pid"]
    with subprocess.Popen([catatonit, "-P"], stdin=subprocess.DEVNULL) as reference:
        try:
            while not any("signalfd" in os.readlink(fd) for fd in Path(f"/proc/{reference.pid}/fd").iterdir()):
                time.sleep(0.01)
            # Pages of 4 KiB come and go with the environment's size.
            assert private_kilobytes(pid) <= private_kilobytes(reference.pid) + 8
        finally:
            reference.kill()


@pytest.mark.parametrize("method", ["pause", "handles"])
def test_each_action_four_times(ns: Run, user: Any, method: str) -> None:
    for state, action, again in (("present", "created", "rejoined"), ("absent", "removed", "none")):
        before = sorted(user.runtime_dir.rglob("*"))
        predicted = ns(user, method=method, state=state, check=True)
        assert (predicted["action"], predicted["changed"]) == (action, True)
        assert sorted(user.runtime_dir.rglob("*")) == before
        done = ns(user, method=method, state=state)
        assert (done["action"], done["changed"]) == (action, True)
        second = ns(user, method=method, state=state)
        assert (second["action"], second["changed"]) == (again, False)
        if state == "present":
            assert same_namespace(done, second)
        checked = ns(user, method=method, state=state, check=True)
        assert (checked["action"], checked["changed"]) == (again, False)
    assert not user.pause_file.exists()
    assert not user.handles_file.exists()
    assert not user.pin.exists()
    assert user.processes() == []


@pytest.mark.parametrize("lose", [lost_pause_process, lost_pause_file, lost_pin, lost_pin_directory, lost_upper_pin])
def test_what_is_lost_is_repaired(ns: Run, user: Any, lose: Callable[[Any], None]) -> None:
    first = ns(user)
    lose(user)
    predicted = ns(user, check=True)
    assert (predicted["action"], predicted["changed"]) == ("repaired", True)
    repaired = ns(user)
    assert (repaired["action"], repaired["changed"]) == ("repaired", True)
    assert same_namespace(first, repaired)
    assert (repaired["pause_pid"], repaired["pinned"]) == (user.pause_pid(), True)
    assert ns(user)["changed"] is False
    assert user.processes() == [user.pause_pid()]


def test_lost_handles_are_repaired(ns: Run, user: Any) -> None:
    first = ns(user, method="handles")
    user.handles_file.unlink()
    repaired = ns(user, method="handles")
    assert (repaired["action"], same_namespace(first, repaired)) == ("repaired", True)
    lost_pin(user)
    # Nothing held it any more.
    assert ns(user, method="handles")["action"] == "created"


def test_handles_keep_no_process_and_open_for_the_owner(ns: Run, user: Any, payload: Path, public_python: str) -> None:
    result = ns(user, method="handles")
    assert (result["method"], result["pause_pid"], result["pinned"]) == ("handles", None, True)
    assert user.processes() == []
    content = user.handles_file.read_bytes()
    assert (len(content), user.handles_file.stat().st_mode & 0o7777) == (272, 0o600)
    for offset, inode in ((0, result["userns"]), (136, result["mntns"])):
        size, kind = struct.unpack_from("=Ii", content, offset)
        assert (size, kind) == (16, 0xF1)
        assert struct.unpack_from("=QII", content, offset + 8)[2] == inode
        assert content[offset + 8 + size : offset + 136] == bytes(128 - size)
    joiner = f"""
import sys, os
sys.path.insert(0, {str(payload)!r})
package = "ansible_collections.userns.rootless.plugins.module_utils._rootless"
from importlib import import_module
kernel = import_module(package + ".kernel"); handles = import_module(package + ".handles")
system = kernel.Syscalls()
pair = handles.Handles.parse(open({str(user.handles_file)!r}, "rb").read()).open(system)
system.setns(pair.user_fd, kernel.CLONE_NEWUSER); system.setns(pair.mnt_fd, kernel.CLONE_NEWNS)
print(os.stat("/proc/self/ns/user").st_ino, os.stat("/proc/self/ns/mnt").st_ino, os.geteuid())
"""
    assert user.run(public_python, "-c", joiner).split() == [str(result["userns"]), str(result["mntns"]), "0"]


@pytest.mark.parametrize(("value", "method"), [(None, "pause"), ("0", "pause"), ("1", "handles"), ("", "handles")])
def test_the_automatic_method_follows_podman(
    ns: Run, user: Any, value: str | None, method: str, reads_handles: bool
) -> None:
    env = {} if value is None else {"PODMAN_NO_PAUSE_PROCESS": value}
    result = ns(user, env=env)
    # A Podman before 6.0 does not know the variable.
    assert result["method"] == (method if reads_handles else "pause")
    assert ("reads none" in result["msg"]) == (method == "handles" and not reads_handles)


def test_handles_that_this_podman_does_not_read(ns: Run, user: Any, reads_handles: bool) -> None:
    result = ns(user, method="handles")
    assert ("will make a namespace of its own" in result["msg"]) == (not reads_handles)


def test_changing_the_method_keeps_the_namespace(ns: Run, user: Any) -> None:
    first = ns(user, method="pause")
    handles = ns(user, method="handles")
    assert (handles["action"], user.processes()) == ("repaired", [])
    pause = ns(user, method="pause")
    assert (pause["action"], pause["pause_pid"]) == ("repaired", user.pause_pid())
    assert same_namespace(first, handles)
    assert same_namespace(first, pause)


@pytest.mark.parametrize("umask", ["022", "077"])
def test_the_owner_joins_through_the_pin(ns: Run, user: Any, umask: str) -> None:
    result = ns(user, prefix=("sh", "-c", f'umask {umask} && exec "$@"', "sh"))
    user.kill_pause()
    assert user.processes() == []
    joined = user.run(
        "nsenter",
        "--preserve-credentials",
        f"--user={user.pin}/user",
        f"--mount={user.pin}/mnt",
        "readlink",
        "/proc/self/ns/user",
    )
    assert joined.strip() == f"user:[{result['userns']}]"


def test_a_pin_that_the_kernel_refuses_is_told_and_changes_nothing(ns: Run, user: Any, one_cpu: str) -> None:
    """The kernel pins no mount namespace inside a younger one, which here is made on purpose."""
    younger = ("taskset", "--cpu-list", one_cpu, "unshare", "--mount", "--propagation", "private")
    first = ns(user, pin=False, prefix=younger[:3])
    for _run in range(2):
        result = ns(user, prefix=younger)
        assert (result["action"], result["changed"], result["pinned"]) == ("rejoined", False, False)
        warnings = str(result["warnings"])
        assert f"cannot pin in {user.pin}: mount {user.pin}/mnt: Invalid argument" in warnings
        assert same_namespace(first, result)
    with open("/proc/self/ns/mnt", "rb") as file:
        if has_id(file.fileno()):
            assert "run from the host's own mount namespace" in warnings
    assert ns(user)["action"] == "repaired"


# Runs the rest of the line beside a process to whose mount namespace all shared mounts spread.
WITH_A_PEER = """
unshare --mount --propagation unchanged sleep 100 &
while [ "$(readlink /proc/$!/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.01; done
"$@"
status=$?
kill $!
exit $status
"""


def test_a_refused_pin_takes_nothing_away(ns: Run, module: Run, user: Any, one_cpu: str) -> None:
    """Explicit handles make the pause process superfluous, once there is a pin."""
    younger = ("taskset", "--cpu-list", one_cpu, "unshare", "--mount", "--propagation", "private")
    first = ns(user, pin=False, prefix=younger[:3])
    user.pin.mkdir()
    result = ns(user, method="handles", prefix=younger)
    assert result["changed"], "half a pin went, and handles came"
    assert (result["pinned"], user.pin.exists(), user.pause_pid()) == (False, False, first["pause_pid"])
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    assert (entry["state"], entry["userns"]) == ("alive", first["userns"])


@pytest.mark.alone
def test_pins_stay_private_where_all_mounts_are_made_shared(ns: Run, user: Any) -> None:
    """As `mount --make-rshared /` does: the kernel mounts no mount namespace's file where mounts spread from."""
    first = ns(user)
    lost_pin(user)
    subprocess.run(["mount", "--make-shared", str(user.pin.parent)], check=True)
    result = ns(user, prefix=("sh", "-c", WITH_A_PEER, "sh"))
    assert (result["action"], result["pinned"], result.get("warnings", [])) == ("repaired", True, [])
    assert same_namespace(first, result)
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert [fields[6] for fields in mounts if fields[4] == str(user.pin.parent)] == ["-"]


def test_pins_below_a_run_that_was_mounted_later(ns: Run, user: Any, one_cpu: str) -> None:
    """There the directory is another one, though a mount point of its name is listed."""
    ns(user)
    ns(user, state="absent")
    run = f"""
        mount -t tmpfs tmpfs /run
        mount --make-shared /run
        install -d -m 700 -o {user.uid} -g {user.gid} /run/user/{user.uid}
        {WITH_A_PEER}
    """
    younger = ("taskset", "--cpu-list", one_cpu, "unshare", "--mount", "--propagation", "private")
    result = ns(user, prefix=(*younger, "sh", "-c", run, "sh"))
    assert (result["pinned"], result.get("warnings", [])) == (True, [])


def test_pins_are_not_copied_into_new_namespaces(ns: Run, make_user: Any) -> None:
    first = make_user()
    ns(first)
    second = ns(make_user())
    mounts = Path(f"/proc/{second['pause_pid']}/mountinfo").read_text()
    assert " nsfs " not in "".join(line for line in mounts.splitlines() if "rootless-ns" in line)


def test_absent_ends_the_namespace(ns: Run, user: Any) -> None:
    ns(user)
    pid = user.pause_pid()
    removed = ns(user, state="absent")
    assert (removed["pause_pid"], removed["pinned"], removed["processes"]) == (None, False, 0)
    assert not Path(f"/proc/{pid}/ns/mnt").exists()
    assert ns(user)["action"] == "created"


def test_absent_refuses_while_somebody_lives_there(ns: Run, user: Any) -> None:
    result = ns(user)
    line = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={result['pause_pid']}", "sleep", "100"]
    with subprocess.Popen(user.command(*line), cwd="/") as sleeper:
        try:
            while os.stat(f"/proc/{sleeper.pid}/ns/mnt").st_ino != result["mntns"]:
                assert sleeper.poll() is None
            refused = ns(user, state="absent")
            assert refused["failed"]
            assert f"{sleeper.pid} (sleep)" in refused["msg"]
            assert (refused["changed"], ns(user)["action"]) == (False, "rejoined")
            assert ns(user)["processes"] == 1
            forced = ns(user, state="absent", force=True)
            assert (forced["action"], sleeper.poll()) == ("removed", None)
            assert not user.pin.exists()
        finally:
            sleeper.kill()


def test_diff_shows_the_keys(ns: Run, user: Any) -> None:
    (predicted,) = ns(user, diff=True, check=True)["diff"]
    assert '"pause_pid": "missing"' in predicted["before"]
    assert '"pause_pid": "live: a new process"' in predicted["after"]
    assert '"pin": "live"' in predicted["after"]
    (shown,) = ns(user, diff=True)["diff"]
    assert '"pause_pid": "missing"' in shown["before"]
    assert f"process {user.pause_pid()} " in shown["after"]
    assert user.name in shown["before_header"]
    assert ns(user, diff=True)["diff"] == []


def test_one_failing_user_does_not_stop_the_others(module: Run, make_user: Any) -> None:
    good, other = make_user(), make_user()
    asked = [good.name, "no-such-user", "root", str(other.uid)]
    result = module("rootless_ns", users=asked)
    assert result["failed"]
    assert "no-such-user" in result["msg"]
    assert [entry["user"] for entry in result["namespaces"]] == [good.name, "no-such-user", "root", other.name]
    assert [entry["action"] for entry in result["namespaces"]] == ["created", "failed", "failed", "created"]


def test_many_users_in_one_call(module: Run, make_user: Any, inodes: Any) -> None:
    users = [make_user() for _number in range(24)]
    names = [user.name for user in users]
    first = module("rootless_ns", users=names)
    assert [entry["user"] for entry in first["namespaces"]] == names
    assert {entry["action"] for entry in first["namespaces"]} == {"created"}
    assert len({entry["userns"] for entry in first["namespaces"]}) == len(users)
    for user, entry in zip(users, first["namespaces"]):
        assert (entry["userns"], entry["mntns"]) == inodes(user.pause_pid())
    second = module("rootless_ns", users=names)
    assert (second["changed"], {entry["action"] for entry in second["namespaces"]}) == (False, {"rejoined"})
    assert module("rootless_ns", users=names, state="absent")["changed"]
