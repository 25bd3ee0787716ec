# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a parent makes of the answers of a user's child."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.as_user import Agent, AgentError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.births import Births
from ansible_collections.userns.rootless.plugins.module_utils._rootless.errors import RootlessError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.patience import (
    GivenUpError,
    Limits,
    Patience,
    UserTime,
)

ALICE = Account("alice", 4711, 4711, "/")
PATIENCE = Limits(user=5)


def agent_that_answers(answer: bytes, patience: UserTime | None = None, delay: float = 0) -> Agent:
    def work(channel: socket.socket, _order: bytes) -> None:
        while channel.recv(1 << 17):
            time.sleep(delay)
            channel.send(answer)

    time_ = patience or Patience(PATIENCE).of(ALICE.uid, ALICE.name)
    return Agent(ALICE, Births(work, Syscalls()), {}, patience=time_)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"no JSON", "makes no sense"),
        (b"\xff\xfe", "makes no sense"),
        (b"[" * 100_000, "makes no sense"),
        (b"17", "makes no sense"),
        (b"{}", "makes no sense"),
        (b'["ok"]', "makes no sense"),
        (b'["what", 1]', "makes no sense"),
        (b'["error", 1]', "makes no sense"),
        (b'["os", "x"]', "makes no sense"),
        (b'["os", ["x", "y", "z"]]', "makes no sense"),
        (b'["internal", "broken"]', "broken"),
        (b'["ok", "' + b"x" * (130 * 1024) + b'"]', "more than 131072 bytes"),
    ],
)
def test_answers_that_make_no_sense(answer: bytes, told: str) -> None:
    with agent_that_answers(answer) as agent, pytest.raises(AgentError, match=told):
        agent.call("inspect")


def test_answers_that_do() -> None:
    with agent_that_answers(json.dumps(["ok", {"a": [1]}]).encode()) as agent:
        assert agent.call("inspect") == {"a": [1]}
    with agent_that_answers(b'["os", [2, "No such file", "/x"]]') as agent, pytest.raises(FileNotFoundError):
        agent.call("inspect")
    with agent_that_answers(b'["error", "sorry"]') as agent, pytest.raises(RootlessError, match="sorry"):
        agent.call("inspect")


def test_one_limit_for_all_questions_to_a_user() -> None:
    patience = Patience(Limits(user=0.5)).of(ALICE.uid, ALICE.name)
    started = time.monotonic()
    with agent_that_answers(b'["ok", 1]', patience, delay=0.2) as agent:
        agent.call("first")
        agent.call("second")
        with pytest.raises(AgentError, match=r"did not finish 'third': all questions to a user may take 0.5 s; it was"):
            agent.call("third")
        with pytest.raises(GivenUpError, match="nothing more is asked of alice"):
            agent.call("fourth")
    with pytest.raises(GivenUpError):
        agent_that_answers(b'["ok", 1]', patience)
    assert time.monotonic() - started < 2


def test_a_child_that_does_not_end_is_waited_for_once() -> None:
    def work(channel: socket.socket, _order: bytes) -> None:
        channel.recv(1)
        time.sleep(100)

    births = Births(work, Syscalls())
    patience = Patience(Limits(user=30)).of(ALICE.uid, ALICE.name)
    seconds = []
    for _number in range(3):
        agent = Agent(ALICE, births, {}, patience=patience)
        started = time.monotonic()
        agent.close()
        seconds.append(time.monotonic() - started)
    assert 0.5 < seconds[0] < 2
    assert max(seconds[1:]) < 0.3
    assert sum(seconds) - 0.1 < patience.spent


def test_what_cannot_be_ended_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    births = Births(lambda channel, _order: channel.recv(1) and None, Syscalls())
    patience = Patience(Limits(user=0.2)).of(ALICE.uid, ALICE.name)
    left: list[int] = []

    def left_behind(pid: int) -> str:
        left.append(pid)
        return "it cannot be ended: a reason"

    agent = Agent(ALICE, births, {}, patience=patience, left_behind=left_behind)
    pid, kill = agent.pid, births.kill
    monkeypatch.setattr(Births, "kill", lambda _self, _pid, *, grace: False)
    os.kill(pid, 19)
    with pytest.raises(AgentError, match="it cannot be ended: a reason"):
        agent.call("inspect")
    assert left == [pid]
    assert kill(pid) is True
