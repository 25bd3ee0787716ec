# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `present` and `absent` will do about a state: plans, made of steps. Pure; nothing is done here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from . import handles, pause
from .nsfs import NamespaceId
from .state import CORRUPT, DEAD, FOREIGN, LIVE, UNKNOWN, UserState

CREATED = "created"
REJOINED = "rejoined"
REPAIRED = "repaired"
RECREATED = "recreated"
REMOVED = "removed"
NO_ACTION = "none"
FAILED = "failed"

METHOD_HANDLES = "handles"
METHOD_PAUSE = "pause"


@dataclass(frozen=True)
class RemoveFile:
    """Remove a file of the state directory if it is still the one that was judged, and the verdict still the same."""

    name: str
    verdict: str
    identity: tuple[int, int]
    why: str


@dataclass(frozen=True)
class Unpin:
    """Remove the pin."""

    why: str


@dataclass(frozen=True)
class Create:
    """Set up a new namespace; a pause process holds it."""


@dataclass(frozen=True)
class StartPause:
    """Start a pause process inside the target."""


@dataclass(frozen=True)
class WritePause:
    """Write `pause.pid`; None stands for the pause process this run has started."""

    pid: int | None = None


@dataclass(frozen=True)
class WriteHandles:
    """Write `ns_handles` of the target."""


@dataclass(frozen=True)
class Pin:
    """Pin the target."""


@dataclass(frozen=True)
class KillPause:
    """End a pause process of the user; None stands for the one this run has started."""

    pid: int | None
    userns: int | None
    why: str


@dataclass(frozen=True)
class MovePause:
    """Move a pause process in the user namespace `userns` out of the session or service that it would end with."""

    pid: int
    userns: int
    why: str


Step = Union[RemoveFile, Unpin, Create, StartPause, WritePause, WriteHandles, Pin, KillPause, MovePause]


@dataclass(frozen=True)
class Plan:
    """Steps in the order to be done, the action they add up to, and the namespace they are about (None: a new one)."""

    action: str
    steps: tuple[Step, ...]
    target: NamespaceId | None = None

    @property
    def changes(self) -> bool:
        return bool(self.steps)

    @property
    def ends_something(self) -> bool:
        """Whether something that is alive is taken away: who lives there is looked at right before that."""
        return any(
            isinstance(step, Unpin)
            or (isinstance(step, KillPause) and step.pid is not None)
            or (isinstance(step, RemoveFile) and step.verdict == LIVE)
            for step in self.steps
        )


@dataclass(frozen=True)
class Wish:
    """What the caller wants of `present`.

    `explicit`: the method was named, not found by the automatic rule. `may_pin`: the caller is root.
    """

    method: str
    explicit: bool
    pin: bool
    may_pin: bool


def plan_present(state: UserState, wish: Wish) -> Plan:
    """Rejoin the target and make every key name it; set up a namespace only if none is alive."""
    target = state.target
    steps: list[Step] = [
        KillPause(
            orphan.pid, orphan.namespace.userns, "it was started by a run that was killed before it wrote the maps"
        )
        for orphan in state.orphans
        if orphan.unmapped
    ]
    pause_good = state.pause.verdict == LIVE and state.pause.namespace == target
    # Podman's first way reads it, its second does not.
    rewritten = pause_good and not state.pause.strict and wish.method == METHOD_PAUSE
    if state.pause.exists and (not pause_good or rewritten) and state.pause.verdict != UNKNOWN:
        steps.append(_remove_pause(state))
    if rewritten:
        steps.append(WritePause(state.pause.pid))
    handles_good = _handles_good(state, target)
    if state.handles.exists and not handles_good and _handles_removable(state, target):
        steps.append(_remove_handles(state))
    pin_good = state.pin.verdict == LIVE and state.pin.namespace == target
    # In another namespace that is lived in, nothing is ended or unpinned.
    pin_needed = not pin_good and state.pin.verdict == LIVE and bool(state.processes_in(state.pin.namespace))
    # A pin that is made takes away itself what is left of another.
    stale_pin = state.pin.exists and not pin_good and not pin_needed
    if wish.may_pin and (stale_pin or (state.pin_left and not wish.pin)):
        steps += _end_strangers(state)
        steps.append(Unpin(state.pin.evidence or "it does not open the user's namespace"))
    if target is None:
        return Plan(CREATED, tuple(steps + _create_steps(wish)))
    steps += _repair_steps(state, wish, target, pause_good=pause_good, handles_good=handles_good)
    steps += _moves(state, wish, target, steps)
    if wish.pin and not pin_good and not pin_needed:
        steps.append(Pin())
    pinned = pin_good or (wish.pin and not pin_needed)
    steps += _superfluous(state, wish, target, pause_good=pause_good, pinned=pinned)
    return Plan(REPAIRED if steps else REJOINED, tuple(steps), target)


def _end_strangers(state: UserState) -> list[Step]:
    """Before the pin goes, which alone tells that they are not the user's. The caller has checked who lives there."""
    return [
        KillPause(process.pid, process.namespace.userns, "an account that had this UID before has left it")
        for process in state.pauses_of_strangers
    ]


def _handles_good(state: UserState, target: NamespaceId | None) -> bool:
    return (
        state.handles.verdict == LIVE and state.handles.namespace == target and state.owner_opens_handles is not False
    )


def _handles_removable(state: UserState, target: NamespaceId | None) -> bool:
    """What nobody may look at stays, unless a new namespace is set up: then Podman removes it as well."""
    return state.handles.verdict in (CORRUPT, DEAD, FOREIGN, LIVE) or target is None


def _create_steps(wish: Wish) -> list[Step]:
    if wish.method == METHOD_PAUSE:
        return [Create(), WritePause(), *([Pin()] if wish.pin else [])]
    # The key first: whoever loses the race for it has pinned nothing yet.
    return [Create(), WriteHandles(), Pin(), KillPause(None, None, "the pin keeps the namespace alive")]


def _repair_steps(
    state: UserState, wish: Wish, target: NamespaceId, *, pause_good: bool, handles_good: bool
) -> list[Step]:
    if wish.method == METHOD_HANDLES:
        return [] if handles_good or state.handles.verdict == UNKNOWN else [WriteHandles()]
    if pause_good or state.pause.verdict == UNKNOWN:
        return []
    for orphan in state.orphans:
        if orphan.namespace == target:
            return [WritePause(orphan.pid)]
    return [StartPause(), WritePause()]


def _moves(state: UserState, wish: Wish, target: NamespaceId, steps: Sequence[Step]) -> list[Step]:
    """For the pause process that `pause.pid` names in the end, if it stays and would end with a session or service."""
    if not state.can_move_pause or (wish.method == METHOD_HANDLES and wish.explicit):
        return []
    adopted = [step.pid for step in steps if isinstance(step, WritePause)]
    homes = {orphan.pid: orphan.home for orphan in state.orphans if orphan.pid in adopted}
    if state.pause.verdict == LIVE and state.pause.namespace == target and state.pause.pid is not None:
        homes[state.pause.pid] = state.pause.home
    return [
        MovePause(pid, target.userns, f"it would end with {home.ends_with}")
        for pid, home in homes.items()
        if home is not None and home.ends_with is not None
    ]


def _superfluous(state: UserState, wish: Wish, target: NamespaceId, *, pause_good: bool, pinned: bool) -> list[Step]:
    """Pause processes that nothing needs any more: of an empty namespace left behind, or beside pinned handles."""
    steps: list[Step] = []
    left = state.pause.namespace
    if state.pause.verdict == LIVE and left and left != target and not state.processes_in(left):
        steps.append(KillPause(state.pause.pid, left.userns, "its namespace is empty and was replaced"))
    if wish.method == METHOD_HANDLES and wish.explicit and pinned:
        if pause_good:
            steps.append(_remove_pause(state))
            steps.append(KillPause(state.pause.pid, target.userns, "the pin keeps the namespace alive"))
        steps += [
            KillPause(orphan.pid, target.userns, "the pin keeps the namespace alive")
            for orphan in state.orphans
            if orphan.namespace == target
        ]
    return steps


def plan_absent(state: UserState) -> Plan:
    """Remove every key and the pause processes; other processes are left running. The caller has checked for those."""
    steps: list[Step] = []
    if state.handles.exists:
        steps.append(_remove_handles(state))
    if state.pause.exists:
        steps.append(_remove_pause(state))
    if state.pin.exists or state.pin_left:
        steps += _end_strangers(state)
        steps.append(Unpin("the namespace is removed"))
    if state.pause.verdict == LIVE and state.pause.namespace:
        steps.append(KillPause(state.pause.pid, state.pause.namespace.userns, "the namespace is removed"))
    steps += [
        KillPause(orphan.pid, orphan.namespace.userns, "the namespace is removed")
        for orphan in state.orphans
        if orphan.unmapped or orphan.namespace in state.alive
    ]
    return Plan(REMOVED if steps else NO_ACTION, tuple(steps), state.target)


def plan_recreate(state: UserState, wish: Wish) -> Plan:
    """Replace the namespace by a new one, which is made before anything of the old one is taken away."""
    create, *keys = _create_steps(wish)
    old = plan_absent(state).steps
    files = [step for step in old if isinstance(step, RemoveFile)]
    # Whatever fails, the old namespace is alive until then. A pin that is made replaces the one before.
    last = [
        step
        for step in old
        if isinstance(step, KillPause) or (isinstance(step, Unpin) and not any(isinstance(key, Pin) for key in keys))
    ]
    return Plan(RECREATED, (create, *files, *keys, *last))


def _remove_pause(state: UserState) -> RemoveFile:
    found = state.pause
    return RemoveFile(pause.FILE_NAME, found.verdict, found.identity or (0, 0), found.evidence)


def _remove_handles(state: UserState) -> RemoveFile:
    return RemoveFile(
        handles.FILE_NAME, state.handles.verdict, state.handles.identity or (0, 0), state.handles.evidence
    )
