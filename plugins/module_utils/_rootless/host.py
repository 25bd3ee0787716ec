# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that is worked on: where its parts are found, what runs on it, and children that become its users."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .accounts import Account
from .as_user import Agent
from .asker import AgentAsker
from .inspection import Inspector
from .kernel import Syscalls
from .pin import PinStore
from .processes import ProcessTable
from .runtime_dir import Candidate
from .userside import UserSide


@dataclass(frozen=True)
class Host:
    """Where the system's parts are found. Tests give other places."""

    proc: str = "/proc"
    etc: str = "/etc"
    run: str = "/run"
    tmp: str = "/tmp"
    sys: str = "/sys"
    var: str = "/var"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    # Seconds that a user's child may take for one step; somebody hostile can make it hang.
    timeout: float = 30.0

    def environment_of(self, account: Account) -> Mapping[str, str]:
        """The caller's variables say something about the caller only."""
        return self.environment if account.is_self else {}

    def agent(self, account: Account, syscalls: Syscalls, candidate: Candidate | None = None) -> Agent:
        """A child that becomes the user; it works in the candidate directory if given, else in Podman's choice."""
        side = UserSide(
            account,
            syscalls=syscalls,
            proc=self.proc,
            run=self.run,
            tmp=self.tmp,
            environment=self.environment_of(account),
            candidate=candidate,
        )
        return Agent(account, side.operations(), syscalls=syscalls, timeout=self.timeout)


class Scene:
    """What all users of one call share: one pass over the processes, the pins, one answer on handles."""

    def __init__(self, syscalls: Syscalls, host: Host) -> None:
        self.syscalls = syscalls
        self.host = host
        self.pins = PinStore(syscalls, run=host.run, proc=host.proc)
        self._owner_opens: bool | None = None
        self.rescan()

    def rescan(self) -> None:
        """Look at the processes anew."""
        self.table = ProcessTable.scan(self.syscalls, proc=self.host.proc)
        self.inspector = Inspector(self.syscalls, pins=self.pins, table=self.table, proc=self.host.proc)

    def agent(self, account: Account, candidate: Candidate | None = None) -> Agent:
        return self.host.agent(account, self.syscalls, candidate)

    def asker(self, agent: Agent) -> AgentAsker:
        return AgentAsker(agent, self.owner_opens_handles)

    def owner_opens_handles(self, agent: Agent) -> bool:
        """Whether users can reopen handles of their own namespaces."""
        # The kernel's answer is the same for every unprivileged user.
        if self._owner_opens is None:
            self._owner_opens = bool(agent.call("probe_handles"))
        return self._owner_opens
