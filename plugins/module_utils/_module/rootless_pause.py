# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_pause`: options to results."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.accounts import Account, AccountError, find_account
from .._rootless.cleaning import Cleaner, Cleaning, CleaningOptions
from .._rootless.each_user import each_user
from .._rootless.errors import RootlessError
from .._rootless.host import Host
from .._rootless.runtime_dir import may_have_state
from .common import open_kernel, refuse_others

ARGUMENT_SPEC: dict[str, Any] = {
    "users": {"type": "list", "elements": "str"},
    "orphans": {"type": "bool", "default": False},
    "state_dir": {"type": "path"},
}


def run(module: AnsibleModule) -> None:
    """Clean for every user; one user's failure never stops the others."""
    params = module.params
    syscalls = open_kernel(module)
    host = Host()
    if params["state_dir"] is not None:
        if not os.path.isabs(params["state_dir"]):
            module.fail_json(msg=f"state_dir must be an absolute path, not {params['state_dir']!r}")
        if len(params["users"] or ()) != 1 and (params["users"] is not None or os.geteuid() == 0):
            module.fail_json(msg="state_dir is one user's directory: name that user, and only that one, in users")
    options = CleaningOptions(orphans=params["orphans"], state_dir=params["state_dir"], check=module.check_mode)
    try:
        cleaner = Cleaner(syscalls, host=host, options=options)
    except (RootlessError, OSError) as error:
        module.fail_json(msg=str(error), exception=error)
    asked = params["users"]
    accounts = _resolve(asked if asked is not None else _default_users(cleaner, host))
    refuse_others(module, [account for account in accounts if isinstance(account, Account)])
    outcomes = each_user(cleaner.clean, accounts, blank=lambda account: Cleaning(account.name, account))
    _finish(module, outcomes)


def _resolve(users: list[str]) -> list[Account | Cleaning]:
    found: list[Account | Cleaning] = []
    for user in users:
        try:
            found.append(find_account(user))
        except AccountError as error:
            found.append(Cleaning(user, messages=[str(error)]))
    return found


def _default_users(cleaner: Cleaner, host: Host) -> list[str]:
    """Oneself; as root everybody with a runtime directory or a namespace, by UID."""
    if os.geteuid() != 0:
        return [str(os.geteuid())]
    owners = cleaner.owners_of_namespaces()
    uids = {
        entry.pw_uid
        for entry in pwd.getpwall()
        if entry.pw_uid in owners or may_have_state(entry.pw_uid, run=host.run, tmp=host.tmp)
    }
    return [str(uid) for uid in sorted(uids - {0})]


def _finish(module: AnsibleModule, outcomes: list[Cleaning]) -> None:
    result: dict[str, Any] = {
        "changed": any(outcome.changed for outcome in outcomes),
        "users": [outcome.as_dict() for outcome in outcomes],
        "removed": [path for outcome in outcomes for path in outcome.removed],
        "reaped": [pid for outcome in outcomes for pid in outcome.reaped],
        "diff": [_diff(outcome) for outcome in outcomes if outcome.changed],
    }
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        told = "; ".join(f"{outcome.user}: {'; '.join(outcome.messages)}" for outcome in failed[:3])
        more = f"; and {len(failed) - 3} more, see users" if len(failed) > 3 else ""
        module.fail_json(msg=f"{len(failed)} of {len(outcomes)} users could not be cleaned: {told}{more}", **result)
    module.exit_json(**result)


def _diff(outcome: Cleaning) -> dict[str, str]:
    before = {file.path: f"{file.finding.verdict}: {file.finding.evidence}" for file in outcome.files}
    before.update({f"process {orphan.process.pid}": f"orphan ({orphan.command})" for orphan in outcome.orphans})
    gone = {*outcome.removed, *(f"process {pid}" for pid in outcome.reaped)}
    after = {name: text for name, text in before.items() if name not in gone}
    return {
        "before_header": f"state of {outcome.user}",
        "after_header": f"state of {outcome.user}",
        "before": json.dumps(before, indent=2, sort_keys=True) + "\n",
        "after": json.dumps(after, indent=2, sort_keys=True) + "\n",
    }
