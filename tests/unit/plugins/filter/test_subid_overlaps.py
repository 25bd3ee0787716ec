# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter as a play uses it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ansible.errors")

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.filter.subid_overlaps import FilterModule

subid_overlaps = FilterModule().filters()["subid_overlaps"]


def user(name: str, *starts: int, gids: tuple[int, ...] = ()) -> dict[str, Any]:
    def ranges(of: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"owner": name, "start": start, "count": 10, "source": "/etc/subuid", "line": 1} for start in of]

    return {"user": name, "uid": 1, "source": "files", "uid_ranges": ranges(starts), "gid_ranges": ranges(gids)}


def test_one_host() -> None:
    (found,) = subid_overlaps([user("alice", 100, 200), user("bob", 109, gids=(100,)), user("carol", 110 + 9)])
    assert found == {
        "kind": "uid",
        "first": {"user": "alice", "start": 100, "count": 10},
        "second": {"user": "bob", "start": 109, "count": 10},
    }


def test_hosts_that_share_storage() -> None:
    hosts = {"one": [user("alice", 100)], "two": [user("alice", 100), user("bob", 200)], "three": [user("carol", 205)]}
    (found,) = subid_overlaps(hosts)
    assert (found["first"], found["second"]) == (
        {"host": "two", "user": "bob", "start": 200, "count": 10},
        {"host": "three", "user": "carol", "start": 205, "count": 10},
    )


UNNAMED = [{"user": ["alice"], "uid_ranges": [{"start": 1, "count": 1}], "gid_ranges": []}]


@pytest.mark.parametrize(
    "what", [None, "text", 7, [1], [{"user": "alice"}], {"one": "text"}, [{"uid_ranges": [{}]}], UNNAMED]
)
def test_anything_else(what: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="subid_overlaps"):
        subid_overlaps(what)


def test_the_same_range_on_many_hosts_shares_with_another_on_each() -> None:
    hosts = {"one": [user("alice", 100)], "two": [user("alice", 100)], "three": [user("carol", 105)]}
    found = subid_overlaps(hosts)
    assert sorted((pair["first"]["host"], pair["second"]["host"]) for pair in found) == [
        ("one", "three"),
        ("two", "three"),
    ]
