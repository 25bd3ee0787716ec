# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's namespace needs, in one word: what would be done about it, as far as anything would. Pure."""

from __future__ import annotations

from .plan import METHOD_HANDLES, METHOD_PAUSE, REPAIRED, Wish, plan_absent, plan_present
from .state import BROKEN, FOREIGN, LIVE, MISSING, STALE_HANDLES, STALE_PAUSE, UNKNOWN, UserState

NOTHING = ""
# Somebody has to see what is there: no module can tell what is right.
LOOK = "look"
# `rootless_ns` mends it.
REPAIR = "repair"
# `rootless_ns` with `on_drift: recreate`.
RECREATE = "recreate"
# `rootless_ns` with `state: absent`.
REMOVE = "remove"
# `rootless_pause`, with `orphans: true` where there are some.
CLEAN = "clean"


def needs(state: UserState | None, *, drift: bool, may_pin: bool, is_gone: bool = False) -> str:
    """`state` is None where the user could not be looked at. `may_pin`: who asks is root.

    `is_gone`: no account has the UID any more.
    """
    if state is None or len(state.inhabited) > 1 or any(state.processes_in(namespace) for namespace in state.strangers):
        return LOOK
    if is_gone:
        if state.inhabited:
            return LOOK
        return REMOVE if plan_absent(state).changes else NOTHING
    found = _needs(state, drift=drift, may_pin=may_pin)
    # What Podman means without XDG_RUNTIME_DIR cannot be mended by us: a warning tells how.
    return LOOK if state.is_elsewhere and state.target is not None and found in (NOTHING, CLEAN) else found


def _needs(state: UserState, *, drift: bool, may_pin: bool) -> str:
    if state.target is None:
        if state.pause.verdict == UNKNOWN:
            return LOOK
        if state.state == BROKEN or state.pin.verdict == FOREIGN:
            return REPAIR
        stale = state.pause.verdict in STALE_PAUSE or state.handles.verdict in STALE_HANDLES
        return CLEAN if stale or _reapable(state) else NOTHING
    if state.state == BROKEN or plan_present(state, _as_it_is(state, may_pin)).action == REPAIRED:
        return REPAIR
    if drift:
        return RECREATE
    return CLEAN if _reapable(state) else NOTHING


def _as_it_is(state: UserState, may_pin: bool) -> Wish:
    """What asks for nothing new: the method in use, and a pin where there is one."""
    opened = state.handles.verdict == LIVE and state.handles.namespace == state.target
    by_handles = opened and state.reads_handles and state.pause.verdict == MISSING
    method = METHOD_HANDLES if by_handles else METHOD_PAUSE
    return Wish(method, explicit=False, pin=may_pin and state.pin.verdict == LIVE, may_pin=may_pin)


def _reapable(state: UserState) -> bool:
    """Whether there is an orphan that `rootless_pause` would end: nobody lives there, and nothing needs it."""
    held = state.handles.namespace if state.handles.verdict == LIVE and state.pin.verdict != LIVE else None
    return any(
        not orphan.elsewhere and not state.processes_in(orphan.namespace) and orphan.namespace != held
        for orphan in state.orphans
    )
