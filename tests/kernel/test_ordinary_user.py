# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary user for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]


def test_set_up_rejoin_lose_and_remove(ns: Run, user: Any, expected_maps: Any, inodes: Any) -> None:
    first = ns(user, as_user=user)
    assert (first["action"], first["pinned"], first["method"]) == ("created", False, "pause")
    assert {kind: first[kind] for kind in ("uid_map", "gid_map")} == expected_maps(user)
    assert (first["userns"], first["mntns"]) == inodes(user.pause_pid())
    second = ns(user, as_user=user)
    assert (second["action"], second["changed"], second["userns"]) == ("rejoined", False, first["userns"])
    user.kill_pause()
    lost = ns(user, as_user=user)
    assert (lost["action"], user.processes()) == ("created", [lost["pause_pid"]])
    removed = ns(user, as_user=user, state="absent")
    assert (removed["action"], user.processes()) == ("removed", [])


def test_root_pins_what_the_user_has_made(ns: Run, user: Any) -> None:
    first = ns(user, as_user=user)
    pinned = ns(user)
    assert (pinned["action"], pinned["pinned"], pinned["userns"]) == ("repaired", True, first["userns"])
    user.kill_pause()
    # The owner finds its way back through the pin.
    again = ns(user, as_user=user)
    assert (again["action"], again["userns"], again["pinned"]) == ("repaired", first["userns"], True)


def test_only_root_removes_a_pin(ns: Run, user: Any) -> None:
    ns(user)
    result = ns(user, as_user=user, state="absent")
    assert (result["failed"], result["changed"]) == (True, False)
    assert "only root can remove a pin" in result["msg"]
    assert user.processes() == [user.pause_pid()]


def test_handles_alone_would_keep_nothing(ns: Run, user: Any, reads_handles: bool) -> None:
    refused = ns(user, as_user=user, method="handles")
    assert refused["failed"]
    assert "without a pin" in refused["msg"]
    asked = ns(user, as_user=user, env={"PODMAN_NO_PAUSE_PROCESS": "1"})
    assert (asked["action"], asked["method"]) == ("created", "pause")
    assert ("without a pin" if reads_handles else "reads none") in asked["msg"]


def test_nobody_acts_for_others(module: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    result = module("rootless_ns", as_user=user, users=[user.name, other.name])
    assert result["failed"]
    assert other.name in result["msg"]
    assert (user.processes(), other.processes()) == ([], [])
    assert "needs root" in module("rootless_ns", as_user=user, pin=True)["msg"]
