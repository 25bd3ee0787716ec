# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.patience import GivenUpError, Limits, Patience

LIMITS = Limits(user=30, short=2, spare=60, lost=300)


def test_a_user_has_its_own_time() -> None:
    patience = Patience(LIMITS)
    alice = patience.of(1, "alice")
    assert (alice.allowed, alice.left) == (30, 30)
    alice.spend(10)
    alice.check()
    assert patience.of(1, "alice").left == 20
    alice.spend(20)
    with pytest.raises(GivenUpError, match=r"questions to alice have taken 30.0 s; nothing more is asked of alice"):
        alice.check()
    # The first reason stays.
    alice.give_up("another")
    assert alice.given_up == "the questions to alice have taken 30.0 s"


@pytest.mark.parametrize(
    ("cost", "left"),
    [([], 30), ([2, 2, 1.5], 30), ([30], 30), ([30, 30], 6), ([30, 30, 6], 2), ([30, 30, 6, 2, 2, 2], 2)],
)
def test_what_others_have_cost_leaves_a_little_for_each(cost: list[float], left: float) -> None:
    patience = Patience(LIMITS)
    for uid, seconds in enumerate(cost):
        # In pieces, as it is spent.
        for _piece in range(4):
            patience.of(uid, f"user{uid}").spend(seconds / 4)
    bob = patience.of(1000, "bob")
    assert bob.left == left
    assert ("others have used up" in bob.why_so_little()) == (left < 30)


def test_who_cost_the_time_is_named() -> None:
    patience = Patience(LIMITS)
    for uid, seconds in enumerate((3, 30, 25, 4, 3)):
        patience.of(uid, f"user{uid}").spend(seconds)
    assert "(others have used up the time of this call: user1 30 s, user2 25 s, user3 4 s and 2 more)" in (
        patience.of(1000, "bob").why_so_little()
    )


def test_at_last_nobody_is_asked() -> None:
    patience = Patience(Limits(user=30, short=2, spare=600, lost=59))
    for uid in (1, 2):
        user = patience.of(uid, f"user{uid}")
        user.spend(30)
        assert not user.given_up
        user.give_up("no answer")
    bob = patience.of(3, "bob")
    with pytest.raises(GivenUpError, match=r"have cost this call 60 s \(user1 30 s, user2 30 s\); run again for bob"):
        bob.check()
    # Those who answer, however slowly, are not held against others in this way.
    slow = Patience(Limits(user=30, short=2, spare=600, lost=59))
    for uid in range(10):
        slow.of(uid, f"user{uid}").spend(20)
    slow.of(1000, "bob").check()
