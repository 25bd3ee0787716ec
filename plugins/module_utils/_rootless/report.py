# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told about one user when all is done: one entry of a module's `namespaces`."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from . import pause
from .accounts import Account
from .desired import IdMaps
from .mountinfo import Mount
from .needs import needs
from .nsfs import NamespaceId
from .plan import (
    FAILED,
    METHOD_HANDLES,
    METHOD_PAUSE,
    NO_ACTION,
    MovePause,
    Pin,
    Plan,
    RemoveFile,
    Unpin,
    WriteHandles,
    WritePause,
)
from .state import LIVE, MISSING, Finding, UserState


@dataclass(frozen=True)
class ProcessInTheWay:
    """A process that keeps a namespace from being replaced or removed; `container` where a command line names it."""

    pid: int
    command: str
    container: str | None

    def __str__(self) -> str:
        return f"{self.pid} ({self.command}{f', container {self.container}' if self.container else ''})"


@dataclass
class Report:
    """The outcome for one user. `before` and `after` are the artefacts, for a diff."""

    user: str
    account: Account | None = None
    action: str = NO_ACTION
    state: UserState | None = None
    namespace: NamespaceId | None = None
    method: str | None = None
    maps: IdMaps | None = None
    drift: bool = False
    changed: bool = False
    messages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    in_the_way: list[ProcessInTheWay] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.action == FAILED

    def fail(self, message: str) -> None:
        self.action = FAILED
        self.messages.append(message)

    def see(self, state: UserState) -> None:
        """Take over a state as the present one."""
        self.state = state
        self.namespace = state.target
        if self.method is None and state.target is not None:
            self.method = _method_in_use(state)

    def as_dict(self) -> dict[str, Any]:
        """The entry as the modules return it."""
        state = self.state
        namespace = self.namespace
        return {
            "user": self.account.name if self.account else self.user,
            "uid": self.account.uid if self.account else None,
            "gid": self.account.gid if self.account and self.account.exists else None,
            "state_dir": state.state_dir if state else None,
            "action": self.action,
            "userns": namespace.userns if namespace else None,
            "mntns": namespace.mntns if namespace else None,
            "method": self.method,
            "pinned": _opens(state.pin, namespace) if state else False,
            "pause_pid": state.pause.pid if state and _opens(state.pause, namespace) else None,
            "pause": _home(state, namespace),
            "uid_map": [entry.as_dict() for entry in self.maps.uid_map] if self.maps else [],
            "gid_map": [entry.as_dict() for entry in self.maps.gid_map] if self.maps else [],
            "drift": self.drift,
            "processes": len(state.processes_in(namespace)) if state else 0,
            "msg": "; ".join([*self.messages, *self.warnings]),
        }

    def obstacles(self) -> dict[str, Any]:
        """What else `rootless_ns` tells: the processes that kept it from doing what was asked."""
        return {"in_the_way": [asdict(process) for process in self.in_the_way]}

    def verdicts(self) -> dict[str, Any]:
        """What else `rootless_ns_info` tells: the state, and the verdict on every key with its evidence."""
        state = self.state
        if state is None:
            return {
                "state": None,
                "needs": needs(None, drift=False, may_pin=False),
                "verdicts": {},
                "orphans": [],
                "mounts": [],
            }
        findings = (("pause_pid", state.pause), ("ns_handles", state.handles), ("pin", state.pin))
        return {
            "state": state.state,
            "needs": needs(
                state,
                drift=self.drift,
                may_pin=os.geteuid() == 0,
                is_gone=self.account is not None and not self.account.exists,
            ),
            "verdicts": {
                name: {"verdict": finding.verdict, "evidence": finding.evidence} for name, finding in findings
            },
            "orphans": [
                {"pid": orphan.pid, "userns": orphan.namespace.userns, "mntns": orphan.namespace.mntns}
                for orphan in state.orphans
            ],
            "mounts": [
                {"point": mount.point, "type": mount.type, "source": mount.source, "device": mount.device}
                for mount in self.mounts
            ],
        }


def artefacts(state: UserState) -> dict[str, Any]:
    """The keys as they stand, for a diff."""
    return {
        "namespace": str(state.target) if state.target else None,
        "ns_handles": _shown(state.handles),
        "pause_pid": _shown(state.pause),
        "pause_cgroup": state.pause.home.cgroup if state.pause.home else None,
        "pin": _shown(state.pin),
    }


def predicted(before: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What the keys will be after a plan, as far as that can be known without doing it."""
    after = dict(before, namespace=str(plan.target) if plan.target else "(a new one)")
    for step in plan.steps:
        if isinstance(step, RemoveFile):
            if step.name == pause.FILE_NAME:
                after.update(pause_pid=MISSING, pause_cgroup=None)
            else:
                after["ns_handles"] = MISSING
        elif isinstance(step, Unpin):
            after["pin"] = MISSING
        elif isinstance(step, WritePause):
            after["pause_pid"] = f"{LIVE}: {'a new process' if step.pid is None else f'process {step.pid}'}"
            after["pause_cgroup"] = "(that of the process)"
        elif isinstance(step, MovePause):
            after["pause_cgroup"] = "(one of its own)"
        elif isinstance(step, WriteHandles):
            after["ns_handles"] = LIVE
        elif isinstance(step, Pin):
            after["pin"] = LIVE
    return after


def _shown(finding: Finding) -> str:
    return f"{finding.verdict}: {finding.evidence}" if finding.evidence else finding.verdict


def _opens(finding: Finding, namespace: NamespaceId | None) -> bool:
    return finding.verdict == LIVE and finding.namespace == namespace


def _home(state: UserState | None, namespace: NamespaceId | None) -> dict[str, str | None]:
    home = state.pause.home if state and _opens(state.pause, namespace) else None
    return {"cgroup": home.cgroup if home else None, "ends_with": home.ends_with if home else None}


def _method_in_use(state: UserState) -> str | None:
    if _opens(state.pause, state.target):
        return METHOD_PAUSE
    return METHOD_HANDLES if _opens(state.handles, state.target) else None
