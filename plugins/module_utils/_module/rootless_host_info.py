# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_host_info`: what keeps this host from running rootless containers; changes nothing."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.accounts import Account
from .._rootless.calls.everybody import Everybody, why_gone
from .._rootless.calls.system import open_kernel
from .._rootless.calls.users import refuse_others, who_to_try_as
from .._rootless.checks.catalogue import HostFinding
from .._rootless.host import Host
from .._rootless.pin import PinStore
from .._rootless.readiness import Readiness, UserReadiness, as_dict
from .common import failing, finish

ARGUMENT_SPEC: dict[str, Any] = {"users": {"type": "list", "elements": "str"}}


def run(module: AnsibleModule) -> None:
    """Check and return; a user that does not exist fails the task at the end, what is found never does."""
    host = Host()
    with failing(module):
        syscalls = open_kernel()
        readiness = Readiness(syscalls, host=host)
        pins = PinStore(syscalls, run=host.run, proc=host.proc)
        everybody = Everybody(host, pins=pins)
        accounts = everybody.resolve(
            module.params["users"],
            lambda user, why: UserReadiness(user, messages=[why]),
            all_users=lambda: everybody.with_state(readiness.owners()),
        )
        accounts = [_existing(account, pins) for account in accounts]
        refuse_others(accounts)
        found, handles = readiness.of_host(who_to_try_as(user for user in accounts if isinstance(user, Account)))
        outcomes = readiness.of_users(accounts)
    _finish(module, found, outcomes, handles)


def _existing(account: Account | UserReadiness, pins: PinStore) -> Account | UserReadiness:
    if isinstance(account, UserReadiness) or account.exists:
        return account
    return UserReadiness(account.name, messages=[why_gone(account, pins)])


def user_entry(outcome: UserReadiness, *, host_blocked: bool) -> dict[str, Any]:
    """One entry of `users`."""
    return {
        "user": outcome.user,
        "uid": outcome.account.uid if outcome.account else None,
        "ok": not host_blocked and not outcome.blocked,
        "codes": list(dict.fromkeys(finding.code for finding in outcome.findings)),
        "msg": "; ".join(outcome.messages),
    }


def _finish(module: AnsibleModule, found: list[HostFinding], outcomes: list[UserReadiness], handles: str) -> None:
    host_blocked = any(finding.blocks for finding in found)
    users = [user_entry(outcome, host_blocked=host_blocked) for outcome in outcomes]
    findings = [as_dict(finding, None) for finding in found]
    findings += [as_dict(finding, outcome.user) for outcome in outcomes for finding in outcome.findings]
    result: dict[str, Any] = {
        "changed": False,
        "ok": not host_blocked and all(user["ok"] for user in users),
        "findings": findings,
        "users": users,
        "kernel": {"nsfs_handles": handles},
    }
    failed = [outcome for outcome in outcomes if outcome.failed]
    told = "; ".join(f"{outcome.user}: {'; '.join(outcome.messages)}" for outcome in failed)
    failure = f"{len(failed)} of {len(outcomes)} users cannot be looked at: {told}" if failed else None
    finish(module, result, failure=failure)
