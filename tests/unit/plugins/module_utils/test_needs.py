# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a namespace needs, in one word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.needs import needs
from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs import NamespaceId
from ansible_collections.userns.rootless.plugins.module_utils._rootless.state import (
    CORRUPT,
    DEAD,
    FOREIGN,
    GARBAGE,
    LIVE,
    UNKNOWN,
    Finding,
    PauseProcess,
    UserState,
)

A = NamespaceId(userns=10, mntns=11)
B = NamespaceId(userns=20, mntns=21)
EMPTY = UserState("dir")
PAUSE = Finding(LIVE, "", A, identity=(1, 1), pid=7)
ALIVE = UserState("dir", pause=PAUSE, pin=Finding(LIVE, "", A))
ORPHAN = (PauseProcess(8, A),)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (None, "look"),
        (EMPTY, ""),
        (ALIVE, ""),
        (replace(EMPTY, pause=PAUSE), ""),
        # What a first-time administrator met: alive by its pin, and Podman failed.
        (replace(ALIVE, pause=Finding(GARBAGE)), "repair"),
        (replace(ALIVE, pause=Finding(DEAD)), "repair"),
        (replace(ALIVE, pause=Finding()), "repair"),
        (replace(ALIVE, pin=Finding(LIVE, "", B)), "repair"),
        (replace(ALIVE, handles=Finding(CORRUPT), reads_handles=False), "repair"),
        (replace(EMPTY, pin=Finding(FOREIGN)), "repair"),
        # Without XDG_RUNTIME_DIR an old Podman goes where its database says.
        (replace(ALIVE, is_elsewhere=True), "look"),
        (replace(EMPTY, is_elsewhere=True), ""),
        (replace(EMPTY, pause=Finding(DEAD)), "clean"),
        (replace(EMPTY, pause=Finding(DEAD), has_run=False), "repair"),
        (replace(EMPTY, pause=Finding(UNKNOWN)), "look"),
        # No module can say in which of the two the next container belongs.
        (
            replace(ALIVE, pause=Finding(LIVE, "", B), processes={A.userns: (98,), B.userns: (99,)}),
            "look",
        ),
        # An orphan is asked to be cleaned only where cleaning would end it.
        (replace(ALIVE, orphans=ORPHAN), "clean"),
        (replace(ALIVE, orphans=ORPHAN, processes={A.userns: (98,)}), ""),
        (replace(ALIVE, orphans=(PauseProcess(8, B, elsewhere="/tmp is not the host's"),)), ""),
        (replace(EMPTY, handles=Finding(LIVE, "", A), orphans=ORPHAN, owner_opens_handles=True), ""),
    ],
)
def test_in_a_word(state: UserState | None, word: str) -> None:
    assert needs(state, drift=False, may_pin=True) == word


def test_drift() -> None:
    assert needs(ALIVE, drift=True, may_pin=True) == "recreate"
    assert needs(replace(ALIVE, pause=Finding(DEAD)), drift=True, may_pin=True) == "repair"


def test_who_cannot_pin_is_not_asked_to() -> None:
    state = replace(ALIVE, pin=Finding(LIVE, "", B))
    assert needs(state, drift=False, may_pin=True) == "repair"
    assert needs(state, drift=False, may_pin=False) == ""


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (ALIVE, "remove"),
        (replace(EMPTY, pin_left=True), "remove"),
        (replace(EMPTY, orphans=ORPHAN), "remove"),
        (replace(ALIVE, processes={A.userns: (98,)}), "look"),
        (EMPTY, ""),
    ],
)
def test_of_an_account_that_is_gone_all_is_to_go(state: UserState, word: str) -> None:
    assert needs(state, drift=False, may_pin=True, is_gone=True) == word


def test_processes_of_an_account_before_are_to_be_looked_at() -> None:
    state = replace(EMPTY, pin=Finding(FOREIGN), strangers=frozenset({A}))
    assert needs(state, drift=False, may_pin=True) == "repair"
    assert needs(replace(state, processes={A.userns: (98,)}), drift=False, may_pin=True) == "look"
