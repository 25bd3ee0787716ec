# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a subuid(5) file: its lines, whose ranges they are, and notes of what was released."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from .idmap import MAX_ID, overlapping
from .subid import SubidRange, parse_subid

T = TypeVar("T")

_RELEASED = re.compile(r"# released by userns\.rootless: ([^:\n]+):(\d+):(\d+)")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")


@dataclass(frozen=True)
class Owner:
    """An owner under all its names: what new lines call it (`key`), its account's name and its UID, if it has one."""

    asked: str
    key: str
    names: frozenset[str]
    uid: int | None = None


class SubidText:
    """A file's lines, its ranges by owner, and what was released.

    `aliases`: every owner's one name, by each of the names it goes by.
    """

    def __init__(self, text: str, *, source: str, aliases: Mapping[str, str]) -> None:
        self.lines: list[str | None] = [*text.split("\n")]
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        self.ranges, self.problems = parse_subid(text, source=source)
        self._aliases = aliases
        self._by_owner: dict[str, list[SubidRange]] = {}
        for range_ in self.ranges:
            self._by_owner.setdefault(self.canonical(range_.owner), []).append(range_)
        self._by_start = sorted(self.ranges, key=lambda range_: range_.start)
        self._starts = [range_.start for range_ in self._by_start]
        self._longest = max((range_.count for range_ in self.ranges), default=0)
        # Notes of released ranges, `(start, count, owner as noted, index of the line)`, sorted.
        self._notes: list[tuple[int, int, str, int]] = []
        for number, line in enumerate(self.lines):
            match = _RELEASED.fullmatch((line or "").strip())
            if match:
                self._notes.append((int(match[2]), int(match[3]), match[1], number))
        self._notes.sort()
        self._longest_note = max((note[1] for note in self._notes), default=0)
        self._notes_by_owner: dict[str, list[tuple[int, int]]] = {}
        for start, count, owner, _number in self._notes:
            self._notes_by_owner.setdefault(self.canonical(owner), []).append((start, count))

    def released(self) -> list[tuple[int, int]]:
        """The released ranges, as intervals `[start, end)`."""
        return [(start, start + count) for start, count, _owner, _number in self._notes]

    def released_by(self, owner: Owner) -> list[tuple[int, int]]:
        """What an owner itself has given back, as `(start, count)`."""
        names = {self.canonical(name) for name in owner.names}
        return [note for name in names for note in self._notes_by_owner.get(name, ())]

    def released_twice(self) -> list[tuple[int, int]]:
        """The intervals `[start, end)` that different owners have given back."""
        pairs = _pairs((note[0], note[1], self.canonical(note[2]), note) for note in self._notes)
        return [(max(one[0], other[0]), min(one[0] + one[1], other[0] + other[1])) for one, other in pairs]

    def forget_released(self, start: int, end: int) -> None:
        """Drop the notes of what is given out again; what is not stays noted."""
        for note in self._noted(start, end):
            first, count, owner, number = note
            del self._notes[bisect_left(self._notes, note)]
            self.lines[number] = None
            for piece in without((first, first + count), [(start, end)]):
                self._note(owner, piece[0], piece[1] - piece[0], number if self.lines[number] is None else None)

    def released_by_others(self, start: int, end: int, owner: Owner) -> tuple[int, int, str] | None:
        """A note of another owner about some of these IDs, as `(start, count, owner)`."""
        names = {self.canonical(name) for name in owner.names}
        return next((note[:3] for note in self._noted(start, end) if self.canonical(note[2]) not in names), None)

    def _noted(self, start: int, end: int) -> list[tuple[int, int, str, int]]:
        """The notes about any of these IDs."""
        first = bisect_left(self._notes, (start - self._longest_note,))
        last = bisect_left(self._notes, (end,))
        return [note for note in self._notes[first:last] if note[0] + note[1] > start]

    def _note(self, owner: str, start: int, count: int, number: int | None) -> None:
        """Note a released range, in a line of the file or a new one."""
        if number is None:
            number = len(self.lines)
            self.lines.append(None)
        self.lines[number] = f"# released by userns.rootless: {owner}:{start}:{count}"
        insort(self._notes, (start, count, owner, number))
        self._longest_note = max(self._longest_note, count)

    def holder(self, id_: int, owner: Owner) -> str:
        """Who else than the owner has an ID, for a message."""
        own = self.of(owner)
        first = bisect_left(self._starts, id_ - self._longest + 1)
        near = self._by_start[first : bisect_right(self._starts, id_)]
        found = [range_ for range_ in near if id_ < range_.end]
        return next(
            (str(range_) for range_ in sorted(found, key=own.__contains__)),
            "a user, a group, the system, a line that cannot be read, or an owner of this call",
        )

    def canonical(self, owner: str) -> str:
        """One name for each owner: a UID and the name that goes with it are the same."""
        return self._aliases.get(owner, owner)

    def of(self, owner: Owner) -> list[SubidRange]:
        """An owner's ranges, sorted by start."""
        names = {self.canonical(name) for name in owner.names}
        found = [range_ for name in names for range_ in self._by_owner.get(name, ())]
        return sorted(found, key=lambda range_: (range_.start, range_.count, range_.line or 0))

    def overlaps(self) -> list[tuple[SubidRange, SubidRange]]:
        """Ranges of different owners that share IDs.

        Of a thousand owners with the same range each is told with the first, not with all: every owner that shares an
        ID, and every ID that is shared, is in one pair at least.
        """
        return _pairs((range_.start, range_.count, self.canonical(range_.owner), range_) for range_ in self.ranges)

    def doubtful(self) -> list[tuple[int, int]]:
        """What another reader may take from lines that are no ranges to us, as intervals `[start, end)`.

        Podman reads a leading zero as decimal where shadow reads octal, and does not mind carriage returns.
        """
        found = []
        for problem in self.problems:
            fields = (self.lines[problem.line - 1] or "").split(":")
            if len(fields) >= 3:
                pairs = product(_readings(fields[1]), _readings(fields[2]))
                found += [(start, start + count) for start, count in pairs if count and start + count <= MAX_ID]
        return found

    def append(self, owner: str, start: int, count: int) -> None:
        self.lines.append(f"{owner}:{start}:{count}")

    def take_away(self, range_: SubidRange, *, keep_note: bool = True) -> None:
        """Remove a range's line, leaving a note of it."""
        number = (range_.line or 1) - 1
        self.lines[number] = None
        if keep_note:
            self._note(range_.owner, range_.start, range_.count, number)

    def __str__(self) -> str:
        kept = [line for line in self.lines if line is not None]
        return "\n".join(kept) + "\n" if kept else ""


def _pairs(ranges: Iterable[tuple[int, int, str, T]]) -> list[tuple[T, T]]:
    """The tags of ranges, each (start, count, owner, tag), of different owners that share IDs.

    Of equal ranges each is paired with the first; that leaves no owner and no ID out.
    """
    alike: dict[tuple[int, int], list[tuple[int, str, T]]] = {}
    for start, count, owner, tag in ranges:
        alike.setdefault((start, count), []).append((start, owner, tag))
    pairs = [(same[0], other) for same in alike.values() for other in same[1:]]
    # Where these two are one owner's, those of other owners have been paired with them above.
    pairs += overlapping((start, count, same[0]) for (start, count), same in alike.items())
    found = [pair for pair in pairs if pair[0][1] != pair[1][1]]
    return [(one[2], other[2]) for one, other in sorted(found, key=lambda pair: (pair[1][0], pair[0][0]))]


def _readings(field: str) -> set[int]:
    """The numbers that a field may be."""
    digits = field.strip()
    if not _NUMBER.fullmatch(digits):
        return set()
    if digits[1:2] in ("x", "X"):
        return {int(digits, 16)}
    octal = {int(digits, 8)} if digits.startswith("0") and not set(digits) & set("89") else set()
    return {int(digits), *octal}


def without(interval: tuple[int, int], gone: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of an interval when others are cut out of it."""
    pieces = []
    start, end = interval
    for first, last in sorted(gone):
        if first < end and last > start:
            if start < first:
                pieces.append((start, first))
            start = last
    return [*pieces, (start, end)] if start < end else pieces
