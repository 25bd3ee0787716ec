# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who watches every process that root starts as it, while root really works for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import comm

Run = Callable[..., dict[str, Any]]

SECRET = "RNSTEST_SECRET"

# Reads what it can of every process, over and over, from before the first to after the last run of root's.
WATCHER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
own, seen, print_ = {os.getpid(), os.getppid()}, {}, print
print_("ready", flush=True)
os.set_blocking(0, False)
def attempt(pid, what, do):
    try:
        do()
    except OSError:
        return
    seen.setdefault(pid, set()).add(what)
def environ(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        content = file.read()
    if b"RNSTEST_SECRET" in content:
        print_("LEAK environ", pid, flush=True)
    if not content:
        raise OSError
def memory(pid):
    # Opening is what the kernel decides upon.
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        line = file.read()
    if b"python" in line:
        print_("LEAK mem", pid, line, flush=True)
def descriptors(pid):
    names = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        line = file.read()
    if b"python" in line:
        print_("LEAK fd", pid, names, flush=True)
rounds = 0
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in own:
            for what in (environ, memory, descriptors):
                attempt(int(name), what.__name__, lambda: what(int(name)))
    rounds += 1
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
print_("rounds", rounds, "open", len(seen), flush=True)
"""


@pytest.mark.parametrize("method", ["pause", "handles"])
def test_nothing_of_roots_is_to_be_seen(ns: Run, user: Any, public_python: str, method: str) -> None:
    command = user.command(public_python, "-c", WATCHER)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        for _round in range(4):
            for args in ({}, {"method": method}, {"state": "absent"}):
                assert not ns(user, env={SECRET: "a secret of root's"}, **args).get("failed")
        said, _errors = watcher.communicate()
    assert "LEAK" not in said, said
    *_rest, last = said.splitlines()
    _word, rounds, _word, opened = last.split()
    assert int(rounds) >= 10, "too slow to have seen anything"
    assert method == "handles" or int(opened) >= 1, "it has not even seen the pause process"
    assert os.environ.get(SECRET) is None


def test_the_pause_process_inherits_nothing(ns: Run, user: Any) -> None:
    pid = ns(user, env={SECRET: "a secret of root's"})["pause_pid"]
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {variable.partition(b"=")[0] for variable in variables if variable} == {
        b"PATH",
        b"XDG_RUNTIME_DIR",
        b"_PODMAN_PAUSE",
        b"_CONTAINERS_USERNS_CONFIGURED",
        b"_CONTAINERS_ROOTLESS_UID",
        b"_CONTAINERS_ROOTLESS_GID",
    }
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{user.uid}\t{user.uid}\t{user.uid}\t{user.uid}\n" in status
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


# In a mount namespace without Podman's own program for it: one that closes nothing.
WITHOUT_CATATONIT = (
    "for path in /usr/libexec/podman/catatonit /usr/bin/catatonit /usr/libexec/catatonit/catatonit; do "
    'test ! -e $path || mount --bind /dev/null $path; done; exec "$@"'
)


def test_a_restarted_pause_process_holds_nothing_open(ns: Run, user: Any) -> None:
    # The namespace has the mounts that were there when it was set up.
    first = ns(user, pin=False, prefix=("unshare", "--mount", "sh", "-c", WITHOUT_CATATONIT, "sh"))
    # Found again by a process that looks like a container's monitor.
    join = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={first['pause_pid']}", "sleep", "100"]
    with subprocess.Popen(user.command(*join, env={"_CONTAINERS_USERNS_CONFIGURED": "done"})) as monitor:
        while comm("/proc", monitor.pid) != "sleep":
            time.sleep(0.01)
        user.kill_pause()
        restarted = ns(user, pin=False, prefix=("unshare", "--mount", "sh", "-c", WITHOUT_CATATONIT, "sh"))
        monitor.kill()
    assert (restarted["action"], restarted["userns"]) == ("repaired", first["userns"])
    assert comm("/proc", restarted["pause_pid"]) == "sleep"
    # By its number: the mount namespace that it was opened in is gone.
    opened = {os.stat(entry).st_rdev for entry in Path(f"/proc/{restarted['pause_pid']}/fd").iterdir()}
    assert opened == {os.stat(os.devnull).st_rdev}
