# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

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
    parse_decimal,
    parse_id,
    parse_id_map,
    split_mappings,
)

REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "split_mappings.json").read_text())

INITIAL = IdMapEntry(0, 0, MAX_ID)
ROOTLESS = (IdMapEntry(0, 1000, 1), IdMapEntry(1, 100000, 65536))


def entries_of(*lines: tuple[int, int, int]) -> tuple[IdMapEntry, ...]:
    return tuple(IdMapEntry(*line) for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("7", 7),
        ("4294967295", MAX_ID),
        ("4294967296", None),
        ("9" * 5000, None),
        ("00", None),
        ("0100000", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1_000", None),
        (" 1", None),
        ("1\r", None),
        ("0x10", None),
        ("\u0661", None),
        ("\u00b2", None),
    ],
)
def test_parse_decimal(text: str, expected: int | None) -> None:
    assert parse_decimal(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (MAX_ID, MAX_ID), ("0", 0), ("999", 999), (str(MAX_ID), MAX_ID)]
)
def test_parse_id(value: object, expected: int) -> None:
    assert parse_id(value) == expected


@pytest.mark.parametrize("value", [None, True, -1, MAX_ID + 1, 1.0, "", "-1", "01", "x", str(MAX_ID + 1), b"1", [1]])
def test_parse_id_refuses(value: object) -> None:
    with pytest.raises(IdMapError, match="is no ID: it must be a whole number from 0 to 4294967295"):
        parse_id(value)


@pytest.mark.parametrize(
    "fields", [(0, 0, MAX_ID), (1, 1, MAX_ID), (0, 0, 1), (MAX_ID, 0, 1), (0, MAX_ID, 1), (0, MAX_ID - 9, 10)]
)
def test_entry_at_the_edges(fields: tuple[int, int, int]) -> None:
    entry = IdMapEntry(*fields)
    assert tuple(entry.as_dict().values()) == fields
    assert IdMapEntry.parse(entry.as_dict()) == entry


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 0, 0), "count must be at least 1"),
        ((-1, 0, 1), "id must be a whole number"),
        ((0, -1, 1), "parent_id must be a whole number"),
        ((0, 0, MAX_ID + 1), "count must be a whole number"),
        ((0, True, 1), "parent_id must be a whole number"),
        ((0, 0, 1.0), "count must be a whole number"),
        (("0", 0, 1), "id must be a whole number"),
        ((2, 0, MAX_ID), "runs past the last 32-bit ID"),
        ((0, 2, MAX_ID), "runs past the last 32-bit ID"),
    ],
)
def test_entry_refuses(fields: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(IdMapError, match=message):
        IdMapEntry(*fields)


def test_entry_parse_takes_strings() -> None:
    assert IdMapEntry.parse({"id": "1", "parent_id": 100000, "count": "65536"}) == IdMapEntry(1, 100000, 65536)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "None: it must be a mapping of exactly id, parent_id, count"),
        ([0, 0, 1], "must be a mapping"),
        ({"id": 0, "parent_id": 0}, "must be a mapping of exactly"),
        ({"ID": 0, "ParentID": 0, "Count": 1}, "'ParentID': 0.*must be a mapping of exactly"),
        ({"id": 0, "parent_id": 0, "count": 1, "size": 1}, "must be a mapping of exactly"),
        ({"id": "x", "parent_id": 0, "count": 1}, "id='x', .*: id must be a whole number"),
        ({"id": 0, "parent_id": None, "count": 1}, "parent_id must be a whole number"),
        ({"id": 0, "parent_id": 0, "count": "-1"}, "count must be a whole number"),
        ({"id": 0, "parent_id": 0, "count": "0"}, "count must be at least 1"),
    ],
)
def test_entry_parse_refuses(value: object, message: str) -> None:
    with pytest.raises(IdMapError, match=message):
        IdMapEntry.parse(value)


def test_mapping_allows_size_zero() -> None:
    mapping = OciMapping.parse({"containerID": 1, "hostID": "5", "size": 0})
    assert mapping == OciMapping(1, 5, 0)
    assert mapping.as_dict() == {"containerID": 1, "hostID": 5, "size": 0}


@pytest.mark.parametrize(
    "value",
    [
        {"containerID": 0, "hostID": 0},
        {"containerID": 0, "hostID": 0, "size": True},
        {"containerID": 0, "hostID": MAX_ID + 1, "size": 1},
        {"container_id": 0, "host_id": 0, "size": 1},
        "0:0:1",
    ],
)
def test_mapping_parse_refuses(value: object) -> None:
    with pytest.raises(IdMapError, match="ID mapping"):
        OciMapping.parse(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("         0          0 4294967295\n", (INITIAL,)),
        ("         0       1000          1\n         1     100000      65536\n", ROOTLESS),
        ("0 1000 1", (IdMapEntry(0, 1000, 1),)),
    ],
)
def test_parse_id_map(text: str, expected: tuple[IdMapEntry, ...]) -> None:
    assert parse_id_map(text, origin="map") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 1\nx 1 1\n", '^/proc/7/uid_map line 2: "x 1 1" is not three'),
        ("0 0\n", "line 1: .* is not three decimal"),
        ("0 0 1 1\n", "line 1: .* is not three decimal"),
        ("\n", "line 1: .* is not three decimal"),
        ("0 0 0\n", "line 1: .*count must be at least 1"),
        ("0 0 4294967296\n", "line 1: .* is not three decimal"),
        ("0 2 4294967295\n", "line 1: .*runs past"),
    ],
)
def test_parse_id_map_names_the_line(text: str, message: str) -> None:
    with pytest.raises(IdMapError, match=message):
        parse_id_map(text, origin="/proc/7/uid_map")


def test_the_kernels_own_map() -> None:
    text = Path("/proc/self/uid_map").read_text()
    entries = parse_id_map(text, origin="/proc/self/uid_map")
    assert IdMap(entries).to_parent(os.getuid()) is not None
    assert format_id_map(entries).split() == text.split()


def test_format_and_count() -> None:
    assert format_id_map(ROOTLESS) == "0 1000 1\n1 100000 65536\n"
    assert format_id_map(()) == ""
    assert count_ids(ROOTLESS) == 65537
    assert count_ids(()) == 0


@pytest.mark.parametrize(
    ("inside", "parent"), [(0, 1000), (1, 100000), (65536, 165535), (65537, None), (None, 999), (None, 165536)]
)
def test_translation(inside: int | None, parent: int | None) -> None:
    id_map = IdMap(reversed(ROOTLESS))
    if inside is not None:
        assert id_map.to_parent(inside) == parent
    if parent is not None:
        assert id_map.to_inside(parent) == inside


def test_translation_in_an_empty_map() -> None:
    assert IdMap(()).to_parent(0) is None
    assert IdMap(()).to_inside(0) is None


@pytest.mark.parametrize(
    ("entries", "side"),
    [
        (entries_of((0, 0, 10), (9, 100, 1)), "inside"),
        (entries_of((0, 100, 10), (50, 109, 1)), "in the parent namespace"),
        (entries_of((0, 0, 1), (0, 0, 1)), "inside"),
    ],
)
def test_map_refuses_an_id_twice(entries: tuple[IdMapEntry, ...], side: str) -> None:
    with pytest.raises(IdMapError, match=f"overlap {side}"):
        IdMap(entries)


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (0, 10, [(0, 10, True)]),
        (5, 10, [(5, 5, True), (10, 5, True)]),
        (15, 20, [(15, 5, True), (20, 10, False), (30, 5, True)]),
        (35, 10, [(35, 5, True), (40, 5, False)]),
        (22, 3, [(22, 3, False)]),
        (100, 1, [(100, 1, False)]),
        (0, 0, []),
    ],
)
def test_pieces(start: int, count: int, expected: list[tuple[int, int, bool]]) -> None:
    id_map = IdMap(entries_of((30, 5000, 10), (0, 7000, 10), (10, 100, 10)))
    assert list(id_map.pieces(start, count)) == expected


@pytest.mark.parametrize("case", REFERENCE)
def test_split_as_the_reference(case: dict[str, list[dict[str, int]]]) -> None:
    available = [IdMapEntry(entry["ID"], entry["ParentID"], entry["Count"]) for entry in case["available"]]
    mappings = [OciMapping.parse(mapping) for mapping in case["mappings"]]
    assert [part.as_dict() for part in split_mappings(mappings, available)] == case["expected"]


def test_the_reference_is_complete() -> None:
    assert len(REFERENCE) == 300
    assert any(case["expected"] != case["mappings"] for case in REFERENCE)


@pytest.mark.parametrize(
    ("mapping", "available", "expected"),
    [
        # Only the entry with the nearest start counts, even where an earlier one reaches further.
        ((0, 50, 1), entries_of((0, 0, 100), (10, 500, 10)), [(0, 50, 1)]),
        ((0, 5, 20), entries_of((0, 0, 100), (10, 500, 10)), [(0, 5, 20)]),
        # Of two with the same start, the first as given.
        ((0, 0, 10), entries_of((0, 0, 5), (0, 500, 50), (5, 900, 5)), [(0, 0, 5), (5, 5, 5)]),
        # Looked up among the IDs inside, so the parent's are no help.
        ((0, 1000, 1), entries_of((0, 1000, 1)), [(0, 1000, 1)]),
        ((0, MAX_ID - 1, 9), (IdMapEntry(0, 0, MAX_ID), IdMapEntry(MAX_ID, MAX_ID, 1)), [(0, MAX_ID - 1, 9)]),
        ((MAX_ID, 0, 2), entries_of((0, 0, 1), (1, 1, 1)), [(MAX_ID, 0, 2)]),
    ],
)
def test_split_at_the_edges(
    mapping: tuple[int, int, int], available: tuple[IdMapEntry, ...], expected: list[tuple[int, int, int]]
) -> None:
    assert split_mappings([OciMapping(*mapping)], available) == tuple(OciMapping(*part) for part in expected)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((), ()),
        (entries_of((1, 101, 2), (0, 100, 1), (3, 103, 1)), entries_of((0, 100, 4))),
        (entries_of((0, 100, 1), (1, 200, 1)), entries_of((0, 100, 1), (1, 200, 1))),
        (entries_of((0, 100, 1), (2, 101, 1)), entries_of((0, 100, 1), (2, 101, 1))),
        (entries_of((1, 1, MAX_ID - 1), (0, 0, 1)), (INITIAL,)),
    ],
)
def test_merge(entries: tuple[IdMapEntry, ...], expected: tuple[IdMapEntry, ...]) -> None:
    assert merge(entries) == expected


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], []),
        ([(0, 10, "a"), (10, 10, "b")], []),
        ([(9, 10, "b"), (0, 10, "a")], [("a", "b")]),
        ([(0, 100, "a"), (10, 5, "b"), (20, 5, "c")], [("a", "b"), ("a", "c")]),
        ([(0, 1, "a"), (0, 1, "b"), (0, 1, "c")], [("a", "b"), ("a", "c"), ("b", "c")]),
        ([(0, 10, "a"), (5, 0, "empty")], []),
    ],
)
def test_overlapping(intervals: list[tuple[int, int, str]], expected: list[tuple[str, str]]) -> None:
    assert sorted(overlapping(intervals)) == expected


def test_overlapping_never_compares_tags() -> None:
    assert len(overlapping([(0, 5, object()), (0, 5, object()), (0, 5, object())])) == 3
