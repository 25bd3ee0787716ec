# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can this host run rootless containers for these users: every check, once for the host and once for each user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .accounts import Account
from .as_user import Agent, AgentError
from .asker import probed
from .checks.account_state import Shadow
from .checks.catalogue import SEVERITIES, HostFinding
from .checks.cgroups import check_cgroups, check_delegation
from .checks.kernel_gates import check_limits, check_process, why_refused
from .checks.map_tools import check_map_tools
from .checks.mounts import check_graph_root, check_propagation
from .checks.podman import check_handles, check_libsubid
from .checks.ranges import RangeChecker
from .checks.session import check_lingering, check_runtime_dir
from .checks.shell import shell_word
from .desired import IdMaps
from .each_user import each_user
from .errors import RootlessError
from .host import Agents, Host
from .idmap import IdMapEntry
from .kernel import Syscalls
from .map_writer import TOOL_PATH
from .mountinfo import read_mounts
from .nsfs_support import first_answer, nsfs_handles
from .patience import GivenUpError
from .probes import MAPS
from .subid import SubidError, open_subids, user_map
from .subid_change import Accounts, find_overlaps
from .text import Shown, printable


@dataclass
class UserReadiness:
    """What was found about one user; what holds for the whole host is not repeated here."""

    user: str
    account: Account | None = None
    findings: list[HostFinding] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.messages)

    def fail(self, message: str) -> None:
        self.messages.append(message)

    @property
    def blocked(self) -> bool:
        return self.failed or any(finding.blocks for finding in self.findings)


class Readiness:
    """All checks of one call. Nothing is changed; what is tried leaves nothing behind."""

    def __init__(self, syscalls: Syscalls, *, host: Host) -> None:
        self._syscalls = syscalls
        self._host = host
        self._agents = Agents(syscalls, host)
        self._cgroup = f"{host.sys}/fs/cgroup"
        path = host.environment.get("PATH")
        self._path = f"{path}:{TOOL_PATH}" if path else TOOL_PATH
        self._subids = open_subids(etc=host.etc)
        self.available = IdMaps.read(host.proc, "self")
        self._ranges = RangeChecker(
            find_overlaps(Accounts(), etc=host.etc),
            self._subids.problems(),
            RangeChecker.accounts_here(),
            RangeChecker.groups_here(),
            source=self._subids.source,
        )
        self._mounts = read_mounts(host.proc)
        self._shadow = Shadow(etc=host.etc)
        self._gates = [*check_limits(host.proc), *check_process(host.proc)]

    def owners(self) -> set[str]:
        """Who has ranges, by name or UID as configured."""
        return set(self._subids.owners())

    def of_host(self, accounts: Sequence[Account]) -> tuple[list[HostFinding], str]:
        """What holds for the whole host, the worst first, and who can open handles on this kernel.

        What has to be tried as a user is tried as each of `accounts` in turn, until one gives an answer.
        """
        handles = nsfs_handles(
            self._syscalls, proc=self._host.proc, probe_owner=lambda: first_answer(accounts, self._opens_handles)
        )
        findings = [
            *self._gates,
            *check_map_tools(self._path, self._mounts),
            *check_propagation(self._mounts),
            *check_cgroups(self._mounts, self._cgroup),
            *check_libsubid(self._subids.source, path=self._path),
            *check_handles(handles, environment=self._host.environment, etc=self._host.etc),
        ]
        return by_severity(findings), handles

    def of_users(self, accounts: Sequence[Account | UserReadiness]) -> list[UserReadiness]:
        """Each user on its own; one of `accounts` that is an outcome already stays as it is."""
        return each_user(
            self._of_user,
            accounts,
            blank=lambda account: UserReadiness(account.name, account),
            finish=self._agents.close,
        )

    def _of_user(self, account: Account) -> UserReadiness:
        outcome = UserReadiness(account.name, account)
        found: list[HostFinding] = []
        try:
            with self._agents.agent(account) as agent:
                # One by one: what was found stays if a later check cannot be made.
                for finding in self._findings(account, agent):
                    found.append(finding)
        except (RootlessError, OSError) as error:
            found.append(
                HostFinding(
                    "not-checked", str(error), f"su -s /bin/sh {shell_word(account.name)} -c 'podman unshare true'"
                )
            )
        outcome.findings = by_severity(found)
        return outcome

    def _findings(self, account: Account, agent: Agent) -> Iterator[HostFinding]:
        host = self._host
        uid_ranges = self._subids.uid_ranges(account.name, account.uid)
        gid_ranges = self._subids.gid_ranges(account.name, account.uid)
        of_ranges = list(self._ranges.check(account, uid_ranges, gid_ranges))
        yield from of_ranges
        maps: dict[str, tuple[IdMapEntry, ...]] = {}
        for kind, own_id, ranges in (("UID", account.uid, uid_ranges), ("GID", account.gid, gid_ranges)):
            name = f"{kind.lower()}_map"
            maps[name] = (IdMapEntry(0, own_id, 1),)
            if any(finding.blocks for finding in of_ranges):
                continue
            try:
                maps[name], left_out = user_map(own_id, ranges, available=getattr(self.available, name))
            except SubidError as error:
                yield self._ranges.unmappable(account, error)
                continue
            if left_out:
                yield self._ranges.unavailable(account, kind, left_out)
        yield from self._probed(agent, maps)
        try:
            yield from check_runtime_dir(account, agent.call("inspect"), run=host.run)
        except (AgentError, GivenUpError):
            raise
        except RootlessError as error:
            of_variable = str(error).startswith("XDG_RUNTIME_DIR=")
            fix = "unset XDG_RUNTIME_DIR" if of_variable else f"loginctl enable-linger {shell_word(account.name)}"
            yield HostFinding("runtime-dir-unusable", str(error), fix)
        yield from check_lingering(account, run=host.run, var=host.var)
        yield from check_delegation(
            account, self._mounts, run=host.run, cgroup=self._cgroup, var=host.var, shadow=self._shadow
        )
        graph_root = agent.call("graph_root", etc=host.etc)
        # Read anew: looking at it may have mounted it.
        yield from check_graph_root(account, read_mounts(host.proc), graph_root)

    def _probed(self, agent: Agent, maps: dict[str, tuple[IdMapEntry, ...]]) -> Iterable[HostFinding]:
        answer = agent.call(
            "why_no_namespace",
            path=self._path,
            uid_map=[entry.as_dict() for entry in maps["uid_map"]],
            gid_map=[entry.as_dict() for entry in maps["gid_map"]],
        )
        # Of what blocks everybody the host's findings tell.
        if answer is None or any(finding.blocks for finding in self._gates):
            return
        step, number, text = answer
        if step == MAPS:
            if not any(finding.code.startswith("map-tool-") for finding in check_map_tools(self._path, self._mounts)):
                yield HostFinding("maps-refused", text, "journalctl -t newuidmap -t newgidmap -b | tail")
        else:
            yield why_refused(self._host.proc, number, text)

    def _opens_handles(self, account: Account) -> bool:
        with self._agents.agent(account) as agent:
            return probed(agent)


def by_severity(findings: Iterable[HostFinding]) -> list[HostFinding]:
    """The worst first; what a check found first stays first among equals."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def as_dict(finding: HostFinding, user: str | None) -> dict[str, Any]:
    """A finding as the modules return it."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "user": user,
        "found": finding.found,
        "why": finding.why,
        # Its words were quoted one by one; escaping it as a whole would make another command of it.
        "fix": Shown(printable(finding.fix)),
    }
