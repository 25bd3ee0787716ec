# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find room for ranges of IDs. Pure: intervals in, intervals out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from .errors import RootlessError
from .login_defs import Policy


class NoRoomError(RootlessError):
    """No gap is large enough."""


class Taken:
    """IDs that are not to be given out: intervals `[start, end)`, sorted and apart from each other."""

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(interval for interval in intervals if interval[0] < interval[1]):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def in_the_way(self, start: int, end: int) -> tuple[int, int] | None:
        """The first interval that shares IDs with `[start, end)`."""
        index = bisect_right(self._ends, start)
        if index < len(self._starts) and self._starts[index] < end:
            return self._starts[index], self._ends[index]
        return None

    def total(self) -> int:
        """How many IDs are taken."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Take an interval, whatever of it is taken already."""
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]


class Allocator:
    """Gives out the lowest free ranges, one after the other; never the same twice."""

    def __init__(self, taken: Taken, policy: Policy) -> None:
        self._taken = taken
        self._policy = policy
        # Where the search for ranges of a size goes on: below, nothing of that size is free any more.
        self._cursor: dict[int, int] = {}

    def reserve(self, start: int, end: int) -> None:
        """Do not give out what was taken otherwise."""
        self._taken.add(start, end)

    def next(self, count: int) -> int:
        """Take the lowest free range of `count` IDs; its start.

        It lies on the grid that ranges of this size make from the policy's first ID, so that a range given back leaves
        a gap that fits again. Raises `NoRoomError`.
        """
        first, last = self._policy.first, self._policy.last
        start = self._cursor.get(count, first)
        while start + count - 1 <= last:
            obstacle = self._taken.in_the_way(start, start + count)
            if obstacle is None:
                self._taken.add(start, start + count)
                self._cursor[count] = start + count
                return start
            start = first + -(-(obstacle[1] - first) // count) * count
        raise NoRoomError(f"no {count} free IDs in a row are left between {first} and {last} (login.defs)")


def by_uid(uid: int, count: int, policy: Policy) -> int:
    """The start that shadow gives with `SUB_UID_DETERMINISTIC yes` (useradd of shadow 4.19 and later; login.defs(5)).

    `SUB_UID_MIN + (uid - UID_MIN) * SUB_UID_COUNT`, for group IDs with `SUB_GID_*`. Raises `NoRoomError` where that is
    outside of the configured range: shadow's wrapping around, which makes overlaps, is not offered.
    """
    if uid < policy.uid_min:
        raise NoRoomError(f"UID {uid} is less than UID_MIN {policy.uid_min} (login.defs): no range follows from it")
    start = policy.first + (uid - policy.uid_min) * count
    if start + count - 1 > policy.last:
        raise NoRoomError(f"the range that follows from UID {uid}, {start}:{count}, is past {policy.last} (login.defs)")
    return start
