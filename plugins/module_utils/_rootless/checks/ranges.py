# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One user's subordinate ranges: there, long enough, and nobody else's."""

from __future__ import annotations

import pwd
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ..accounts import Account
from ..subid import SubidError, SubidProblem, SubidRange, check_ranges
from .catalogue import ORDINARY_COUNT, HostFinding


def _give(account: Account) -> str:
    return f"ansible HOST -b -m userns.rootless.rootless_subid -a owners={account.name}"


class RangeChecker:
    """Checks users against what was read once for all of them."""

    def __init__(
        self,
        overlaps: Iterable[tuple[str, SubidRange, SubidRange]],
        problems: Iterable[SubidProblem],
        accounts: Iterable[tuple[int, str]],
    ) -> None:
        """`overlaps` between owners, with their kind; malformed lines; `accounts` are UIDs with their names."""
        self._overlaps: dict[str, list[tuple[SubidRange, SubidRange]]] = defaultdict(list)
        for _kind, one, other in overlaps:
            for owner in dict.fromkeys((one.owner, other.owner)):
                self._overlaps[owner].append((one, other))
        self._problems: dict[str, SubidProblem] = {}
        for problem in problems:
            if problem.owner is not None:
                self._problems.setdefault(problem.owner, problem)
        self._accounts = sorted(accounts)

    @staticmethod
    def accounts_here() -> list[tuple[int, str]]:
        return [(entry.pw_uid, entry.pw_name) for entry in pwd.getpwall()]

    def check(
        self, account: Account, uid_ranges: Sequence[SubidRange], gid_ranges: Sequence[SubidRange]
    ) -> Iterator[HostFinding]:
        for kind, own_id, ranges in (("UID", account.uid, uid_ranges), ("GID", account.gid, gid_ranges)):
            yield from self._check_kind(account, kind, own_id, ranges)
        names = (account.name, str(account.uid))
        for name in names:
            if name in self._problems:
                problem = self._problems[name]
                fix = f"sed -i {problem.line}d {problem.source}  # then give a new range, if none is left"
                yield HostFinding("ranges-unusable", str(problem), fix)
        for one, other in dict.fromkeys(pair for name in names for pair in self._overlaps.get(name, ())):
            mine, others = (one, other) if one.owner in names else (other, one)
            yield HostFinding(
                "ranges-overlap",
                f"{one} and {other}",
                f"ansible HOST -b -m userns.rootless.rootless_subid -a 'owners={others.owner} state=absent'  # or "
                f"owners={mine.owner}; then state=present for a new range, once no files are left under the old IDs",
            )
        for range_ in uid_ranges:
            inside = self._account_in(range_)
            if inside is not None and inside[0] != account.uid:
                yield HostFinding(
                    "range-contains-account",
                    f"{range_} holds the UID of {inside[1]}, {inside[0]}",
                    f"usermod --del-subuids {range_.start}-{range_.end - 1} {account.name} && {_give(account)}",
                )

    def _check_kind(
        self, account: Account, kind: str, own_id: int, ranges: Sequence[SubidRange]
    ) -> Iterator[HostFinding]:
        if not ranges:
            yield HostFinding("ranges-missing", f"{account.name} has no subordinate {kind}s", _give(account))
            return
        total = sum(range_.count for range_ in ranges)
        if total < ORDINARY_COUNT:
            found = f"{account.name} has {total} subordinate {kind}s: {', '.join(map(str, ranges))}"
            yield HostFinding("ranges-short", found, _give(account))
        for range_ in ranges:
            if range_.start <= own_id < range_.end:
                option = f"--del-sub{kind.lower()}s"
                yield HostFinding(
                    "range-contains-own-id",
                    f"{range_} holds the {kind} of {account.name} itself, {own_id}",
                    f"usermod {option} {range_.start}-{range_.end - 1} {account.name} && {_give(account)}",
                )
                return
        try:
            check_ranges(ranges, own_id=own_id, kind=kind)
        except SubidError as error:
            source = ranges[0].source
            yield HostFinding("ranges-unusable", str(error), f"grep -nE '^({account.name}|{account.uid}):' {source}")

    def _account_in(self, range_: SubidRange) -> tuple[int, str] | None:
        place = bisect_left(self._accounts, (range_.start, ""))
        if place < len(self._accounts) and self._accounts[place][0] < range_.end:
            return self._accounts[place]
        return None
