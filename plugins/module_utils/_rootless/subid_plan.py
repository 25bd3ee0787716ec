# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file of subordinate ranges becomes when owners are to have ranges, or none. Pure: text in, text out.

Lines stay as they are and where they are, comments among them; new lines come last. A range that is taken away leaves a
comment, so that it is not given to somebody else, who would own the files that its old owner's containers have left.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeVar

from .allocation import Allocator, NoRoomError, Taken, by_uid
from .errors import RootlessError
from .idmap import MAX_ID, overlapping, shown
from .login_defs import Policy
from .subid import SubidRange, parse_subid

T = TypeVar("T")

NEXT = "next"
BY_UID = "uid"

_RELEASED = re.compile(r"# released by userns\.rootless: ([^:\n]+):(\d+):(\d+)")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")


@dataclass(frozen=True)
class Owner:
    """An owner under all its names: what new lines call it (`key`), its account's name and its UID, if it has one."""

    asked: str
    key: str
    names: frozenset[str]
    uid: int | None = None


@dataclass(frozen=True)
class Wish:
    """What every owner is to have. `ranges`: `(start, count)` by owner as asked, before all else."""

    count: int
    allocate: str = NEXT
    ranges: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    exclusive: bool = False
    reuse_released: bool = False


@dataclass
class OwnerOutcome:
    """What one owner has in the end, and what was done for it; `problem` if it could not be served."""

    ranges: list[tuple[int, int]]
    added: list[tuple[int, int]] = field(default_factory=list)
    removed: list[tuple[int, int]] = field(default_factory=list)
    problem: str | None = None


@dataclass
class FilePlan:
    """The file's new text, and an outcome for every owner asked, in that order."""

    text: str
    outcomes: list[OwnerOutcome]


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
            for piece in _without((first, first + count), [(start, end)]):
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


def plan_absent(text: SubidText, owners: Sequence[Owner]) -> FilePlan:
    """Take away every range of the owners."""
    outcomes = []
    for owner in owners:
        found = text.of(owner)
        for range_ in found:
            text.take_away(range_)
        outcomes.append(OwnerOutcome(ranges=[], removed=[(range_.start, range_.count) for range_ in found]))
    return FilePlan(str(text), outcomes)


def plan_present(
    text: SubidText, owners: Sequence[Owner], wish: Wish, *, policy: Policy, in_use: Iterable[tuple[int, int]]
) -> FilePlan:
    """Give every owner what the wish says; what it has already counts, and stays unless the wish is exclusive.

    `in_use`: intervals `[start, end)` of IDs that belong to users, groups or others and can be nobody's range.
    """
    forbidden = [(0, 1), (MAX_ID - 1, MAX_ID + 1), *in_use, *text.doubtful()]
    ranges = [(range_.start, range_.end) for range_ in text.ranges]
    shared = [(max(one.start, other.start), min(one.end, other.end)) for one, other in text.overlaps()]
    places = _Places(
        explicit=Taken([*ranges, *forbidden]),
        contested=Taken([*shared, *forbidden]),
        returned=Taken([] if wish.reuse_released else text.released_twice()),
        allocator=Allocator(
            Taken([*ranges, *forbidden, *([] if wish.reuse_released else text.released())]),
            policy,
        ),
        policy=policy,
    )
    outcomes = {}
    # Who asks for certain IDs goes first, so that nobody else is given them.
    for owner in sorted(owners, key=lambda owner: owner.asked not in wish.ranges and wish.allocate == NEXT):
        outcomes[owner.asked] = _serve(text, owner, wish, places)
    return FilePlan(str(text), [outcomes[owner.asked] for owner in owners])


@dataclass
class _Places:
    """Where there is room: for ranges that were asked for by number, and for those to be found.

    What is `contested` is not even free for an owner who gives it up, since it is somebody else's, too; what different
    owners have `returned` goes to none of them.
    """

    explicit: Taken
    contested: Taken
    returned: Taken
    allocator: Allocator
    policy: Policy


def _serve(text: SubidText, owner: Owner, wish: Wish, places: _Places) -> OwnerOutcome:
    have = text.of(owner)
    outcome = OwnerOutcome(ranges=[(range_.start, range_.count) for range_ in have])
    try:
        wanted = _wanted(text, owner, wish, places)
        if wanted is None:
            _serve_count(text, owner, wish, places, have, outcome)
        else:
            _serve_ranges(text, owner, wish, places, have, wanted, outcome)
    except RootlessError as error:
        outcome.problem = str(error)
    outcome.ranges.sort()
    return outcome


def _wanted(text: SubidText, owner: Owner, wish: Wish, places: _Places) -> list[tuple[int, int]] | None:
    """The ranges that are asked for by number; None where any will do."""
    if owner.asked in wish.ranges:
        wanted = sorted(wish.ranges[owner.asked])
        for first, second in overlapping((start, count, (start, count)) for start, count in wanted):
            raise NoRoomError(
                f"ranges asked for {owner.asked} share IDs: {first[0]}:{first[1]}, {second[0]}:{second[1]}"
            )
        for start, count in wanted:
            if start + count > MAX_ID:
                raise NoRoomError(f"{start}:{count} is past {MAX_ID - 1}, the last ID there is")
        return wanted
    if wish.count < 1:
        raise NoRoomError(f"{owner.asked}: login.defs sets a count of {wish.count} IDs, so that count must be given")
    if wish.allocate == NEXT:
        return None
    if owner.uid is None:
        raise NoRoomError(f"{owner.asked} has no UID (no such user), so that no range follows from it: allocate: next")
    start = by_uid(owner.uid, wish.count, places.policy)
    note = None if wish.reuse_released else text.released_by_others(start, start + wish.count, owner)
    has_it = any(range_.start <= start and start + wish.count <= range_.end for range_ in text.of(owner))
    if note is not None and not has_it:
        raise NoRoomError(
            f"the range that follows from UID {owner.uid}, {start}:{wish.count}, was released by {shown(note[2])} "
            f"({note[0]}:{note[1]}), whose containers' files may be left: reuse_released gives it all the same"
        )
    return [(start, wish.count)]


def _serve_ranges(
    text: SubidText,
    owner: Owner,
    wish: Wish,
    places: _Places,
    have: list[SubidRange],
    wanted: list[tuple[int, int]],
    outcome: OwnerOutcome,
) -> None:
    kept = have
    if wish.exclusive:
        # One line of each: of several that say the same, the first.
        first = {(range_.start, range_.count): range_ for range_ in reversed(have)}
        kept = [first[place] for place in wanted if place in first]
    new = []
    for start, count in wanted:
        if any(range_.start <= start and start + count <= range_.end for range_ in kept):
            continue
        # What the owner gives up is free for itself.
        going = [(range_.start, range_.end) for range_ in have if range_ not in kept]
        pieces = [(piece, places.explicit) for piece in _without((start, start + count), going)]
        for piece, taken in [*pieces, ((start, start + count), places.contested)]:
            obstacle = taken.in_the_way(*piece)
            if obstacle is not None:
                where = max(piece[0], obstacle[0])
                raise NoRoomError(f"{start}:{count} is not free: ID {where} belongs to {text.holder(where, owner)}")
        new.append((start, count))
    _change(text, owner, outcome, gone=[range_ for range_ in have if range_ not in kept], new=new)
    for start, count in new:
        places.explicit.add(start, start + count)
        places.allocator.reserve(start, start + count)


def _without(interval: tuple[int, int], gone: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of an interval when others are cut out of it."""
    pieces = []
    start, end = interval
    for first, last in sorted(gone):
        if first < end and last > start:
            if start < first:
                pieces.append((start, first))
            start = last
    return [*pieces, (start, end)] if start < end else pieces


def _serve_count(
    text: SubidText, owner: Owner, wish: Wish, places: _Places, have: list[SubidRange], outcome: OwnerOutcome
) -> None:
    total = sum(range_.count for range_ in have)
    # What stands in two lines is there once.
    shared = total - Taken((range_.start, range_.end) for range_ in have).total()
    if wish.exclusive and (shared or total != wish.count):
        # One that fits is kept, so that as little as possible moves.
        fitting = next((range_ for range_ in have if range_.count == wish.count), None)
        gone = [range_ for range_ in have if range_ is not fitting]
        new = [] if fitting else [_find(text, owner, wish.count, places)]
        _change(text, owner, outcome, gone=gone, new=new)
    elif total - shared < wish.count:
        _change(text, owner, outcome, gone=[], new=[_find(text, owner, wish.count - total + shared, places)])


def _find(text: SubidText, owner: Owner, count: int, places: _Places) -> tuple[int, int]:
    """What the owner itself gave back, if it is still free, else the lowest gap."""
    for start, released in text.released_by(owner):
        obstacles = (taken.in_the_way(start, start + count) for taken in (places.explicit, places.returned))
        if released == count and not any(obstacles):
            places.explicit.add(start, start + count)
            places.allocator.reserve(start, start + count)
            return start, count
    start = places.allocator.next(count)
    places.explicit.add(start, start + count)
    return start, count


def _change(
    text: SubidText,
    owner: Owner,
    outcome: OwnerOutcome,
    *,
    gone: list[SubidRange],
    new: list[tuple[int, int]],
) -> None:
    for range_ in gone:
        outcome.ranges.remove((range_.start, range_.count))
        text.take_away(range_, keep_note=(range_.start, range_.count) not in outcome.ranges)
        outcome.removed.append((range_.start, range_.count))
    for start, count in new:
        text.forget_released(start, start + count)
        text.append(owner.key, start, count)
        outcome.ranges.append((start, count))
        outcome.added.append((start, count))
