# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_ns_info`: a look at ID maps, ranges and namespaces; changes nothing."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.accounts import Account
from .._rootless.errors import RootlessError
from .._rootless.host import Host
from .._rootless.idmap import count_ids
from .._rootless.kernel import Syscalls
from .._rootless.namespaces import Namespaces, Options
from .._rootless.nsfs_support import nsfs_handles
from .._rootless.report import Report
from .._rootless.subid import SubidRange
from .._rootless.subid_change import Accounts, find_overlaps
from .common import open_kernel, overlap_entry, refuse_others, resolve, users_of_interest, warn_of, who_to_try_as

ARGUMENT_SPEC: dict[str, Any] = {"users": {"type": "list", "elements": "str"}}


def run(module: AnsibleModule) -> None:
    """Gather and return; a user that cannot be looked at has the reason in its entry and fails the task at the end."""
    syscalls = open_kernel(module)
    host = Host()
    try:
        namespaces = Namespaces(syscalls, host=host, options=Options())
        asked = module.params["users"]
        accounts = resolve(
            asked if asked is not None else users_of_interest(namespaces.subids.owners(), host, namespaces.available)
        )
        refuse_others(module, accounts)
        for problem in namespaces.subids.problems():
            module.warn(f"{problem}: the line is ignored, as newuidmap and Podman do")
        reports = namespaces.each(namespaces.look, accounts)
        result = {
            "changed": False,
            "available": _available(namespaces),
            "configured": [_configured(namespaces, account) for account in accounts if isinstance(account, Account)],
            "overlaps": [overlap_entry(*found) for found in find_overlaps(Accounts(), etc=host.etc)],
            "namespaces": [{**report.as_dict(), **report.verdicts()} for report in reports],
            "kernel": {"nsfs_handles": _probe(syscalls, namespaces, host, accounts)},
        }
    except (RootlessError, OSError) as error:
        module.fail_json(msg=str(error), exception=error)
    warn_of(module, reports)
    failed = [report for report in reports if report.failed]
    if failed:
        told = "; ".join(f"{report.user}: {'; '.join(report.messages)}" for report in failed)
        module.fail_json(msg=f"{len(failed)} of {len(reports)} users cannot be looked at: {told}", **result)
    module.exit_json(**result)


def _available(namespaces: Namespaces) -> dict[str, Any]:
    maps = namespaces.available
    return {
        "uid_map": [entry.as_dict() for entry in maps.uid_map],
        "gid_map": [entry.as_dict() for entry in maps.gid_map],
        "uids": count_ids(maps.uid_map),
        "gids": count_ids(maps.gid_map),
    }


def _configured(namespaces: Namespaces, account: Account) -> dict[str, Any]:
    uid_ranges, gid_ranges = namespaces.configured(account)
    return {
        "user": account.name,
        "uid": account.uid,
        "source": namespaces.subids.source,
        "uid_ranges": [_range(range_) for range_ in uid_ranges],
        "gid_ranges": [_range(range_) for range_ in gid_ranges],
    }


def _range(range_: SubidRange) -> dict[str, Any]:
    return {
        "owner": range_.owner,
        "start": range_.start,
        "count": range_.count,
        "source": range_.source,
        "line": range_.line,
    }


def _probe(syscalls: Syscalls, namespaces: Namespaces, host: Host, accounts: list[Account | Report]) -> str:
    """Asked as the first user of the call; without one as `nobody`, or as ourselves where we cannot become another."""
    candidates = who_to_try_as(account for account in accounts if isinstance(account, Account))

    def probe_owner() -> bool:
        for candidate in candidates:
            try:
                return namespaces.probe_owner(candidate)
            except RootlessError:
                continue
        return False

    return nsfs_handles(syscalls, proc=host.proc, probe_owner=probe_owner)
