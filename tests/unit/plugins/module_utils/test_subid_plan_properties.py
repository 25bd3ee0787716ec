# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The allocator over anything: never an ID twice, nothing lost, a second run changes nothing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.login_defs import Policy
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_plan import (
    Wish,
    plan_absent,
    plan_present,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_text import Owner, SubidText

POLICY = Policy(first=100, last=2_000, count=10, uid_min=1)
NAMES = [f"u{number}" for number in range(8)]
ALIASES = {str(number + 1): name for number, name in enumerate(NAMES)}
OWNERS = [Owner(name, name, frozenset({name, uid}), int(uid)) for uid, name in ALIASES.items()]

line = st.one_of(
    st.builds("{}:{}:{}".format, st.sampled_from([*NAMES, *ALIASES]), st.sampled_from([100, 120]), st.just(40)),
    st.builds("{}:{}:{}".format, st.sampled_from([*NAMES, *ALIASES]), st.integers(1, 2000), st.integers(1, 60)),
    st.builds("# released by userns.rootless: u3:{}:{}".format, st.integers(1, 2000), st.integers(1, 60)),
    st.sampled_from(["", "# a comment", "broken", "u1:x:3"]),
)
files = st.lists(line, max_size=8).map(lambda lines: "".join(f"{one}\n" for one in lines))
places = st.tuples(st.integers(1, 2000), st.integers(1, 120))
wishes = st.builds(
    Wish,
    count=st.integers(1, 80),
    ranges=st.dictionaries(st.sampled_from(NAMES), st.lists(places, min_size=1, max_size=2), max_size=3),
    allocate=st.sampled_from(["next", "uid"]),
    exclusive=st.booleans(),
    reuse_released=st.booleans(),
)
some_owners = st.lists(st.sampled_from(OWNERS), unique=True, min_size=1)


def noted(text: str) -> set[int]:
    """All that is noted as given back."""
    return ids((start, end - start) for start, end in parse(text).released())


def parse(text: str) -> SubidText:
    return SubidText(text, source="/etc/subuid", aliases=ALIASES)


def ids(ranges: Any) -> set[int]:
    return {id_ for start, count in ranges for id_ in range(start, start + count)}


U0 = Owner("u0", "u0", frozenset({"1", "u0"}), 1)
U1 = Owner("u1", "u1", frozenset({"2", "u1"}), 2)
SHRINK = Wish(count=1, allocate="uid", exclusive=True)


# What an owner gives up is its own again only where it is nobody else's, too.
@example("u0:41:60\nu1:41:60\n", [U0], SHRINK, [])
@example("u0:41:60\n", [U0], SHRINK, [100])
@example("u0:1:2\nu0:1:1\n", [U0], Wish(count=1), [])
# What stands in two lines is there once.
@example("u0:100:20\n1:100:20\n", [U0], Wish(count=40), [])
# A part of what was asked for by number was noted, or the owner's own before: nobody else is given the rest.
@example("# released by userns.rootless: u0:100:20\n", [U0, U1], Wish(20, ranges={"u0": [(100, 40)]}), [])
@example("u0:100:20\n", [U0, U1], Wish(20, ranges={"u0": [(100, 40)]}, exclusive=True), [])
@given(files, some_owners, wishes, st.lists(st.integers(1, 2000), max_size=5))
def test_what_is_given_out_is_nobody_elses(text: str, owners: list[Owner], wish: Wish, in_use: list[int]) -> None:
    before = parse(text)
    there = [(range_.start, range_.count) for range_ in before.ranges]
    plan = plan_present(parse(text), owners, wish, policy=POLICY, in_use=[(id_, id_ + 1) for id_ in in_use])
    given_out: set[int] = set()
    for owner, outcome in zip(owners, plan.outcomes):
        own_before = [(range_.start, range_.count) for range_ in before.of(owner)]
        new = ids(outcome.added)
        assert not new & given_out
        assert not new & set(in_use)
        others = list(there)
        for range_ in own_before:
            others.remove(range_)
        assert not new & ids(others)
        given_out |= new
        if outcome.problem is None:
            if owner.asked in wish.ranges:
                assert ids(wish.ranges[owner.asked]) <= ids(outcome.ranges)
            else:
                assert len(ids(outcome.ranges)) >= wish.count
            if not wish.exclusive:
                assert set(own_before) <= set(outcome.ranges)
                assert not outcome.removed
        else:
            assert (outcome.added, outcome.removed) == ([], [])
    after = parse(plan.text)
    for owner, outcome in zip(owners, plan.outcomes):
        assert [(range_.start, range_.count) for range_ in after.of(owner)] == outcome.ranges


# Whoever has what follows from its UID keeps it, whatever others have given back of it.
@example("u0:100:20\nu1:100:20\n", [U1, U0], Wish(20, allocate="uid", exclusive=True))
@given(files, some_owners, wishes)
def test_a_second_run_changes_nothing(text: str, owners: list[Owner], wish: Wish) -> None:
    once = plan_present(parse(text), owners, wish, policy=POLICY, in_use=[])
    served = [owner for owner, outcome in zip(owners, once.outcomes) if outcome.problem is None]
    twice = plan_present(parse(once.text), served, wish, policy=POLICY, in_use=[])
    assert twice.text == once.text
    assert [outcome.problem for outcome in twice.outcomes] == [None] * len(served)


@given(files, some_owners, wishes)
def test_other_lines_stay(text: str, owners: list[Owner], wish: Wish) -> None:
    plan = plan_present(parse(text), owners, wish, policy=POLICY, in_use=[])
    names = {name for owner in owners for name in owner.names}

    def others(content: str) -> list[str]:
        kept = [one for one in content.split("\n") if one and not one.startswith("# released")]
        return [one for one in kept if one.split(":")[0] not in names or "x" in one]

    assert others(plan.text) == others(text)


@given(some_owners, st.permutations(OWNERS), st.integers(1, 80))
def test_ranges_by_uid_do_not_depend_on_order(some: list[Owner], order: list[Owner], count: int) -> None:
    wish = Wish(count=count, allocate="uid")
    one = plan_present(parse(""), order, wish, policy=POLICY, in_use=[])
    found = {owner.asked: outcome.ranges for owner, outcome in zip(order, one.outcomes)}
    two = plan_present(parse(""), some, wish, policy=POLICY, in_use=[])
    assert all(found[owner.asked] == outcome.ranges for owner, outcome in zip(some, two.outcomes))


# Given back by two, one after the other.
@example("# released by userns.rootless: u3:150:20\nu0:91:60\n", [U0], OWNERS, 20)
@given(files, some_owners, some_owners, st.integers(1, 80))
def test_what_was_released_is_not_given_to_others(
    text: str, leaving: list[Owner], coming: list[Owner], count: int
) -> None:
    gone = plan_absent(parse(text), leaving)
    removed = {owner.asked: ids(outcome.removed) for owner, outcome in zip(leaving, gone.outcomes)}
    plan = plan_present(parse(gone.text), coming, Wish(count=count), policy=POLICY, in_use=[])
    for owner, outcome in zip(coming, plan.outcomes):
        foreign = set().union(*(found for name, found in removed.items() if name != owner.asked))
        assert not ids(outcome.added) & (foreign - removed.get(owner.asked, set()))


@example("# released by userns.rootless: u3:100:40\n", [U0, U1], Wish(20, ranges={"u0": [(100, 10)]}))
@given(files, some_owners, wishes)
def test_notes_say_what_is_still_released(text: str, owners: list[Owner], wish: Wish) -> None:
    """Only by number is anything given out that another has given back; the rest of it stays noted."""
    plan = plan_present(parse(text), owners, wish, policy=POLICY, in_use=[])
    before = noted(text)
    added = {owner.asked: ids(outcome.added) for owner, outcome in zip(owners, plan.outcomes)}
    if not wish.reuse_released:
        for name, new in added.items():
            assert name == "u3" or name in wish.ranges or not new & before
    assert before - set().union(*added.values()) <= noted(plan.text) | ids(
        (range_.start, range_.count) for range_ in parse(plan.text).ranges
    )


def shared(pairs: Any) -> set[int]:
    return set().union(*(set(range(max(a.start, b.start), min(a.end, b.end))) for a, b in pairs))


@given(files)
def test_overlaps_hide_no_owner_and_no_id(text: str) -> None:
    parsed = parse(text)
    pairs = [
        (one, other)
        for one, other in combinations(parsed.ranges, 2)
        if parsed.canonical(one.owner) != parsed.canonical(other.owner)
        and max(one.start, other.start) < min(one.end, other.end)
    ]
    told = parsed.overlaps()
    assert shared(told) == shared(pairs)
    assert {parsed.canonical(range_.owner) for pair in told for range_ in pair} == {
        parsed.canonical(range_.owner) for pair in pairs for range_ in pair
    }
    assert {frozenset(pair) for pair in told} <= {frozenset(pair) for pair in pairs}


def test_a_thousand_owners_of_one_range_are_told_once_each() -> None:
    text = "".join(f"user{number}:100000:65536\n" for number in range(1000))
    told = SubidText(text, source="/etc/subuid", aliases={}).overlaps()
    assert [other.owner for _first, other in told] == [f"user{number}" for number in range(1, 1000)]


def test_notes_of_a_thousand_owners_of_one_range_are_looked_at_once_each() -> None:
    text = "".join(f"# released by userns.rootless: user{number}:100000:65536\n" for number in range(1000))
    found = SubidText(text, source="/etc/subuid", aliases={}).released_twice()
    assert (len(found), set(found)) == (999, {(100000, 165536)})
