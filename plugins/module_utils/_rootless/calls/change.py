# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up, rejoin or remove the namespaces of users: what module `rootless_ns` returns."""

from __future__ import annotations

import os
from typing import Any

from ..host import Host
from ..namespaces import Namespaces, Options
from .result import (
    CallResult,
    RefusedError,
    diff_of,
    failed_reports,
    failure_of,
    warnings_of_host,
    warnings_of_users,
)
from .system import open_kernel
from .users import HOW_TO_BE_ROOT, refuse_others, resolve, unresolved, users_of_interest

PRESENT = "present"


def change(
    users: list[str] | None,
    *,
    state: str,
    method: str = "auto",
    pin: bool | None = None,
    on_drift: str = "report",
    force: bool = False,
    check: bool = False,
) -> CallResult:
    """Without `users` for whom `users_of_interest` names. One user's failure never stops the others.

    `pin` is true for root unless it is given. Raises `RootlessError` or `OSError` where nothing can be done at all.
    """
    syscalls = open_kernel()
    is_root = os.geteuid() == 0
    if pin and not is_root:
        raise RefusedError(f"a pin needs root: it is a mount in the host's mount namespace; {HOW_TO_BE_ROOT}")
    options = Options(method=method, pin=is_root if pin is None else pin, on_drift=on_drift, force=force, check=check)
    host = Host()
    namespaces = Namespaces(syscalls, host=host, options=options)
    if users is None:
        users = users_of_interest(namespaces.subids.owners(), host, namespaces.available)
    accounts = resolve(users, unresolved)
    refuse_others(accounts)
    act = namespaces.present if state == PRESENT else namespaces.absent
    reports = namespaces.each(act, accounts)
    told: dict[str, Any] = {
        "changed": any(report.changed for report in reports),
        "namespaces": [{**report.as_dict(), **report.obstacles()} for report in reports],
        "diff": [
            diff_of(f"namespace of {report.user}", report.before, report.after) for report in reports if report.changed
        ],
    }
    return CallResult(
        told,
        failure_of(failed_reports(reports), total=len(reports), verb="failed", where="namespaces"),
        warnings_of_host(namespaces.subids),
        warnings_of_users(reports),
    )
