# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode against everything an action could touch: files, pins, processes. It changes none and tells them all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


def nothing(ns: Run, user: Any) -> None:
    pass


def set_up(ns: Run, user: Any) -> None:
    ns(user)


def with_handles(ns: Run, user: Any) -> None:
    ns(user, method="handles")


def pause_lost(ns: Run, user: Any) -> None:
    ns(user)
    user.kill_pause()


def pause_file_lost(ns: Run, user: Any) -> None:
    ns(user)
    user.pause_file.unlink()


def pin_missing(ns: Run, user: Any) -> None:
    ns(user, pin=False)


def corrupt_handles(ns: Run, user: Any) -> None:
    ns(user)
    user.run("sh", "-c", f"echo > {user.handles_file}")


def only_rubbish(ns: Run, user: Any) -> None:
    user.run("sh", "-c", f"mkdir -p {user.state_dir}; echo what > {user.pause_file}; echo > {user.handles_file}")


def drifted(ns: Run, user: Any) -> None:
    ns(user)
    user.add_subuids()


def tree(top: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns)
    return found


def everything(user: Any) -> dict[str, Any]:
    """All that the module could have changed of a user's, by identity and time, not by name alone."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    pins = tree(user.pin) if user.pin.exists() else {}
    return {
        "files": tree(user.runtime_dir),
        "pins": pins,
        "mounts": [line for line in mounts if f"{user.pin}/" in line],
        "processes": {pid: os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in user.processes()},
    }


@pytest.mark.parametrize(
    ("before", "args", "action"),
    [
        (nothing, {}, "created"),
        (nothing, {"method": "handles"}, "created"),
        (nothing, {"state": "absent"}, "none"),
        (only_rubbish, {}, "created"),
        (only_rubbish, {"state": "absent"}, "removed"),
        (set_up, {}, "rejoined"),
        (set_up, {"method": "handles"}, "repaired"),
        (set_up, {"state": "absent"}, "removed"),
        (with_handles, {}, "repaired"),
        (with_handles, {"method": "handles"}, "rejoined"),
        (with_handles, {"state": "absent"}, "removed"),
        (pause_lost, {}, "repaired"),
        (pause_lost, {"state": "absent"}, "removed"),
        (pause_file_lost, {}, "repaired"),
        (pause_file_lost, {"state": "absent"}, "removed"),
        (pin_missing, {}, "repaired"),
        (pin_missing, {"pin": False}, "rejoined"),
        (corrupt_handles, {}, "repaired"),
        (drifted, {}, "rejoined"),
        (drifted, {"on_drift": "fail"}, "failed"),
        (drifted, {"on_drift": "recreate"}, "recreated"),
    ],
)
def test_check_mode_changes_nothing_and_foretells(
    ns: Run, user: Any, before: Callable[[Run, Any], None], args: dict[str, Any], action: str
) -> None:
    before(ns, user)
    was = everything(user)
    foretold = ns(user, check=True, diff=True, **args)
    assert everything(user) == was
    assert foretold["action"] == action
    assert foretold["changed"] is (action not in ("rejoined", "none", "failed"))
    done = ns(user, diff=True, **args)
    # What check mode can know, it must have known.
    for name in ("action", "changed", "uid_map", "gid_map", "drift", "state_dir"):
        assert foretold[name] == done[name], name
    if action not in ("created", "recreated"):
        assert (foretold["userns"], foretold["mntns"]) == (done["userns"], done["mntns"])
    assert bool(foretold["diff"]) is bool(done["diff"]) is done["changed"]
    if action in ("rejoined", "none", "failed"):
        assert everything(user) == was
    again = ns(user, **args)
    assert again["changed"] is False
    settled = everything(user)
    assert ns(user, check=True, **args)["changed"] is False
    assert everything(user) == settled
