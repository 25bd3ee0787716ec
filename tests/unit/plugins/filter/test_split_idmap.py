# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter as a play uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.filter.split_idmap import FilterModule

split_idmap = FilterModule().filters()["split_idmap"]

REFERENCE = json.loads((Path(__file__).parents[1] / "module_utils/fixtures/split_mappings.json").read_text())
ROOTLESS = [{"id": 0, "parent_id": 1000, "count": 1}, {"id": 1, "parent_id": 100000, "count": 65536}]


def oci(*lines: tuple[int, int, int]) -> list[dict[str, int]]:
    return [dict(zip(("containerID", "hostID", "size"), line)) for line in lines]


@pytest.mark.parametrize("case", REFERENCE)
def test_as_the_reference(case: dict[str, list[dict[str, int]]]) -> None:
    lines = [(entry["ID"], entry["ParentID"], entry["Count"]) for entry in case["available"]]
    for available in (
        [dict(zip(("id", "parent_id", "count"), line)) for line in lines],
        oci(*lines),
        ["{}:{}:{}".format(*line) for line in lines],
        "\n".join("{} {} {}".format(*line) for line in lines),
    ):
        assert split_idmap(case["mappings"], available) == case["expected"]


@pytest.mark.parametrize(
    ("mappings", "available", "expected"),
    [
        (oci((0, 0, 1001)), ROOTLESS, oci((0, 0, 1), (1, 1, 1000))),
        ("0:0:1001", ROOTLESS, oci((0, 0, 1), (1, 1, 1000))),
        ([{"id": 0, "parent_id": 0, "count": 1001}], ROOTLESS, oci((0, 0, 1), (1, 1, 1000))),
        ([{"containerID": "0", "hostID": "1", "size": "5"}], ROOTLESS, oci((0, 1, 5))),
        # Among the IDs inside, not the parent's.
        (oci((0, 100000, 1)), ROOTLESS, oci((0, 100000, 1))),
        # One part is missing: everything comes back as it was.
        (oci((0, 0, 1001), (5000, 65536, 2)), ROOTLESS, oci((0, 0, 1001), (5000, 65536, 2))),
        (oci((0, 5, 0)), ROOTLESS, oci((0, 5, 0))),
        ([], ROOTLESS, []),
        (oci((0, 0, 1)), [], oci((0, 0, 1))),
        ([], [], []),
    ],
)
def test_split(mappings: Any, available: Any, expected: list[dict[str, int]]) -> None:
    before = json.dumps([mappings, available])
    assert split_idmap(mappings, available) == expected
    assert json.dumps([mappings, available]) == before


@pytest.mark.parametrize(
    ("mappings", "available", "message"),
    [
        (None, ROOTLESS, "split_idmap: mappings must be a list"),
        (oci((0, 0, 1)), None, "split_idmap: available must be a list"),
        (
            oci((0, 0, 1)) * 2 + [{"containerID": 0}],
            ROOTLESS,
            "split_idmap: entry 3 of mappings: .*exactly containerID",
        ),
        (
            oci((0, 0, 1)),
            [{"ID": 0, "ParentID": 0, "Count": 1}],
            "split_idmap: entry 1 of available: .* is not .id, parent",
        ),
        # Also where the answer would not depend on it.
        ([], "nonsense", "split_idmap: available line 1"),
        ("0:0:0", ROOTLESS, "split_idmap: mappings: .*count must be at least 1"),
    ],
)
def test_bad_input(mappings: Any, available: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        split_idmap(mappings, available)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[].size", [1, 1000]),
        ("[?hostID >= `1`].containerID", [1]),
        ("sum([].size)", 1001),
        ("max_by(@, &size).hostID", 1),
        ("[*].[containerID, hostID, size]", [[0, 0, 1], [1, 1, 1000]]),
    ],
)
def test_results_as_jmespath_sees_them(expression: str, expected: Any) -> None:
    jmespath = pytest.importorskip("jmespath")
    assert jmespath.search(expression, split_idmap("0:0:1001", ROOTLESS)) == expected


def test_large_input() -> None:
    count = 100_000
    available = [{"id": number, "parent_id": 3 * number, "count": 1} for number in range(count)]
    assert len(split_idmap(oci((0, 0, count)), available)) == count
    assert split_idmap(oci(*((number, number, 1) for number in range(count))), "0:0:100000")[-1]["hostID"] == count - 1
