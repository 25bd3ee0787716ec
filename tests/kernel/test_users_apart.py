# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users in one call, one of them hostile, slow or out of luck: the others are served, in time, and come to no harm."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from silent_mounts import available, silent_mount, waiting
from throwaway_users import STUCK, User

from ansible_collections.userns.rootless.plugins.module_utils._rootless import cleaning
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.asker import CouldNotTryError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls.users import who_to_try_as
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import (
    Cleaner,
    Cleaning,
    CleaningOptions,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.each_user import each_user
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options
from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs_support import first_answer, nsfs_handles
from ansible_collections.userns.rootless.plugins.module_utils._rootless.patience import Limits

Run = Callable[..., dict[str, Any]]

PATH = "/usr/bin:/bin:/usr/sbin"


@pytest.fixture
def devil(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def good(make_user: Callable[..., User]) -> User:
    return make_user()


def plant(user: User, name: str, content: bytes = b"junk", runtime_dir: Path | None = None) -> Path:
    state_dir = (runtime_dir or user.runtime_dir) / "libpod/tmp"
    user.run("mkdir", "-p", str(state_dir))
    path = state_dir / name
    path.write_bytes(content)
    os.chown(path, user.uid, user.gid)
    return path


def clean(
    users: Sequence[User], *, limits: Limits | None = None, syscalls: Syscalls | None = None, **options: Any
) -> tuple[list[Cleaning], float]:
    """One call about these users, in this process; the outcomes and its seconds."""
    host = Host(environment={"PATH": PATH}, limits=limits or Limits(), podman_path="/nonexistent")
    cleaner = Cleaner(syscalls or Syscalls(), host=host, options=CleaningOptions(**options))
    started = time.monotonic()
    outcomes = each_user(
        cleaner.clean,
        [find_account(user.name) for user in users],
        blank=lambda account: Cleaning(account.name, account),
        finish=cleaner.close,
    )
    return outcomes, time.monotonic() - started


# What cannot be tried says nothing.


class UsedUp(Syscalls):
    """A user who has used up its namespaces; None stands for everybody."""

    def __init__(self, uid: int | None) -> None:
        super().__init__()
        self._uid = uid

    def unshare(self, flags: int) -> None:
        if self._uid in (None, os.geteuid()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().unshare(flags)


def namespaces(syscalls: Syscalls, *, variable: str = "1", **options: Any) -> Namespaces:
    environment = {"PATH": PATH, "PODMAN_NO_PAUSE_PROCESS": variable}
    # A Podman that reads handles is not packaged yet.
    host = Host(environment=environment, podman_path="/nonexistent")
    return Namespaces(syscalls, host=host, options=Options(pin=True, **options))


@pytest.fixture
def owners_open(module: Run, good: User) -> None:
    if module("rootless_ns_info", users=[good.name])["kernel"]["nsfs_handles"] != "user":
        pytest.skip("needs a kernel on which owners can open handles (Linux 6.18, no seccomp filter)")


def test_one_users_limit_is_no_verdict_on_the_kernel(ns: Run, devil: User, good: User, owners_open: None) -> None:
    for user in (devil, good):
        ns(user, method="handles")
    before = [user.handles_file.read_bytes() for user in (devil, good)]
    both = [find_account(user.name) for user in (devil, good)]
    all_users = namespaces(UsedUp(devil.uid))
    reports = all_users.each(all_users.present, both)
    told = [report.as_dict() for report in reports]
    assert [report.changed for report in reports] == [False, False], told
    assert [user.handles_file.read_bytes() for user in (devil, good)] == before
    assert not any(user.pause_file.exists() for user in (devil, good))
    assert "could not be tried: unshare: No space left" in told[0]["msg"]
    assert (told[1]["action"], told[1]["msg"]) == ("rejoined", "")


def test_without_handles_a_pause_process_is_used(devil: User, ns: Run, owners_open: None) -> None:
    ns(devil)
    report = namespaces(UsedUp(devil.uid)).present(find_account(devil.name))
    assert (report.action, report.method, report.changed) == ("rejoined", "pause", False)
    assert "could not be tried" in report.as_dict()["msg"]
    refused = namespaces(UsedUp(devil.uid), method="handles").present(find_account(devil.name))
    assert (refused.as_dict()["action"], refused.changed) == ("failed", False)
    assert "could not be tried: unshare: No space left" in refused.as_dict()["msg"]


def test_cleaning_leaves_what_could_not_be_tried(ns: Run, devil: User, good: User, owners_open: None) -> None:
    for user in (devil, good):
        ns(user, method="handles")
    outcomes, _seconds = clean([devil, good], syscalls=UsedUp(devil.uid))
    assert [outcome.as_dict()["action"] for outcome in outcomes] == ["none", "none"]
    assert [file.why for outcome in outcomes for file in outcome.files] == ["it is alive", "it is alive"]


def test_the_probe_is_made_as_nobody_first(devil: User, owners_open: None) -> None:
    candidates = who_to_try_as([find_account(devil.name)])
    for uid, told in ((devil.uid, "user"), (None, "unknown")):
        opens = first_answer(candidates, namespaces(UsedUp(uid)).probe_owner)
        assert nsfs_handles(Syscalls(), proc="/proc", probe_owner=lambda opens=opens: opens) == told  # type: ignore[misc]


def test_real_limits(module: Run, devil: User, in_userns: Any, owners_open: None) -> None:
    """In a user namespace, where limits can be low without anybody else noticing."""
    take_all = (
        f"setpriv --reuid={devil.uid} --regid={devil.gid} --clear-groups unshare --user sleep 5 > /dev/null 2>&1 & "
    )
    setup = f"echo 3 > /proc/sys/user/max_user_namespaces; {take_all * 3} sleep 1"
    found = module("rootless_ns_info", users=[devil.name], prefix=in_userns("0 0 4294967295", setup))
    assert found["kernel"] == {"nsfs_handles": "user"}, found
    setup = setup.replace(f"{devil.uid}", "65534").replace("echo 3", "echo 0")
    found = module("rootless_ns_info", users=[devil.name], prefix=in_userns("0 0 4294967295", setup))
    assert found["kernel"] == {"nsfs_handles": "unknown"}, found


class HolderKilled(Syscalls):
    """The user kills what holds the namespace right before the open, on a kernel for which it is dead then."""

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        if os.geteuid() != 0:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                os.waitid(os.P_PID, int(child), os.WEXITED | os.WNOWAIT)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return super().open_nsfs_handle(handle_type, payload)


def test_a_dead_namespace_is_no_refusal(devil: User, owners_open: None) -> None:
    with pytest.raises(CouldNotTryError, match="was killed"):
        namespaces(HolderKilled()).probe_owner(find_account(devil.name))


# Every error stays with its user.


def test_what_nobody_expected_stays_with_its_user(
    devil: User, good: User, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, and in workers."""
    users = [devil, good, *(make_user() for _number in range(7))]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    candidates = cleaning.candidates

    def broken(uid: int, **places: Any) -> Any:
        return candidates(uid, **places) if uid != devil.uid else [1 // 0]

    monkeypatch.setattr(cleaning, "candidates", broken)
    cleaner = Cleaner(Syscalls(), host=Host(), options=CleaningOptions())
    assert cleaner.clean(find_account(devil.name)).failed
    cleaner.close()
    for some in (users[:2], users):
        paths = [plant(user, "pause.pid") for user in some[1:]]
        (first, *others), _seconds = clean(some)
        assert first.messages[0].startswith("internal error: ZeroDivisionError: "), first.messages
        assert [outcome.removed for outcome in others] == [[str(path)] for path in paths]


KILLER = """
import os, signal, sys
number, spared = int(sys.argv[1]), {os.getpid(), *map(int, sys.argv[2:])}
uid = os.getuid()
print(flush=True)
seen = set()
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in spared:
            try:
                if os.stat(f"/proc/{name}").st_uid in (0, uid) and int(name) > os.getpid():
                    os.kill(int(name), number)
            except OSError:
                pass
"""


@contextlib.contextmanager
def signalling(user: User, number: int, spared: Sequence[int], python: str) -> Iterator[None]:
    """A user who sends a signal to every new process of its own, again and again."""
    line = user.command(python, "-c", KILLER, str(number), *map(str, spared))
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd="/") as killer:
        try:
            assert killer.stdout is not None
            killer.stdout.readline()
            yield
        finally:
            killer.kill()


def test_killing_ones_own_processes_ends_nobody_elses_cleaning(
    module: Run, ns: Run, devil: User, good: User, public_python: str
) -> None:
    made = ns(devil, pin=False)
    with signalling(devil, signal.SIGKILL, [made["pause_pid"]], public_python):
        for _run in range(10):
            path = plant(good, "pause.pid")
            result = module("rootless_pause", users=[devil.name, good.name], orphans=True)
            assert "users" in result, result
            assert result["users"][1]["removed"] == [str(path)]


# Nobody's time is anybody else's.


@contextlib.contextmanager
def pause_processes(user: User, number: int) -> Iterator[list[int]]:
    """Pause processes of a user's, each of a runtime directory of its own."""
    top = Path(f"/tmp/rnstest-run-{user.uid}")
    user.run("mkdir", "-m", "0700", str(top))
    started = []
    try:
        for place in range(number):
            user.run("mkdir", "-p", "-m", "0700", f"{top}/{place}/libpod/tmp")
            line = ["unshare", "-Urm", "env", "_PODMAN_PAUSE=1", "sh", "-c", "echo; exec sleep 300"]
            command = user.command(*line, env={"XDG_RUNTIME_DIR": f"{top}/{place}"})
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/"))
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
        subprocess.run(["rm", "-rf", str(top)], check=True)


class Stopped(Syscalls):
    """Users who stop each process that has become them, but for the first ones."""

    def __init__(self, uids: Sequence[int], *, spared: int = 0) -> None:
        super().__init__()
        self._uids = uids
        # Of all processes that are forked from here.
        self._count = mmap.mmap(-1, 1)
        self._spared = spared

    def set_dumpable(self, dumpable: bool) -> None:
        super().set_dumpable(dumpable)
        if os.geteuid() in self._uids:
            number = self._count[0]
            self._count[0] = min(255, number + 1)
            if number >= self._spared:
                os.kill(os.getpid(), signal.SIGSTOP)


def test_a_user_who_stops_its_processes_costs_its_own_time_only(devil: User, good: User) -> None:
    path = plant(good, "pause.pid")
    with pause_processes(devil, 12):
        limits = Limits(user=1.0)
        (first, second), seconds = clean([devil, good], limits=limits, syscalls=Stopped([devil.uid], spared=2))
    assert second.removed == [str(path)]
    assert "all questions to a user may take 1 s" in first.messages[0]
    # It was asked once; all other places are reported, and no orphan is ended for them.
    assert len(first.messages) == 1
    assert len([problem for problem in first.problems if problem.endswith("was not looked into any more")]) == 12
    assert seconds < 3, seconds
    assert devil.processes() == []


def test_many_who_do_not_answer_leave_time_for_those_who_do(
    make_user: Callable[..., User], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    users = [make_user() for _number in range(8)]
    devils, good = users[:7], users[7]
    paths = [plant(user, "pause.pid") for user in users]
    # Two may take all of their time, what others get is short, and the last ones are not even asked.
    limits = Limits(user=1.5, short=0.5, spare=2.0, lost=6.0)
    syscalls = Stopped([user.uid for user in devils])
    outcomes, seconds = clean(users, limits=limits, syscalls=syscalls)
    assert outcomes[-1].removed == [str(paths[-1])]
    assert all(outcome.failed for outcome in outcomes[:-1])
    assert f"others have used up the time of this call: {devils[0].name} 2 s" in outcomes[3].messages[0]
    assert seconds < 8, seconds
    # With less time to lose.
    plant(good, "pause.pid")
    outcomes, seconds = clean(users, limits=Limits(user=1.5, short=0.5, spare=2.0, lost=2.5), syscalls=syscalls)
    assert "users that do not answer have cost this call 3 s" in outcomes[-1].messages[0]
    assert f"run again for {good.name} alone" in outcomes[-1].messages[0]
    assert seconds < 5, seconds


def test_a_lock_that_is_held_is_reported_in_time(devil: User, good: User) -> None:
    plant(devil, "pause.pid")
    path = plant(good, "pause.pid")
    line = devil.command("flock", str(devil.state_dir / "ns_handles.lock"), "sh", "-c", "echo; sleep 100")
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd="/", start_new_session=True) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            (first, second), seconds = clean([devil, good], limits=Limits(user=2.0))
        finally:
            os.killpg(holder.pid, signal.SIGKILL)
    assert "is locked by another process for more than 1.5 seconds" in first.messages[0]
    assert second.removed == [str(path)]
    assert seconds < 3


# File systems of the user's.


@pytest.fixture
def fuse(as_root: None) -> None:
    if not available():
        pytest.skip("needs /dev/fuse")


def runtime_dir_itself(user: User) -> Path:
    return user.runtime_dir


def libpod(user: User) -> Path:
    user.run("mkdir", "-p", str(user.state_dir))
    return user.runtime_dir / "libpod"


def pause_file(user: User) -> Path:
    return plant(user, "pause.pid")


def lock_file(user: User) -> Path:
    plant(user, "pause.pid")
    return plant(user, "ns_handles.lock")


@pytest.mark.parametrize("where", [runtime_dir_itself, libpod, pause_file, lock_file])
def test_a_file_system_that_never_answers_is_not_asked(
    module: Run, devil: User, good: User, fuse: None, where: Callable[[User], Path]
) -> None:
    target = where(devil)
    path = plant(good, "pause.pid")
    with silent_mount(target, devil):
        started = time.monotonic()
        result = module("rootless_pause", users=[devil.name, good.name], orphans=True)
        set_up = module("rootless_ns", users=[devil.name, good.name])
        seen = module("rootless_ns_info", users=[devil.name, good.name])
        seconds = time.monotonic() - started
        assert devil.processes() == []
        assert not STUCK.exists() or str(devil.uid) not in os.listdir(STUCK)
    first, second = result["users"]
    assert second["removed"] == [str(path)]
    assert (first["action"], first["removed"]) == ("failed", [])
    for message in (first["msg"], set_up["namespaces"][0]["msg"]):
        assert f"{target} is on a file system in user space (fuse.rnstest at {target}" in message, message
        assert f"umount {target}" in message
    assert [entry["action"] for entry in set_up["namespaces"]] == ["failed", "created"]
    assert seen["namespaces"][1]["state"] == "alive"
    assert seconds < 6, seconds


def test_places_that_pause_processes_name_are_not_asked_either(
    module: Run, devil: User, good: User, fuse: None
) -> None:
    path = plant(good, "pause.pid")
    with pause_processes(devil, 2):
        top = Path(f"/tmp/rnstest-run-{devil.uid}")
        with silent_mount(top, devil):
            started = time.monotonic()
            result = module("rootless_pause", users=[devil.name, good.name], orphans=True)
            seconds = time.monotonic() - started
        assert waiting(devil.processes()) == []
        first, second = result["users"]
        assert "file system in user space" in first["msg"]
        assert (first["reaped"], second["removed"]) == ([], [str(path)])
        assert seconds < 3, seconds


def test_other_mounts_are_named(module: Run, devil: User, good: User) -> None:
    target = libpod(devil)
    subprocess.run(["mount", "-t", "tmpfs", "rnstest", str(target)], check=True)
    path = plant(good, "pause.pid")
    result = module("rootless_pause", users=[devil.name, good.name])
    assert f"{target} is a mount point (a file system of type tmpfs)" in result["users"][0]["msg"]
    assert result["users"][1]["removed"] == [str(path)]


class Before56(Syscalls):
    """A kernel without openat2(2): what is mounted below the runtime directory is asked."""

    def open_beneath(self, dir_fd: int, path: str, flags: int, mode: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_processes_that_cannot_be_ended_are_not_made_again(devil: User, good: User, fuse: None) -> None:
    target = libpod(devil)
    limits = Limits(user=1.0)
    with silent_mount(target, devil):
        path = plant(good, "pause.pid")
        (first, second), seconds = clean([devil, good], limits=limits, syscalls=Before56())
        assert second.removed == [str(path)]
        assert seconds < 5, seconds
        stuck = waiting(devil.processes())
        assert len(stuck) == 1
        assert f"it cannot be ended: {stuck[0]} (state D" in first.messages[0]
        assert (STUCK.stat().st_uid, STUCK.stat().st_mode & 0o7777) == (0, 0o700)
        path = plant(good, "pause.pid")
        for _run in range(3):
            (first, second), seconds = clean([devil, good], limits=limits, syscalls=Before56())
            assert f"1 process(es) that an earlier run started for this user cannot be ended: {stuck[0]}" in str(first)
            assert seconds < 1, seconds
        assert waiting(devil.processes()) == stuck
    deadline = time.monotonic() + 10
    while devil.processes() and time.monotonic() < deadline:
        time.sleep(0.01)
    plant(devil, "pause.pid")
    (first, second), _seconds = clean([devil, good], limits=limits, syscalls=Before56())
    assert (first.failed, len(first.removed)) == (False, 1)
    assert str(devil.uid) not in os.listdir(STUCK)


# What could not be looked into may name any process.


@pytest.fixture
def orphan(ns: Run, devil: User) -> int:
    """A pause process whose file cannot be seen; old enough to be reaped."""
    made = ns(devil, pin=False)
    time.sleep(cleaning.ORPHAN_SECONDS + 0.5)
    return int(made["pause_pid"])


def test_no_orphan_is_ended_while_a_place_cannot_be_looked_into(
    module: Run, devil: User, good: User, orphan: int, fuse: None
) -> None:
    foretold, told = [], []
    with silent_mount(devil.runtime_dir / "libpod", devil):
        for check, results in ((True, foretold), (False, told)):
            results.append(
                module("rootless_pause", users=[devil.name, good.name], orphans=True, check=check)["users"][0]
            )
    # Nobody can enter it.
    devil.runtime_dir.chmod(0)
    for check, results in ((True, foretold), (False, told)):
        results.append(module("rootless_pause", users=[devil.name], orphans=True, check=check)["users"][0])
    devil.runtime_dir.chmod(0o700)
    assert devil.processes() == [orphan]
    for results in (foretold, told):
        for entry in results:
            assert len(entry["orphans"]) == 1, entry
            (found,) = entry["orphans"]
            assert (found["pid"], found["action"], entry["reaped"]) == (orphan, "left", [])
            assert "in a place that was not looked into" in found["why"]
    # Somebody else's directory under a name of the user's holds nothing of the user's.
    devil.pause_file.unlink()
    planted = Path(f"/tmp/storage-run-{devil.uid}")
    planted.mkdir(mode=0o700)
    os.chown(planted, good.uid, good.gid)
    entry = module("rootless_pause", users=[devil.name], orphans=True)["users"][0]
    assert entry["reaped"] == [orphan], entry
