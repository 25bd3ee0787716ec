# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters `host_id` and `container_id` as a play uses them: one is the other, backwards."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.filter import container_id as container_id_plugin
from ansible_collections.userns.rootless.plugins.filter import host_id as host_id_plugin

host_id = host_id_plugin.FilterModule().filters()["host_id"]
container_id = container_id_plugin.FilterModule().filters()["container_id"]

ROOTLESS = [{"id": 0, "parent_id": 1000, "count": 1}, {"id": 1, "parent_id": 100000, "count": 65536}]
BOTH = [host_id, container_id]


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(0, 1000), (1, 100000), (999, 100998), (65536, 165535), ([0, 999], [1000, 100998]), ((1,), [100000]), ([], [])],
)
def test_both_ways(inside: Any, outside: Any) -> None:
    assert host_id(inside, ROOTLESS) == outside
    assert container_id(outside, ROOTLESS) == (list(inside) if isinstance(inside, tuple) else inside)


def test_decimal_strings() -> None:
    assert host_id("999", ROOTLESS) == 100998
    assert container_id(["100998", 1000], "0:1000:1 1:100000:65536") == [999, 0]


def test_the_side_of_oci_entries() -> None:
    assert host_id(5, [{"containerID": 0, "hostID": 700, "size": 10}]) == 705
    assert container_id(705, [{"containerID": 0, "hostID": 700, "size": 10}]) == 5


@pytest.mark.parametrize(
    ("unmapped", "expected"), [("none", [None, 100998, None, None]), ("overflow", [65534, 100998, 65534, 65534])]
)
def test_unmapped(unmapped: str, expected: list[int | None]) -> None:
    # The last is "no ID".
    asked = [65537, 999, 4294967294, 4294967295]
    assert host_id(asked, ROOTLESS, unmapped) == expected
    assert [host_id(one, map=ROOTLESS, unmapped=unmapped) for one in asked] == expected
    assert container_id([1001, 99999, 165536, 0], ROOTLESS, unmapped) == [expected[0]] * 4
    assert host_id(0, [], unmapped) == expected[0]


@pytest.mark.parametrize("translate", BOTH)
def test_unmapped_is_an_error_that_shows_the_map(translate: Any) -> None:
    for ids in (70000, [*([1000] if translate is container_id else [0]), 70000]):
        with pytest.raises(AnsibleFilterError) as caught:
            translate(ids, ROOTLESS)
        assert str(caught.value).startswith(translate.__name__ + ": 70000 is not mapped; ")
        assert "is 0 1000 1, 1 100000 65536" in str(caught.value)
    with pytest.raises(AnsibleFilterError, match=r"the map .* is empty"):
        translate(0, [])


@pytest.mark.parametrize("unmapped", ["error", "none", "overflow"])
@pytest.mark.parametrize("translate", BOTH)
@pytest.mark.parametrize(
    "bad",
    [
        None,
        -1,
        "-1",
        True,
        1.0,
        "1.0",
        "",
        "alice",
        "01",
        " 1",
        "1,2",
        4294967296,
        "4294967296",
        10**30,
        {},
        b"1",
        [[0]],
    ],
)
def test_what_is_no_id_is_always_an_error(bad: Any, translate: Any, unmapped: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"{translate.__name__}: .* is no ID: it must be a whole number"):
        translate(bad, ROOTLESS, unmapped)
    with pytest.raises(AnsibleFilterError, match="is no ID"):
        translate([bad], ROOTLESS, unmapped)


@pytest.mark.parametrize("translate", BOTH)
@pytest.mark.parametrize(
    ("id_map", "message"),
    [
        (None, "map must be a list"),
        ([None], "entry 1 of map: None is not"),
        (["0:1000:1", "0:5:5"], "overlap inside"),
        (["0:1000:10", "50:1009:1"], "overlap in the parent namespace"),
        ([{"containerID": 0, "hostID": 0, "size": 0}], "count must be at least 1"),
    ],
)
def test_bad_maps(id_map: Any, message: str, translate: Any) -> None:
    for ids in (0, []):
        with pytest.raises(AnsibleFilterError, match=f"^{translate.__name__}: .*{message}"):
            translate(ids, id_map, "none")


@pytest.mark.parametrize("translate", BOTH)
@pytest.mark.parametrize("unmapped", [None, "", "Error", "null", 0, False, ["none"], {}])
def test_bad_unmapped(unmapped: Any, translate: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="unmapped must be one of the strings error, none, overflow, not "):
        translate(0, ROOTLESS, unmapped)
