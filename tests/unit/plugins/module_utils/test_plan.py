# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States and the plans made of them, over a small model that carries plans out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs import NamespaceId
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause_home import Home
from ansible_collections.userns.rootless.plugins.module_utils._rootless.plan import (
    METHOD_HANDLES,
    METHOD_PAUSE,
    Create,
    KillPause,
    MovePause,
    Pin,
    Plan,
    RemoveFile,
    StartPause,
    Unpin,
    Wish,
    WriteHandles,
    WritePause,
    plan_absent,
    plan_present,
    plan_recreate,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.state import (
    ALIVE,
    BROKEN,
    CORRUPT,
    DEAD,
    FOREIGN,
    GARBAGE,
    LIVE,
    NONE,
    RECYCLED,
    STALE,
    UNKNOWN,
    Finding,
    PauseProcess,
    UserState,
)

A = NamespaceId(userns=10, mntns=11)
B = NamespaceId(userns=20, mntns=21)
NEW = NamespaceId(userns=30, mntns=31)
UNMAPPED = NamespaceId(userns=40, mntns=41)

SESSION = Home("/user.slice/user-7.slice/session-3.scope", "session-3.scope")
OURS = Home("/rootless_ns.slice/rootless_ns-1-0.scope/7")
PAUSES = [Finding()] + [
    Finding(verdict, "why", identity=(1, 2), pid=7) for verdict in (GARBAGE, DEAD, RECYCLED, FOREIGN)
]
PAUSES += [Finding(LIVE, "here", namespace, identity=(1, 2), pid=7) for namespace in (A, B)]
PAUSES.append(Finding(LIVE, "here", A, identity=(1, 2), pid=7, home=SESSION))
HANDLES = [Finding()] + [Finding(verdict, "why", identity=(3, 4)) for verdict in (CORRUPT, DEAD, FOREIGN, UNKNOWN)]
HANDLES += [Finding(LIVE, "here", namespace, identity=(3, 4)) for namespace in (A, B)]
PINS = [Finding(), Finding(FOREIGN, "why"), Finding(LIVE, "here", A), Finding(LIVE, "here", B)]
ORPHANS: list[tuple[PauseProcess, ...]] = [
    (),
    (PauseProcess(8, A, home=SESSION),),
    (PauseProcess(9, UNMAPPED, unmapped=True),),
]
PROCESSES: list[dict[int, tuple[int, ...]]] = [{}, {B.userns: (99,)}, {A.userns: (98,), B.userns: (99,)}]
OPENS = [True, False]

WISHES = [
    Wish(METHOD_PAUSE, explicit=False, pin=True, may_pin=True),
    Wish(METHOD_PAUSE, explicit=True, pin=False, may_pin=False),
    Wish(METHOD_HANDLES, explicit=True, pin=True, may_pin=True),
    Wish(METHOD_HANDLES, explicit=False, pin=True, may_pin=True),
]


def states() -> Iterator[UserState]:
    for pause, handles, pin, orphans, processes, opens in itertools.product(
        PAUSES, HANDLES, PINS, ORPHANS, PROCESSES, OPENS
    ):
        yield UserState(
            "dir",
            pause=pause,
            handles=handles,
            pin=pin,
            orphans=orphans,
            processes=processes,
            owner_opens_handles=opens if handles.verdict == LIVE else None,
            can_move_pause=True,
        )


def carry_out(state: UserState, plan: Plan) -> UserState:
    """What the steps do to the keys, in their order; refuses steps that could not be done."""
    target, started = plan.target, None
    for step in plan.steps:
        if isinstance(step, RemoveFile):
            field = "pause" if step.name == "pause.pid" else "handles"
            finding: Finding = getattr(state, field)
            assert finding.identity == step.identity
            if field == "pause" and finding.verdict == LIVE and finding.namespace and finding.pid:
                state = replace(state, orphans=(*state.orphans, PauseProcess(finding.pid, finding.namespace)))
            state = replace(state, **{field: Finding()})
        elif isinstance(step, Unpin):
            assert state.pin.exists
            state = replace(state, pin=Finding())
        elif isinstance(step, Create):
            assert started is None
            target, started = NEW, 50
            state = replace(state, orphans=(*state.orphans, PauseProcess(started, NEW)))
        elif isinstance(step, StartPause):
            assert target is not None
            started = 51
            state = replace(state, orphans=(*state.orphans, PauseProcess(started, target)))
        elif isinstance(step, WritePause):
            assert not state.pause.exists, "pause.pid is never replaced"
            pid = started if step.pid is None else step.pid
            (named,) = [orphan for orphan in state.orphans if orphan.pid == pid]
            rest = tuple(orphan for orphan in state.orphans if orphan.pid != pid)
            pause = Finding(LIVE, "", named.namespace, identity=(5, 6), pid=pid, home=named.home)
            state = replace(state, pause=pause, orphans=rest)
        elif isinstance(step, WriteHandles):
            assert not state.handles.exists, "ns_handles is never replaced"
            state = replace(state, handles=Finding(LIVE, "", target, identity=(7, 8)), owner_opens_handles=True)
        elif isinstance(step, MovePause):
            assert (state.pause.pid, state.pause.home) == (step.pid, SESSION)
            assert target is not None
            assert step.userns == target.userns
            state = replace(state, pause=replace(state.pause, home=OURS))
        elif isinstance(step, Pin):
            assert target is not None
            state = replace(state, pin=Finding(LIVE, "", target))
        elif isinstance(step, KillPause):
            pid = started if step.pid is None else step.pid
            assert pid in [orphan.pid for orphan in state.orphans]
            state = replace(state, orphans=tuple(orphan for orphan in state.orphans if orphan.pid != pid))
    return state


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_present_reaches_its_end_in_one_run(wish: Wish) -> None:
    for state in states():
        plan = plan_present(state, wish)
        after = carry_out(state, plan)
        target = plan.target or NEW
        assert (plan.action == "created") == (state.target is None)
        assert (plan.action == "rejoined") == (not plan.steps)
        assert after.target == target, state
        again = plan_present(after, wish)
        assert (again.action, again.steps) == ("rejoined", ()), state
        # What others live in is never unpinned.
        needed = (
            state.pin.namespace is not None
            and state.pin.namespace != target
            and state.processes_in(state.pin.namespace)
        )
        if wish.pin and not needed:
            assert after.pin.namespace == target
        if wish.method == METHOD_PAUSE:
            assert (after.pause.verdict, after.pause.namespace) == (LIVE, target)
            assert after.pause.home != SESSION
        elif after.handles.verdict != UNKNOWN:
            assert (after.handles.verdict, after.handles.namespace) == (LIVE, target)
        if after.handles.verdict != UNKNOWN and len(after.inhabited) < 2:
            assert after.state == ALIVE, state


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_present_never_ends_what_others_live_in(wish: Wish) -> None:
    for state in states():
        plan = plan_present(state, wish)
        if plan.target == B or not state.processes_in(B):
            continue
        killed = [step.userns for step in plan.steps if isinstance(step, KillPause)]
        assert B.userns not in killed


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_present_never_unpins_what_others_live_in(wish: Wish) -> None:
    for state in states():
        plan = plan_present(state, wish)
        if (
            state.pin.namespace is None
            or plan.target == state.pin.namespace
            or not state.processes_in(state.pin.namespace)
        ):
            continue
        assert not any(isinstance(step, (Pin, Unpin)) for step in plan.steps)


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_a_plan_that_takes_something_alive_says_so(wish: Wish) -> None:
    for state in states():
        for plan in (plan_present(state, wish), plan_absent(state), plan_recreate(state, wish)):
            ended = [step for step in plan.steps if isinstance(step, KillPause) and step.pid is not None]
            live = [step for step in plan.steps if isinstance(step, RemoveFile) and step.verdict == LIVE]
            unpinned = [step for step in plan.steps if isinstance(step, Unpin)]
            assert plan.ends_something == bool(ended or live or unpinned)


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_the_new_namespace_is_made_before_the_old_one_goes(wish: Wish) -> None:
    for state in states():
        if state.target is None:
            continue
        kinds = [type(step) for step in plan_recreate(state, wish).steps]
        assert kinds[0] is Create
        ends = [place for place, kind in enumerate(kinds) if kind in (Unpin, KillPause)]
        assert not ends or min(ends) > max(kinds.index(kind) for kind in kinds if kind in (WriteHandles, WritePause))


def test_what_cannot_be_judged_stays() -> None:
    unknown = Finding(UNKNOWN, "no such call", identity=(1, 2), pid=7)
    for wish in WISHES:
        plan = plan_present(replace(live(pin=A), pause=unknown), wish)
        assert plan.target == A
        assert not any(isinstance(step, (RemoveFile, WritePause)) for step in plan.steps)
    assert replace(live(pin=A), pause=unknown).state == ALIVE


def test_a_namespace_with_other_mounts_is_nobody_elses() -> None:
    job = PauseProcess(8, A, elsewhere="/tmp is not the host's")
    state = replace(UserState("dir"), orphans=(job,))
    assert state.target is None
    assert plan_present(state, WISHES[0]).action == "created"
    assert not any(isinstance(step, KillPause) for step in plan_absent(state).steps)


def test_absent_leaves_nothing() -> None:
    for state in states():
        plan = plan_absent(state)
        after = carry_out(state, plan)
        assert not after.pause.exists
        assert not after.handles.exists
        assert not after.pin.exists
        assert plan_absent(after).action == "none"
        assert (plan.action == "removed") == bool(plan.steps)


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_recreate_ends_in_a_new_namespace(wish: Wish) -> None:
    for state in states():
        if state.target is None or state.processes:
            continue
        after = carry_out(state, plan_recreate(state, wish))
        assert after.target == NEW
        assert plan_present(after, wish).steps == ()


def live(**keys: NamespaceId) -> UserState:
    findings = {name: Finding(LIVE, "", namespace, identity=(1, 1), pid=7) for name, namespace in keys.items()}
    return replace(UserState("dir"), **findings)


FITS_A, FITS_B = frozenset({A}), frozenset({B})


@pytest.mark.parametrize(
    ("state", "target"),
    [
        # Podman reads ns_handles first; up to 5.8 it reads pause.pid alone.
        (live(handles=A, pause=B), A),
        (replace(live(handles=A, pause=B), reads_handles=False), B),
        (live(pin=A, handles=B, pause=B), B),
        (live(pause=B), B),
        (live(pin=A), A),
        (replace(UserState("dir"), monitors=(B,), orphans=(PauseProcess(1, A),)), B),
        (replace(UserState("dir"), orphans=(PauseProcess(1, A, unmapped=True),)), None),
        # Where containers run goes before all else.
        (replace(live(pin=A, pause=B), processes={B.userns: (99,)}, fitting=FITS_A), B),
        (replace(live(pin=A, pause=B), processes={A.userns: (98,)}, fitting=FITS_B), A),
        (replace(live(pin=A), monitors=(B,), processes={B.userns: (99,)}), B),
        # Where they run in both, Podman's.
        (replace(live(pin=A, pause=B), processes={A.userns: (98,), B.userns: (99,)}, fitting=FITS_A), B),
        # Of empty ones the one with today's maps, whoever opens it.
        (replace(live(pin=A, pause=B), fitting=FITS_A), A),
        (replace(live(pin=A, pause=B), fitting=FITS_B), B),
        (replace(live(pin=A, pause=B), fitting=frozenset()), B),
        # `podman system migrate` ends all but the pin.
        (replace(live(pin=A), fitting=frozenset()), None),
        (replace(live(pin=A), fitting=FITS_A), A),
        (replace(live(pin=A, pause=A), fitting=frozenset()), A),
        (replace(live(pin=A), fitting=frozenset(), processes={A.userns: (98,)}), A),
        (replace(live(pin=A), fitting=frozenset(), orphans=(PauseProcess(1, A),)), A),
        (replace(live(pin=A), fitting=frozenset(), pause=Finding(UNKNOWN)), A),
    ],
)
def test_which_namespace_is_meant(state: UserState, target: NamespaceId | None) -> None:
    assert state.target == target


# Podman 4.3 and 5.4, tried: without `alive`, where it has not run since the host booted, it stops.
NEVER_RAN = replace(UserState("dir"), has_run=False)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (UserState("dir"), NONE),
        (live(pause=A), ALIVE),
        (live(pin=A, handles=A, pause=A), ALIVE),
        # Podman looks at no pin, and would make another namespace.
        (live(pin=A), BROKEN),
        (replace(live(pin=A), pause=Finding(DEAD)), BROKEN),
        (replace(live(pin=A), monitors=(A,)), ALIVE),
        (replace(live(pin=A, pause=B), fitting=FITS_B), ALIVE),
        (replace(live(pin=A, pause=B), fitting=FITS_A), BROKEN),
        (replace(live(pin=A, pause=B), processes={A.userns: (98,), B.userns: (99,)}), BROKEN),
        (live(handles=A), ALIVE),
        (replace(live(handles=A), reads_handles=False), BROKEN),
        (replace(live(handles=A), owner_opens_handles=False), BROKEN),
        (replace(UserState("dir"), monitors=(A,)), ALIVE),
        # Any process can be joined that lives in the right one.
        (replace(live(pin=A), pause=Finding(RECYCLED, "", A)), ALIVE),
        (replace(live(pin=A), pause=Finding(RECYCLED, "", B)), BROKEN),
        (UserState("dir", pause=Finding(RECYCLED, "", B)), BROKEN),
        (UserState("dir", pause=Finding(RECYCLED, unjoinable=True)), BROKEN),
        *[(UserState("dir", pause=Finding(verdict, lockable=False)), BROKEN) for verdict in (GARBAGE, DEAD, RECYCLED)],
        *[(UserState("dir", pause=Finding(verdict)), STALE) for verdict in (GARBAGE, DEAD, RECYCLED)],
        *[(replace(NEVER_RAN, pause=Finding(verdict)), BROKEN) for verdict in (GARBAGE, DEAD, RECYCLED)],
        (UserState("dir", pause=Finding(GARBAGE, "is a directory", readable=False)), BROKEN),
        (UserState("dir", pause=Finding(FOREIGN)), BROKEN),
        *[(UserState("dir", handles=Finding(verdict)), BROKEN) for verdict in (CORRUPT, FOREIGN)],
        (replace(live(pause=A), handles=Finding(CORRUPT)), BROKEN),
        (replace(live(pause=A), handles=Finding(CORRUPT), reads_handles=False), ALIVE),
        (UserState("dir", handles=Finding(DEAD)), STALE),
        # While it is there, pause.pid is passed over.
        (replace(live(pause=A), handles=Finding(DEAD)), BROKEN),
        (UserState("dir", handles=Finding(UNKNOWN)), STALE),
        (UserState("dir", pin=Finding(FOREIGN)), STALE),
    ],
)
def test_the_state_in_a_word(state: UserState, expected: str) -> None:
    assert state.state == expected


def test_unknown_handles_stay_unless_podman_would_remove_them() -> None:
    wish = WISHES[0]
    unknown = Finding(UNKNOWN, "", identity=(3, 4))
    kept = plan_present(replace(live(pause=A, pin=A), handles=unknown), wish)
    assert kept.steps == ()
    gone = plan_present(UserState("dir", handles=unknown), wish)
    assert [step.name for step in gone.steps if isinstance(step, RemoveFile)] == ["ns_handles"]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_a_pause_process_that_can_be_moved_nowhere_stays(wish: Wish) -> None:
    for state in states():
        plan = plan_present(replace(state, can_move_pause=False), wish)
        assert not any(isinstance(step, MovePause) for step in plan.steps)


def test_a_pause_process_is_moved_before_what_may_be_refused() -> None:
    session = replace(live(pause=A), can_move_pause=True)
    session = replace(session, pause=replace(session.pause, home=SESSION))
    plan = plan_present(session, WISHES[0])
    assert [type(step) for step in plan.steps] == [MovePause, Pin]
    assert "session-3.scope" in str(plan.steps[0])


LEFT_BY_ANOTHER = UserState(
    "dir",
    pause=Finding(FOREIGN, "made for another", identity=(1, 2), pid=7),
    pin=Finding(FOREIGN, "made for another"),
    strangers=frozenset({A}),
    pauses_of_strangers=(PauseProcess(7, A),),
)


def test_what_an_account_before_has_left_goes_before_the_pin_that_tells_whose_it_is() -> None:
    wish = WISHES[0]
    assert wish.may_pin
    for plan, last in (
        (plan_present(LEFT_BY_ANOTHER, wish), [Create, WritePause, Pin]),
        (plan_absent(LEFT_BY_ANOTHER), []),
    ):
        assert [type(step) for step in plan.steps] == [RemoveFile, KillPause, Unpin, *last]
        assert isinstance(plan.steps[1], KillPause)
        assert (plan.steps[1].pid, plan.steps[1].userns) == (7, A.userns)


def test_who_cannot_unpin_ends_nothing_of_the_account_before() -> None:
    plan = plan_present(LEFT_BY_ANOTHER, replace(WISHES[0], pin=False, may_pin=False))
    assert [type(step) for step in plan.steps] == [RemoveFile, Create, WritePause]
