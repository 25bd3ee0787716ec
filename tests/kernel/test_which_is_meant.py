# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a user's namespaces is meant, and that nothing alive is harmed, with real namespaces and the real Podman."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from throwaway_users import User, kill_and_wait

from ansible_collections.userns.rootless.plugins.module_utils._rootless import cleaning
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import Cleaner, CleaningOptions
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options

Run = Callable[..., dict[str, Any]]
Podman = Callable[[Any, str], str]

WHERE = "readlink /proc/self/ns/user"
PATH = "/usr/bin:/bin:/usr/sbin"


def namespaces(syscalls: Syscalls | None = None, **options: Any) -> Namespaces:
    """One call that has begun: what runs was looked at."""
    host = Host(environment={"PATH": PATH})
    return Namespaces(syscalls or Syscalls(), host=host, options=Options(**{"pin": True, **options}))


def look(module: Run, user: User) -> dict[str, Any]:
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    return dict(entry)


def name_of(userns: int) -> str:
    return f"user:[{userns}]"


@contextmanager
def another(user: User, *, prefix: tuple[str, ...] = ()) -> Iterator[int]:
    """A further namespace of the user's, made as a Podman that knows no pins makes one; its process, for us."""
    command = ["unshare", "-Urm", "env", "_PODMAN_PAUSE=1", "sleep", "1000"]
    with subprocess.Popen([*prefix, *user.command(*command)], cwd="/", stdin=subprocess.DEVNULL) as process:
        try:
            yield the_one_that_sleeps(user, 1000)
        finally:
            process.kill()
            for pid in sleepers(user, 1000):
                kill_and_wait(pid)


def sleepers(user: User, seconds: int) -> list[int]:
    command = f"sleep\0{seconds}\0".encode()
    return [pid for pid in user.processes() if Path(f"/proc/{pid}/cmdline").read_bytes() == command]


def the_one_that_sleeps(user: User, seconds: int) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = sleepers(user, seconds)
        if found:
            (pid,) = found
            return pid
        time.sleep(0.01)
    raise AssertionError(f"no process of {user.name} sleeps {seconds} s")


@contextmanager
def inside(user: User, pid: int) -> Iterator[int]:
    """A process in the namespace of `pid` that is no pause process: as one of a container."""
    command = ["nsenter", "-U", "-m", "--preserve-credentials", "-t", str(pid), "sh", "-c", "echo; exec sleep 500"]
    with subprocess.Popen(user.command(*command), stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            yield process.pid
        finally:
            process.kill()


def name_in_file(user: User, pid: int) -> None:
    user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf %s {pid} > {user.pause_file}")


def userns_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/user").st_ino


# Podman goes on, and takes its keys along.


def test_migrate_is_not_undone(ns: Run, module: Run, user: User, podman: Podman) -> None:
    old = ns(user)
    user.add_subuids()
    podman_command(user, "system", "migrate")
    new = podman(user, WHERE)
    assert new != name_of(old["userns"])
    for _run in range(2):
        result = ns(user)
        assert (name_of(result["userns"]), result["drift"], result["pinned"]) == (new, False, True)
    assert result["changed"] is False
    assert podman(user, WHERE) == new
    assert (look(module, user)["state"], look(module, user)["needs"]) == ("alive", "")


def test_right_after_migrate_the_pin_is_what_is_stale(ns: Run, user: User, podman: Podman) -> None:
    old = ns(user)
    user.add_subuids()
    podman_command(user, "system", "migrate")
    result = ns(user)
    assert (result["action"], result["drift"], result["pinned"]) == ("created", False, True)
    assert result["userns"] != old["userns"]
    assert podman(user, WHERE) == name_of(result["userns"])


def test_migrate_with_the_same_ranges_keeps_the_pinned_one(ns: Run, user: User, podman: Podman) -> None:
    old = ns(user)
    podman_command(user, "system", "migrate")
    again = ns(user)
    assert (again["action"], again["userns"]) == ("repaired", old["userns"])
    assert podman(user, WHERE) == name_of(old["userns"])


def podman_command(user: User, *command: str) -> None:
    script = (
        "while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup || break; done; "
        'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    )
    line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    line += user.command("podman", *command, env={"HOME": str(user.runtime_dir)})
    subprocess.run(line, check=True, capture_output=True, cwd="/", timeout=60)


# Modules, command and become plugin mean the same one.


def test_the_command_joins_the_one_that_the_module_keeps(ns: Run, user: User, command: Callable[..., Any]) -> None:
    pinned = ns(user)
    user.kill_pause()
    with another(user) as pid, inside(user, pid):
        user.pause_file.unlink()
        name_in_file(user, pid)
        result = command("exec", "--user", user.name, "--", "readlink", "/proc/self/ns/user")
        assert (result.returncode, result.stdout.strip()) == (0, name_of(userns_of(pid))), result.stderr
        kept = ns(user)
        assert (kept["userns"], kept["pinned"]) == (userns_of(pid), True)
        assert kept["userns"] != pinned["userns"]


def test_the_command_does_not_guess(ns: Run, user: User, command: Callable[..., Any]) -> None:
    ns(user)
    user.kill_pause()
    with another(user) as pid:
        user.pause_file.unlink()
        name_in_file(user, pid)
        result = command("exec", "--user", user.name, "--no-create", "--", "true")
        assert result.returncode == 125
        assert f"pause.pid opens {name_of(userns_of(pid))}" in result.stderr
        assert "the pin opens" in result.stderr


def test_two_that_are_lived_in(ns: Run, module: Run, user: User) -> None:
    first = ns(user)
    with inside(user, first["pause_pid"]) as here, another(user) as pid, inside(user, pid) as there:
        user.pause_file.unlink()
        name_in_file(user, pid)
        entry = look(module, user)
        assert (entry["state"], entry["needs"], entry["userns"]) == ("broken", "look", userns_of(pid))
        for process in (here, there):
            assert str(process) in entry["msg"]
        result = ns(user)
        assert not result.get("failed"), result["msg"]
        assert "processes live in 2 namespaces" in result["msg"]
        # Nothing of either was ended or unpinned.
        assert os.stat(user.pin / "user").st_ino == first["userns"]
        assert Path(f"/proc/{first['pause_pid']}").exists()
        refused = ns(user, state="absent")
        assert refused["failed"]
        assert {here, there} <= {process["pid"] for process in refused["in_the_way"]}
    assert not Path(f"/proc/{there}").exists()


# Who lives there is looked at right before something goes.


def test_who_has_moved_on_since_the_call_began(ns: Run, user: User) -> None:
    pinned = ns(user)
    call = namespaces()
    user.kill_pause()
    user.pause_file.unlink()
    with another(user) as pid, inside(user, pid):
        name_in_file(user, pid)
        report = call.present(find_account(user.name))
        assert report.namespace is not None
        assert report.namespace.userns == userns_of(pid) != pinned["userns"]
        assert user.pause_pid() == pid


@pytest.mark.parametrize("recreate", [False, True])
def test_who_has_moved_in_since_the_call_began(ns: Run, user: User, recreate: bool) -> None:
    made = ns(user)
    if recreate:
        user.add_subuids()
    call = namespaces(on_drift="recreate")
    with inside(user, made["pause_pid"]) as pid:
        report = call.present(find_account(user.name)) if recreate else call.absent(find_account(user.name))
        assert report.failed
        assert not report.changed
        assert [process.pid for process in report.in_the_way] == [pid]
        assert user.pause_pid() == made["pause_pid"]
        assert os.stat(user.pin / "user").st_ino == made["userns"]


def test_who_has_left_since_the_call_began(ns: Run, user: User) -> None:
    made = ns(user)
    with inside(user, made["pause_pid"]):
        call = namespaces()
    # Who has ended meanwhile is in nobody's way.
    report = call.absent(find_account(user.name))
    assert not report.failed
    assert report.action == "removed"


def test_no_orphan_is_ended_that_somebody_has_moved_into(ns: Run, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "ORPHAN_SECONDS", 0.0)
    made = ns(user, pin=False)
    user.pause_file.unlink()
    cleaner = Cleaner(Syscalls(), host=Host(), options=CleaningOptions(orphans=True))
    try:
        with inside(user, made["pause_pid"]):
            outcome = cleaner.clean(find_account(user.name))
            assert not outcome.reaped
            assert [orphan.why for orphan in outcome.orphans] == ["1 other process(es) live in its namespace"]
        assert cleaner.clean(find_account(user.name)).reaped == [made["pause_pid"]]
    finally:
        cleaner.close()


class NoSpace(Syscalls):
    """No further namespace can be had."""

    def unshare(self, flags: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_recreate_creates_first(ns: Run, user: User) -> None:
    made = ns(user)
    user.add_subuids()
    report = namespaces(NoSpace(), on_drift="recreate").present(find_account(user.name))
    assert (report.failed, report.changed) == (True, False)
    assert user.pause_pid() == made["pause_pid"]
    kept = ns(user)
    assert (kept["action"], kept["userns"], kept["pinned"]) == ("rejoined", made["userns"], True)
    replaced = ns(user, on_drift="recreate")
    assert (replaced["action"], replaced["drift"]) == ("recreated", False)
    assert user.processes() == [replaced["pause_pid"]]


# What cannot be judged says nothing, and stays.


class NoPidfd(Syscalls):
    """Linux before 5.3, filters of containers, no descriptors, no memory."""

    def __init__(self, error: int) -> None:
        super().__init__()
        self._error = error

    def pidfd_open(self, pid: int) -> int:
        raise OSError(self._error, os.strerror(self._error))


ERRORS = [errno.ENOSYS, errno.EPERM, errno.EMFILE, errno.ENOMEM]
UNJUDGED = pytest.mark.parametrize("error", ERRORS, ids=[errno.errorcode[error] for error in ERRORS])


@UNJUDGED
def test_what_cannot_be_judged_is_not_cleaned(ns: Run, user: User, error: int) -> None:
    ns(user)
    before = user.pause_file.stat()
    cleaner = Cleaner(NoPidfd(error), host=Host(), options=CleaningOptions(orphans=True, repair=True))
    outcome = cleaner.clean(find_account(user.name))
    cleaner.close()
    assert [(file.finding.verdict, file.action) for file in outcome.files] == [("unknown", "left")]
    assert os.strerror(error) in outcome.files[0].finding.evidence
    assert user.pause_file.stat() == before


@UNJUDGED
@pytest.mark.parametrize("pin", [False, True])
def test_what_cannot_be_judged_is_not_replaced(ns: Run, user: User, error: int, pin: bool) -> None:
    made = ns(user, pin=pin)
    before = user.pause_file.stat()
    report = namespaces(NoPidfd(error), pin=pin).present(find_account(user.name))
    assert (report.action, report.changed) == ("rejoined", False)
    assert report.namespace is not None
    assert report.namespace.userns == made["userns"]
    refused = namespaces(NoPidfd(error)).absent(find_account(user.name))
    assert (refused.failed, refused.changed) == (True, False)
    assert "may name a live namespace" in refused.as_dict()["msg"]
    assert user.pause_file.stat() == before
    assert user.processes() == [user.pause_pid()]


@UNJUDGED
def test_nothing_is_set_up_beside_what_cannot_be_judged(ns: Run, user: User, error: int) -> None:
    user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf 1 > {user.pause_file}")
    report = namespaces(NoPidfd(error)).present(find_account(user.name))
    assert (report.failed, report.changed) == (True, False)
    assert "may name a live namespace" in report.as_dict()["msg"]
    assert user.pause_file.read_bytes() == b"1"
    assert user.processes() == []
    assert ns(user)["action"] == "created"


# Other PID namespaces, and other mounts.


@contextmanager
def in_a_container(user: User) -> Iterator[int]:
    """A user of the same UID in a container with processes of its own, and a pause process of its."""
    with another(user, prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")) as pid:
        yield pid


def test_a_containers_users_are_not_ours(ns: Run, module: Run, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "ORPHAN_SECONDS", 0.0)
    with in_a_container(user) as pid:
        entry = look(module, user)
        assert (entry["state"], entry["orphans"], entry["userns"]) == ("none", [], None)
        cleaner = Cleaner(Syscalls(), host=Host(), options=CleaningOptions(orphans=True))
        outcome = cleaner.clean(find_account(user.name))
        cleaner.close()
        assert (outcome.orphans, outcome.reaped) == ([], [])
        assert ns(user, state="absent")["action"] == "none"
        made = ns(user)
        assert (made["action"], made["userns"] == userns_of(pid)) == ("created", False)
        assert ns(user, state="absent")["action"] == "removed"
        assert Path(f"/proc/{pid}").exists()


def test_a_file_that_names_a_containers_process(ns: Run, module: Run, user: User, command: Callable[..., Any]) -> None:
    with in_a_container(user) as pid:
        name_in_file(user, pid)
        verdict = look(module, user)["verdicts"]["pause_pid"]
        assert verdict["verdict"] == "foreign"
        assert "a PID namespace of its own" in verdict["evidence"]
        refused = command("exec", "--user", user.name, "--no-create", "--", "true")
        assert refused.returncode == 125
        made = ns(user)
        assert (made["action"], made["userns"] == userns_of(pid)) == ("created", False)
        assert Path(f"/proc/{pid}").exists()


PRIVATE_TMP = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs t /tmp && exec "$@"', "sh")


def test_the_private_mounts_of_a_service_are_nobody_elses(ns: Run, module: Run, user: User) -> None:
    with another(user, prefix=PRIVATE_TMP) as pid:
        entry = look(module, user)
        assert [orphan["pid"] for orphan in entry["orphans"]] == [pid]
        assert (entry["state"], entry["needs"]) == ("none", "")
        made = ns(user)
        assert (made["action"], made["userns"] == userns_of(pid)) == ("created", False)
        assert ns(user)["changed"] is False
        assert ns(user, state="absent")["action"] == "removed"
        assert Path(f"/proc/{pid}").exists()


def test_the_pause_process_of_a_job_is_not_reaped(ns: Run, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "ORPHAN_SECONDS", 0.0)
    with another(user, prefix=PRIVATE_TMP) as job, another_shell_of(user):
        cleaner = Cleaner(Syscalls(), host=Host(), options=CleaningOptions(orphans=True))
        outcome = cleaner.clean(find_account(user.name))
        cleaner.close()
        assert (outcome.reaped, [orphan.process.pid for orphan in outcome.orphans]) == ([], [job])
        assert "/tmp is not the host's" in outcome.orphans[0].why
        assert Path(f"/proc/{job}").exists()


@contextmanager
def another_shell_of(user: User) -> Iterator[None]:
    with subprocess.Popen(user.command("sleep", "100"), stdin=subprocess.DEVNULL, cwd="/") as process:
        try:
            yield
        finally:
            process.kill()


# Cleaning never splits.


@pytest.mark.parametrize("content", [b"rubbish", b"4194304", b"1"])
def test_cleaning_leaves_what_keeps_podman_from_a_second_one(
    ns: Run, module: Run, user: User, podman: Podman, content: bytes
) -> None:
    pinned = ns(user)
    user.kill_pause()
    user.pause_file.write_bytes(content)
    assert look(module, user)["needs"] == "repair"
    result = module("rootless_pause", users=[user.name], orphans=True)
    (entry,) = result["users"]
    assert (result["changed"], entry["action"], entry["removed"]) == (False, "none", [])
    assert "Podman would make a second one" in entry["files"][0]["why"]
    foretold = module("rootless_pause", users=[user.name], repair=True, check=True)
    assert (foretold["changed"], foretold["users"][0]["action"]) == (True, "repaired")
    assert user.pause_file.read_bytes() == content
    result = module("rootless_pause", users=[user.name], repair=True)
    (entry,) = result["users"]
    assert (result["changed"], entry["action"], entry["files"][0]["action"]) == (True, "repaired", "repaired")
    assert podman(user, WHERE) == name_of(pinned["userns"])
    assert look(module, user)["needs"] == ""
    assert module("rootless_pause", users=[user.name], repair=True)["changed"] is False


def test_a_file_that_is_missing_is_repaired_as_well(ns: Run, module: Run, user: User, podman: Podman) -> None:
    pinned = ns(user)
    podman_command(user, "system", "migrate")
    assert look(module, user)["needs"] == "repair"
    assert module("rootless_pause", users=[user.name], orphans=True)["changed"] is False
    result = module("rootless_pause", users=[user.name], orphans=True, repair=True, diff=True)
    assert (result["changed"], result["users"][0]["action"]) == (True, "repaired")
    assert result["diff"][0]["before"] != result["diff"][0]["after"]
    assert podman(user, WHERE) == name_of(pinned["userns"])
    assert module("rootless_pause", users=[user.name], orphans=True, repair=True)["changed"] is False


def test_a_repair_sets_up_nothing_new(ns: Run, module: Run, user: User) -> None:
    ns(user)
    user.add_subuids()
    podman_command(user, "system", "migrate")
    result = module("rootless_pause", users=[user.name], orphans=True, repair=True)
    assert (result["changed"], result["users"][0]["action"]) == (False, "none")
    assert user.processes() == []
