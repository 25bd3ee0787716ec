# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file of subordinate ranges becomes: tables."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.allocation import NoRoomError, by_uid
from ansible_collections.userns.rootless.plugins.module_utils._rootless.login_defs import Policy, read_policy
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_plan import (
    Wish,
    plan_absent,
    plan_present,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_text import Owner, SubidText

ALIASES = {"1000": "alice", "1001": "bob"}
POLICY = Policy()


def owner(name: str, uid: int | None = None, key: str | None = None) -> Owner:
    return Owner(name, key or name, frozenset({name} | ({str(uid)} if uid else set())), uid)


ALICE, BOB, CAROL = owner("alice", 1000), owner("bob", 1001), owner("carol", 1002)


def text(content: str) -> SubidText:
    return SubidText(content, source="/etc/subuid", aliases=ALIASES)


def give(content: str, *owners: Owner, in_use: Any = (), policy: Policy = POLICY, **wish: Any) -> Any:
    return plan_present(text(content), owners, Wish(**{"count": 65536, **wish}), policy=policy, in_use=in_use)


def test_the_first_range() -> None:
    plan = give("", ALICE)
    assert plan.text == "alice:100000:65536\n"
    assert (plan.outcomes[0].ranges, plan.outcomes[0].added) == ([(100000, 65536)], [(100000, 65536)])


@pytest.mark.parametrize("line", ["alice:7000000:65536", "1000:7000000:70000", "alice:1:65535\n1000:70000:1"])
def test_who_has_enough_is_left_alone(line: str) -> None:
    content = f"# a comment\n{line}\nnonsense\n"
    plan = give(content, ALICE)
    assert (plan.text, plan.outcomes[0].added, plan.outcomes[0].removed) == (content, [], [])


def test_what_is_missing_is_added() -> None:
    plan = give("alice:7000000:65000\n", ALICE)
    assert plan.text == "alice:7000000:65000\nalice:100000:536\n"
    assert plan.outcomes[0].ranges == [(100000, 536), (7000000, 65000)]


def test_gaps_are_filled_on_the_grid() -> None:
    content = "x:100000:65536\ny:165537:10\nz:296608:65536\n"
    plan = give(content, ALICE, BOB)
    assert [outcome.added for outcome in plan.outcomes] == [[(231072, 65536)], [(362144, 65536)]]


def test_ids_in_use_are_avoided() -> None:
    assert give("", ALICE, in_use=[(100005, 100006)]).outcomes[0].added == [(165536, 65536)]


@pytest.mark.parametrize(
    "line", ["bob:0100000:65536", "bob:0303240:65536", "bob:0x186a0:65536", "bob:100000:65536\r", " bob:100000:65536"]
)
def test_lines_that_others_may_read_as_ranges_are_avoided(line: str) -> None:
    assert give(f"{line}\n", ALICE).text == f"{line}\nalice:165536:65536\n"
    told = give(f"{line}\n", ALICE, ranges={"alice": [(165535, 2)]}).outcomes[0].problem
    assert "165535:2 is not free" in (told or "")


@pytest.mark.parametrize("line", ["bob:100000", "bob:1_0:5", "bob:08:x", "bob:100000:99999999999", "bob:100000:0"])
def test_lines_that_are_ranges_to_nobody_are_not(line: str) -> None:
    assert give(f"{line}\n", ALICE).text == f"{line}\nalice:100000:65536\n"


def test_login_defs_may_give_nobody_ids() -> None:
    plan = give("alice:100000:65536\n", ALICE, count=0, exclusive=True)
    assert plan.text == "alice:100000:65536\n"
    assert "count must be given" in plan.outcomes[0].problem


def test_no_room() -> None:
    plan = give("", ALICE, BOB, policy=Policy(first=100000, last=165535))
    assert plan.outcomes[0].added == [(100000, 65536)]
    assert "no 65536 free IDs" in plan.outcomes[1].problem
    assert plan.text == "alice:100000:65536\n"


def test_by_uid_is_shadows_formula() -> None:
    assert by_uid(1000, 65536, POLICY) == 100000
    assert by_uid(1002, 65536, POLICY) == 100000 + 2 * 65536
    plan = give("", CAROL, ALICE, allocate="uid")
    assert [outcome.added for outcome in plan.outcomes] == [[(231072, 65536)], [(100000, 65536)]]
    for uid in (999, 60000):
        with pytest.raises(NoRoomError, match=r"UID_MIN|past"):
            by_uid(uid, 65536, POLICY)
    assert "no UID" in give("", owner("containers"), allocate="uid").outcomes[0].problem


def test_certain_ranges() -> None:
    wanted = {"alice": [(500000, 10), (400000, 20)]}
    plan = give("bob:100000:65536\n", ALICE, BOB, ranges=wanted)
    assert plan.text == "bob:100000:65536\nalice:400000:20\nalice:500000:10\n"
    assert give(plan.text, ALICE, BOB, ranges=wanted).text == plan.text


@pytest.mark.parametrize(
    ("range_", "told"),
    [
        ((100000, 10), "bob:100000:65536"),
        ((99999, 2), "bob:100000:65536"),
        ((90000, 2), "a user, a group, the system"),
        ((0, 10), "ID 0"),
        ((4294967290, 10), "4294967290:10 is past 4294967294"),
        ((200000, 10), "alice:200005:10"),
    ],
)
def test_certain_ranges_that_are_not_free(range_: tuple[int, int], told: str) -> None:
    content = "bob:100000:65536\nalice:200005:10\n"
    plan = give(content, ALICE, ranges={"alice": [range_]}, in_use=[(90001, 90002)])
    assert told in plan.outcomes[0].problem
    assert plan.text == content


def test_ranges_asked_for_must_not_overlap_each_other() -> None:
    assert "share IDs" in give("", ALICE, ranges={"alice": [(100, 10), (105, 10)]}).outcomes[0].problem


def test_exclusive() -> None:
    content = "alice:200000:65536\n1000:300000:5\nbob:400000:5\n"
    plan = give(content, ALICE, exclusive=True)
    assert plan.text == ("alice:200000:65536\n# released by userns.rootless: 1000:300000:5\nbob:400000:5\n")
    assert plan.outcomes[0].removed == [(300000, 5)]
    moved = give(content, ALICE, exclusive=True, ranges={"alice": [(200000, 10)]})
    assert moved.outcomes[0].ranges == [(200000, 10)]
    assert "alice:200000:10\n" in moved.text
    assert give(moved.text, ALICE, exclusive=True, ranges={"alice": [(200000, 10)]}).text == moved.text


@pytest.mark.parametrize("wish", [{}, {"ranges": {"alice": [(200000, 65536)]}}])
def test_exclusive_keeps_one_of_two_lines_that_say_the_same(wish: dict[str, Any]) -> None:
    """And notes nothing: what alice has is not released."""
    plan = give("alice:200000:65536\n1000:200000:65536\n", ALICE, exclusive=True, **wish)
    assert plan.text == "alice:200000:65536\n"
    assert plan.outcomes[0].ranges == [(200000, 65536)]


def test_removal_leaves_a_note_that_keeps_others_out() -> None:
    gone = plan_absent(text("# top\nalice:100000:65536\nbob:165536:65536\n"), [ALICE])
    assert gone.text == "# top\n# released by userns.rootless: alice:100000:65536\nbob:165536:65536\n"
    assert gone.outcomes[0].removed == [(100000, 65536)]
    assert plan_absent(text(gone.text), [ALICE]).text == gone.text
    assert give(gone.text, CAROL).outcomes[0].added == [(231072, 65536)]
    # Its old owner gets it back, also under its other name.
    back = give(gone.text, owner("1000", 1000))
    assert back.outcomes[0].added == [(100000, 65536)]
    assert "released" not in back.text
    reused = give(gone.text, CAROL, reuse_released=True)
    assert reused.outcomes[0].added == [(100000, 65536)]
    assert "released" not in reused.text


def test_new_lines_go_by_the_key() -> None:
    assert give("", owner("alice", 1000, key="1000")).text == "1000:100000:65536\n"


def test_overlaps_between_owners() -> None:
    found = text("alice:100:10\n1000:105:10\nbob:109:2\ncarol:200:1\n").overlaps()
    assert {frozenset((one.owner, two.owner)) for one, two in found} == {
        frozenset(("alice", "bob")),
        frozenset(("1000", "bob")),
    }


def test_login_defs(tmp_path: Any) -> None:
    assert read_policy("uid", etc=str(tmp_path)) == Policy()
    (tmp_path / "login.defs").write_text(
        "SUB_UID_MIN 0x186A1\n#SUB_UID_MAX 5\nSUB_UID_COUNT\t010\nSUB_GID_MIN 7\nUID_MIN x\n"
    )
    assert read_policy("uid", etc=str(tmp_path)) == Policy(first=100001, count=8)
    assert read_policy("gid", etc=str(tmp_path)).first == 7
    (tmp_path / "login.defs").write_text("SUB_UID_MIN -1\nSUB_UID_MAX -5\n")
    assert read_policy("uid", etc=str(tmp_path)) == Policy()
