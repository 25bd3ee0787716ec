# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One user's subordinate ranges: there, long enough, and nobody else's."""

from __future__ import annotations

import grp
import json
import pwd
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..accounts import Account
from ..subid import FILES, SubidError, SubidProblem, SubidRange, check_ranges
from .catalogue import ORDINARY_COUNT, HostFinding
from .shell import shell_word

# What a terminal shows as it is.
_PLAIN = re.compile(r"[ -~]+")


class RangeChecker:
    """Checks users against what was read once for all of them."""

    def __init__(
        self,
        overlaps: Iterable[tuple[str, SubidRange, SubidRange]],
        problems: Iterable[SubidProblem],
        accounts: Iterable[tuple[int, str]],
        groups: Iterable[tuple[int, str]] = (),
        *,
        source: str = FILES,
    ) -> None:
        """`overlaps` between owners, with their kind; malformed lines; UIDs and GIDs of the host with their names.

        `source` of the users' ranges is `FILES`, or `nss:SERVICE`.
        """
        self._overlaps: dict[str, list[tuple[SubidRange, SubidRange]]] = defaultdict(list)
        for _kind, one, other in overlaps:
            for owner in dict.fromkeys((one.owner, other.owner)):
                self._overlaps[owner].append((one, other))
        self._problems: dict[str, SubidProblem] = {}
        for problem in problems:
            if problem.owner is not None:
                self._problems.setdefault(problem.owner, problem)
        self._known = {"UID": sorted(accounts), "GID": sorted(groups)}
        self._source = source

    @staticmethod
    def accounts_here() -> list[tuple[int, str]]:
        return [(entry.pw_uid, entry.pw_name) for entry in pwd.getpwall()]

    @staticmethod
    def groups_here() -> list[tuple[int, str]]:
        return [(entry.gr_gid, entry.gr_name) for entry in grp.getgrall()]

    def check(
        self, account: Account, uid_ranges: Sequence[SubidRange], gid_ranges: Sequence[SubidRange]
    ) -> Iterator[HostFinding]:
        for kind, own_id, ranges in (("UID", account.uid, uid_ranges), ("GID", account.gid, gid_ranges)):
            yield from self._check_kind(account, kind, own_id, ranges)
        names = (account.name, str(account.uid))
        for name in names:
            if name in self._problems:
                problem = self._problems[name]
                yield HostFinding("ranges-unusable", str(problem), _remove_bad(problem))
        for one, other in dict.fromkeys(pair for name in names for pair in self._overlaps.get(name, ())):
            # Both owners are told the same: who does as both are told takes it from one of them.
            later = max(one, other, key=lambda range_: range_.line or 0)
            kept = f"files of its containers keep the old IDs; a new range: {self._give(later.owner)}"
            yield HostFinding("ranges-overlap", f"{one} and {other}", f"{self._remove(later)}  # {kept}")
        for kind, own_id, ranges in (("UID", account.uid, uid_ranges), ("GID", account.gid, gid_ranges)):
            for range_ in ranges:
                inside = self._known_in(kind, range_)
                if inside is not None and inside[0] != own_id:
                    yield HostFinding(
                        "range-contains-account",
                        f"{range_} holds the {kind} of {inside[1]}, {inside[0]}",
                        f"{self._remove(range_)}  # a new range: {self._give(account.name)}",
                    )

    def unavailable(self, account: Account, kind: str, parts: Sequence[SubidRange]) -> HostFinding:
        """For what a user namespace that all of this lives in does not hold."""
        return HostFinding(
            "ranges-unavailable",
            f"{len(parts)} part(s) of the {kind} ranges of {account.name} are not in /proc/self/{kind.lower()}_map, "
            f"first {parts[0]}",
            f"cat /proc/self/{kind.lower()}_map  # the IDs there are in this container: give it more, or "
            f"{shell_word(account.name)} a range of these (rootless_subid, ranges)",
        )

    def unmappable(self, account: Account, error: SubidError) -> HostFinding:
        """For ranges that the kernel takes no map of, since they are too many."""
        return HostFinding("ranges-unusable", str(error), self._give(account.name, exclusive=True))

    def _check_kind(
        self, account: Account, kind: str, own_id: int, ranges: Sequence[SubidRange]
    ) -> Iterator[HostFinding]:
        if not ranges:
            found = f"{account.name} has no subordinate {kind}s"
            yield HostFinding("ranges-missing", found, self._give(account.name))
            return
        total = sum(range_.count for range_ in ranges)
        if total < ORDINARY_COUNT:
            found = f"{account.name} has {total} subordinate {kind}s: {', '.join(map(str, ranges))}"
            yield HostFinding("ranges-short", found, self._give(account.name))
        for range_ in ranges:
            if range_.start <= own_id < range_.end:
                yield HostFinding(
                    "range-contains-own-id",
                    f"{range_} holds the {kind} of {account.name} itself, {own_id}",
                    f"{self._remove(range_)}  # a new range: {self._give(account.name)}",
                )
                return
        try:
            check_ranges(ranges, own_id=own_id, kind=kind)
        except SubidError as error:
            superfluous = _superfluous(ranges)
            again = sum(_text(range_) == _text(superfluous) for range_ in ranges) > 1
            fix = f"{self._remove(superfluous, keep_first=again)}  # then: {self._give(account.name)}"
            yield HostFinding("ranges-unusable", str(error), fix)

    def _give(self, owner: str, **options: Any) -> str:
        if self._source != FILES:
            name = shell_word(owner)
            return f"getsubids {name}  # of {self._service()}: it has to give {name} {ORDINARY_COUNT} IDs or more"
        wanted = {"owners": [owner], "count": ORDINARY_COUNT, **options}
        # In the short form Ansible reads something into backslashes, commas and spaces.
        plain = re.fullmatch(r"[\w.@-]+", owner)
        short = " ".join([f"owners={owner}", *(f"{name}={str(wanted[name]).lower()}" for name in list(wanted)[1:])])
        arguments = shell_word(short if plain else json.dumps(wanted))
        return f"ansible HOST -b -m userns.rootless.rootless_subid -a {arguments}"

    def _remove(self, range_: SubidRange, *, keep_first: bool = False) -> str:
        if range_.line is None:
            return f"getsubids {shell_word(range_.owner)}  # of {self._service()}: take it away there"
        if not _PLAIN.fullmatch(range_.owner):
            return _show(range_.source, range_.line)
        return _drop(_text(range_), range_.source, keep_first=keep_first)

    def _service(self) -> str:
        return f"service {self._source.partition(':')[2]}, which subid: in /etc/nsswitch.conf names"

    def _known_in(self, kind: str, range_: SubidRange) -> tuple[int, str] | None:
        known = self._known[kind]
        place = bisect_left(known, (range_.start, ""))
        if place < len(known) and known[place][0] < range_.end:
            return known[place]
        return None


def _superfluous(ranges: Sequence[SubidRange]) -> SubidRange:
    """The later line of two that overlap; else the longest range."""
    by_start = sorted(ranges, key=lambda range_: range_.start)
    for one, other in zip(by_start, by_start[1:]):
        if other.start < one.end:
            return max(one, other, key=lambda range_: range_.line or 0)
    return max(ranges, key=lambda range_: range_.count)


def _text(range_: SubidRange) -> str:
    return f"{range_.owner}:{range_.start}:{range_.count}"


def _remove_bad(problem: SubidProblem) -> str:
    if _PLAIN.fullmatch(problem.raw):
        return f"{_drop(problem.raw, problem.source)}  # then give a new range, if none is left"
    return _show(problem.source, problem.line)


def _show(source: str, line: int) -> str:
    return f"sed -n {line}l {source}  # shows the line: correct or remove it by hand"


def _drop(line: str, source: str, *, keep_first: bool = False) -> str:
    """A command that removes a line by what stands in it: its number is another one once a line before it is gone."""
    pattern = re.sub(r"[][\\/.*^$]", lambda match: f"\\{match[0]}", line)
    script = f"0,/^{pattern}$/!{{/^{pattern}$/d}}" if keep_first else f"/^{pattern}$/d"
    return f"sed -i --follow-symlinks {shell_word(script)} {source}"
