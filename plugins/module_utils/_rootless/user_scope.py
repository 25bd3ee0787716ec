# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scope for a pause process in the user's own manager, as Podman makes one: it outlives the session or service.

It ends with the manager: at logout, unless the user lingers. What root starts lives longer (see `pause_cgroups`).
"""

from __future__ import annotations

import os

from .accounts import Account
from .pause_home import Home, read_home
from .systemd_scopes import SystemdError, can_be_asked, start_scope

PREFIX = "rootless-ns-pause-"
_SLICE = "user.slice"
NO_MANAGER = "the user's own manager does not run"


def sockets_of_manager(uid: int, *, run: str) -> tuple[str, str]:
    """Its own socket, which is there for as long as it runs, and the user's message bus."""
    return f"{run}/user/{uid}/systemd/private", f"{run}/user/{uid}/bus"


def has_manager(uid: int, *, run: str) -> bool:
    """Whether the user's own manager runs."""
    return can_be_asked(sockets_of_manager(uid, run=run))


def why_it_stays(account: Account, home: Home, reason: str) -> str:
    """What to report of a pause process that is not moved."""
    return (
        f"the pause process stays in {home.cgroup}, and ends with {home.ends_with}: {reason}. Enable lingering "
        f"(loginctl enable-linger {account.name}), or let root set up the namespace"
    )


def move(pid: int, uid: int, *, proc: str, run: str) -> str:
    """Move a process of this user's own into a scope of its own. Returns why it is not there; empty if it is.

    To be called as the user. The manager accepts only processes of the user's.
    """
    if not has_manager(uid, run=run):
        return NO_MANAGER
    name = f"{PREFIX}{os.urandom(4).hex()}.scope"
    properties = (
        ("Description", "s", "Pause process of the rootless namespace"),
        ("Slice", "s", _SLICE),
        # Without it no process can be moved there from a session, which is not the manager's.
        ("Delegate", "b", True),
        ("DefaultDependencies", "b", False),
        ("CollectMode", "s", "inactive-or-failed"),
    )
    try:
        start_scope(name, properties, [pid], sockets=sockets_of_manager(uid, run=run))
        home = read_home(proc, pid, uid=uid)
    except SystemdError as error:
        return str(error)
    except OSError:
        return f"process {pid} has ended"
    if name not in home.cgroup.split("/"):
        return f"systemd has made {name}, but the process is in {home.cgroup}"
    return ""
