# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import (
    MAX_ID,
    IdMap,
    IdMapEntry,
    IdMapError,
    OciMapping,
    count_ids,
    format_id_map,
    merge,
    overlapping,
    parse_id_map,
    split_mappings,
)

SPAN = 60
HUGE = 100_000


@st.composite
def id_maps(draw: st.DrawFn) -> list[IdMapEntry]:
    """Small maps without overlaps, so that a table of every single ID can check them."""
    borders = sorted(draw(st.sets(st.integers(0, SPAN), min_size=2, max_size=10)))
    inside = [(start, end - start) for start, end in zip(borders, borders[1:]) if draw(st.booleans())]
    entries = []
    parent = 0
    for start, count in draw(st.permutations(inside)):
        parent += draw(st.integers(0, 2))
        entries.append(IdMapEntry(start, parent, count))
        parent += count
    return draw(st.permutations(entries))


def table(entries: list[IdMapEntry]) -> dict[int, int]:
    return {entry.id + offset: entry.parent_id + offset for entry in entries for offset in range(entry.count)}


mappings = st.lists(st.builds(OciMapping, st.integers(0, SPAN), st.integers(0, SPAN), st.integers(0, SPAN)), max_size=4)


@given(id_maps())
def test_text_round_trip(entries: list[IdMapEntry]) -> None:
    assert parse_id_map(format_id_map(entries), origin="map") == tuple(entries)


@given(st.text() | st.text("0123456789 \n-"))
def test_any_text_is_a_map_or_an_error(text: str) -> None:
    try:
        entries = parse_id_map(text, origin="map")
    except IdMapError:
        return
    assert parse_id_map(format_id_map(entries), origin="map") == entries


@given(id_maps(), st.integers(0, 2 * SPAN))
def test_translation_agrees_with_the_table(entries: list[IdMapEntry], wanted: int) -> None:
    parents = table(entries)
    id_map = IdMap(entries)
    assert id_map.to_parent(wanted) == parents.get(wanted)
    assert id_map.to_inside(wanted) == {parent: inside for inside, parent in parents.items()}.get(wanted)
    assert count_ids(entries) == len(parents)


@given(id_maps(), st.integers(0, SPAN), st.integers(0, SPAN))
def test_pieces_cover_all_and_lie_in_one_entry(entries: list[IdMapEntry], start: int, count: int) -> None:
    next_start = start
    for piece_start, piece_count, held in IdMap(entries).pieces(start, count):
        assert piece_start == next_start
        assert piece_count > 0
        next_start += piece_count
        holders = [e for e in entries if e.id <= piece_start and piece_start + piece_count <= e.id + e.count]
        assert bool(holders) == held
    assert next_start == start + count


@given(mappings, id_maps())
def test_split_keeps_the_meaning(wanted: list[OciMapping], available: list[IdMapEntry]) -> None:
    def pairs(parts: list[OciMapping]) -> list[tuple[int, int]]:
        return [(part.container_id + i, part.host_id + i) for part in parts for i in range(part.size)]

    inside = table(available)
    parts = split_mappings(wanted, available)
    assert pairs(list(parts)) == pairs(wanted)
    hosts = {host for _container, host in pairs(wanted)} | {mapping.host_id for mapping in wanted}
    if not hosts <= inside.keys():
        assert parts == tuple(wanted)
    else:
        for part in parts:
            assert any(e.id <= part.host_id and part.host_id + part.size <= e.id + e.count for e in available)


@given(id_maps(), id_maps())
def test_merged_maps_are_equal_iff_they_mean_the_same(one: list[IdMapEntry], two: list[IdMapEntry]) -> None:
    assert (merge(one) == merge(two)) == (table(one) == table(two))


@given(id_maps(), st.data())
def test_merge_undoes_cutting(entries: list[IdMapEntry], data: st.DataObject) -> None:
    cut = []
    for entry in entries:
        at = data.draw(st.integers(0, entry.count - 1))
        if at:
            cut.append(IdMapEntry(entry.id, entry.parent_id, at))
        cut.append(IdMapEntry(entry.id + at, entry.parent_id + at, entry.count - at))
    assert merge(cut) == merge(entries)
    assert merge(merge(entries)) == merge(entries)


@given(st.lists(st.tuples(st.integers(0, SPAN), st.integers(0, 9)), max_size=12))
@example([(0, 5), (0, 0), (1, 1)])
def test_overlapping_agrees_with_all_pairs(intervals: list[tuple[int, int]]) -> None:
    found = overlapping((start, count, tag) for tag, (start, count) in enumerate(intervals))
    ids = [set(range(start, start + count)) for start, count in intervals]
    expected = {(a, b) for a in range(len(ids)) for b in range(a) if ids[a] & ids[b]}
    assert {(max(pair), min(pair)) for pair in found} == expected
    assert len(found) == len(expected)


def test_huge_inputs() -> None:
    entries = [IdMapEntry(2 * number, MAX_ID - number, 1) for number in range(HUGE)]
    id_map = IdMap(entries)
    assert all(id_map.to_inside(MAX_ID - number) == 2 * number for number in range(HUGE))
    assert overlapping((entry.id, entry.count, entry) for entry in entries) == []
    dense = [IdMapEntry(number, 3 * number, 1) for number in range(HUGE)]
    assert len(split_mappings([OciMapping(0, 0, HUGE)], dense)) == HUGE
    assert len(merge(dense)) == HUGE
