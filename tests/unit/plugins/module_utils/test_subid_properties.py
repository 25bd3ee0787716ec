# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import MAX_ID, IdMapEntry
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import (
    FileSubids,
    SubidError,
    SubidRange,
    check_ranges,
    parse_subid,
    user_map,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import escape

SPAN = 60
USERS = 100_000

subid_like = st.text(st.sampled_from("ab019:# \t\n\r-\x00\x0b\u2028\u0661\udcff"))


def range_of(start: int, count: int) -> SubidRange:
    return SubidRange(owner="alice", start=start, count=count, source="subuid", line=1)


@given(st.text() | subid_like)
def test_every_line_gets_an_answer(text: str) -> None:
    ranges, problems = parse_subid(text, source="subuid")
    answered = [range_.line for range_ in ranges] + [problem.line for problem in problems]
    lines = enumerate(text.split("\n"), start=1)
    assert sorted(n for n in answered if n) == [n for n, line in lines if line.strip() and line.strip()[0] != "#"]
    assert all(0 <= range_.start < range_.end <= MAX_ID for range_ in ranges)
    assert all(escape(str(each)).isprintable() for each in (*ranges, *problems))


owners = st.text(st.characters(exclude_characters=":\n"), min_size=1).filter(
    lambda owner: owner == owner.strip() and not owner.startswith("#")
)


@given(st.lists(st.tuples(owners, st.integers(0, MAX_ID), st.integers(0, MAX_ID))))
def test_well_formed_lines_are_read_back(wanted: list[tuple[str, int, int]]) -> None:
    text = "".join(f"{owner}:{start}:{count}\n" for owner, start, count in wanted)
    ranges, problems = parse_subid(text, source="subuid")
    valid = [(owner, start, count) for owner, start, count in wanted if count and start + count <= MAX_ID]
    assert [(range_.owner, range_.start, range_.count) for range_ in ranges] == valid
    assert len(problems) == len(wanted) - len(valid)


small_ranges = st.lists(st.builds(range_of, st.integers(0, SPAN), st.integers(1, 9)), max_size=6)


@given(small_ranges, st.integers(0, SPAN))
def test_check_agrees_with_counting_every_id(ranges: list[SubidRange], own_id: int) -> None:
    used = [own_id, *(number for range_ in ranges for number in range(range_.start, range_.end))]
    if len(set(used)) == len(used):
        check_ranges(ranges, own_id=own_id, kind="UID")
    else:
        with pytest.raises(SubidError):
            check_ranges(ranges, own_id=own_id, kind="UID")


@given(small_ranges, st.sets(st.integers(1, SPAN), max_size=12))
def test_user_map_is_dense_and_within_what_is_available(ranges: list[SubidRange], borders: set[int]) -> None:
    edges = [0, *sorted(borders)]
    available = [IdMapEntry(a, 1000 + 2 * a, b - a) for a, b in list(zip(edges, edges[1:]))[::2]]
    available.append(IdMapEntry(500, 9000, 1))
    entries, left_out = user_map(500, ranges, available=available)

    assert [entry.id for entry in entries] == [sum(e.count for e in entries[:n]) for n in range(len(entries))]
    assert (entries[0].parent_id, entries[0].count) == (500, 1)
    for entry in entries:
        assert any(a.id <= entry.parent_id and entry.parent_id + entry.count <= a.id + a.count for a in available)
    mapped = [n for entry in entries[1:] for n in range(entry.parent_id, entry.parent_id + entry.count)]
    missing = [n for part in left_out for n in range(part.start, part.end)]
    assert sorted(mapped + missing) == sorted(n for r in ranges for n in range(r.start, r.end))
    assert not set(missing) & {n for a in available for n in range(a.id, a.id + a.count)}


def test_a_hundred_thousand_users(tmp_path: Path) -> None:
    text = "".join(f"user{n}:{n * 10 + 100000}:10\n" for n in range(USERS))
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(text)
    subids = FileSubids(str(tmp_path))
    for n in range(USERS):
        (range_,) = subids.uid_ranges(f"user{n}", n)
        assert range_.start == n * 10 + 100000
    assert len(subids.owners()) == USERS


def test_a_hundred_thousand_ranges_of_one_user() -> None:
    ranges = [range_of(2 * n, 1) for n in range(USERS)]
    check_ranges(ranges, own_id=1, kind="UID")
    with pytest.raises(SubidError, match="100001 lines"):
        user_map(1, ranges, available=[IdMapEntry(0, 0, MAX_ID)])
