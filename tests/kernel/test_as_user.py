# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child that has become a user, and its last look before it ends a process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.as_user import Agent, AgentError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.births import Births
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options
from ansible_collections.userns.rootless.plugins.module_utils._rootless.patience import Limits, Patience
from ansible_collections.userns.rootless.plugins.module_utils._rootless.user_paths import UserPaths
from ansible_collections.userns.rootless.plugins.module_utils._rootless.userside import order_for, work_for_user

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@pytest.fixture(params=[0, 20], ids=["born alone", "of a litter"])
def births(request: Any) -> Iterator[Births]:
    syscalls = Syscalls()
    paths = UserPaths(syscalls)
    births = Births(lambda channel, order: work_for_user(channel, order, syscalls, paths), syscalls)
    for _child in range(request.param):
        bear_and_reap(births)
    yield births
    births.close()


PR_SET_CHILD_SUBREAPER = 36


def bear_and_reap(births: Births) -> None:
    pid, channel = births.bear(b"[]")
    channel.close()
    births.reap(pid)


@pytest.fixture
def agent_of(births: Births) -> Callable[..., Agent]:
    def make(user: Any, timeout: float = 10) -> Agent:
        account = find_account(user.name)
        order = order_for(account, proc="/proc", run="/run", tmp="/tmp", environment={}, candidate=None)
        return Agent(account, births, order, patience=Patience(Limits(user=timeout)).of(account.uid, account.name))

    return make


@pytest.fixture
def agent(user: Any, agent_of: Callable[..., Agent]) -> Iterator[Agent]:
    with agent_of(user) as agent:
        # It is the user from here on.
        agent.call("marks", pids=[])
        yield agent


def test_it_is_the_user_for_good(agent: Agent, user: Any) -> None:
    lines = Path(f"/proc/{agent.pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1:] for line in lines}
    assert (found["Uid"], found["Gid"], found["Groups"]) == ([str(user.uid)] * 4, [str(user.gid)] * 4, [str(user.gid)])
    assert {set_: int(found[set_][0], 16) for set_ in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)


def test_each_has_a_channel_of_its_own(
    agent: Agent, make_user: Callable[..., Any], agent_of: Callable[..., Agent]
) -> None:
    """Of the other's there is no copy, which would keep it open."""
    with agent_of(make_user()) as other:
        other.call("marks", pids=[])
        for child in (agent, other):
            assert sorted(os.listdir(f"/proc/{child.pid}/fd")) == ["0", "1", "2", "3"]
        agent.close()
        other.call("marks", pids=[])


def test_those_born_in_vain_end_with_their_parent(births: Births) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for _child in range(20):
            births.bear(b"[]")
        os.write(writer, " ".join(children_of(os.getpid())).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        children = file.read().split()
    assert len(children) > 20
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{child}") for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [child for child in children if os.path.exists(f"/proc/{child}")]


def test_none_is_left_after_a_call_about_many(make_user: Callable[..., Any]) -> None:
    """Neither here, nor among those that a worker had made and nobody reaps."""
    accounts = [find_account(make_user().name) for _number in range(24)]
    for cpus in (os.sched_getaffinity(0), {min(os.sched_getaffinity(0))}):
        pid = os.fork()
        if pid == 0:
            os.sched_setaffinity(0, cpus)
            # Orphans come here.
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            namespaces = Namespaces(Syscalls(), host=Host(), options=Options())
            reports = namespaces.each(namespaces.look, accounts)
            os._exit(len(children_of(os.getpid())) if len(reports) == 24 else 100)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, cpus


def test_after_a_call_about_many_one_is_one(births: Births) -> None:
    before = children_of(os.getpid())
    for _child in range(20):
        bear_and_reap(births)
    births.close()
    pid, channel = births.bear(b"[]")
    assert set(children_of(os.getpid())) - set(before) == {str(pid)}
    channel.close()
    births.reap(pid)


def test_a_waiting_child_that_was_killed_is_replaced(births: Births) -> None:
    # Other tests' server of modules may be one.
    before = children_of(os.getpid())
    for _child in range(10):
        bear_and_reap(births)
    for child in set(children_of(os.getpid())) - set(before):
        os.kill(int(child), signal.SIGKILL)
    for _child in range(20):
        bear_and_reap(births)
    births.close()


def test_nobody_takes_another_processes_children(births: Births) -> None:
    """A worker is a copy of the process that had some waiting."""
    pid = os.fork()
    if pid == 0:
        child, _channel = births.bear(b"[]")
        os._exit(0 if children_of(os.getpid()) == [str(child)] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def started(command: list[str]) -> Any:
    """A process that runs what it is to run: in the midst of an exec nothing can be told of it."""
    process = subprocess.Popen([*command, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
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


def test_a_child_that_does_not_answer_is_given_up(user: Any, agent_of: Callable[..., Agent]) -> None:
    with agent_of(user, timeout=0.3) as agent:
        agent.call("marks", pids=[])
        # The user may stop what runs with its UID.
        user.run("sh", "-c", f"kill -STOP {agent.pid}")
        with pytest.raises(AgentError, match="did not finish"):
            agent.call("inspect")
    deadline = time.monotonic() + 10
    while user.processes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert user.processes() == []


def test_a_child_that_is_killed_is_told(user: Any, agent_of: Callable[..., Agent]) -> None:
    with agent_of(user) as agent:
        agent.call("marks", pids=[])
        user.run("sh", "-c", f"kill -KILL {agent.pid}")
        with pytest.raises(AgentError, match=r"gone|killed"):
            agent.call("inspect")


def test_nothing_is_changed_without_the_lock(agent: Agent, user: Any) -> None:
    user.run("mkdir", "-p", str(user.state_dir))
    with pytest.raises(Exception, match="without its lock"):
        agent.call("write", name="pause.pid", content="31")
    assert list(user.state_dir.iterdir()) == []
