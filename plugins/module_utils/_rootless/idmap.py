# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ID-map arithmetic: entries of ID maps, lookups in them, and cutting mappings to fit them. Pure: no I/O."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import RootlessError
from .text import quoted, shorten

__all__ = [
    "MAX_ID",
    "MAX_MAP_LINES",
    "IdMap",
    "IdMapEntry",
    "IdMapError",
    "OciMapping",
    "count_ids",
    "format_id_map",
    "merge",
    "overlapping",
    "parse_decimal",
    "parse_id",
    "parse_id_map",
    "split_mappings",
]

MAX_ID = 0xFFFFFFFF
"""The highest 32-bit number. As an ID it is ``(uid_t) -1``, "no ID", so real IDs end one below."""

MAX_MAP_LINES = 340
"""``UID_GID_MAP_MAX_EXTENTS``: the kernel takes no longer map (user_namespaces(7))."""

T = TypeVar("T")


class IdMapError(RootlessError):
    """Something is not a valid ID map, or not a valid entry of one."""


def parse_decimal(text: str) -> int | None:
    """The number a plain ASCII decimal stands for; None for anything else, or above 32 bits.

    A leading zero is refused: strtoul(3) with base 0, as shadow calls it, reads octal where Podman reads decimal.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_ID)) or (text[0] == "0" and text != "0"):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def parse_id(value: object) -> int:
    """Read one ID, an integer or a decimal string."""
    number: Any = _from_decimal(value)
    if not _is_u32(number):
        raise IdMapError(f"{quoted(value)} is no ID: it must be a whole number from 0 to {MAX_ID}")
    return int(number)


@dataclass(frozen=True)
class IdMapEntry:
    """One line of an ID map: `count` IDs from `id` inside are those from `parent_id` in the parent namespace."""

    id: int
    parent_id: int
    count: int

    def __post_init__(self) -> None:
        _require_u32("ID map entry", {"id": self.id, "parent_id": self.parent_id, "count": self.count})
        if self.count < 1:
            raise IdMapError(f"ID map entry {self}: count must be at least 1")
        if max(self.id, self.parent_id) + self.count - 1 > MAX_ID:
            raise IdMapError(f"ID map entry {self}: it runs past the last 32-bit ID, {MAX_ID}; lower its count")

    def __str__(self) -> str:
        return f"{self.id} {self.parent_id} {self.count}"

    @classmethod
    def parse(cls, value: object) -> IdMapEntry:
        """Read a mapping of ``id``, ``parent_id`` and ``count`` to integers or decimal strings."""
        id_, parent_id, count = _fields("ID map entry", value, ("id", "parent_id", "count"))
        return cls(id_, parent_id, count)

    def as_dict(self) -> dict[str, int]:
        return {"id": self.id, "parent_id": self.parent_id, "count": self.count}


@dataclass(frozen=True)
class OciMapping:
    """One ID mapping of the OCI runtime specification. A size of 0 occurs in practice and is kept as it is."""

    container_id: int
    host_id: int
    size: int

    def __post_init__(self) -> None:
        _require_u32("ID mapping", {"containerID": self.container_id, "hostID": self.host_id, "size": self.size})

    @classmethod
    def parse(cls, value: object) -> OciMapping:
        """Read a mapping of ``containerID``, ``hostID`` and ``size`` to integers or decimal strings."""
        container_id, host_id, size = _fields("ID mapping", value, ("containerID", "hostID", "size"))
        return cls(container_id, host_id, size)

    def as_dict(self) -> dict[str, int]:
        return {"containerID": self.container_id, "hostID": self.host_id, "size": self.size}


def _is_u32(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID


def _require_u32(what: str, fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        if not _is_u32(value):
            values = shorten(", ".join(f"{key}={number!r}" for key, number in fields.items()))
            raise IdMapError(f"{what} with {values}: {name} must be a whole number from 0 to {MAX_ID}")


def _fields(what: str, value: object, names: tuple[str, str, str]) -> list[Any]:
    """The named fields, strings of decimals turned into numbers; whatever else stands there the classes refuse."""
    if not isinstance(value, Mapping) or set(value) != set(names):
        raise IdMapError(f"{what} {quoted(value)}: it must be a mapping of exactly {', '.join(names)}")
    return [_from_decimal(value[name]) for name in names]


def _from_decimal(value: object) -> object:
    number = parse_decimal(value) if isinstance(value, str) else None
    return value if number is None else number


def parse_id_map(text: str, *, origin: str) -> tuple[IdMapEntry, ...]:
    """Read the kernel's format, as in ``/proc/PID/uid_map`` (user_namespaces(7)); `origin` names it in errors.

    A map that was never written is empty text and gives no entries.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [parse_decimal(field) for field in line.split()]
        first, second, third = fields if len(fields) == 3 else (None, None, None)
        if first is None or second is None or third is None:
            raise IdMapError(f'{origin} line {number}: "{shorten(line)}" is not three decimal 32-bit numbers')
        try:
            entries.append(IdMapEntry(first, second, third))
        except IdMapError as exc:
            raise IdMapError(f"{origin} line {number}: {exc}") from None
    return tuple(entries)


def format_id_map(entries: Iterable[IdMapEntry]) -> str:
    """The text to write to a map file: one line an entry."""
    return "".join(f"{entry}\n" for entry in entries)


def count_ids(entries: Iterable[IdMapEntry]) -> int:
    """How many IDs a map holds."""
    return sum(entry.count for entry in entries)


class _ByStart:
    """Entries found by one of their two start IDs in O(log n)."""

    def __init__(self, starts: Iterable[tuple[int, IdMapEntry]]) -> None:
        pairs = sorted(starts, key=lambda pair: pair[0])
        self.starts = [start for start, _entry in pairs]
        self.entries = [entry for _start, entry in pairs]

    def find(self, wanted: int) -> tuple[int, IdMapEntry] | None:
        """The entry that contains `wanted`, and how far into it; only the entry with the nearest start is tried."""
        position = bisect_right(self.starts, wanted) - 1
        if position < 0:
            return None
        offset = wanted - self.starts[position]
        entry = self.entries[position]
        return (offset, entry) if offset < entry.count else None

    def next_start(self, wanted: int) -> int | None:
        """The first start after `wanted`."""
        position = bisect_right(self.starts, wanted)
        return self.starts[position] if position < len(self.starts) else None

    def first_overlap(self) -> tuple[IdMapEntry, IdMapEntry] | None:
        for position in range(1, len(self.starts)):
            before = self.entries[position - 1]
            if self.starts[position - 1] + before.count > self.starts[position]:
                return before, self.entries[position]
        return None


class IdMap:
    """A whole map, indexed both ways: each lookup costs O(log n).

    Raises IdMapError where two entries overlap on either side: no kernel map does, and a lookup would be ambiguous.
    """

    def __init__(self, entries: Iterable[IdMapEntry]) -> None:
        kept = tuple(entries)
        self._inside = _ByStart((entry.id, entry) for entry in kept)
        self._parent = _ByStart((entry.parent_id, entry) for entry in kept)
        for side, index in (("inside", self._inside), ("in the parent namespace", self._parent)):
            clash = index.first_overlap()
            if clash:
                raise IdMapError(f'ID map entries "{clash[0]}" and "{clash[1]}" overlap {side}; each ID may occur once')

    def to_parent(self, inside_id: int) -> int | None:
        """The ID in the parent namespace of an ID inside; None where the map does not hold it."""
        found = self._inside.find(inside_id)
        return found[1].parent_id + found[0] if found else None

    def to_inside(self, parent_id: int) -> int | None:
        """The ID inside of an ID of the parent namespace; None where the map does not hold it."""
        found = self._parent.find(parent_id)
        return found[1].id + found[0] if found else None

    def pieces(self, start: int, count: int) -> Iterator[tuple[int, int, bool]]:
        """Cut `count` IDs inside from `start` at the entries' borders: (start, count, whether an entry holds them)."""
        end = start + count
        while start < end:
            found = self._inside.find(start)
            if found:
                border: int | None = start - found[0] + found[1].count
            else:
                border = self._inside.next_start(start)
            stop = end if border is None else min(end, border)
            yield start, stop - start, found is not None
            start = stop


def split_mappings(mappings: Sequence[OciMapping], available: Iterable[IdMapEntry]) -> tuple[OciMapping, ...]:
    """Cut mappings so that each part lies within one entry of `available`: Podman's MaybeSplitMappings.

    Host IDs are looked up among ``id``, as seen inside the current namespace. When any part is not available,
    the original mappings come back unchanged: whoever applies them reports that. O((n + m) log m) plus the output.
    """
    # Reversed, since among entries with the same start the lookup takes the last and Podman the first.
    index = _ByStart((entry.id, entry) for entry in reversed(tuple(available)))
    parts = []
    for mapping in mappings:
        rest = mapping
        while True:
            found = index.find(rest.host_id)
            if found is None:
                return tuple(mappings)
            usable = found[1].count - found[0]
            if rest.size <= usable:
                parts.append(rest)
                break
            if max(rest.host_id, rest.container_id) + usable > MAX_ID:
                return tuple(mappings)
            parts.append(OciMapping(rest.container_id, rest.host_id, usable))
            rest = OciMapping(rest.container_id + usable, rest.host_id + usable, rest.size - usable)
    return tuple(parts)


def merge(entries: Iterable[IdMapEntry]) -> tuple[IdMapEntry, ...]:
    """The canonical form: sorted by ``id``, with entries joined where they go on both inside and in the parent.

    Two maps mean the same if and only if their canonical forms are equal.
    """
    merged: list[IdMapEntry] = []
    for entry in sorted(entries, key=lambda entry: entry.id):
        last = merged[-1] if merged else None
        if last and (last.id + last.count, last.parent_id + last.count) == (entry.id, entry.parent_id):
            merged[-1] = IdMapEntry(last.id, last.parent_id, last.count + entry.count)
        else:
            merged.append(entry)
    return tuple(merged)


def overlapping(intervals: Iterable[tuple[int, int, T]]) -> list[tuple[T, T]]:
    """The pairs of tags whose intervals, each (start, count, tag), share an ID; the earlier start comes first.

    O(n log n) plus the answers.
    """
    pairs: list[tuple[T, T]] = []
    open_ends: list[tuple[int, int, T]] = []
    for number, (start, count, tag) in enumerate(sorted(intervals, key=lambda interval: interval[0])):
        if not count:
            continue
        while open_ends and open_ends[0][0] <= start:
            heapq.heappop(open_ends)
        pairs.extend((other, tag) for _end, _number, other in open_ends)
        # The running number keeps the heap from ever comparing tags.
        heapq.heappush(open_ends, (start + count, number, tag))
    return pairs
