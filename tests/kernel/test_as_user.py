# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child that has become a user, and its last look before it ends a process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.as_user import Agent, AgentError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.userside import UserSide


def agent_of(user: Any, timeout: float = 10) -> Agent:
    syscalls, account = Syscalls(), find_account(user.name)
    side = UserSide(account, syscalls=syscalls, proc="/proc", run="/run", tmp="/tmp", environment={})
    operations = {**side.operations(), "ids": lambda: [os.getresuid(), os.getresgid(), os.getgroups()]}
    return Agent(account, operations, syscalls=syscalls, timeout=timeout)


@pytest.fixture
def agent(user: Any) -> Iterator[Agent]:
    with agent_of(user) as agent:
        yield agent


def test_it_is_the_user_for_good(agent: Agent, user: Any) -> None:
    assert agent.call("ids") == [[user.uid] * 3, [user.gid] * 3, [user.gid]]


def started(command: list[str]) -> Any:
    process = subprocess.Popen([*command, "sh", "-c", "echo; exec sleep 100"], stdout=subprocess.PIPE, cwd="/")
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("wrap", "spared"),
    [
        (["unshare", "-Urm", "env", "_PODMAN_PAUSE=1"], False),
        (["unshare", "-Urm"], True),
        (["unshare", "-Urm", "env", "_PODMAN_PAUSE="], True),
    ],
)
def test_only_pause_processes_are_ended(agent: Agent, user: Any, wrap: list[str], spared: bool) -> None:
    with started(user.command(*wrap)) as process:
        userns = os.stat(f"/proc/{process.pid}/ns/user").st_ino
        assert agent.call("kill_pause", pid=process.pid, userns=userns + 1) is False
        assert agent.call("kill_pause", pid=process.pid, userns=userns) is not spared
        if spared:
            assert process.poll() is None
            process.kill()
        assert process.wait(10) == -signal.SIGKILL


def test_nobody_elses_pause_process_is_ended(agent: Agent, make_user: Callable[..., Any]) -> None:
    other = make_user()
    with started(other.command("unshare", "-Urm", "env", "_PODMAN_PAUSE=1")) as process:
        userns = os.stat(f"/proc/{process.pid}/ns/user").st_ino
        assert agent.call("kill_pause", pid=process.pid, userns=userns) is False
        assert process.poll() is None
        process.kill()


def test_a_child_that_does_not_answer_is_given_up(user: Any) -> None:
    with agent_of(user, timeout=0.3) as agent:
        agent.call("ids")
        # The user may stop what runs with its UID.
        user.run("sh", "-c", f"kill -STOP {agent.pid}")
        with pytest.raises(AgentError, match="did not finish"):
            agent.call("inspect")
    deadline = time.monotonic() + 10
    while user.processes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert user.processes() == []


def test_a_child_that_is_killed_is_told(user: Any) -> None:
    with agent_of(user) as agent:
        agent.call("ids")
        user.run("sh", "-c", f"kill -KILL {agent.pid}")
        with pytest.raises(AgentError, match=r"gone|killed"):
            agent.call("inspect")


def test_nothing_is_changed_without_the_lock(agent: Agent, user: Any) -> None:
    user.run("mkdir", "-p", str(user.state_dir))
    with pytest.raises(Exception, match="without its lock"):
        agent.call("write", name="pause.pid", content="31")
    assert list(user.state_dir.iterdir()) == []
