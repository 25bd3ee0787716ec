# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everybody on this host whom a call of root's may be about, and what accounts that are gone have left.

Directories such as LDAP need not enumerate their users, so that getpwent(3) names some of them only. Those who use the
host are found by what they have on it: a runtime directory, a pin, lingering, a user namespace.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TypeVar

from ..accounts import Account, AccountError, find_account
from ..desired import IdMaps
from ..host import Host
from ..idmap import IdMap
from ..nsfs import own_userns_ino
from ..pin import PinStore
from ..processes import ProcessTable, is_nested
from ..report import Report
from ..runtime_dir import may_have_state
from ..user_paths import is_anothers
from .users import resolve, unlisted

# Everybody can make names in /tmp, and a user with subordinate IDs directories of 65,536 other UIDs.
MAX_NAMES = 10_000
MAX_UNKNOWN = 1_000
# A group that has no files; the UID of what is left says nothing about a group.
_NO_GROUP = 65534
Outcome = TypeVar("Outcome")

_IN_TMP = re.compile(r"(?:storage|podman)-run-([0-9]{1,10})")


class Everybody:
    """Whom a call is about, looked up once and when it is needed. `warnings` tell of whom was left out."""

    def __init__(self, host: Host, *, pins: PinStore, table: ProcessTable | None = None) -> None:
        """Without a `table` of the processes nobody owns a namespace."""
        self._host = host
        self._pins = pins
        self._here = IdMap(IdMaps.read(host.proc, "self").uid_map)
        self._table = table
        self.warnings: list[str] = []
        self._lingering: set[int] = set()

    def resolve(
        self,
        users: Iterable[str] | None,
        failed: Callable[[str, str], Outcome],
        *,
        all_users: Callable[[], list[Account]],
    ) -> list[Account | Outcome]:
        """The accounts of `users` (see `users.resolve`); without them oneself, and as root those of `all_users`."""
        if os.geteuid() != 0:
            return resolve([str(os.geteuid())] if users is None else users, failed)
        if users is None:
            return [*all_users()]
        return resolve(users, failed, gone=self.gone)

    def with_state(self, owners: Iterable[str]) -> list[Account]:
        """Accounts with a range (`owners`, names or UIDs), a runtime directory or a pin, by UID."""
        # Ranges may belong to owners without an account, such as "containers": those have no namespace.
        named = set(owners)
        found = unlisted(named, self._accounts.values()).values()
        wanted = self._pinned | self._lingering
        for account in found:
            if self._is_here(account.uid):
                self._accounts.setdefault(account.uid, account)
                wanted.add(account.uid)
        return self._chosen(
            lambda account: (
                account.uid in wanted
                or account.name in named
                or str(account.uid) in named
                or self._has_directory(account)
            )
        )

    def with_anything(self, owners: Iterable[str]) -> list[Account]:
        """As `with_state`, and whoever owns a user namespace; UIDs without an account last."""
        known = {account.uid: account for account in self.with_state(owners)}
        known.update((account.uid, account) for account in self._chosen(lambda account: account.uid in self._owning))
        return [*(known[uid] for uid in sorted(known)), *self._all_gone()]

    def with_leftovers(self) -> list[Account]:
        """Whoever has a runtime directory or owns a user namespace; UIDs without an account last."""
        found = self._chosen(lambda account: account.uid in self._owning or self._has_directory(account))
        return [*found, *self._all_gone()]

    def gone(self, uid: int) -> Account | None:
        """What is left of an account that is gone: a pin or a user namespace of this UID's. None if nothing is."""
        if not self._is_here(uid) or not (uid in self._pinned or uid in self._owning):
            return None
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return Account(str(uid), uid, self._group_of(uid), "/", exists=False)
        return None

    def _all_gone(self) -> list[Account]:
        uids = (self._pinned | self._owning) - set(self._accounts)
        found = (self.gone(uid) for uid in self._limited(sorted(uids), self._pinned))
        return [account for account in found if account is not None]

    def _chosen(self, wanted: Callable[[Account], bool]) -> list[Account]:
        return [self._accounts[uid] for uid in sorted(self._accounts) if wanted(self._accounts[uid])]

    def _has_directory(self, account: Account) -> bool:
        return may_have_state(account.uid, run=self._host.run, tmp=self._host.tmp)

    def _is_here(self, uid: int) -> bool:
        """In a user namespace, users that are not mapped there do not exist for it; root needs no namespace."""
        return uid != 0 and self._here.to_parent(uid) is not None

    @cached_property
    def _pinned(self) -> set[int]:
        return set(self._pins.uids())

    @cached_property
    def _accounts(self) -> dict[int, Account]:
        """By UID: those that are listed, and those that are not but have something here."""
        accounts: dict[int, Account] = {}
        names = set()
        for entry in pwd.getpwall():
            names.add(entry.pw_name)
            if self._is_here(entry.pw_uid):
                accounts.setdefault(entry.pw_uid, _account_of(entry))
        run, var = self._host.run, self._host.var
        for name in _names_in(f"{var}/lib/systemd/linger"):
            if name not in names:
                with suppress(AccountError):
                    account = find_account(name)
                    if account.name == name and self._is_here(account.uid):
                        accounts.setdefault(account.uid, account)
                        self._lingering.add(account.uid)
        # What only root can make, and what anybody can.
        surely = {int(name) for name in _names_in(f"{run}/user") if name.isascii() and name.isdigit()} | self._pinned
        perhaps = surely | self._owning | set(self._in_temporary_directory(accounts))
        for uid in self._limited(sorted(perhaps - set(accounts)), surely):
            if self._is_here(uid):
                with suppress(KeyError, OverflowError):
                    accounts[uid] = _account_of(pwd.getpwuid(uid))
        return accounts

    def _limited(self, uids: Iterable[int], surely: Collection[int]) -> Iterator[int]:
        """Those of `surely`, and as many others as anybody may have looked up: it takes time in a directory."""
        others = 0
        for uid in uids:
            if uid not in surely:
                others += 1
                if others > MAX_UNKNOWN:
                    self._warn(
                        f"more than {MAX_UNKNOWN} UIDs that getent passwd does not list own a directory in "
                        f"{self._host.tmp} or a user namespace: the others were left out; name them to have them "
                        "looked at"
                    )
                    return
            yield uid

    def _in_temporary_directory(self, known: Collection[int]) -> Iterator[int]:
        """UIDs that own a directory with a name that Podman would give to theirs, without those that are known."""
        looked_at = 0
        for name in _names_in(self._host.tmp):
            match = _IN_TMP.fullmatch(name)
            if match is None or int(match.group(1)) in known:
                continue
            looked_at += 1
            if looked_at > MAX_NAMES:
                self._warn(
                    f"more than {MAX_NAMES} names in {self._host.tmp} are those of runtime directories of UIDs that "
                    "getent passwd does not list: the others were left out"
                )
                return
            if not is_anothers(f"{self._host.tmp}/{name}", int(match.group(1)), proc=self._host.proc):
                yield int(match.group(1))

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    @cached_property
    def _owning(self) -> set[int]:
        """The UIDs that own a user namespace below ours with a process of our own PID namespace in it.

        In a container other accounts may have the same UIDs.
        """
        if self._table is None:
            return set()
        own = own_userns_ino(self._host.proc)
        return {
            namespace.owner_uid
            for namespace in self._table.namespaces.values()
            if namespace.parent == own and not all(is_nested(self._host.proc, pid) for pid in namespace.pids)
        }

    def _group_of(self, uid: int) -> int:
        """The group of a process that is left; never root's, which also those have that cannot be read."""
        if self._table is not None:
            for namespace in self._table.owned_by(uid, parent=own_userns_ino(self._host.proc)):
                for pid in namespace.pids:
                    with suppress(OSError):
                        status = os.stat(f"{self._host.proc}/{pid}")
                        if status.st_uid == uid and status.st_gid != 0:
                            return status.st_gid
        return _NO_GROUP


def why_gone(account: Account, pins: PinStore) -> str:
    """What to report of a UID that no account has."""
    record = pins.record(account.uid)
    if record is None:
        return f"no account has UID {account.uid}"
    told = f"no account has UID {account.uid}; its pin was made for {record.name}"
    with suppress(KeyError, ValueError):
        told += f", who has UID {pwd.getpwnam(record.name).pw_uid} now"
    return told


def each_also_gone(
    act: Callable[[Sequence[Account | Report]], list[Report]], accounts: Sequence[Account | Report], pins: PinStore
) -> list[Report]:
    """What `act` reports of the accounts; the reports of UIDs without an account say so."""
    gone = [account for account in accounts if isinstance(account, Account) and not account.exists]
    # Before anything is done: it may take the pin away.
    why = {account.uid: why_gone(account, pins) for account in gone}
    reports = act(accounts)
    for report in reports:
        if report.account is not None and report.account.uid in why:
            report.messages.insert(0, why[report.account.uid])
    return reports


def refuse_gone(account: Account | Report, pins: PinStore) -> Account | Report:
    """In place of a UID without an account, a report that nothing can be set up for it."""
    if isinstance(account, Report) or account.exists:
        return account
    report = Report(account.name)
    report.fail(f"{why_gone(account, pins)}: nothing can be set up for it; state: absent removes what is left")
    return report


def _account_of(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
