# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give owners subordinate ranges, or take them away: both files of this host, under their locks."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .allocation import Taken
from .errors import RootlessError
from .idmap import MAX_ID
from .login_defs import KINDS, read_policy
from .subid import FILES, SubidError, SubidProblem, SubidRange, open_subids
from .subid_edit import accounts_locked, locked, replace_file
from .subid_plan import FilePlan, OwnerOutcome, Wish, plan_absent, plan_present
from .subid_text import Owner, SubidText

KEY_NAME = "name"
KEY_UID = "uid"

# systemd gives containers blocks of this many IDs, each aligned to its size (systemd.io/UIDS-GIDS).
_SYSTEMD_FIRST, _SYSTEMD_LAST, _SYSTEMD_BLOCK = 524_288, 1_878_982_656, 65_536


@dataclass
class KindOutcome:
    """One file: its text before and after, an outcome per owner, and ranges of different owners that share IDs."""

    path: str
    before: str
    after: str
    owners: list[OwnerOutcome]
    overlaps: list[tuple[SubidRange, SubidRange]] = field(default_factory=list)
    problems: tuple[SubidProblem, ...] = ()

    @property
    def changed(self) -> bool:
        return self.before != self.after


class OverlapError(SubidError):
    """Ranges of different owners share IDs already; nothing was changed."""

    def __init__(self, found: dict[str, KindOutcome]) -> None:
        self.found = found
        pairs = [pair for outcome in found.values() for pair in outcome.overlaps]
        super().__init__(f"{len(pairs)} overlap(s) between owners, the first: {pairs[0][0]} and {pairs[0][1]}")


class HalfDoneError(SubidError):
    """One file was written, and another could not be."""


class Accounts:
    """Names and UIDs of the host, read once."""

    def __init__(self) -> None:
        self._by_name = {entry.pw_name: entry.pw_uid for entry in reversed(pwd.getpwall())}
        self._by_uid = {uid: name for name, uid in self._by_name.items()}
        # The primary groups of owners that are not listed.
        self._other_gids: set[int] = set()

    def owner(self, asked: str, *, key: str) -> Owner:
        """The owner that a name or UID stands for; it need not have an account. Raises `SubidError`."""
        if not asked or any(letter in asked for letter in ":\n#\0") or asked != asked.strip():
            raise SubidError(f"'{asked}' cannot be an owner in a subuid(5) file")
        name, uid = self._resolve(asked)
        if uid is not None and uid >= MAX_ID:
            raise SubidError(f"{asked} cannot be an owner: a UID is at most {MAX_ID - 1}")
        if name is not None and name.isdigit() and name != str(uid):
            # subuid(5) takes such a name for a UID as well: the line would be the range of two users.
            return Owner(asked, str(uid), frozenset({str(uid)}), uid)
        names = frozenset({asked} | ({name} if name else set()) | ({str(uid)} if uid is not None else set()))
        if key == KEY_UID:
            if uid is None:
                raise SubidError(f"there is no user '{asked}', so that the entry cannot go by its UID: use key: name")
            return Owner(asked, str(uid), names, uid)
        return Owner(asked, name or asked, names, uid)

    def _resolve(self, asked: str) -> tuple[str | None, int | None]:
        if asked in self._by_name:
            return asked, self._by_name[asked]
        # What is not listed may be found all the same: directories need not enumerate.
        try:
            entry = pwd.getpwnam(asked)
        except KeyError:
            # A UID has ten digits at most; Python takes no number of thousands.
            if not (asked.isascii() and asked.isdigit()) or len(asked) > 20:
                return None, None
            uid = int(asked)
            try:
                if uid in self._by_uid:
                    return self._by_uid[uid], uid
                entry = pwd.getpwuid(uid)
            except (KeyError, OverflowError):
                return None, uid
        self._other_gids.add(entry.pw_gid)
        return entry.pw_name, entry.pw_uid

    def aliases(self, owners: Iterable[Owner]) -> dict[str, str]:
        """One name for all names of each account and owner."""
        found = {str(uid): name for uid, name in self._by_uid.items()}
        for owner in owners:
            one = next((name for name in sorted(owner.names) if not name.isdigit()), owner.asked)
            found.update(dict.fromkeys(owner.names, one))
        return found

    def ids(self, kind: str) -> Iterator[int]:
        """All IDs that users or groups have."""
        if kind == "uid":
            yield from self._by_uid
        else:
            yield from (entry.gr_gid for entry in grp.getgrall())
            yield from (entry.pw_gid for entry in pwd.getpwall())
            yield from self._other_gids


class SubidChange:
    """One change of one or both files for many owners."""

    def __init__(
        self,
        owners: Sequence[Owner],
        accounts: Accounts,
        *,
        kinds: Sequence[str] = KINDS,
        etc: str = "/etc",
        proc: str = "/proc",
        machines: str = "/var/lib/machines",
        refuse_overlaps: bool = False,
    ) -> None:
        """Raises `SubidError` where another source than the files rules."""
        source = open_subids(etc=etc)
        if source.source != FILES:
            raise SubidError(
                f"{etc}/nsswitch.conf gives subordinate IDs to '{source.source.partition(':')[2]}': what is written to "
                f"{etc}/subuid and {etc}/subgid would be read by nobody. Manage the ranges there, or set subid: files"
            )
        self._owners = owners
        self._accounts = accounts
        self._aliases = accounts.aliases(owners)
        self._kinds = kinds
        self._etc = etc
        self._proc = proc
        self._machines = machines
        self._refuse_overlaps = refuse_overlaps

    def present(self, wishes: dict[str, Wish], *, check: bool, backup: Callable[[str], None] | None = None) -> Outcomes:
        """Give every owner what the wish for each kind says."""
        policies = {kind: read_policy(kind, etc=self._etc) for kind in self._kinds}

        def plan(kind: str, text: SubidText) -> FilePlan:
            in_use = [(id_, id_ + 1) for id_ in self._accounts.ids(kind)]
            in_use += [(owner.uid, owner.uid + 1) for owner in self._owners if owner.uid is not None and kind == "uid"]
            in_use += self._systemd_blocks(text)
            return plan_present(text, self._owners, wishes[kind], policy=policies[kind], in_use=in_use)

        return self._change(plan, check=check, backup=backup)

    def absent(self, *, check: bool, backup: Callable[[str], None] | None = None) -> Outcomes:
        """Take away every range of the owners."""
        return self._change(lambda _kind, text: plan_absent(text, self._owners), check=check, backup=backup)

    def _change(
        self, plan: Callable[[str, SubidText], FilePlan], *, check: bool, backup: Callable[[str], None] | None
    ) -> Outcomes:
        found = self._plan_all(plan)
        if check or not any(outcome.changed for outcome in found.values()):
            return found
        with ExitStack() as locks:
            locks.enter_context(accounts_locked(self._etc))
            # In shadow's order, and looked at again: others may have been here meanwhile.
            for kind in sorted(self._kinds, key=KINDS.index):
                locks.enter_context(locked(found[kind].path))
            found = self._plan_all(plan)
            _write([outcome for outcome in found.values() if outcome.changed], backup)
        return found

    def _plan_all(self, plan: Callable[[str, SubidText], FilePlan]) -> Outcomes:
        found = {kind: self._plan(kind, plan) for kind in self._kinds}
        if self._refuse_overlaps and any(outcome.overlaps for outcome in found.values()):
            raise OverlapError(found)
        return found

    def _plan(self, kind: str, plan: Callable[[str, SubidText], FilePlan]) -> KindOutcome:
        path = os.path.join(self._etc, f"sub{kind}")
        before = _read(path)
        text = SubidText(before, source=path, aliases=self._aliases)
        overlaps, problems = text.overlaps(), text.problems
        planned = plan(kind, text)
        # A file that merely lacks its last newline is left alone.
        touched = any(outcome.added or outcome.removed for outcome in planned.outcomes)
        return KindOutcome(path, before, planned.text if touched else before, planned.outcomes, overlaps, problems)

    def _systemd_blocks(self, text: SubidText) -> list[tuple[int, int]]:
        """Blocks that systemd-nspawn uses: of machines' files, and of processes whose IDs are nobody's range."""
        ranges = Taken((range_.start, range_.end) for range_ in text.ranges)
        owners = set()
        for directory in (self._machines, self._proc):
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if directory != self._proc or entry.name.isdigit():
                            owners.add(entry.stat(follow_symlinks=False).st_uid)
            except OSError:
                continue
        blocks = {
            owner // _SYSTEMD_BLOCK
            for owner in owners
            if _SYSTEMD_FIRST <= owner <= _SYSTEMD_LAST and ranges.in_the_way(owner, owner + 1) is None
        }
        return [(block * _SYSTEMD_BLOCK, (block + 1) * _SYSTEMD_BLOCK) for block in blocks]


Outcomes = dict[str, KindOutcome]


def _write(outcomes: list[KindOutcome], backup: Callable[[str], None] | None) -> None:
    for outcome in outcomes:
        if backup is not None and os.path.exists(outcome.path):
            backup(outcome.path)
    written = ""
    for outcome in outcomes:
        try:
            replace_file(outcome.path, outcome.after.encode("utf-8", "surrogateescape"))
        except RootlessError as error:
            if written:
                raise HalfDoneError(f"{error}; {written} was written before; mend that and run it again") from error
            raise
        written = outcome.path


def find_overlaps(accounts: Accounts, *, etc: str = "/etc") -> list[tuple[str, SubidRange, SubidRange]]:
    """Ranges of different owners that share IDs, as `(kind, one, other)`; none where the files do not rule."""
    if open_subids(etc=etc).source != FILES:
        return []
    found = []
    for kind in KINDS:
        path = os.path.join(etc, f"sub{kind}")
        text = SubidText(_read(path), source=path, aliases=accounts.aliases(()))
        found += [(kind, one, other) for one, other in text.overlaps()]
    return found


def overlap_entry(kind: str, first: SubidRange, second: SubidRange) -> dict[str, Any]:
    """Two ranges of different owners that share IDs, as the modules return it."""
    return {
        "kind": kind,
        "first": _side(first),
        "second": _side(second),
        "msg": f"{first} and {second}",
    }


def _side(range_: SubidRange) -> dict[str, Any]:
    return {"owner": range_.owner, "start": range_.start, "count": range_.count, "line": range_.line}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SubidError(f"cannot read {path}: {error.strerror}") from None
