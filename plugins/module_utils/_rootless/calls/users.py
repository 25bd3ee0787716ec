# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a call is about: users by name, and who may act for whom. If nobody is named, see `everybody`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from ..accounts import Account, AccountError, find_account
from ..kernel import INITIAL_USERNS_INO
from ..nsfs import own_userns_ino
from ..report import Report
from .result import RefusedError

HOW_TO_BE_ROOT = "use become: true in a play, or sudo on the host"

Outcome = TypeVar("Outcome")


def resolve(
    users: Iterable[str],
    failed: Callable[[str, str], Outcome],
    *,
    gone: Callable[[int], Account | None] = lambda _uid: None,
) -> list[Account | Outcome]:
    """An account for each user, in the order asked, or the outcome that `failed` makes of a user and why it is none.

    `gone` is asked what is left of a UID that no account has.
    """
    found: list[Account | Outcome] = []
    for user in users:
        try:
            found.append(find_account(user))
        except AccountError as error:
            left = gone(int(user)) if user.isascii() and user.isdigit() and len(user) <= 10 else None
            found.append(left if left is not None else failed(user, str(error)))
    return found


def unresolved(user: str, why: str) -> Report:
    report = Report(user)
    report.fail(why)
    return report


def refuse_others(accounts: Iterable[object]) -> None:
    """Only root acts for others."""
    if os.geteuid() == 0:
        return
    others = [account.name for account in accounts if isinstance(account, Account) and not account.is_self]
    if others:
        raise RefusedError(
            f"this runs as UID {os.geteuid()} and can act for that user only, not for {', '.join(others)}; "
            f"to act for others, {HOW_TO_BE_ROOT}"
        )


def unlisted(owners: Iterable[str], listed: Iterable[Account]) -> dict[str, Account]:
    """The owners that are users all the same: directories need not enumerate theirs."""
    known = {name for account in listed for name in (account.name, str(account.uid))}
    found = {}
    for owner in owners:
        if owner not in known:
            with suppress(AccountError):
                account = find_account(owner)
                # "042" is nobody's UID in these files.
                if owner in (account.name, str(account.uid)):
                    found[owner] = account
    return found


def who_to_try_as(accounts: Iterable[Account]) -> list[Account]:
    """The accounts as which something can be tried that only an ordinary user shows, in the order to try them.

    `nobody` comes first, because no user can use up its limits; then `accounts`. The caller comes last, and only where
    the kernel treats it as an ordinary user. A caller that is not root can try as itself only.
    """
    ourselves = [Account("", os.geteuid(), os.getegid(), "/")]
    if os.geteuid() != 0:
        return ourselves
    entries = [entry for entry in pwd.getpwall() if entry.pw_name == "nobody" and entry.pw_uid != 0]
    nobody = [Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir) for entry in entries]
    return [*nobody, *accounts, *(ourselves if own_userns_ino("/proc") != INITIAL_USERNS_INO else [])]
