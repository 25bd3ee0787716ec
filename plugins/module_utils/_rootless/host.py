# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that is worked on: where its parts are found, what runs on it, and children that become its users."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .accounts import Account
from .as_user import Agent
from .asker import AgentAsker, Asked, NothingThere, probed
from .births import Births
from .handover import find_excess
from .host_programs import TOOL_PATH
from .inspection import Inspection, Inspector
from .kernel import Syscalls
from .patience import Limits, Patience, UserTime
from .pause_cgroups import PauseCgroups
from .pin import PinStore
from .podman_version import PodmanVersion, Version
from .processes import ProcessTable
from .runtime_dir import Candidate, all_podmans_agree, candidates, no_runtime_directory
from .stuck import StuckProcesses
from .user_paths import UserPaths
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
    # Where the host's Podman is looked for; never in what a user has installed.
    podman_path: str = TOOL_PATH
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    # How long users are waited for; somebody hostile can make each of its processes hang.
    limits: Limits = field(default_factory=Limits)

    def environment_of(self, account: Account) -> Mapping[str, str]:
        """The caller's variables say something about the caller only."""
        return self.environment if account.is_self else {}


class Agents:
    """Children that become the host's users."""

    def __init__(self, syscalls: Syscalls, host: Host) -> None:
        self._host = host
        self.podman = PodmanVersion(path=host.podman_path)
        self._paths = paths = UserPaths(syscalls, proc=host.proc, trusted=(f"{host.run}/user", host.tmp))
        excess = find_excess(syscalls)
        self._births = Births(
            lambda channel, order: work_for_user(channel, order, syscalls, paths, excess=excess), syscalls
        )
        self._patience = Patience(host.limits)
        self._stuck = StuckProcesses(run=host.run, proc=host.proc)

    def agent(self, account: Account, candidate: Candidate | None = None, *, starts: bool = False) -> Agent:
        """A child that becomes the user; it works in the candidate directory if given, else in Podman's choice.

        `starts`: it may start processes that stay. Raises `GivenUpError` for a user that nothing is to be asked any
        more.
        """
        host = self._host
        patience = self.patience(account)
        patience.check()
        order = order_for(
            account,
            proc=host.proc,
            run=host.run,
            tmp=host.tmp,
            environment=host.environment_of(account),
            candidate=candidate,
            podman=self._podman_for(account) if candidate is None else None,
            starts=starts,
        )
        return Agent(
            account,
            self._births,
            order,
            patience=patience,
            left_behind=lambda pid: self._stuck.record(account.uid, pid),
        )

    def _podman_for(self, account: Account) -> Version | None:
        """The version of Podman, where the user's runtime directory goes by it."""
        host = self._host
        environment = host.environment_of(account)
        if all_podmans_agree(account.uid, paths=self._paths, run=host.run, tmp=host.tmp, environment=environment):
            return None
        return self.podman.get()

    def patience(self, account: Account) -> UserTime:
        """The user's time in this call."""
        time = self._patience.of(account.uid, account.name)
        if not time.given_up:
            time.given_up = self._stuck.why_not_to_start(account.uid)
        return time

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
        self.podman = self._agents.podman
        self._owner_opens: bool | None = None
        self.rescan()

    def rescan(self) -> None:
        """Look at the processes anew."""
        self.table = ProcessTable.scan(self.syscalls, proc=self.host.proc)
        self.inspector = Inspector(
            self.syscalls, pins=self.pins, table=self.table, proc=self.host.proc, run=self.host.run
        )

    def agent(self, account: Account, candidate: Candidate | None = None, *, starts: bool = False) -> Agent:
        return self._agents.agent(account, candidate, starts=starts)

    def why_given_up(self, account: Account) -> str:
        """Why nothing more is asked of a user in this call; empty where it still is."""
        return self._agents.patience(account).given_up

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
            or candidates(account.uid, run=host.run, tmp=host.tmp)
            or self.table.owns_any(account.uid)
            or self.pins.is_left(account.uid)
        ):
            return self.agent(account)
        return NothingThere(no_runtime_directory(account.uid, run=host.run, tmp=host.tmp, podman=self.podman.get()))

    def inspect(self, account: Account, agent: Asked) -> Inspection:
        """What the agent finds, judged."""
        return self.judge(account, agent, agent.call("inspect"))

    def judge(self, account: Account, agent: Asked, found: Mapping[str, Any]) -> Inspection:
        """What the agent has found, judged."""
        return self.inspector.inspect(account, found, ask=self.asker(agent), reads_handles=self.podman.reads_handles)

    def asker(self, agent: Asked) -> AgentAsker:
        return AgentAsker(agent, self.owner_opens_handles)

    def owner_opens_handles(self, agent: Asked) -> bool:
        """Whether users can reopen handles of their own namespaces.

        Raises `CouldNotTryError` when it could not be tried as this user, which says nothing of another one.
        """
        # The kernel's answer is the same for every unprivileged user.
        if self._owner_opens is None:
            self._owner_opens = probed(agent)
        return self._owner_opens
