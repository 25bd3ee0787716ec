# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up, rejoin or remove the namespaces of users: what module `rootless_ns` returns."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from ..host import Host
from ..namespaces import Namespaces, Options
from ..pin import PinStore
from .everybody import Everybody, each_also_gone, refuse_gone
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
from .users import HOW_TO_BE_ROOT, refuse_others, unresolved

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
    """Without `users` for oneself; as root for everybody with state, and `absent` also for UIDs without an account.

    One user's failure never stops the others. `pin` is true for root unless it is given. Raises `RootlessError` or
    `OSError` where nothing can be done at all.
    """
    syscalls = open_kernel()
    is_root = os.geteuid() == 0
    if pin and not is_root:
        raise RefusedError(f"a pin needs root: it is a mount in the host's mount namespace; {HOW_TO_BE_ROOT}")
    options = Options(method=method, pin=is_root if pin is None else pin, on_drift=on_drift, force=force, check=check)
    host = Host()
    namespaces = Namespaces(syscalls, host=host, options=options)
    pins = PinStore(syscalls, run=host.run, proc=host.proc)
    everybody = Everybody(host, pins=pins, table=namespaces.process_table)
    everyone = everybody.with_state if state == PRESENT else everybody.with_anything
    accounts = everybody.resolve(users, unresolved, all_users=lambda: everyone(namespaces.subids.owners()))
    if state == PRESENT:
        accounts = [refuse_gone(account, pins) for account in accounts]
    refuse_others(accounts)
    act = namespaces.present if state == PRESENT else namespaces.absent
    reports = each_also_gone(partial(namespaces.each, act), accounts, pins)
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
        [*warnings_of_host(namespaces.subids), *everybody.warnings],
        warnings_of_users(reports),
    )
