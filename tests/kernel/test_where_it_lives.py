# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause process outlives the session or service of whoever had it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_systemd import OwnSystemd, own_systemd

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.apply import Applier
from ansible_collections.userns.rootless.plugins.module_utils._rootless.held import NotHeldError, held
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinStore
from ansible_collections.userns.rootless.plugins.module_utils._rootless.plan import METHOD_PAUSE, MovePause

Run = Callable[..., dict[str, Any]]

OURS = r"/rootless_ns\.slice/rootless_ns-\d+-[0-9a-f]{8}\.scope/%d"
USERS = r"/user\.slice/user-%d\.slice/user@%d\.service/user\.slice/rootless-ns-pause-[0-9a-f]{8}\.scope"


@pytest.fixture
def systemd(user: Any) -> Iterator[OwnSystemd]:
    with own_systemd(user) as host:
        yield host


def test_what_root_starts_is_in_a_slice_of_its_own(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    result = ns(user, pin=False, prefix=systemd.prefix("/system.slice/pull.service"))
    assert (result["action"], result["msg"]) == ("created", "")
    assert re.fullmatch(OURS % user.uid, systemd.cgroup_of(result["pause_pid"]))
    assert result["pause"] == {"cgroup": systemd.cgroup_of(result["pause_pid"]), "ends_with": None}


def test_what_the_user_starts_is_in_its_own_manager(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    result = ns(user, prefix=(*systemd.prefix(systemd.session()), *user.command()))
    assert (result["action"], result["msg"]) == ("created", "")
    assert re.fullmatch(USERS % (user.uid, user.uid), systemd.cgroup_of(result["pause_pid"]))
    assert result["pause"]["ends_with"] is None


def test_it_outlives_them(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    as_user = user.command()
    service, session = "/system.slice/pull.service", systemd.session()
    for prefix, cgroup in ((systemd.prefix(service), service), ((*systemd.prefix(session), *as_user), session)):
        pid = ns(user, pin=False, prefix=prefix)["pause_pid"]
        systemd.end(cgroup)
        time.sleep(0.1)
        assert Path(f"/proc/{pid}/ns/mnt").exists()
        ns(user, state="absent", pin=False, prefix=systemd.prefix("/system.slice/pull.service"))


@pytest.mark.parametrize("actor", ["root", "user"])
@pytest.mark.parametrize("place", ["session", "service", "application", "service of the system"])
def test_one_that_would_end_with_its_maker_is_moved(
    ns: Run, user: Any, systemd: OwnSystemd, place: str, actor: str
) -> None:
    cgroup = {
        "session": systemd.session(),
        "service": systemd.manager("app.slice/sync.service"),
        "application": systemd.manager("app.slice/app-gnome-editor-77.scope"),
        "service of the system": "/system.slice/cron.service",
    }[place]
    if actor == "user" and place == "service of the system":
        pytest.skip("needs the help of PID 1")
    as_root = systemd.prefix("/system.slice/pull.service")
    prefix = as_root if actor == "root" else (*systemd.prefix(systemd.session()), *user.command())
    pid = ns(user, pin=False, prefix=as_root)["pause_pid"]
    systemd.put(pid, cgroup)
    seen = ns(user, check=True, diff=True, pin=False, prefix=prefix)
    assert (seen["action"], seen["changed"], seen["msg"]) == ("repaired", True, "")
    assert seen["pause"] == {"cgroup": cgroup, "ends_with": os.path.basename(cgroup)}
    (diff,) = seen["diff"]
    assert cgroup in diff["before"]
    assert "of its own" in diff["after"]
    assert systemd.cgroup_of(pid) == cgroup
    moved = ns(user, pin=False, prefix=prefix)
    assert (moved["action"], moved["changed"], moved["msg"], moved["pause_pid"]) == ("repaired", True, "", pid)
    expected = OURS % user.uid if actor == "root" else USERS % (user.uid, user.uid)
    assert re.fullmatch(expected, systemd.cgroup_of(pid))
    again = ns(user, pin=False, prefix=prefix)
    assert (again["action"], again["changed"]) == ("rejoined", False)


@pytest.mark.parametrize(
    "place", ["podman", "slurm", "slurm 1", "below a service", "container", "somebody else's manager"]
)
def test_what_is_to_stay_or_to_end_there_is_left(ns: Run, user: Any, systemd: OwnSystemd, place: str) -> None:
    cgroup = {
        "podman": systemd.manager("user.slice/podman-pause-0123abcd.scope"),
        "slurm": "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
        "slurm 1": f"/slurm/uid_{user.uid}/job_7/step_0",
        "below a service": "/system.slice/condor.service/htcondor/slot1_1",
        "container": "/machine.slice/libpod-0123.scope",
        "somebody else's manager": "/user.slice/user-3.slice/user@3.service/app.slice/shell-7.service",
    }[place]
    prefix = systemd.prefix("/system.slice/pull.service")
    pid = ns(user, pin=False, prefix=prefix)["pause_pid"]
    systemd.put(pid, cgroup)
    again = ns(user, pin=False, prefix=prefix)
    assert (again["action"], again["msg"]) == ("rejoined", "")
    assert again["pause"] == {"cgroup": cgroup, "ends_with": None}
    assert systemd.cgroup_of(pid) == cgroup


def test_what_the_user_starts_in_a_batch_job_stays_in_it(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    job = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
    result = ns(user, prefix=(*systemd.prefix(job), *user.command()))
    assert (result["action"], result["msg"]) == ("created", "")
    assert result["pause"] == {"cgroup": job, "ends_with": None}


@pytest.mark.parametrize("arguments", [("present",), ("exec",)])
@pytest.mark.parametrize("actor", ["root", "user"])
def test_the_command_does_the_same(
    installed: Path, user: Any, systemd: OwnSystemd, actor: str, arguments: tuple[str, ...]
) -> None:
    """`exec` sets up a namespace as the become plugin does."""
    end = ("--", "true") if arguments[0] == "exec" else ()
    if actor == "root":
        systemd.run("/system.slice/pull.service", str(installed), *arguments, "--user", user.name, *end)
    else:
        systemd.run(systemd.session(), *user.command(str(installed), *arguments, *end))
    expected = OURS % user.uid if actor == "root" else USERS % (user.uid, user.uid)
    assert re.fullmatch(expected, systemd.cgroup_of(user.pause_pid()))


def test_one_that_no_file_names_any_more_is_moved_too(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    prefix = systemd.prefix("/system.slice/pull.service")
    pid = ns(user, pin=False, prefix=prefix)["pause_pid"]
    systemd.put(pid, systemd.session())
    user.pause_file.unlink()
    moved = ns(user, pin=False, prefix=prefix)
    assert (moved["action"], moved["pause_pid"]) == ("repaired", pid)
    assert re.fullmatch(OURS % user.uid, systemd.cgroup_of(pid))
    assert ns(user, pin=False, prefix=prefix)["action"] == "rejoined"


def test_without_a_manager_the_user_is_warned(ns: Run, module: Run, user: Any) -> None:
    with own_systemd(user, manager=False) as systemd:
        prefix = (*systemd.prefix(systemd.session()), *user.command())
        for action in ("created", "rejoined"):
            result = ns(user, prefix=prefix)
            assert result["action"] == action
            assert result["pause"] == {"cgroup": systemd.session(), "ends_with": "session-7.scope"}
            assert f"loginctl enable-linger {user.name}" in result["msg"]
            assert "ends with session-7.scope" in result["msg"]
        seen = module("rootless_ns_info", prefix=prefix)["namespaces"][0]
        assert seen["pause"]["ends_with"] == "session-7.scope"


def test_all_of_one_call_are_in_one_scope(module: Run, make_user: Any) -> None:
    """Also where several processes work on them."""
    users = [make_user() for _user in range(12)]
    with own_systemd(users[0]) as systemd:
        prefix = systemd.prefix("/system.slice/pull.service")
        entries = module("rootless_ns", users=[user.name for user in users], pin=False, prefix=prefix)["namespaces"]
        assert [entry["msg"] for entry in entries] == [""] * len(users)
        assert len({os.path.dirname(systemd.cgroup_of(entry["pause_pid"])) for entry in entries}) == 1
        # Nothing but the pause processes holds the scope.
        scope = os.path.dirname(entries[0]["pause"]["cgroup"])
        found = systemd.run("/", "sh", "-c", f"cat /sys/fs/cgroup{scope}/cgroup.procs; ls -d /sys/fs/cgroup{scope}/*/")
        assert sorted(os.path.basename(line.rstrip("/")) for line in found.splitlines()) == sorted(
            str(user.uid) for user in users
        )
        for entry in entries:
            os.kill(entry["pause_pid"], signal.SIGKILL)
        deadline = time.monotonic() + 5
        while "scope" in systemd.run("/", "ls", "/sys/fs/cgroup/rootless_ns.slice"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_held_process_keeps_its_pid(as_root: None) -> None:
    """Whatever its owner does: nobody else gets the PID, and it runs on."""
    process = subprocess.Popen(["sleep", "60"])
    with held(Syscalls(), process.pid):
        assert "S (sleeping)" in Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        time.sleep(0.1)
        assert process.poll() is None
        assert "Z (zombie)" in Path(f"/proc/{process.pid}/status").read_text()
    assert process.wait(5) == -signal.SIGKILL
    with pytest.raises(NotHeldError, match="No such process"), held(Syscalls(), process.pid):
        pass


class Recorder:
    """In the place of the cgroups: what would be moved."""

    def __init__(self) -> None:
        self.moved: list[int] = []

    def take_in(self, pid: int, _uid: int) -> None:
        self.moved.append(pid)


def test_only_the_users_process_in_the_users_namespace_is_moved(user: Any, tmp_path: Path) -> None:
    """A PID may have become another's since it was looked at."""
    recorder: Any = Recorder()
    nobody: Any = None
    roots = subprocess.Popen(["sleep", "60"])
    users = subprocess.Popen(user.command("sleep", "60"))
    traced = subprocess.Popen(user.command("sleep", "60"))
    try:
        time.sleep(0.3)
        for pid in (roots.pid, users.pid, traced.pid):
            (tmp_path / str(pid) / "ns").mkdir(parents=True)
            os.chown(tmp_path / str(pid), 0 if pid == roots.pid else user.uid, 0)
            (tmp_path / str(pid) / "ns/user").touch()
            (tmp_path / str(pid) / "cgroup").write_text("0::/system.slice/cron.service\n")
        userns = (tmp_path / str(users.pid) / "ns/user").stat().st_ino
        applier = Applier(
            nobody,
            find_account(user.name),
            remover=nobody,
            syscalls=Syscalls(),
            pins=PinStore(Syscalls()),
            cgroups=recorder,
            proc=str(tmp_path),
            method=METHOD_PAUSE,
        )
        assert "it is not the user's" in applier._move(MovePause(roots.pid, userns, ""))
        assert "it is in another namespace" in applier._move(MovePause(traced.pid, userns, ""))
        with held(Syscalls(), users.pid):
            assert "cannot be held: ptrace: Operation not permitted" in applier._move(MovePause(users.pid, userns, ""))
        (tmp_path / str(users.pid) / "cgroup").write_text("0::/system.slice/slurmd.service/job_7\n")
        assert applier._move(MovePause(users.pid, userns, "")) == ""
        assert recorder.moved == []
        (tmp_path / str(users.pid) / "cgroup").write_text("0::/system.slice/cron.service\n")
        assert applier._move(MovePause(users.pid, userns, "")) == ""
        assert recorder.moved == [users.pid]
        users.kill()
        users.wait()
        assert "No such process" in applier._move(MovePause(users.pid, userns, ""))
    finally:
        for process in (roots, users, traced):
            process.kill()
            process.wait()
