# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman itself sits where we say, and we find what Podman made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]
Podman = Callable[[Any, str], str]

WHERE = "readlink /proc/self/ns/user; readlink /proc/self/ns/mnt; cat /proc/self/uid_map"


def shown(result: dict[str, Any]) -> list[str]:
    lines = [f"user:[{result['userns']}]", f"mnt:[{result['mntns']}]"]
    return lines + [f"{entry['id']} {entry['parent_id']} {entry['count']}" for entry in result["uid_map"]]


def where(podman: Podman, user: Any) -> list[str]:
    return [" ".join(line.split()) for line in podman(user, WHERE).splitlines()]


def test_podman_joins_what_we_set_up(ns: Run, user: Any, podman: Podman) -> None:
    result = ns(user)
    assert where(podman, user) == shown(result)
    again = ns(user)
    assert (again["action"], again["changed"], again["pause_pid"]) == ("rejoined", False, result["pause_pid"])


def test_we_join_what_podman_set_up(ns: Run, user: Any, podman: Podman) -> None:
    place = where(podman, user)
    result = ns(user, as_user=user)
    assert (result["action"], result["changed"], result["method"]) == ("rejoined", False, "pause")
    assert shown(result) == place
    unpinned = ns(user, pin=False)
    assert (unpinned["action"], unpinned["changed"], shown(unpinned)) == ("rejoined", False, place)


def test_podman_joins_what_we_repaired(ns: Run, user: Any, podman: Podman) -> None:
    place = where(podman, user)
    assert ns(user)["action"] == "repaired", "the pin"
    user.kill_pause()
    assert ns(user)["action"] == "repaired"
    assert where(podman, user) == place


def test_after_absent_podman_starts_anew(ns: Run, user: Any, podman: Podman) -> None:
    ns(user)
    ns(user, state="absent")
    place = where(podman, user)
    assert shown(ns(user)) == place
