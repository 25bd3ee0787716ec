# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("ansible.errors")
pytest.importorskip("hypothesis")

from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.filter.container_id import container_id
from ansible_collections.userns.rootless.plugins.filter.host_id import host_id

LAST = 4294967295


@st.composite
def disjoint_maps(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Maps over all 32 bits in which no ID occurs twice on either side."""
    borders = sorted(draw(st.sets(st.integers(0, LAST), min_size=2, max_size=12)))
    ranges = [(start, end - start) for start, end in zip(borders, borders[1:])]
    chosen = draw(st.lists(st.sampled_from(ranges), unique=True, min_size=1))
    gaps = LAST - sum(count for _start, count in chosen)
    lines = []
    parent = 0
    for start, count in chosen:
        gap = draw(st.integers(0, gaps))
        gaps -= gap
        lines.append((start, parent + gap, count))
        parent += gap + count
    return lines


def written(lines: list[tuple[int, int, int]], notation: str) -> Any:
    if notation == "strings":
        return ["{}:{}:{}".format(*line) for line in lines]
    if notation == "text":
        return "".join("{:10} {:10} {:10}\n".format(*line) for line in lines)
    keys = ("id", "parent_id", "count") if notation == "entries" else ("containerID", "hostID", "size")
    return [dict(zip(keys, line)) for line in lines]


notations = st.sampled_from(["entries", "oci", "strings", "text"])


@given(disjoint_maps(), notations, st.data())
def test_container_id_undoes_host_id(lines: list[tuple[int, int, int]], notation: str, data: st.DataObject) -> None:
    id_map = written(lines, notation)
    start, parent, count = data.draw(st.sampled_from(lines))
    offset = data.draw(st.integers(0, count - 1))
    assert host_id(start + offset, id_map) == parent + offset
    assert container_id(host_id(start + offset, id_map), id_map) == start + offset
    assert host_id(container_id(parent + offset, id_map), id_map) == parent + offset


@given(disjoint_maps(), notations, st.lists(st.integers(0, LAST)))
def test_any_id_is_translated_back_or_not_at_all(
    lines: list[tuple[int, int, int]], notation: str, ids: list[int]
) -> None:
    id_map = written(lines, notation)
    for asked, found in zip(ids, host_id(ids, id_map, "none")):
        assert (found is None) == (not any(start <= asked < start + count for start, _parent, count in lines))
        assert found is None or container_id(found, id_map) == asked


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text("0123456789: ,\n-") | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "parent_id", "count", "containerID", "hostID", "size"]), inner)
    ),
    max_leaves=12,
)


@given(anything, anything)
def test_anything_gives_an_answer_or_a_filter_error(ids: Any, id_map: Any) -> None:
    for translate in (host_id, container_id):
        with suppress(AnsibleFilterError):
            translate(ids, id_map, "none")
