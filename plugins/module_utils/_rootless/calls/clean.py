# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what crashes leave, set up nothing: what module `rootless_pause` returns."""

from __future__ import annotations

import os
from typing import Any

from ..cleaning import Cleaner, Cleaning, CleaningOptions
from ..each_user import each_user
from ..host import Host
from ..pin import PinStore
from ..plan import REPAIRED
from .everybody import Everybody, why_gone
from .result import CallResult, RefusedError, diff_of, failure_of
from .system import open_kernel
from .users import refuse_others


def clean(users: list[str] | None, options: CleaningOptions) -> CallResult:
    """Without `users` for oneself; as root for everybody with leftovers. One user's failure never stops the others.

    Raises `RootlessError` or `OSError` where nothing can be done at all.
    """
    syscalls = open_kernel()
    host = Host()
    if options.state_dir is not None:
        if not os.path.isabs(options.state_dir):
            raise RefusedError(f"state_dir must be an absolute path, not '{options.state_dir}'")
        if len(users or ()) != 1 and (users is not None or os.geteuid() == 0):
            raise RefusedError("state_dir is one user's directory: name that user, and only that one")
    cleaner = Cleaner(syscalls, host=host, options=options)
    pins = PinStore(syscalls, run=host.run, proc=host.proc)
    everybody = Everybody(host, pins=pins, table=cleaner.process_table)
    accounts = everybody.resolve(
        users, lambda user, why: Cleaning(user, messages=[why]), all_users=everybody.with_leftovers
    )
    refuse_others(accounts)
    outcomes = each_user(
        cleaner.clean, accounts, blank=lambda account: Cleaning(account.name, account), finish=cleaner.close
    )
    told: dict[str, Any] = {
        "changed": any(outcome.changed for outcome in outcomes),
        "users": [_entry(outcome, pins) for outcome in outcomes],
        "removed": [path for outcome in outcomes for path in outcome.removed],
        "reaped": [pid for outcome in outcomes for pid in outcome.reaped],
        "diff": [_diff(outcome) for outcome in outcomes if outcome.changed],
    }
    failed = [(outcome.user, outcome.messages) for outcome in outcomes if outcome.failed]
    failure = failure_of(failed, total=len(outcomes), verb="could not be cleaned", where="users")
    return CallResult(told, failure, everybody.warnings)


def _entry(outcome: Cleaning, pins: PinStore) -> dict[str, Any]:
    entry = outcome.as_dict()
    if outcome.account is not None and not outcome.account.exists:
        entry["msg"] = "; ".join(filter(None, [why_gone(outcome.account, pins), entry["msg"]]))
    return entry


def _diff(outcome: Cleaning) -> dict[str, str]:
    before = {file.path: f"{file.finding.verdict}: {file.finding.evidence}" for file in outcome.files}
    before.update({f"process {orphan.process.pid}": f"orphan ({orphan.command})" for orphan in outcome.orphans})
    gone = {*outcome.removed, *(f"process {pid}" for pid in outcome.reaped)}
    after = {name: text for name, text in before.items() if name not in gone}
    if outcome.repaired:
        before["keys"] = "Podman does not find the namespace"
        after["keys"] = "they open the namespace"
        after.update({file.path: "written anew" for file in outcome.files if file.action == REPAIRED})
    return diff_of(f"state of {outcome.user}", before, after)
