# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that come and go while namespaces stay: a UID with another account, with another name, or with none."""

from __future__ import annotations

import itertools
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from throwaway_users import User, kill_and_wait, shadow

from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls import everybody as calls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls.clean import clean
from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls.everybody import Everybody
from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls.info import look
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import ORPHAN_SECONDS, CleaningOptions
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinStore
from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import ProcessTable

Run = Callable[..., dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]
Hold = Callable[[User], None]
Inhabit = Callable[[User], int]


@pytest.fixture
def info(module: Run) -> Run:
    """The entry of one user, a name or a UID."""

    def of(user: User | int, **args: Any) -> dict[str, Any]:
        result = module("rootless_ns_info", users=[str(getattr(user, "name", user))], **args)
        assert not result.get("failed"), result
        (entry,) = result["namespaces"]
        return dict(entry)

    return of


# Nobody else's useradd, in a test beside this one, gets a UID that is free for a moment.
_UIDS = itertools.count(700_000_000 + os.getpid() % 1_000_000 * 100)


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user(uid=next(_UIDS))


@pytest.fixture
def successor(make_user: Callable[..., User]) -> Callable[..., User]:
    """Deletes an account while its processes run, and gives its UID to another one."""

    def succeed(user: User, **how: Any) -> User:
        shadow("userdel", "--force", user.name)
        return make_user(uid=user.uid, runtime_dir=False, **how)

    return succeed


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Keeps a user's namespace by a descriptor, so that no other one gets its inode numbers."""
    held: list[int] = []

    def keep(user: User) -> None:
        held.extend(os.open(f"/proc/{user.pause_pid()}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt"))

    yield keep
    for fd in held:
        os.close(fd)


@pytest.fixture
def inhabit() -> Iterator[Inhabit]:
    """Starts a process in a user's namespace, such as a container that is left running; returns its PID."""
    started: list[subprocess.Popen[bytes]] = []

    def start(user: User) -> int:
        line = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={user.pause_pid()}"]
        command = user.command(*line, "sh", "-c", "echo; exec sleep 1000")
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/"))
        stdout = started[-1].stdout
        assert stdout is not None
        assert stdout.readline() == b"\n"
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/mnt").exists()


def namespace_of(entry: dict[str, Any]) -> tuple[int, int]:
    return entry["userns"], entry["mntns"]


def verdicts_of(entry: dict[str, Any]) -> dict[str, str]:
    return {name: found["verdict"] for name, found in entry["verdicts"].items()}


# A UID that another account had before.


@pytest.mark.parametrize("method", ["pause", "handles"])
def test_the_next_account_with_a_uid_gets_a_namespace_of_its_own(
    ns: Run, info: Run, user: User, successor: Callable[..., User], hold: Hold, method: str, module: Run
) -> None:
    if method == "handles" and module("rootless_ns_info", users=[user.name])["kernel"]["nsfs_handles"] != "user":
        pytest.skip("needs a kernel that lets users open handles")
    of_alice = ns(user)
    pause = user.pause_pid()
    hold(user)
    if method == "handles":
        ns(user, method="handles")
    alice = user.name
    bob = successor(user)
    seen = info(bob)
    key = "pause_pid" if method == "pause" else "ns_handles"
    assert verdicts_of(seen) == {"pause_pid": "missing", "ns_handles": "missing", "pin": "foreign", key: "foreign"}
    for name in ("pin", key):
        assert f"made for {alice}, who had UID {bob.uid} before" in seen["verdicts"][name]["evidence"]
    # Podman before 6.0 does not look at ns_handles.
    assert seen["state"] in (("broken",) if method == "pause" else ("broken", "stale"))
    assert (seen["userns"], seen["orphans"]) == (None, [])
    foretold = ns(bob, check=True, method=method)
    assert (foretold["action"], is_running(pause)) == ("created", method == "pause")
    made = ns(bob, method=method)
    assert (made["action"], made["pinned"], made["drift"]) == ("created", True, False)
    assert namespace_of(made) != namespace_of(of_alice)
    assert not is_running(pause)
    assert (bob.pin / "for").read_text() == f"{bob.name}\n/\n"
    assert (bob.pin / "for").stat().st_mode & 0o777 == 0o444
    assert ns(bob, method=method)["changed"] is False
    assert verdicts_of(info(bob)) == {"pause_pid": "missing", "ns_handles": "missing", "pin": "live", key: "live"}


def test_what_is_left_without_its_file_is_not_taken_over_either(
    ns: Run, info: Run, user: User, successor: Callable[..., User], hold: Hold
) -> None:
    of_alice = ns(user)
    pause = user.pause_pid()
    hold(user)
    user.pause_file.unlink()
    bob = successor(user)
    assert (info(bob)["userns"], info(bob)["orphans"]) == (None, [])
    assert namespace_of(ns(bob)) != namespace_of(of_alice)
    assert bob.processes() == [bob.pause_pid()]
    assert not is_running(pause)


def test_podman_of_the_next_account_meets_its_own(
    ns: Run, podman: Callable[[User, str], str], user: User, successor: Callable[..., User], hold: Hold
) -> None:
    of_alice = ns(user)
    hold(user)
    assert podman(user, "readlink /proc/self/ns/user") == f"user:[{of_alice['userns']}]"
    bob = successor(user)
    made = ns(bob)
    assert podman(bob, "readlink /proc/self/ns/user") == f"user:[{made['userns']}]" != f"user:[{of_alice['userns']}]"


@pytest.mark.parametrize("args", [{}, {"state": "absent"}])
def test_processes_of_the_account_before_are_named_and_stay(
    ns: Run, user: User, successor: Callable[..., User], inhabit: Inhabit, args: dict[str, Any]
) -> None:
    of_alice = ns(user)
    pause, sleeper = user.pause_pid(), inhabit(user)
    alice = user.name
    bob = successor(user)
    for check in (True, False):
        refused = ns(bob, check=check, **args)
        assert (refused["action"], refused["changed"]) == ("failed", False)
        assert f"made for {alice}, who had UID {bob.uid} before" in refused["msg"]
        assert f"{sleeper} (sleep)" in refused["msg"]
        assert f"remove {bob.pin}/for" in refused["msg"]
        assert [process["pid"] for process in refused["in_the_way"]] == [sleeper]
    assert is_running(pause)
    assert bob.pin.exists()
    assert bob.pause_pid() == pause
    forced = ns(bob, force=True, **args)
    assert forced["action"] == ("removed" if args else "created")
    assert namespace_of(forced) != namespace_of(of_alice)
    assert is_running(sleeper)


def test_absent_removes_what_the_account_before_has_left(ns: Run, user: User, successor: Callable[..., User]) -> None:
    ns(user)
    bob = successor(user)
    assert ns(bob, state="absent")["action"] == "removed"
    assert bob.processes() == []
    assert not bob.pin.exists()
    assert not bob.pause_file.exists()
    assert ns(bob, state="absent")["action"] == "none"


def test_cleaning_takes_away_the_keys_that_lead_the_next_account_astray(
    ns: Run, module: Run, user: User, successor: Callable[..., User]
) -> None:
    ns(user)
    pause = user.pause_pid()
    bob = successor(user)
    (entry,) = module("rootless_pause", users=[bob.name], orphans=True)["users"]
    (file,) = entry["files"]
    assert (file["verdict"], file["action"], entry["orphans"]) == ("foreign", "removed", [])
    assert entry["pin"]["verdict"] == "foreign"
    assert is_running(pause)


def test_nobody_joins_the_namespace_of_the_account_before(
    command: Command, ns: Run, user: User, successor: Callable[..., User]
) -> None:
    of_alice = ns(user)
    joined = ("exec", "--user", user.name, "--no-create", "--", "readlink", "/proc/self/ns/user")
    assert command(*joined).stdout == f"user:[{of_alice['userns']}]\n"
    alice = user.name
    bob = successor(user)
    line = ("--", "readlink", "/proc/self/ns/user")
    for refused in (
        command("exec", "--user", bob.name, "--no-create", *line),
        command("exec", "--no-create", *line, as_user=bob),
    ):
        assert (refused.returncode, refused.stdout) == (125, "")
        assert f"was made for {alice}, who had UID {bob.uid} before" in refused.stderr
    # Bob may well make one that lacks only the pin.
    own = command("exec", *line, as_user=bob).stdout
    assert own not in ("", f"user:[{of_alice['userns']}]\n")
    assert command("exec", "--user", bob.name, *line).stdout == own
    assert f"user:[{ns(bob)['userns']}]\n" == own
    assert ns(bob)["pinned"] is True


def test_who_joins_as_root_sets_up_a_new_one(
    command: Command, ns: Run, user: User, successor: Callable[..., User], hold: Hold
) -> None:
    of_alice = ns(user)
    hold(user)
    bob = successor(user)
    joined = command("exec", "--user", bob.name, "--", "readlink", "/proc/self/ns/user").stdout
    assert joined not in ("", f"user:[{of_alice['userns']}]\n")
    assert f"user:[{ns(bob)['userns']}]\n" == joined


# The same account, by another name.


@pytest.mark.parametrize("change", [["-l"], ["-l", "-d"]])
def test_a_renamed_account_keeps_its_namespace_with_its_home(
    ns: Run, info: Run, make_user: Callable[..., User], hold: Hold, change: list[str]
) -> None:
    name = f"rnstest{os.getpid()}r"
    before = make_user(name=f"{name}1", home=f"/home/{name}")
    made = ns(before)
    hold(before)
    # usermod does nothing while processes run; the pin keeps the namespace.
    before.kill_pause()
    after = User(f"{name}2", before.uid, before.gid)
    values = {"-l": after.name, "-d": f"/home/{name}2"}
    rename(before, after, *(word for option in change for word in (option, values[option])))
    try:
        moved = "-d" in change
        assert info(after)["verdicts"]["pin"]["verdict"] == ("foreign" if moved else "live")
        again = ns(after)
        assert again["action"] == ("created" if moved else "repaired")
        assert (namespace_of(again) == namespace_of(made)) is not moved
        assert ns(after, state="absent")["action"] == "removed"
    finally:
        for pid in after.processes():
            kill_and_wait(pid)
        rename(after, before, "-l", before.name)


def rename(before: User, after: User, *change: str) -> None:
    """With the ranges, which usermod leaves to the old name."""
    ranges = {}
    for kind in ("uid", "gid"):
        lines = [line.split(":") for line in Path(f"/etc/sub{kind}").read_text().splitlines()]
        ranges[kind] = [f"{start}-{int(start) + int(count) - 1}" for name, start, count in lines if name == before.name]
        for range_ in ranges[kind]:
            shadow("usermod", f"--del-sub{kind}s", range_, before.name)
    shadow("usermod", *change, before.name)
    for kind, of_kind in ranges.items():
        for range_ in of_kind:
            shadow("usermod", f"--add-sub{kind}s", range_, after.name)


def test_a_pin_of_the_version_before_counts_as_the_present_accounts(
    ns: Run, command: Command, user: User, successor: Callable[..., User]
) -> None:
    made = ns(user)
    (user.pin / "for").unlink()
    bob = successor(user)
    assert namespace_of(ns(bob)) == namespace_of(made)
    line = ("exec", "--user", bob.name, "--no-create", "--", "readlink", "/proc/self/ns/user")
    assert command(*line).stdout == f"user:[{made['userns']}]\n"


def test_two_names_of_one_uid_share_a_namespace(ns: Run, info: Run, user: User) -> None:
    made = ns(user)
    alias = f"{user.name}b"
    shadow("useradd", "--non-unique", "--uid", str(user.uid), "--no-create-home", "--home-dir", "/x/y", "-N", alias)
    try:
        entry = info(User(alias, user.uid, user.gid))
        assert (verdicts_of(entry)["pin"], namespace_of(entry)) == ("live", namespace_of(made))
    finally:
        shadow("userdel", "--force", alias)


# UIDs that no account has any more.


@pytest.mark.alone
def test_what_accounts_that_are_gone_have_left_is_listed_and_removed(
    ns: Run, info: Run, module: Run, command: Command, user: User
) -> None:
    made = ns(user)
    pause = user.pause_pid()
    shadow("userdel", "--force", user.name)
    everybody = {entry["user"]: entry for entry in module("rootless_ns_info")["namespaces"]}
    entry = everybody[str(user.uid)]
    assert (entry["uid"], entry["gid"], entry["state"], entry["drift"]) == (user.uid, None, "alive", False)
    assert (entry["needs"], ns(user.uid, state="absent", check=True)["action"]) == ("remove", "removed")
    assert namespace_of(entry) == namespace_of(made)
    assert f"no account has UID {user.uid}; its pin was made for {user.name}" in entry["msg"]
    assert entry == info(user.uid)
    assert f"{user.uid}: alive" in command("info", "--all").stderr
    refused = ns(user.uid)
    assert (refused["failed"], refused["action"]) == (True, "failed")
    assert f"no account has UID {user.uid}" in refused["msg"]
    assert "state: absent" in refused["msg"]
    assert str(user.uid) not in command("present", "--all", "--check").stdout
    assert is_running(pause)
    assert ns(user.uid, state="absent", check=True)["action"] == "removed"
    removed = command("absent", "--user", str(user.uid))
    assert removed.returncode == 0, removed.stderr
    assert f"{user.uid}: removed" in removed.stderr
    assert not user.pin.exists()
    assert user.processes() == []
    assert "no user has UID" in ns(user.uid, state="absent")["msg"]
    assert str(user.uid) not in [entry["user"] for entry in module("rootless_ns_info")["namespaces"]]


def test_processes_of_an_account_that_is_gone_stay(ns: Run, user: User, inhabit: Inhabit) -> None:
    ns(user)
    sleeper = inhabit(user)
    shadow("userdel", "--force", user.name)
    refused = ns(user.uid, state="absent")
    assert (refused["action"], [process["pid"] for process in refused["in_the_way"]]) == ("failed", [sleeper])
    assert is_running(user.pause_pid())
    assert ns(user.uid, state="absent", force=True)["action"] == "removed"
    assert user.processes() == [sleeper]


def test_a_changed_uid_leaves_the_old_one_behind(ns: Run, info: Run, user: User) -> None:
    ns(user)
    user.kill_pause()
    # Not above all others: useradd goes on from there.
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    new = next(uid for uid in range(999, 100, -1) if uid not in taken)
    shadow("usermod", "--uid", str(new), user.name)
    entry = info(user.uid)
    assert entry["verdicts"]["pin"]["verdict"] == "live"
    assert f"no account has UID {user.uid}; its pin was made for {user.name}, who has UID {new} now" in entry["msg"]
    assert (info(user)["uid"], info(user)["state"]) == (new, "none")
    assert ns(user.uid, state="absent")["action"] == "removed"
    assert not user.pin.exists()


@pytest.mark.alone
def test_orphans_of_an_account_that_is_gone_are_reaped(ns: Run, module: Run, user: User) -> None:
    ns(user, pin=False)
    pause = user.pause_pid()
    shadow("userdel", "--force", user.name)
    # As logind does at the last logout.
    subprocess.run(["rm", "-r", str(user.runtime_dir)], check=True)
    time.sleep(ORPHAN_SECONDS + 0.5)
    found = {entry["user"]: entry for entry in module("rootless_pause")["users"]}[str(user.uid)]
    assert [(orphan["pid"], orphan["action"]) for orphan in found["orphans"]] == [(pause, "left")]
    assert found["msg"] == f"no account has UID {user.uid}"
    assert module("rootless_pause", users=[str(user.uid)], orphans=True)["reaped"] == [pause]
    assert not is_running(pause)


def test_nothing_is_repaired_for_an_account_that_is_gone(ns: Run, module: Run, user: User) -> None:
    ns(user)
    user.kill_pause()
    shadow("userdel", "--force", user.name)
    (entry,) = module("rootless_pause", users=[str(user.uid)], repair=True)["users"]
    assert [(file["verdict"], file["action"]) for file in entry["files"]] == [("dead", "removed")]
    assert user.processes() == []


def test_a_uid_that_has_left_nothing_does_not_exist(ns: Run, user: User) -> None:
    shadow("userdel", "--force", user.name)
    for args in ({}, {"state": "absent"}):
        assert f"no user has UID {user.uid}" in ns(user.uid, **args)["msg"]


# Users whom a directory does not list.


@pytest.fixture
def hidden(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user whom getpwnam(3) and getpwuid(3) find, but getpwent(3) does not, as with SSSD's default."""
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid != user.uid]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    user.runtime_dir.rmdir()
    return user


def names_of(host: Host, *, table: ProcessTable | None = None) -> tuple[list[str], list[str], list[str]]:
    """Who has state, who has anything, and who has leftovers."""
    pins = PinStore(Syscalls(), run=host.run)
    everybody = Everybody(host, pins=pins, table=table)
    found = everybody.with_state([]), everybody.with_anything([]), everybody.with_leftovers()
    return tuple([account.name for account in accounts] for accounts in found)  # type: ignore[return-value]


def places(tmp_path: Path) -> Host:
    """A host on which nobody has anything."""
    for name in ("run/user", "run/rootless-ns", "tmp", "var/lib/systemd/linger"):
        (tmp_path / name).mkdir(parents=True)
    return Host(run=f"{tmp_path}/run", tmp=f"{tmp_path}/tmp", var=f"{tmp_path}/var")


@pytest.mark.parametrize(
    ("place", "of_name", "owned", "expected"),
    [
        ("run/user/{}", False, True, (True, True, True)),
        ("tmp/storage-run-{}", False, True, (True, True, True)),
        ("tmp/podman-run-{}", False, True, (True, True, True)),
        # Anybody can make one with that name.
        ("tmp/storage-run-{}", False, False, (False, False, False)),
        ("run/rootless-ns/{}", False, False, (True, True, False)),
        ("var/lib/systemd/linger/{}", True, False, (True, True, False)),
    ],
)
def test_a_user_who_is_not_listed_is_found_by_what_there_is(
    hidden: User, tmp_path: Path, place: str, of_name: bool, owned: bool, expected: tuple[bool, ...]
) -> None:
    host = places(tmp_path)
    assert [hidden.name in names for names in names_of(host)] == [False] * 3
    path = tmp_path / place.format(hidden.name if of_name else hidden.uid)
    path.mkdir()
    if owned:
        os.chown(path, hidden.uid, hidden.gid)
    assert tuple(hidden.name in names for names in names_of(host)) == expected


def test_a_user_who_is_not_listed_is_found_by_a_namespace(ns: Run, hidden: User, tmp_path: Path) -> None:
    ns(hidden, pin=False)
    table = ProcessTable.scan(Syscalls())
    assert [hidden.name in names for names in names_of(places(tmp_path), table=table)] == [False, True, True]


def test_a_uid_without_an_account_is_not_everybody(tmp_path: Path) -> None:
    host = places(tmp_path)
    for name in ("run/user/3999999999", "tmp/storage-run-3999999999", "var/lib/systemd/linger/rnstest-gone"):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / "tmp/storage-run-3999999999", 3_999_999_999, 0)
    before = names_of(host)
    assert not any("3999999999" in names for names in before)
    (tmp_path / "run/rootless-ns/3999999999").mkdir()
    assert ["3999999999" in names for names in names_of(host)] == [False, True, True]


def test_names_in_the_temporary_directory_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = places(tmp_path)
    asked: list[int] = []

    def ask(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", ask)
    for uid in range(3_999_990_000, 3_999_990_030):
        (tmp_path / f"tmp/storage-run-{uid}").mkdir()
        os.chown(tmp_path / f"tmp/storage-run-{uid}", uid, 0)
    monkeypatch.setattr(calls, "MAX_UNKNOWN", 10)
    everybody = Everybody(host, pins=PinStore(Syscalls(), run=host.run))
    everybody.with_state([])
    assert len(asked) == 10
    (warning,) = everybody.warnings
    assert "more than 10 UIDs" in warning
    monkeypatch.setattr(calls, "MAX_NAMES", 5)
    asked.clear()
    everybody = Everybody(host, pins=PinStore(Syscalls(), run=host.run))
    everybody.with_state([])
    assert len(asked) == 5
    (warning,) = everybody.warnings
    assert "more than 5 names" in warning


@pytest.mark.alone
def test_everybody_is_also_who_is_not_listed(ns: Run, hidden: User) -> None:
    hidden.runtime_dir.mkdir(mode=0o700)
    os.chown(hidden.runtime_dir, hidden.uid, hidden.gid)
    made = ns(hidden, pin=False)
    seen = {entry["user"]: entry for entry in look(None).told["namespaces"]}[hidden.name]
    assert (seen["state"], namespace_of(seen)) == ("alive", namespace_of(made))
    hidden.kill_pause()
    cleaned = clean(None, CleaningOptions()).told
    assert str(hidden.pause_file) in cleaned["removed"]
