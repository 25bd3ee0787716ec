# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a process lives, by its cgroup, and whether it ends with whoever started it.

A process ends with its maker if systemd ends it together with something that is somebody's:

- a login session: the scope `session-*.scope`, ended by logout where `KillUserProcesses=yes`, `loginctl
  terminate-session` and `terminate-user`;
- a service of the system's or of the user's own manager (`*.service`), ended when it stops;
- an application in the user's own manager: any scope there that is not in the manager's `user.slice`.

Only a process that is in the unit itself counts. One in a cgroup below a unit was put there by a program that manages
cgroups, with limits of its own: a batch system or a container engine. Neither do cgroups count that are none of these
units, nor, on cgroup version 1, a process that a hierarchy keeps elsewhere than systemd has put it, as Slurm does.
What such a manager keeps together is to end together.

Scopes in `user.slice` of the user's own manager are those of Podman and of this library, made to stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SESSION = re.compile(r"session-[^/]+\.scope")
# The user's own manager, and what is below it.
_OF_A_MANAGER = re.compile(r"/user\.slice/user-(?P<slice>\d+)\.slice/user@(?P<uid>\d+)\.service/(?P<rest>.+)")
_MANAGER_ITSELF = re.compile(r"user@\d+\.service")
_KEPT_IN_A_MANAGER = ("user.slice/", "init.scope")


@dataclass(frozen=True)
class Home:
    """`cgroup` is the path that systemd knows the process by, `ends_with` the unit it ends with, if it may not stay."""

    cgroup: str
    ends_with: str | None = None


def read_home(proc: str, pid: int | str, *, uid: int) -> Home:
    """Where a process of user `uid` lives. Raises `OSError` where there is no such process."""
    with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return home_of({controllers: path for _number, controllers, path in lines}, uid=uid)


def home_of(paths: dict[str, str], *, uid: int) -> Home:
    """From the cgroup in each hierarchy, by its controllers as in proc_pid_cgroup(5)."""
    # systemd keeps no process in the root of its own hierarchy.
    path = next((paths[name] for name in ("name=systemd", "") if paths.get(name, "/") != "/"), "/")
    if any(not _is_within(path, other) for other in paths.values()):
        return Home(path)
    return Home(path, _ends_with(path, uid))


def _is_within(path: str, other: str) -> bool:
    """Whether systemd may have put a process there too: the same cgroup, or one above."""
    return f"{path}/".startswith(f"{other.rstrip('/')}/")


def _ends_with(path: str, uid: int) -> str | None:
    unit = path.rpartition("/")[2]
    managed = _OF_A_MANAGER.fullmatch(path)
    if managed is not None:
        # In somebody else's manager it is part of what that one runs: of a batch job, perhaps.
        if int(managed["uid"]) != uid or managed["rest"].startswith(_KEPT_IN_A_MANAGER):
            return None
        ends = unit.endswith((".service", ".scope")) and not _is_below_a_unit(managed["rest"])
    elif _is_below_a_unit(path) or _MANAGER_ITSELF.fullmatch(unit):
        return None
    else:
        is_session = path.startswith("/user.slice/") and _SESSION.fullmatch(unit) is not None
        ends = is_session or unit.endswith(".service")
    return unit if ends else None


def _is_below_a_unit(path: str) -> bool:
    """Whether anything above the last part is more than a slice."""
    return any(part and not part.endswith(".slice") for part in path.split("/")[:-1])
