# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file of subordinate ranges becomes when owners are to have ranges, or none. Pure: text in, text out.

Lines stay as they are and where they are, comments among them; new lines come last. A range that is taken away leaves a
comment, so that it is not given to somebody else, who would own the files that its old owner's containers have left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .allocation import Allocator, NoRoomError, Taken, by_uid
from .errors import RootlessError
from .idmap import MAX_ID, overlapping
from .login_defs import Policy
from .subid import SubidRange
from .subid_text import Owner, SubidText, without
from .text import shorten

NEXT = "next"
BY_UID = "uid"


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
            f"the range that follows from UID {owner.uid}, {start}:{wish.count}, was released by {shorten(note[2])} "
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
        pieces = [(piece, places.explicit) for piece in without((start, start + count), going)]
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
