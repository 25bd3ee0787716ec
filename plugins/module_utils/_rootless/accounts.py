# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The users we act for: names or UIDs, resolved through NSS."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from .errors import RootlessError


class AccountError(RootlessError):
    """The user is not one that has a rootless namespace."""


@dataclass(frozen=True)
class Account:
    """A user as passwd(5) knows it. `uid` and `gid` as seen in our own user namespace.

    Where `exists` is false no account has this UID any more: `name` is the UID, and `gid` one that leftovers run with.
    """

    name: str
    uid: int
    gid: int
    home: str
    exists: bool = True

    @property
    def is_self(self) -> bool:
        """Whether this process already runs as the user."""
        return self.uid == os.geteuid()


# Homes of accounts that have none of their own; so are all that are no deeper than /nonexistent.
_SHARED_HOMES = ("/var/empty", "/dev/null")


def is_still_the_account(account: Account, *, name: str, home: str) -> bool:
    """Whether the account that had this UID when it was called `name`, with this home directory, is `account`.

    A rename keeps the UID, and mostly the home directory; several names may share a UID. Subordinate ranges say
    nothing here: useradd(8) gives those of a deleted account to the next one, often together with its UID.
    """
    if name == account.name:
        return True
    try:
        if pwd.getpwnam(name).pw_uid == account.uid:
            return True
    except (KeyError, ValueError):
        pass
    return home == account.home and home.count("/") > 1 and home not in _SHARED_HOMES


def find_account(user: str) -> Account:
    """Look up a name or a decimal UID; like chown(1), a name that is a number wins over the UID.

    Raises `AccountError` for an unknown user and for UID 0, which needs no rootless namespace.
    """
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        if not (user.isascii() and user.isdigit() and len(user) <= 10):
            raise AccountError(
                f"user '{user}' does not exist on this host (getent passwd finds no such name)"
            ) from None
        try:
            entry = pwd.getpwuid(int(user))
        except (KeyError, OverflowError):
            raise AccountError(f"no user has UID {user} on this host (getent passwd finds no such entry)") from None
    if entry.pw_uid == 0:
        raise AccountError(
            f"user '{entry.pw_name}' has UID 0: root needs no rootless namespace; name the users to act for"
        )
    # Acting for itself a process may have another group than passwd says (newgrp); Podman maps the one it runs with.
    gid = os.getegid() if entry.pw_uid == os.geteuid() else entry.pw_gid
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=gid, home=entry.pw_dir)
