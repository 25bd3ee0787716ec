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
from .asker import AgentAsker, Asked, NothingThere
from .births import Births
from .handover import find_excess
from .inspection import Inspector
from .kernel import Syscalls
from .pause_cgroups import PauseCgroups
from .pin import PinStore
from .processes import ProcessTable
from .runtime_dir import Candidate, may_have_state, no_runtime_directory
from .userside import order_for, work_for_user


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


class Agents:
    """Children that become the host's users."""

    def __init__(self, syscalls: Syscalls, host: Host) -> None:
        self._host = host
        excess = find_excess(syscalls)
        self._births = Births(lambda channel, order: work_for_user(channel, order, syscalls, excess=excess), syscalls)

    def agent(self, account: Account, candidate: Candidate | None = None, *, starts: bool = False) -> Agent:
        """A child that becomes the user; it works in the candidate directory if given, else in Podman's choice.

        `starts`: it may start processes that stay.
        """
        host = self._host
        order = order_for(
            account,
            proc=host.proc,
            run=host.run,
            tmp=host.tmp,
            environment=host.environment_of(account),
            candidate=candidate,
            starts=starts,
        )
        return Agent(account, self._births, order, timeout=host.timeout)

    def close(self) -> None:
        """End those of this process that nobody needed."""
        self._births.close()


class Scene:
    """What all users of one call share: one pass over the processes, the pins, one answer on handles."""

    def __init__(self, syscalls: Syscalls, host: Host) -> None:
        self.syscalls = syscalls
        self.host = host
        self._agents = Agents(syscalls, host)
        self.pins = PinStore(syscalls, run=host.run, proc=host.proc)
        self.cgroups = PauseCgroups(proc=host.proc, run=host.run)
        self._owner_opens: bool | None = None
        self.rescan()

    def rescan(self) -> None:
        """Look at the processes anew."""
        self.table = ProcessTable.scan(self.syscalls, proc=self.host.proc)
        self.inspector = Inspector(self.syscalls, pins=self.pins, table=self.table, proc=self.host.proc)

    def agent(self, account: Account, candidate: Candidate | None = None, *, starts: bool = False) -> Agent:
        return self._agents.agent(account, candidate, starts=starts)

    def close(self) -> None:
        """End the processes that were started in vain, and let go of cgroups."""
        self._agents.close()
        self.cgroups.close()

    def looker(self, account: Account) -> Agent | NothingThere:
        """Whom to ask for a look only: nobody, where not even the name of a runtime directory exists.

        No process and no pin of the user's may be there either. No look into what is a user's is needed for that.
        """
        host = self.host
        if (
            account.is_self
            or may_have_state(account.uid, run=host.run, tmp=host.tmp)
            or self.table.owns_any(account.uid)
            or self.pins.is_left(account.uid)
        ):
            return self.agent(account)
        return NothingThere(no_runtime_directory(account.uid, run=host.run, tmp=host.tmp))

    def asker(self, agent: Asked) -> AgentAsker:
        return AgentAsker(agent, self.owner_opens_handles)

    def owner_opens_handles(self, agent: Asked) -> bool:
        """Whether users can reopen handles of their own namespaces."""
        # The kernel's answer is the same for every unprivileged user.
        if self._owner_opens is None:
            self._owner_opens = bool(agent.call("probe_handles"))
        return self._owner_opens
