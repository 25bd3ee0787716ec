# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: the host and the users of one call, and every failure as `fail_json`."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.accounts import Account, AccountError, find_account
from .._rootless.desired import IdMaps
from .._rootless.host import Host
from .._rootless.idmap import IdMap
from .._rootless.kernel import Syscalls
from .._rootless.report import Report
from .._rootless.runtime_dir import may_have_state
from .._rootless.subid import SubidRange

_WARNED_USERS = 20


def open_kernel(module: AnsibleModule) -> Syscalls:
    """The system calls; fails on anything but Linux, and without /proc."""
    if not sys.platform.startswith("linux"):
        module.fail_json(msg=f"user namespaces are a feature of Linux; this host runs {sys.platform}")
    if not os.path.exists("/proc/self/ns/user"):
        module.fail_json(
            msg="/proc/self/ns/user does not exist: either /proc is not mounted, or this kernel was built without "
            "user namespaces (CONFIG_USER_NS)"
        )
    return Syscalls()


def resolve(users: Iterable[str]) -> list[Account | Report]:
    """An account for each user asked, or the report of why it is none, in the order asked."""
    found: list[Account | Report] = []
    for user in users:
        try:
            found.append(find_account(user))
        except AccountError as error:
            report = Report(user)
            report.fail(str(error))
            found.append(report)
    return found


def users_of_interest(owners: Iterable[str], host: Host, available: IdMaps) -> list[str]:
    """Whom to look at when nobody is named: oneself; as root everybody with a range or a runtime directory, by UID."""
    if os.geteuid() != 0:
        return [str(os.geteuid())]
    # Ranges may belong to owners without an account, such as "containers": those have no namespace.
    named = set(owners)
    here = IdMap(available.uid_map)
    uids = {
        entry.pw_uid
        for entry in pwd.getpwall()
        if entry.pw_uid != 0
        # In a user namespace, users that are not mapped there do not exist for it.
        and here.to_parent(entry.pw_uid) is not None
        and (
            entry.pw_name in named
            or str(entry.pw_uid) in named
            or may_have_state(entry.pw_uid, run=host.run, tmp=host.tmp)
        )
    }
    return [str(uid) for uid in sorted(uids)]


def who_to_try_as(accounts: Iterable[Account]) -> list[Account]:
    """For what has to be tried as an ordinary user: those of the call, `nobody`, or at last ourselves."""
    nobody = [entry for entry in pwd.getpwall() if entry.pw_name == "nobody"]
    candidates = [*accounts, *(Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir) for entry in nobody)]
    return [*candidates, Account("", os.geteuid(), os.getegid(), "/")]


def refuse_others(module: AnsibleModule, accounts: Iterable[Account | Report]) -> None:
    """Only root acts for others."""
    if os.geteuid() == 0:
        return
    others = [account.name for account in accounts if isinstance(account, Account) and not account.is_self]
    if others:
        module.fail_json(
            msg=f"this task runs as UID {os.geteuid()} and can act for that user only, not for {', '.join(others)}; "
            "use become: true to act for others"
        )


def overlap_entry(kind: str, first: SubidRange, second: SubidRange) -> dict[str, Any]:
    """Two ranges of different owners that share IDs, as the modules return it."""
    return {
        "kind": kind,
        "first": {"owner": first.owner, "start": first.start, "count": first.count, "line": first.line},
        "second": {"owner": second.owner, "start": second.start, "count": second.count, "line": second.line},
        "msg": f"{first} and {second}",
    }


def warn_of(module: AnsibleModule, reports: Iterable[Report]) -> None:
    """Each user's warnings as warnings of the task, at most 20 users' worth; the rest stands in the entries."""
    warned = [report for report in reports if report.warnings and not report.failed]
    for report in warned[:_WARNED_USERS]:
        for text in report.warnings:
            module.warn(f"{report.user}: {text}")
    if len(warned) > _WARNED_USERS:
        module.warn(f"{len(warned) - _WARNED_USERS} more users have warnings: see their msg in the result")
