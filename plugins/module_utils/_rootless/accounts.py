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
    """A user as passwd(5) knows it. `uid` and `gid` as seen in our own user namespace."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def is_self(self) -> bool:
        """Whether this process already runs as the user."""
        return self.uid == os.geteuid()


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
