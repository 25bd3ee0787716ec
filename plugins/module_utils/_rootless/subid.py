# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configured subordinate ID ranges: where they come from, and the ID map they give a user."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from mmap import PAGESIZE
from pathlib import Path

from .errors import RootlessError
from .idmap import (
    MAX_ID,
    MAX_MAP_LINES,
    IdMap,
    IdMapEntry,
    format_id_map,
    overlapping,
    parse_decimal,
)
from .text import shorten

__all__ = [
    "FILES",
    "FileSubids",
    "NssSubids",
    "SubidError",
    "SubidFile",
    "SubidProblem",
    "SubidRange",
    "SubidSource",
    "check_ranges",
    "open_subids",
    "parse_subid",
    "read_subid_file",
    "user_map",
]

# The source of ranges that are in /etc/subuid and /etc/subgid.
FILES = "files"

_MAX_FILE_BYTES = 64 * 1024 * 1024
_GETSUBIDS_ENV = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class SubidError(RootlessError):
    """Subordinate ranges cannot be read, or cannot be used as they are configured."""


@dataclass(frozen=True)
class SubidRange:
    """`count` subordinate IDs from `start`. The owner is an account name or a decimal UID, for group IDs too.

    `source` is the path of the file, or "nss"; `line` counts from 1.
    """

    owner: str
    start: int
    count: int
    source: str
    line: int | None

    @property
    def end(self) -> int:
        """The first ID after the range."""
        return self.start + self.count

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source} line {self.line}"
        return f"{shorten(self.owner)}:{self.start}:{self.count} ({where})"


@dataclass(frozen=True)
class SubidProblem:
    """A line that is neither a range nor a comment.

    `text` is the line, cut short; `raw` is the line itself. `owner` is what stands in the owner's
    place, as it is, so that a caller can tell whose line this was meant to be.
    """

    source: str
    line: int
    text: str
    why: str
    owner: str | None
    raw: str = ""

    def __str__(self) -> str:
        return f'{self.source} line {self.line}: "{self.text}": {self.why}'


@dataclass(frozen=True)
class SubidFile:
    """What one file holds, in its order."""

    ranges: tuple[SubidRange, ...]
    problems: tuple[SubidProblem, ...]


def parse_subid(text: str, *, source: str) -> tuple[tuple[SubidRange, ...], tuple[SubidProblem, ...]]:
    """Read the format of subuid(5) and subgid(5), ``owner:start:count``; `source` names the file in messages.

    Every line that is not blank or a comment gives either a range or a problem. Never raises.
    """
    ranges = []
    problems = []
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.strip()
        if content and not content.startswith("#"):
            parsed = _parse_line(line, source=source, number=number)
            if isinstance(parsed, SubidRange):
                ranges.append(parsed)
            else:
                problems.append(parsed)
    return tuple(ranges), tuple(problems)


def _parse_line(line: str, *, source: str, number: int) -> SubidRange | SubidProblem:
    fields = line.split(":", 3)
    owner = fields[0].strip()
    if len(fields) != 3:
        why = "it does not have the three fields owner:start:count"
    elif not owner:
        why = "the owner is empty"
    elif owner != fields[0]:
        why = "there is white space around the owner"
    else:
        start, count = parse_decimal(fields[1]), parse_decimal(fields[2])
        if start is None:
            why = f"start {_why_not_decimal(fields[1])}"
        elif count is None:
            why = f"count {_why_not_decimal(fields[2])}"
        elif not _is_range(start, count):
            why = f"count must be at least 1 and the last ID at most {MAX_ID - 1}"
        else:
            return SubidRange(owner=owner, start=start, count=count, source=source, line=number)
    return SubidProblem(source=source, line=number, text=shorten(line), why=why, owner=owner or None, raw=line)


def _why_not_decimal(field: str) -> str:
    if not (field.isascii() and field.isdigit()):
        return "is not a number"
    if field.startswith("0"):
        return "has a leading zero: shadow reads it as octal, Podman as decimal"
    return "does not fit in 32 bits"


def _is_range(start: int, count: int) -> bool:
    return count >= 1 and start + count <= MAX_ID


def read_subid_file(path: str | os.PathLike[str]) -> SubidFile:
    """Read and parse one file; a missing one is empty. Raises SubidError where it cannot be read."""
    return SubidFile(*parse_subid(_read_text(Path(path)), source=os.fspath(path)))


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise SubidError(f"cannot read {path}: {exc.strerror}; it must be a regular file that all can read") from exc
    if len(content) > _MAX_FILE_BYTES:
        raise SubidError(f"{path} is larger than {_MAX_FILE_BYTES} bytes; this cannot be right, look into it")
    return content.decode("utf-8", "surrogateescape")


class SubidSource(ABC):
    """Where the subordinate ranges of this host are configured."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What results call it: `FILES` or "nss:SERVICE"."""

    @abstractmethod
    def uid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        """The subordinate UIDs of a user, sorted by start; without a UID those of the name alone."""

    @abstractmethod
    def gid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        """The subordinate GIDs of a user, sorted by start; these too go by the user's name or UID."""

    @abstractmethod
    def owners(self) -> tuple[str, ...]:
        """All owners, names and UIDs as configured, sorted; none where the source cannot list them."""

    @abstractmethod
    def problems(self) -> tuple[SubidProblem, ...]:
        """Malformed lines of any owner."""


class FileSubids(SubidSource):
    """``subuid`` and ``subgid`` in `etc`, read once and indexed by owner."""

    def __init__(self, etc: str = "/etc") -> None:
        uids = read_subid_file(os.path.join(etc, "subuid"))
        gids = read_subid_file(os.path.join(etc, "subgid"))
        self._uids = _by_owner(uids.ranges)
        self._gids = _by_owner(gids.ranges)
        self._problems = uids.problems + gids.problems

    @property
    def source(self) -> str:
        return FILES

    def uid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        return _owned(self._uids, account_name, uid)

    def gid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        return _owned(self._gids, account_name, uid)

    def owners(self) -> tuple[str, ...]:
        return tuple(sorted(self._uids.keys() | self._gids.keys()))

    def problems(self) -> tuple[SubidProblem, ...]:
        return self._problems


def _by_owner(ranges: Iterable[SubidRange]) -> dict[str, list[SubidRange]]:
    index: dict[str, list[SubidRange]] = {}
    for range_ in ranges:
        index.setdefault(range_.owner, []).append(range_)
    return index


def _owned(index: dict[str, list[SubidRange]], account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
    owners = dict.fromkeys((account_name, account_name if uid is None else str(uid)))
    owned = [range_ for owner in owners for range_ in index.get(owner, ())]
    return tuple(sorted(owned, key=lambda range_: (range_.start, range_.line)))


class NssSubids(SubidSource):
    """The ranges getsubids(1) reports, on hosts where nsswitch.conf gives them to a service such as sss.

    getsubids ends with status 1 both for a user without ranges and for a service that does not answer, so the two
    look the same here: no ranges. Lookups raise SubidError for anything else that goes wrong.
    """

    def __init__(self, *, service: str, getsubids: str = "getsubids", timeout_seconds: float = 10) -> None:
        self._service = service
        self._getsubids = getsubids
        self._timeout_seconds = timeout_seconds
        # Where it is ignored, as a process may inherit it, the kernel reaps, and every exit status is taken for 0.
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    @property
    def source(self) -> str:
        return f"nss:{self._service}"

    def uid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        return self._lookup(account_name)

    def gid_ranges(self, account_name: str, uid: int | None) -> tuple[SubidRange, ...]:
        return self._lookup(account_name, "-g")

    def owners(self) -> tuple[str, ...]:
        return ()

    def problems(self) -> tuple[SubidProblem, ...]:
        return ()

    def _lookup(self, account_name: str, *options: str) -> tuple[SubidRange, ...]:
        if account_name.startswith("-"):
            raise SubidError(f"getsubids would take the account name {shorten(account_name)} for an option")
        command = [self._getsubids, *options, account_name]
        what = f"subordinate IDs come from NSS service {shorten(self._service)}, but {shorten(' '.join(command))}"
        try:
            # The library knows no AnsibleModule: it runs without Ansible, too.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                env=_GETSUBIDS_ENV,
                timeout=self._timeout_seconds,
                check=False,
            )
        except FileNotFoundError as exc:
            raise SubidError(f"{what} is not there; install getsubids (package uidmap or shadow-utils-subid)") from exc
        except subprocess.TimeoutExpired as exc:
            raise SubidError(f"{what} gave no answer in {self._timeout_seconds} s; check that service") from exc
        except OSError as exc:
            raise SubidError(f"{what} cannot be run: {exc.strerror}") from exc
        if done.returncode == 1:
            return ()
        if done.returncode != 0:
            raise SubidError(f"{what} ended with status {done.returncode}: {shorten(done.stderr.strip())}")
        ranges = [_parse_answer(line, owner=account_name, what=what) for line in done.stdout.splitlines()]
        return tuple(sorted(ranges, key=lambda range_: range_.start))


def _parse_answer(line: str, *, owner: str, what: str) -> SubidRange:
    """Read ``INDEX: OWNER START COUNT``; the owner may hold spaces."""
    words = line.split()
    start, count = (parse_decimal(word) for word in words[-2:]) if len(words) >= 4 else (None, None)
    if start is None or count is None or not _is_range(start, count):
        raise SubidError(f'{what} answered "{shorten(line)}", which is not a range of 32-bit IDs')
    return SubidRange(owner=owner, start=start, count=count, source="nss", line=None)


def open_subids(*, etc: str = "/etc", getsubids: str | None = None) -> SubidSource:
    """The source that rules on this host: the first word of the ``subid:`` line in nsswitch.conf, else the files.

    `getsubids` is the path of that tool. Raises SubidError where a file cannot be read.
    """
    service = _nss_service(_read_text(Path(etc) / "nsswitch.conf"))
    if service == FILES:
        return FileSubids(etc)
    return NssSubids(service=service, getsubids=getsubids or "getsubids")


def _nss_service(nsswitch: str) -> str:
    for line in nsswitch.split("\n"):
        database, colon, services = line.partition("#")[0].partition(":")
        words = services.split()
        # libsubid knows neither case nor a second service, and passes over a line that names none.
        if colon and database.lower() == "subid" and words:
            return words[0]
    return FILES


def check_ranges(ranges: Sequence[SubidRange], *, own_id: int, kind: str) -> None:
    """Raise SubidError where one user's ranges cannot make an ID map; `kind` is "UID" or "GID".

    Podman refuses a range with the user's own ID, and the kernel any ID twice.
    """
    for range_ in ranges:
        if range_.start <= own_id < range_.end:
            raise SubidError(
                f"{range_} includes the user's own {kind}, {own_id}, which is mapped already; move the range elsewhere"
            )
    total = sum(range_.count for range_ in ranges)
    if total >= MAX_ID:
        raise SubidError(
            f"{', '.join(map(str, ranges[:3]))}: the user's {kind} ranges hold {total} IDs in all, more than "
            f"the {MAX_ID - 1} that a map has room for; shorten or remove some"
        )
    clashes = overlapping((range_.start, range_.count, range_) for range_ in ranges)
    if clashes:
        first, second = clashes[0]
        raise SubidError(f"{first} and {second}: these {kind} ranges of one user overlap; move or remove one of them")


def user_map(
    own_id: int,
    ranges: Iterable[SubidRange],
    *,
    available: Iterable[IdMapEntry],
    page_bytes: int = PAGESIZE,
) -> tuple[tuple[IdMapEntry, ...], tuple[SubidRange, ...]]:
    """The map Podman gives a user, and the parts of the ranges that had to be left out of it.

    Container ID 0 is the user's own ID; then come the ranges, sorted by start, end to end from container ID 1.
    `available` is the map of the current user namespace. What it does not hold is left out, and what lies in several
    of its lines becomes several lines, since the kernel wants each line within one (user_namespaces(7)).
    Raises SubidError where the own ID is not available, or the map is longer than the kernel takes: it must fit in
    one write of less than a page.
    """
    here = IdMap(available)
    if here.to_parent(own_id) is None:
        raise SubidError(f"ID {own_id} is not mapped in the current user namespace; run this outside of it")
    entries = [IdMapEntry(0, own_id, 1)]
    left_out = []
    next_id = 1
    for range_ in sorted(ranges, key=lambda range_: range_.start):
        for start, count, held in here.pieces(range_.start, range_.count):
            if held:
                entries.append(IdMapEntry(next_id, start, count))
                next_id += count
            else:
                left_out.append(replace(range_, start=start, count=count))
    size = len(format_id_map(entries))
    if len(entries) > MAX_MAP_LINES or size >= page_bytes:
        raise SubidError(
            f"the ID map of user {own_id} would have {len(entries)} lines in {size} bytes, but the kernel takes at "
            f"most {MAX_MAP_LINES} lines in less than {page_bytes} bytes; give the user fewer, larger ranges"
        )
    return tuple(entries), tuple(left_out)
