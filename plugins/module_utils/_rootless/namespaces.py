# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`present`, `absent` and a look: what the modules and the command do for each user, in the order asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .accounts import Account
from .apply import Applier, RaceLostError, agent_maps
from .as_user import Agent
from .asker import Asked, CouldNotTryError
from .desired import DesiredMaps, IdMaps, MapDesigner
from .each_user import each_user
from .errors import RootlessError, describe
from .host import Host, Scene
from .idmap import merge
from .inspection import Inspection
from .kernel import Syscalls
from .mountinfo import Mount
from .nsfs import NamespaceId, NamespacePair
from .plan import (
    METHOD_HANDLES,
    METHOD_PAUSE,
    REJOINED,
    Create,
    Plan,
    Wish,
    plan_absent,
    plan_present,
    plan_recreate,
)
from .processes import ProcessTable, comm
from .removal import Remover
from .report import ProcessInTheWay, Report, artefacts, predicted
from .state import LIVE, UNKNOWN, Finding, UserState
from .subid import SubidRange, SubidSource, open_subids

AUTO = "auto"
ON_DRIFT_REPORT = "report"
ON_DRIFT_FAIL = "fail"
ON_DRIFT_RECREATE = "recreate"

NO_PAUSE_VARIABLE = "PODMAN_NO_PAUSE_PROCESS"

_ATTEMPTS = 5
_NAMED_PROCESSES = 5
_LISTED_PROCESSES = 100


@dataclass(frozen=True)
class Options:
    """What is asked of every user alike; the names are those of the module's options."""

    method: str = AUTO
    pin: bool = False
    on_drift: str = ON_DRIFT_REPORT
    force: bool = False
    check: bool = False


class ProcessesInTheWayError(RootlessError):
    """Other processes live in the namespace, and force was not given."""


class Namespaces:
    """All users of one call: the process table, the ranges and the tools are read once."""

    def __init__(self, syscalls: Syscalls, *, host: Host, options: Options, subids: SubidSource | None = None) -> None:
        self._syscalls = syscalls
        self._host = host
        self._options = options
        self.subids = subids if subids is not None else open_subids(etc=host.etc)
        self.available = IdMaps.read(host.proc, "self")
        self._designer = MapDesigner(self.subids, available=self.available, path=host.environment.get("PATH"))
        self._scene = Scene(syscalls, host)

    @property
    def process_table(self) -> ProcessTable:
        """All processes, as of the start of the call."""
        return self._scene.table

    def each(self, act: Callable[[Account], Report], accounts: Sequence[Account | Report]) -> list[Report]:
        """`act` (a method of this object) for every account, on all CPUs; results in the order asked.

        A report among the accounts stands for a user that could not be resolved, and stays as it is.
        """
        return each_user(act, accounts, blank=lambda account: Report(account.name, account), finish=self._scene.close)

    def present(self, account: Account) -> Report:
        """Set up or rejoin the user's namespace, and make every key open it."""
        report = Report(account.name, account)
        try:
            self._present(account, report)
        except Exception as error:
            report.fail(describe(error))
        return report

    def absent(self, account: Account) -> Report:
        """Remove the user's namespace: handles, pin and pause process."""
        report = Report(account.name, account)
        try:
            self._absent(account, report)
        except Exception as error:
            report.fail(describe(error))
        return report

    def look(self, account: Account, *, mounts_of: Callable[[int], list[Mount]] = lambda _pid: []) -> Report:
        """The state of the user's namespace; changes nothing.

        `mounts_of` is asked which mounts of a process (a PID) that lives there to report.
        """
        report = Report(account.name, account)
        try:
            wanted = self._wanted(account, report)
            # One who had nothing may have got a namespace meanwhile, and a look by a child is needed after all.
            for whom in (self._scene.looker, self._scene.agent):
                with whom(account) as agent, self._inspect(account, agent, wanted) as seen:
                    if isinstance(agent, Agent):
                        report.maps = self._join(seen, agent)
                        if report.maps is not None:
                            # The child lives there now.
                            report.mounts = mounts_of(agent.pid)
                    elif seen.state.target is not None:
                        continue
                    report.see(seen.state)
                    report.warnings += seen.state.warnings
                    break
            report.drift = wanted is not None and _differs(report.maps, wanted)
        except Exception as error:
            report.messages.append(describe(error))
        return report

    def _wanted(self, account: Account, report: Report) -> IdMaps | None:
        """The maps that the ranges give today; None, with the reason in the report, where they give none.

        A UID without an account has no ranges.
        """
        if not account.exists:
            return None
        try:
            return self._designer.design(account).maps
        except RootlessError as error:
            report.messages.append(describe(error))
            return None

    def configured(self, account: Account) -> tuple[tuple[SubidRange, ...], tuple[SubidRange, ...]]:
        """The user's UID and GID ranges, by name and by UID, sorted by start."""
        return self._designer.configured(account)

    def probe_owner(self, account: Account) -> bool:
        """Whether this user can reopen the handles of a namespace of its own. Raises `RootlessError` if untried."""
        with self._agent(account) as agent:
            return self._scene.owner_opens_handles(agent)

    def _present(self, account: Account, report: Report) -> None:
        desired = self._designer.design(account)
        report.warnings += desired.warnings
        with self._scene.agent(account, starts=True) as agent:
            with self._inspect(account, agent, desired.maps) as seen:
                wish = self._wish(agent, seen.state, report)
                report.see(seen.state)
                report.before = report.after = artefacts(seen.state)
                report.warnings += seen.state.warnings
                report.maps = self._join(seen, agent)
            drifted = seen.state.target if _differs(report.maps, desired.maps) else None
            report.drift = drifted is not None
            wish = self._with_a_holder(self._decide(seen, wish, drifted, account, report), wish, report)
            plan = self._decide(seen, wish, drifted, account, report)
            report.action, report.method, report.changed = plan.action, wish.method, plan.changes
            if not plan.changes:
                return
            if self._options.check:
                self._predict(plan, desired, report)
                return
            if seen.state.target is None:
                self._apply(account, agent, wish, desired, drifted, report)
                return
        # The first child has joined the namespace and cannot come back.
        with self._scene.agent(account, starts=True) as agent:
            self._apply(account, agent, wish, desired, drifted, report)

    def _decide(
        self, seen: Inspection, wish: Wish, drifted: NamespaceId | None, account: Account, report: Report
    ) -> Plan:
        """The plan for a state, given which namespace was found to drift."""
        self._refuse_strangers(seen, account, report)
        plan = plan_present(seen.state, wish)
        unjudged = seen.state.pause
        if plan.target is None and unjudged.verdict == UNKNOWN:
            raise RootlessError(f"pause.pid may name a live namespace: {unjudged.evidence}; nothing was changed")
        if drifted is None or plan.target != drifted or self._options.on_drift == ON_DRIFT_REPORT:
            return plan
        if self._options.on_drift == ON_DRIFT_FAIL:
            raise RootlessError(f"the maps of {drifted} are not what the configured ranges give today (on_drift: fail)")
        self._refuse_inhabited(seen, account, report, "recreate")
        self._refuse_pinned(seen)
        return plan_recreate(seen.state, wish)

    def _with_a_holder(self, plan: Plan, wish: Wish, report: Report) -> Wish:
        """Handles keep nothing alive: a new namespace without a pin needs a pause process."""
        creates = any(isinstance(step, Create) for step in plan.steps)
        if not creates or wish.method != METHOD_HANDLES or wish.pin:
            return wish
        why = "method handles keeps no process, and without a pin the new namespace would be gone at once"
        if wish.explicit:
            raise RootlessError(f"{why}; let root set it up with pin: true, or use method: pause")
        report.warnings.append(f"{why}: a pause process was used instead")
        return Wish(METHOD_PAUSE, explicit=False, pin=wish.pin, may_pin=wish.may_pin)

    def _apply(
        self,
        account: Account,
        agent: Agent,
        wish: Wish,
        desired: DesiredMaps,
        drifted: NamespaceId | None,
        report: Report,
    ) -> None:
        """Under the lock: look again, plan again, do it; again from the start when somebody else was faster."""
        report.changed = False
        agent.call("lock", make=True, seconds=agent.lock_seconds())
        is_fresh = False
        for _attempt in range(_ATTEMPTS):
            with self._inspect(account, agent, desired.maps) as seen:
                plan = self._decide(seen, wish, drifted, account, report)
                if plan.ends_something and not is_fresh:
                    # Whoever has moved in since the call began must be seen.
                    self._scene.rescan()
                    is_fresh = True
                    continue
                applier = self._applier(agent, account, wish.method)
                try:
                    applier.run(plan, seen.pairs, maps=desired.maps)
                except RaceLostError:
                    self._scene.rescan()
                    continue
                finally:
                    report.changed = report.changed or applier.changed
                    report.warnings += applier.warnings
                report.action = plan.action if report.changed else REJOINED
                self._confirm(account, agent, desired, report)
                return
        raise RootlessError(f"the state directory kept changing, {_ATTEMPTS} times; who else works there?")

    def _confirm(self, account: Account, agent: Agent, desired: DesiredMaps, report: Report) -> None:
        """Look once more, join for real, and report what is there now."""
        with self._inspect(account, agent, desired.maps) as seen:
            report.see(seen.state)
            report.after = artefacts(seen.state)
            report.maps = self._join(seen, agent)
            if report.maps is None:
                raise RootlessError("the namespace vanished right after it was set up; was it killed by its owner?")
            report.drift = _differs(report.maps, desired.maps)

    def _predict(self, plan: Plan, desired: DesiredMaps, report: Report) -> None:
        """Check mode: what an apply would leave, as far as it can be known."""
        if plan.target is None:
            report.namespace = None
            report.maps = desired.maps
            report.drift = False
        report.after = predicted(report.before, plan)

    def _absent(self, account: Account, report: Report) -> None:
        with self._agent(account) as agent:
            with self._inspect(account, agent) as seen:
                report.see(seen.state)
                report.before = report.after = artefacts(seen.state)
                plan = self._decide_absent(seen, account, report)
            report.action, report.changed = plan.action, plan.changes
            if not plan.changes:
                return
            if self._options.check:
                report.after = dict(dict.fromkeys(report.before, "missing"), namespace=None)
                return
            self._apply_absent(account, agent, report)

    def _decide_absent(self, seen: Inspection, account: Account, report: Report) -> Plan:
        plan = plan_absent(seen.state)
        if plan.changes:
            unjudged = seen.state.pause
            if unjudged.verdict == UNKNOWN and not self._options.force:
                raise RootlessError(
                    f"pause.pid may name a live namespace: {unjudged.evidence}; nothing was removed (see force)"
                )
            self._refuse_strangers(seen, account, report)
            self._refuse_inhabited(seen, account, report, "remove")
            self._refuse_pinned(seen)
        return plan

    def _apply_absent(self, account: Account, agent: Agent, report: Report) -> None:
        report.changed = False
        agent.call("lock", make=False, seconds=agent.lock_seconds())
        for _attempt in range(_ATTEMPTS):
            # Whoever has moved in since the call began must be seen.
            self._scene.rescan()
            with self._inspect(account, agent) as seen:
                applier = self._applier(agent, account, METHOD_PAUSE)
                try:
                    applier.run(self._decide_absent(seen, account, report), seen.pairs, maps=self.available)
                except RaceLostError:
                    continue
            report.changed = applier.changed
            self._scene.cgroups.forget(account.uid)
            removed = report.namespace
            with self._inspect(account, agent) as seen:
                report.method = None
                report.see(seen.state)
                report.after = artefacts(seen.state)
            report.namespace = removed
            return
        raise RootlessError(f"the state directory kept changing, {_ATTEMPTS} times; who else works there?")

    def _refuse_inhabited(self, seen: Inspection, account: Account, report: Report, verb: str) -> None:
        namespaces = seen.state.inhabited if verb == "remove" else (seen.state.target,)
        pids = tuple(pid for namespace in namespaces for pid in seen.state.processes_in(namespace))
        self._refuse_if_any(pids, str(seen.state.target), account, report, verb)

    def _refuse_strangers(self, seen: Inspection, account: Account, report: Report) -> None:
        """What an account that had this UID before has left is taken away only where nobody lives in it."""
        if not _is_root():
            return
        for namespace in seen.state.strangers:
            self._refuse_if_any(
                seen.state.processes_in(namespace),
                str(namespace),
                account,
                report,
                "remove",
                why=f"{seen.state.pin.evidence}. If that is {account.name} under another name, remove "
                f"{self._scene.pins.record_path(account.uid)}. ",
            )

    def _refuse_if_any(
        self, pids: Sequence[int], what: str, account: Account, report: Report, verb: str, why: str = ""
    ) -> None:
        if not pids or self._options.force:
            return
        listed = pids[:_LISTED_PROCESSES]
        # A child of its own: the one at hand may have joined the namespace, where it sees other PIDs.
        with self._agent(account) as agent:
            containers = agent.call("containers", pids=list(listed))
        report.in_the_way = [
            ProcessInTheWay(pid, comm(self._host.proc, pid), container) for pid, container in zip(listed, containers)
        ]
        named = ", ".join(str(process) for process in report.in_the_way[:_NAMED_PROCESSES])
        more = f" and {len(pids) - _NAMED_PROCESSES} more" if len(pids) > _NAMED_PROCESSES else ""
        raise ProcessesInTheWayError(
            f"will not {verb} {what}: {len(pids)} other process(es) live in it: {named}{more}. "
            f"{why}End them, or use force: true (they then run on in a namespace that no key opens)"
        )

    def _refuse_pinned(self, seen: Inspection) -> None:
        if seen.state.pin.exists and not _is_root():
            raise RootlessError("the namespace is pinned, and only root can remove a pin: run this task as root")

    def _wish(self, agent: Agent, state: UserState, report: Report) -> Wish:
        """Podman's own rule for the method, with a probe in place of a guess."""
        method, explicit = self._options.method, self._options.method != AUTO
        if method == AUTO:
            method = METHOD_PAUSE
            if self._host.environment.get(NO_PAUSE_VARIABLE, "0") != "0":
                method = self._method_without_pause(agent, state, report)
        elif method == METHOD_HANDLES and not self._scene.owner_opens_handles(agent):
            raise RootlessError(
                "method handles is of no use here: this kernel does not let the user open namespaces by handle "
                "(kernel.nsfs_handles of rootless_ns_info tells more); use method: pause"
            )
        elif method == METHOD_HANDLES and not self._scene.podman.reads_handles():
            report.warnings.append(
                f"Podman {self._scene.podman} on this host reads no ns_handles (6.0 and later do) and will make a "
                "namespace of its own: use method: pause"
            )
        return Wish(method, explicit=explicit, pin=self._options.pin, may_pin=_is_root())

    def _method_without_pause(self, agent: Agent, state: UserState, report: Report) -> str:
        """What is used where the environment asks for handles; whatever is alive stays where that cannot be tried."""
        if not self._scene.podman.reads_handles():
            report.warnings.append(
                f"{NO_PAUSE_VARIABLE} asks for handles, but Podman {self._scene.podman} on this host reads none "
                "(6.0 and later do): a pause process was used"
            )
            return METHOD_PAUSE
        try:
            if self._scene.owner_opens_handles(agent):
                return METHOD_HANDLES
            report.warnings.append(
                f"{NO_PAUSE_VARIABLE} asks for handles, but this kernel does not let the user open them: "
                "a pause process was used"
            )
        except CouldNotTryError as error:
            if state.handles.verdict == LIVE:
                # Why it could not be tried is among the state's own warnings.
                report.warnings.append("ns_handles is alive and was left as it is")
                return METHOD_HANDLES
            report.warnings.append(f"{NO_PAUSE_VARIABLE} asks for handles, but {error}; a pause process was used")
        return METHOD_PAUSE

    def _inspect(self, account: Account, agent: Asked, wanted: IdMaps | None = None) -> Inspection:
        """Look and judge. `wanted`: the maps by which to tell which namespace is meant, where that is not plain."""
        seen = self._scene.inspect(account, agent)
        try:
            if wanted is not None and seen.state.asks_for_maps:
                seen.state = replace(seen.state, fitting=self._fitting(account, seen, wanted))
            if len(seen.state.inhabited) > 1:
                seen.state = replace(seen.state, warnings=(*seen.state.warnings, self._who_lives_where(seen.state)))
        except BaseException:
            seen.close()
            raise
        return seen

    def _who_lives_where(self, state: UserState) -> str:
        told = []
        for namespace in state.inhabited:
            pids = state.processes_in(namespace)
            named = ", ".join(f"{pid} ({comm(self._host.proc, pid)})" for pid in pids[:_NAMED_PROCESSES])
            more = f" and {len(pids) - _NAMED_PROCESSES} more" if len(pids) > _NAMED_PROCESSES else ""
            told.append(f"in {namespace} {named}{more}")
        return (
            f"processes live in {len(told)} namespaces: {'; '.join(told)}. Podman's is used, and nothing of the others "
            "is ended; end those processes, then run rootless_ns again"
        )

    def _fitting(self, account: Account, seen: Inspection, wanted: IdMaps) -> frozenset[NamespaceId] | None:
        """The namespaces whose maps are the wanted ones; None where the maps of one cannot be had."""
        try:
            maps = {pair.id: self._maps_of(account, seen, pair) for pair in seen.living()}
        except (RootlessError, OSError):
            return None
        return frozenset(namespace for namespace, found in maps.items() if not _differs(found, wanted))

    def _maps_of(self, account: Account, seen: Inspection, pair: NamespacePair) -> IdMaps:
        """From a process that lives there; where there is none, from a child that joins. Raises `RootlessError`."""
        for pid in seen.state.pids_of(pair.id):
            try:
                maps = IdMaps.read(self._host.proc, pid)
                if os.stat(f"{self._host.proc}/{pid}/ns/user").st_ino == pair.id.userns:
                    return maps
            except OSError:
                continue
        with self._agent(account) as agent:
            return agent_maps(agent, pair, proc=self._host.proc)

    def _join(self, seen: Inspection, agent: Agent) -> IdMaps | None:
        target = seen.state.target
        return agent_maps(agent, seen.pairs[target], proc=self._host.proc) if target else None

    def _applier(self, agent: Agent, account: Account, method: str) -> Applier:
        def judge(name: str, file: Mapping[str, Any]) -> Finding:
            return self._scene.inspector.judge_file(account, name, file, ask=self._scene.asker(agent))

        return Applier(
            agent,
            account,
            remover=Remover(agent, judge),
            syscalls=self._syscalls,
            pins=self._scene.pins,
            cgroups=self._scene.cgroups,
            proc=self._host.proc,
            run=self._host.run,
            method=method,
        )

    def _agent(self, account: Account) -> Agent:
        return self._scene.agent(account)


def _is_root() -> bool:
    return os.geteuid() == 0


def _differs(found: IdMaps | None, wanted: IdMaps) -> bool:
    if found is None:
        return False
    return merge(found.uid_map) != merge(wanted.uid_map) or merge(found.gid_map) != merge(wanted.gid_map)
