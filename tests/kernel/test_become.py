# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin sends, run as it is sent: it joins what is the user's, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_terminal import terminal
from plants import PLANTS, of_root, symlink

from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

Run = Callable[..., dict[str, Any]]
Become = Callable[..., "subprocess.CompletedProcess[str]"]
NAMESPACES = ("readlink", "/proc/self/ns/user", "/proc/self/ns/mnt")


@pytest.fixture
def become(as_root: None, public_python: str) -> Become:
    """Runs a command in a user's namespace, from root's account or from that of a user."""

    def run(user: Any, *command: str, create: bool = False, caller: Any = None, **options: Any) -> Any:
        line = [public_python, "-I", "-S", "-c", program(user.name, sudo=["false"], create=create), *command]
        options = {"capture_output": True, "text": True, "cwd": "/", "timeout": 60, **options}
        return subprocess.run(caller.command(*line) if caller else line, check=False, **options)

    return run


@pytest.fixture(params=["root", "the user"])
def caller(request: pytest.FixtureRequest, user: Any) -> Any:
    return user if request.param == "the user" else None


def inodes(result: Any) -> list[int]:
    assert result.returncode == 0, result.stderr
    return [int(line.partition("[")[2].rstrip("]")) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("key", ["pin", "pause.pid"])
def test_each_key_alone_opens_the_namespace(become: Become, ns: Run, user: Any, caller: Any, key: str) -> None:
    made = ns(user, pin=key == "pin")
    if key == "pin":
        user.kill_pause()
        user.pause_file.unlink()
    assert inodes(become(user, *NAMESPACES, caller=caller)) == [made["userns"], made["mntns"]]


def test_handles_alone_open_the_namespace(become: Become, ns: Run, user: Any, caller: Any, public_python: str) -> None:
    made = ns(user, method="handles")
    if made["action"] == "failed":
        pytest.skip("needs a kernel that lets users open namespaces by handle")
    line = [public_python, "-I", "-S", "-c", program(user.name, sudo=[], create=False), "sh", "-c", "echo; cat"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inside:
        assert inside.stdout is not None
        inside.stdout.readline()
        subprocess.run(["umount", user.pin / "user", user.pin / "mnt"], check=True)
        assert not user.pause_file.exists()
        assert inodes(become(user, *NAMESPACES, caller=caller)) == [made["userns"], made["mntns"]]
        inside.communicate()


def test_it_is_root_there_and_its_environment_is_the_users(become: Become, ns: Run, user: Any, caller: Any) -> None:
    ns(user)
    with open("/etc/passwd") as inherited:
        command = ("sh", "-c", "id -u; id -G; env; ls -l /proc/self/fd")
        result = become(user, *command, caller=caller, pass_fds=[inherited.fileno()])
    uid, groups, *lines = result.stdout.splitlines()
    assert (uid, groups.split()[0]) == ("0", "0")
    assert f"USER={user.name}" in lines
    assert f"XDG_RUNTIME_DIR={user.runtime_dir}" in lines
    assert f"_CONTAINERS_ROOTLESS_UID={user.uid}" in lines
    assert "HOME=/" in lines
    # Nothing of the caller's: the streams, and what ls has opened itself.
    assert sum(" -> " in line for line in lines) == 4


def test_how_it_ends_is_told(become: Become, ns: Run, user: Any, caller: Any) -> None:
    ns(user)
    assert become(user, "sh", "-c", "exit 7", caller=caller).returncode == 7
    assert become(user, "sh", "-c", "kill -TERM $$", caller=caller).returncode == -signal.SIGTERM
    assert become(user, "cat", caller=caller, input="through\n").stdout == "through\n"
    ignored = int(become(user, "grep", "SigIgn", "/proc/self/status", caller=caller).stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    missing = become(user, "no-such-command", caller=caller)
    assert (missing.returncode, missing.stdout) == (125, "")
    assert "rootless_ns: " in missing.stderr
    assert "no-such-command" in missing.stderr


def test_where_there_is_none_it_is_set_up_if_wanted(become: Become, ns: Run, user: Any, caller: Any) -> None:
    refused = become(user, *NAMESPACES, caller=caller)
    assert refused.returncode == 125
    assert f"{user.name} has no namespace to join" in refused.stderr
    there = inodes(become(user, *NAMESPACES, create=True, caller=caller))
    entry = ns(user)
    assert [entry["userns"], entry["mntns"]] == there
    assert entry["pinned"] is True
    assert inodes(become(user, *NAMESPACES, create=True, caller=caller)) == there


@pytest.mark.parametrize("leads", ["nothing", "its group"])
def test_the_command_does_not_reach_roots_terminal(ns: Run, user: Any, public_python: str, leads: str) -> None:
    """Whatever the connection has started it as: setsid(2) refuses who leads a group."""
    ns(user)
    source = program(user.name, sudo=[], create=False)
    how = ", preexec_fn=os.setpgrp" if leads == "its group" else ""
    start = (
        "import os, subprocess, sys, time; from subprocess import DEVNULL, PIPE, STDOUT; "
        f"result = subprocess.run(sys.argv[1:], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT{how}); "
        "os.write(1, result.stdout + b'end'); time.sleep(100)"
    )
    attack = ("sh", "-c", "(: < /dev/tty) 2> /dev/null && echo reached || echo refused")
    with terminal() as at, at.start([sys.executable, "-c", start, public_python, "-I", "-S", "-c", source, *attack]):
        assert at.wait_for("end").replace("\n", "") == "refusedend"


def test_nobody_becomes_another(become: Become, ns: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    ns(user)
    # Which would go through sudo, and that is `false` here.
    assert become(user, "true", caller=other).returncode == 1


def test_sudo_is_given_a_name(make_user: Any, public_python: str) -> None:
    """It would take a UID for one."""
    user, other = make_user(), make_user()
    # Prints what it is called with, instead of being sudo.
    source = program(str(user.uid), sudo=["printf", "%s\\n"], create=False)
    told = other.run(public_python, "-I", "-S", "-c", source, "true").splitlines()
    assert told[:2] == ["-u", user.name]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["pause.pid", "ns_handles"])
def test_things_in_place_of_files_are_no_keys(
    become: Become, user: Any, tmp_path: Path, plant: Callable[[Path, Path], None], name: str
) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"12345")
    user.run("mkdir", "-p", str(user.state_dir))
    path = user.state_dir / name
    plant(path, treasure)
    if plant not in (of_root, symlink):
        os.chown(path, user.uid, user.gid)
    assert "no namespace to join" in become(user, "true").stderr
    assert treasure.read_bytes() == b"12345"


def test_what_is_anothers_is_not_joined(become: Become, ns: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    theirs = ns(other)
    user.run("mkdir", "-p", str(user.state_dir))
    for content in (theirs["pause_pid"], os.getpid(), 1):
        user.run("sh", "-c", f"printf %s {content} > {user.pause_file}")
        assert "no namespace to join" in become(user, "true").stderr
    if other.handles_file.exists():
        user.handles_file.write_bytes(other.handles_file.read_bytes())
        os.chown(user.handles_file, user.uid, user.gid)
        assert "no namespace to join" in become(user, "true").stderr
    # Even where root's own directory says so.
    user.pin.mkdir(parents=True)
    try:
        for name in ("user", "mnt"):
            (user.pin / name).touch()
            subprocess.run(["mount", "--bind", other.pin / name, user.pin / name], check=True)
        assert "no namespace to join" in become(user, "true").stderr
    finally:
        for name in ("user", "mnt"):
            subprocess.run(["umount", user.pin / name], check=False)


def test_a_namespace_within_the_users_is_not_joined(become: Become, ns: Run, user: Any, public_python: str) -> None:
    """Its owner is the user, but it is no child of ours: who joined it would have left the user's control."""
    ns(user, pin=False)
    script = "_PODMAN_PAUSE=1 unshare --user --mount --map-root-user sleep 100 > /dev/null 2>&1 & sleep 1"
    assert become(user, "sh", "-c", script).returncode == 0
    name_the_sleeper(user)
    assert "no namespace to join" in become(user, "true").stderr


def test_a_namespace_of_the_users_that_no_pause_process_keeps_is_not_joined(become: Become, user: Any) -> None:
    """A recycled PID may be that of a browser in its sandbox."""
    user.run("mkdir", "-p", str(user.state_dir))
    script = "unshare --user --mount --map-root-user sleep 100 > /dev/null 2>&1 & sleep 1"
    user.run("sh", "-c", script)
    name_the_sleeper(user)
    assert "no namespace to join" in become(user, "true").stderr


def name_the_sleeper(user: Any) -> None:
    pid = next(pid for pid in user.processes() if "sleep" in Path(f"/proc/{pid}/comm").read_text())
    user.run("sh", "-c", f"printf %s {pid} > {user.pause_file}")
