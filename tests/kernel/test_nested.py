# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside a user namespace: the maps are what is available there, in lines that each lie in one line of our own map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]

# Everybody's IDs as they are, up to where the user's ranges begin.
LOW = "0 0 100000\n"


def entry_of(result: dict[str, Any]) -> dict[str, Any]:
    assert "namespaces" in result, result
    (entry,) = result["namespaces"]
    return dict(entry)


def test_all_that_is_available(module: Run, user: Any, in_userns: Any, expected_maps: Any) -> None:
    entry = entry_of(module("rootless_ns", users=[user.name], pin=False, prefix=in_userns("0 0 4294967295\n")))
    assert (entry["action"], entry["uid_map"]) == ("created", expected_maps(user)["uid_map"])


def test_what_is_not_available_is_left_out(module: Run, user: Any, in_userns: Any, expected_maps: Any) -> None:
    first = expected_maps(user)["uid_map"][1]["parent_id"]
    maps = f"0 0 65536\n{first} {first} 1000\n"
    entry = entry_of(module("rootless_ns", users=[user.name], pin=False, prefix=in_userns(maps)))
    assert entry["uid_map"] == [
        {"id": 0, "parent_id": user.uid, "count": 1},
        {"id": 1, "parent_id": first, "count": 1000},
    ]
    assert "not available" in entry["msg"]


def test_ranges_are_split_at_the_borders_of_our_own_map(
    module: Run, user: Any, in_userns: Any, expected_maps: Any
) -> None:
    first = expected_maps(user)["uid_map"][1]["parent_id"]
    elsewhere = 4_100_000_000
    maps = f"0 0 65536\n{first} {first} 300\n{first + 300} {elsewhere} 65236\n"
    entry = entry_of(module("rootless_ns", users=[user.name], pin=False, prefix=in_userns(maps)))
    assert entry["action"] == "created", entry
    assert entry["uid_map"] == [
        {"id": 0, "parent_id": user.uid, "count": 1},
        {"id": 1, "parent_id": first, "count": 300},
        {"id": 301, "parent_id": first + 300, "count": 65236},
    ]
    assert (entry["drift"], entry["msg"]) == (False, "")


def test_the_own_id_only(module: Run, user: Any, public_python: str) -> None:
    # An ordinary user that keeps its ID in a namespace of its own: what a sandbox looks like.
    start = user.command("unshare", "--user", f"--map-user={user.uid}", f"--map-group={user.gid}")
    entry = entry_of(module("rootless_ns", prefix=tuple(start)))
    assert (entry["action"], entry["uid_map"]) == ("created", [{"id": 0, "parent_id": user.uid, "count": 1}])
    assert "not available" in entry["msg"]


def test_info_gives_the_maps_of_the_namespace_it_runs_in(module: Run, user: Any, public_python: str) -> None:
    result = module("rootless_ns_info", prefix=tuple(user.command("unshare", "-Ur")))
    assert result["available"] == {
        "uid_map": [{"id": 0, "parent_id": user.uid, "count": 1}],
        "gid_map": [{"id": 0, "parent_id": user.gid, "count": 1}],
        "uids": 1,
        "gids": 1,
    }
