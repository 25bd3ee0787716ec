# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile users: root acts for them, and neither root's files nor root's processes nor other users come to harm."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plants import PLANTS, fifo, hard_link, of_root, symlink, unreadable

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def treasure(as_root: None, tmp_path: Path) -> Path:
    """A file of root's that must stay as it is."""
    path = tmp_path / "treasure"
    path.write_bytes(b"12345")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    ("name", "key", "verdict"), [("pause.pid", "pause_pid", "garbage"), ("ns_handles", "ns_handles", "corrupt")]
)
def test_things_in_place_of_our_files(
    module: Run, make_user: Any, treasure: Path, plant: Callable[[Path, Path], None], name: str, key: str, verdict: str
) -> None:
    user, other = make_user(), make_user()
    user.run("mkdir", "-p", str(user.state_dir))
    path = user.state_dir / name
    plant(path, treasure)
    if plant is not of_root and plant is not symlink:
        os.chown(path, user.uid, user.gid)
    entry = module("rootless_ns_info", users=[user.name])["namespaces"][0]
    # Podman reads these two as they are, and so do we: the numbers of processes that are somebody else's, or gone.
    read = name == "pause.pid" and plant in (hard_link, of_root)
    assert entry["verdicts"][key]["verdict"] in (("recycled", "dead") if read else (verdict,))
    assert entry["verdicts"][key]["evidence"]
    result = module("rootless_ns", users=[user.name, other.name])
    assert [entry["action"] for entry in result["namespaces"]] == ["created", "created"]
    assert module("rootless_ns", users=[user.name, other.name])["changed"] is False
    assert treasure.read_bytes() == b"12345"
    assert treasure.stat().st_uid == 0


@pytest.mark.parametrize("part", ["libpod", "libpod/tmp"])
@pytest.mark.parametrize("plant", [symlink, fifo, unreadable, of_root])
def test_things_in_place_of_our_directories(
    ns: Run, user: Any, treasure: Path, plant: Callable[[Path, Path], None], part: str
) -> None:
    path = user.runtime_dir / part
    user.run("mkdir", "-p", str(path.parent))
    plant(path, treasure)
    if plant is not symlink:
        os.chown(path, user.uid, user.gid)
    before = sorted(treasure.parent.iterdir())
    result = ns(user)
    assert result["failed"]
    assert str(path) in result["msg"]
    assert sorted(treasure.parent.iterdir()) == before
    assert user.processes() == []


@pytest.mark.parametrize("spoil", ["mode", "owner", "symlink"])
def test_runtime_directories_that_others_may_write_to(ns: Run, make_user: Any, spoil: str) -> None:
    user, other = make_user(), make_user()
    fallback = user.temporary_dir
    if spoil == "mode":
        user.runtime_dir.chmod(0o770)
    elif spoil == "owner":
        os.chown(user.runtime_dir, other.uid, other.gid)
    else:
        user.runtime_dir.rmdir()
        user.runtime_dir.symlink_to(other.runtime_dir)
    try:
        result = ns(user)
        assert result["state_dir"].startswith(str(fallback))
        assert str(user.runtime_dir) in result["msg"]
        assert list(other.runtime_dir.iterdir()) == []
    finally:
        if spoil == "symlink":
            user.runtime_dir.unlink()


def test_a_locked_state_directory_does_not_hang(ns: Run, user: Any) -> None:
    user.run("mkdir", "-p", str(user.state_dir))
    with subprocess.Popen(
        user.command("flock", str(user.state_dir / "ns_handles.lock"), "sh", "-c", "echo; sleep 100"),
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            start = time.monotonic()
            result = ns(user)
            assert time.monotonic() - start < 25
            assert "is locked by another process" in result["msg"]
        finally:
            for pid in user.processes():
                os.kill(pid, 9)
    assert ns(user)["action"] == "created"


@pytest.mark.parametrize("whose", ["root", "other"])
def test_a_pid_of_somebody_else_is_never_signalled(ns: Run, make_user: Any, whose: str) -> None:
    user, other = make_user(), make_user()
    command = ["env", "_PODMAN_PAUSE=1", "sleep", "100"]
    with subprocess.Popen(command if whose == "root" else other.command(*command), cwd="/") as victim:
        try:
            user.run("mkdir", "-p", str(user.state_dir))
            user.pause_file.write_bytes(str(victim.pid).encode())
            os.chown(user.pause_file, user.uid, user.gid)
            assert ns(user)["action"] == "created"
            user.pause_file.write_bytes(str(victim.pid).encode())
            assert ns(user, state="absent")["action"] == "removed"
            assert victim.poll() is None
        finally:
            victim.kill()


def test_a_faked_pause_process_outside_is_foreign(module: Run, ns: Run, user: Any) -> None:
    with subprocess.Popen(user.command("env", "_PODMAN_PAUSE=1", "sleep", "100"), cwd="/") as fake:
        try:
            user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf %s {fake.pid} > {user.pause_file}")
            while b"_PODMAN_PAUSE" not in Path(f"/proc/{fake.pid}/environ").read_bytes():
                time.sleep(0.01)
            (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
            assert (entry["state"], entry["verdicts"]["pause_pid"]["verdict"]) == ("broken", "foreign")
            result = ns(user)
            assert result["action"] == "created"
            assert result["userns"] != os.stat("/proc/self/ns/user").st_ino
        finally:
            fake.kill()


@pytest.mark.parametrize("keys", ["pause.pid", "ns_handles"])
def test_keys_of_another_users_namespace_are_foreign(module: Run, ns: Run, make_user: Any, keys: str) -> None:
    user, victim = make_user(), make_user()
    method = "pause" if keys == "pause.pid" else "handles"
    theirs = ns(victim, method=method)
    user.run("mkdir", "-p", str(user.state_dir))
    shutil.copy(victim.state_dir / keys, user.state_dir / keys)
    os.chown(user.state_dir / keys, user.uid, user.gid)
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    assert entry["verdicts"]["pause_pid" if keys == "pause.pid" else keys]["verdict"] in ("foreign", "recycled")
    ours = ns(user, method=method)
    assert (ours["action"], ours["userns"] == theirs["userns"]) == ("created", False)
    again = ns(victim, method=method)
    assert (again["action"], again["userns"]) == ("rejoined", theirs["userns"])


@pytest.mark.parametrize(
    ("unshare", "told"),
    [
        (["unshare", "-Ur", "unshare", "-Urm"], "direct child"),
        # In a user namespace of its own, but in the host's mount namespace.
        (["unshare", "-Ur"], "does not belong"),
    ],
)
def test_pause_processes_in_wrong_namespaces_are_foreign(
    module: Run, ns: Run, user: Any, unshare: list[str], told: str
) -> None:
    command = user.command(*unshare, "env", "_PODMAN_PAUSE=1", "sh", "-c", "echo $$; exec sleep 100")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            pid = process.stdout.readline().strip()
            user.run("sh", "-c", f"mkdir -p {user.state_dir}; printf %s {pid} > {user.pause_file}")
            (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
            assert entry["verdicts"]["pause_pid"]["verdict"] == "foreign"
            assert told in entry["verdicts"]["pause_pid"]["evidence"]
            assert ns(user)["action"] == "created"
        finally:
            process.kill()


def test_sandboxes_are_not_taken_for_podmans_namespace(ns: Run, user: Any) -> None:
    # A browser's sandbox, say: the user's own user namespace, but nothing of Podman's.
    with subprocess.Popen(user.command("unshare", "-Urm", "sleep", "100"), cwd="/") as sandbox:
        try:
            assert ns(user)["action"] == "created"
            assert ns(user, state="absent")["action"] == "removed"
            assert sandbox.poll() is None
        finally:
            sandbox.kill()


def test_a_container_monitor_leads_back_to_its_namespace(ns: Run, user: Any) -> None:
    first = ns(user)
    line = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={first['pause_pid']}"]
    monitor = user.command(*line, "env", "_CONTAINERS_USERNS_CONFIGURED=done", "sh", "-c", "echo; exec sleep 100")
    with subprocess.Popen(monitor, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert ns(user, state="absent", force=True)["action"] == "removed"
            found = ns(user)
            assert (found["action"], found["userns"], found["processes"]) == ("repaired", first["userns"], 1)
        finally:
            process.kill()


AGENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
package = "ansible_collections.userns.rootless.plugins.module_utils._rootless."
accounts, host, kernel, nsfs = (import_module(package + name) for name in ("accounts", "host", "kernel", "nsfs"))
secret = b"a secret of root's"
keep_open = open("/etc/shadow", "rb")
agents, account = host.Agents(kernel.Syscalls(), host.Host()), accounts.find_account(sys.argv[2])
for _child in range(int(sys.argv[4])):
    agents.agent(account).close()
with agents.agent(account) as agent:
    agent.call("marks", pids=[])
    if sys.argv[3] != "outside":
        pair = nsfs.NamespacePair.open(f"/proc/{sys.argv[3]}/ns/user", f"/proc/{sys.argv[3]}/ns/mnt")
        agent.call("join", fds=(pair.user_fd, pair.mnt_fd))
    print(agent.pid, flush=True)
    sys.stdin.read()
"""

ATTACK = """
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
print("ptrace", libc.ptrace(16, pid, 0, 0), ctypes.get_errno())
for name in ("mem", "environ", "fd", "maps", "cwd/x"):
    path = f"/proc/{pid}/{name}"
    try:
        os.listdir(path) if name == "fd" else open(path, "rb").read(1)
        print("read", name)
    except OSError as error:
        print(name, error.errno)
"""


@pytest.mark.parametrize("where", ["outside", "inside"])
@pytest.mark.parametrize("born_before", [0, 20], ids=["born alone", "of a litter"])
def test_the_users_child_cannot_be_looked_into(
    ns: Run, user: Any, payload: Path, public_python: str, where: str, born_before: int
) -> None:
    target = str(ns(user)["pause_pid"])
    command = [public_python, "-c", AGENT, str(payload), user.name]
    command += ["outside" if where == "outside" else target, str(born_before)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        attack = [public_python, "-c", ATTACK, pid]
        if where == "inside":
            # As root of the namespace, with every capability there.
            attack = [
                "nsenter",
                "--preserve-credentials",
                "--user",
                "--mount",
                f"--target={target}",
                "setpriv",
                "--reuid=0",
                "--regid=0",
                "--keep-groups",
                *attack,
            ]
        said = user.run(*attack)
        process.communicate()
    assert "read" not in said, said
    assert f"ptrace -1 {errno.EPERM}" in said
    # The pair of namespaces is closed after the join; nothing of root's was ever there.
    assert sorted(opened) == ["/dev/null"] * 3 + [entry for entry in opened if entry.startswith("socket:")]
    assert len(opened) == 4


def test_sleeping_on_the_pins_is_no_way_in(ns: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    ns(user)
    status = user.pin.parent.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o711)
    assert user.pin.stat().st_mode & 0o022 == 0
    libc = ctypes.CDLL(None)
    assert libc is not None
    result = subprocess.run(
        other.command("nsenter", "--preserve-credentials", f"--user={user.pin}/user", "true"),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert result.returncode != 0
    assert "Operation not permitted" in result.stderr
