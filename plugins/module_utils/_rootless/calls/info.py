# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at ID maps, ranges and namespaces, which changes nothing: what module `rootless_ns_info` returns."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..accounts import Account
from ..held_mounts import HeldMounts
from ..host import Host
from ..idmap import count_ids, parse_decimal
from ..kernel import Syscalls
from ..namespaces import Namespaces, Options
from ..nsfs_support import first_answer, nsfs_handles
from ..pin import PinStore
from ..subid import SubidRange, SubidSource
from ..subid_change import Accounts, find_overlaps, overlap_entry
from .everybody import Everybody, each_also_gone
from .result import CallResult, failed_reports, failure_of, warnings_of_host, warnings_of_users
from .system import open_kernel
from .users import refuse_others, unlisted, unresolved, who_to_try_as


def look(users: list[str] | None) -> CallResult:
    """Without `users` at oneself; as root at everybody, and at UIDs without an account that have something.

    A user that cannot be looked at has the reason in its entry.

    Raises `RootlessError` or `OSError` where nothing can be looked at.
    """
    syscalls = open_kernel()
    host = Host()
    namespaces = Namespaces(syscalls, host=host, options=Options())
    pins = PinStore(syscalls, run=host.run, proc=host.proc)
    everybody = Everybody(host, pins=pins, table=namespaces.process_table)
    accounts = everybody.resolve(
        users, unresolved, all_users=lambda: everybody.with_anything(namespaces.subids.owners())
    )
    refuse_others(accounts)
    look_at = partial(namespaces.look, mounts_of=HeldMounts(host.proc).only_seen_by)
    reports = each_also_gone(partial(namespaces.each, look_at), accounts, pins)
    existing = [account for account in accounts if isinstance(account, Account) and account.exists]
    told = {
        "changed": False,
        "available": _available(namespaces),
        "configured": [
            *(_configured(namespaces, account) for account in existing),
            *(_of_strangers(namespaces.subids) if users is None and os.geteuid() == 0 else []),
        ],
        "overlaps": [overlap_entry(*found) for found in find_overlaps(Accounts(), etc=host.etc)],
        "namespaces": [{**report.as_dict(), **report.verdicts()} for report in reports],
        "kernel": {"nsfs_handles": _probe(syscalls, namespaces, host, existing)},
    }
    return CallResult(
        told,
        failure_of(failed_reports(reports), total=len(reports), verb="cannot be looked at", where="namespaces"),
        [*warnings_of_host(namespaces.subids), *everybody.warnings],
        warnings_of_users(reports),
    )


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
    return _entry(account.name, account.uid, namespaces.subids, uid_ranges, gid_ranges)


def _of_strangers(subids: SubidSource) -> list[dict[str, Any]]:
    """What owners have who are no users with a namespace, such as `containers` and root."""
    listed = [Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir) for entry in pwd.getpwall()]
    users = {name for account in listed if account.uid for name in (account.name, str(account.uid))}
    users.update(unlisted(subids.owners(), listed))
    uids = {account.name: account.uid for account in listed}
    found = []
    for owner in subids.owners():
        if owner not in users:
            uid = uids.get(owner, parse_decimal(owner))
            found.append(_entry(owner, uid, subids, subids.uid_ranges(owner, uid), subids.gid_ranges(owner, uid)))
    return found


def _entry(
    user: str,
    uid: int | None,
    subids: SubidSource,
    uid_ranges: Sequence[SubidRange],
    gid_ranges: Sequence[SubidRange],
) -> dict[str, Any]:
    return {
        "user": user,
        "uid": uid,
        "source": subids.source,
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


def _probe(syscalls: Syscalls, namespaces: Namespaces, host: Host, accounts: list[Account]) -> str:
    """Who can open handles here. Users are tried in turn until one gives an answer."""
    candidates = who_to_try_as(accounts)
    return nsfs_handles(syscalls, proc=host.proc, probe_owner=lambda: first_answer(candidates, namespaces.probe_owner))
