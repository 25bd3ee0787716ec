# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ours and the peers', as they are run: modules, Ansible, Podman, and what the system itself has."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from .arena import CHECKOUT, PAYLOAD, User

# A module without Ansible's packing and unpacking around it.
_RUNNER = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module(sys.argv[2])
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""
OUR_MODULES = "ansible_collections.userns.rootless.plugins.modules"


class BenchmarkError(RuntimeError):
    """What was to be measured did not do what it should."""


def module(name: str, **arguments: Any) -> tuple[float, dict[str, Any]]:
    """Run a module of ours in a new process, as on a target: seconds, and its result."""
    command = [host_python(), "-c", _RUNNER, str(PAYLOAD), f"{OUR_MODULES}.{name}"]
    started = time.perf_counter()
    done = subprocess.run(command, input=json.dumps(arguments), capture_output=True, text=True, cwd="/", check=False)
    elapsed = time.perf_counter() - started
    if done.returncode:
        raise BenchmarkError(f"{name}: {done.stdout[:500]} {done.stderr[-1000:]}")
    return elapsed, json.loads(done.stdout)


def ansible(program: str, *arguments: str) -> float:
    """Seconds for a run of `ansible` or `ansible-playbook` on localhost."""
    environment = dict(
        os.environ,
        PATH=f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        HOME="/run/bench/ansible",
        ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".collections"),
        ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"),
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="false",
        ANSIBLE_PIPELINING="true",
        ANSIBLE_PYTHON_INTERPRETER=host_python(),
    )
    started = time.perf_counter()
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, cwd="/", check=False)
    elapsed = time.perf_counter() - started
    if done.returncode:
        raise BenchmarkError(f"{program}: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return elapsed


def shell_loop(users: Sequence[User], command: str, *, at_once: int = 1) -> float:
    """Seconds for a command as each of the users, by a shell that root runs: one by one, or some at a time."""
    one = f"HOME=/run/bench/home/$uid XDG_RUNTIME_DIR=/run/user/$uid runuser -u $name -- {command} < /dev/null"
    if at_once == 1:
        line = ["sh", "-c", f"set -e; while read -r name uid; do {one}; done"]
    else:
        line = ["xargs", "-P", str(at_once), "-L", "1", "sh", "-c", f"name=$0 uid=$1; {one}"]
    names = "".join(f"{user.name} {user.uid}\n" for user in users)
    started = time.perf_counter()
    done = subprocess.run(line, input=names, capture_output=True, text=True, cwd="/", check=False)
    elapsed = time.perf_counter() - started
    if done.returncode:
        raise BenchmarkError(f"{command}: {done.stderr[-1000:]}")
    return elapsed


def script(program: str, users: Sequence[User]) -> float:
    """Seconds for a Python that reads UIDs and GIDs."""
    ids = "".join(f"{user.uid} {user.uid}\n" for user in users)
    started = time.perf_counter()
    done = subprocess.run(
        [host_python(), "-I", "-S", "-c", program], input=ids, capture_output=True, text=True, cwd="/", check=False
    )
    elapsed = time.perf_counter() - started
    if done.returncode or done.stderr:
        raise BenchmarkError(done.stderr[-1000:])
    return elapsed


@functools.cache
def host_python() -> str:
    """A Python that ordinary users can run, too."""
    for path in ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11", "/usr/bin/python3"):
        probe = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]
        if os.path.exists(path) and subprocess.run(probe, check=False).returncode == 0:
            return path
    raise BenchmarkError("needs a Python 3.9 or later in /usr/bin")


def has_podman() -> bool:
    return shutil.which("podman") is not None


def version_of(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().splitlines()[0]
    except (FileNotFoundError, IndexError):
        return "not installed"
