# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ID maps a user's namespace ought to have today: Podman's rule, within what this host and namespace allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .accounts import Account
from .errors import RootlessError
from .idmap import IdMapEntry, parse_id_map
from .map_writer import GID_TOOL, TOOL_PATH, UID_TOOL, find_tool, why_powerless
from .subid import SubidError, SubidProblem, SubidRange, SubidSource, check_ranges, user_map


@dataclass(frozen=True)
class IdMaps:
    """A user map and a group map, each in the kernel file's order."""

    uid_map: tuple[IdMapEntry, ...]
    gid_map: tuple[IdMapEntry, ...]

    @classmethod
    def read(cls, proc: str, pid: int | str) -> IdMaps:
        """The maps of a process (`self` or a PID), with parent IDs as this process sees them. Raises `OSError`."""
        maps = []
        for name in ("uid_map", "gid_map"):
            path = f"{proc}/{pid}/{name}"
            with open(path, encoding="ascii") as file:
                maps.append(parse_id_map(file.read(), origin=path))
        return cls(maps[0], maps[1])


@dataclass(frozen=True)
class DesiredMaps:
    """The maps to set up, and what an operator should know about them."""

    maps: IdMaps
    warnings: tuple[str, ...]


class MapDesigner:
    """Computes users' maps from the configured ranges. The files and tools are looked at once for all users."""

    def __init__(self, subids: SubidSource, *, available: IdMaps, path: str | None) -> None:
        """`available` are this process's own maps; `path` is the search path for the map tools."""
        self._subids = subids
        self._available = available
        self._path = f"{path}:{TOOL_PATH}" if path else TOOL_PATH
        self._tools: dict[str, str | None] = {}
        self._bad_lines: dict[str, SubidProblem] = {}
        for problem in subids.problems():
            if problem.owner is not None:
                self._bad_lines.setdefault(problem.owner, problem)

    def configured(self, account: Account) -> tuple[tuple[SubidRange, ...], tuple[SubidRange, ...]]:
        """The user's UID and GID ranges, all of them, by name and by UID. Raises `RootlessError`."""
        return (
            self._subids.uid_ranges(account.name, account.uid),
            self._subids.gid_ranges(account.name, account.uid),
        )

    def design(self, account: Account) -> DesiredMaps:
        """The maps for a user. Raises `RootlessError` where Podman, `newuidmap` or the kernel would refuse them."""
        for owner in (account.name, str(account.uid)):
            if owner in self._bad_lines:
                raise SubidError(f"{self._bad_lines[owner]}; correct or remove the line")
        warnings: list[str] = []
        uid_ranges, gid_ranges = self.configured(account)
        if bool(uid_ranges) != bool(gid_ranges):
            # NewIDMappings of containers/storage fails then, and Podman goes on with neither.
            here, missing = ("UID", "GID") if uid_ranges else ("GID", "UID")
            warnings.append(
                f"{account.name} has subordinate {here}s, but no subordinate {missing} range in "
                f"/etc/sub{missing.lower()}: as with Podman, only its own UID and GID are mapped, and many images need "
                "more"
            )
            own = IdMaps((IdMapEntry(0, account.uid, 1),), (IdMapEntry(0, account.gid, 1),))
            return DesiredMaps(own, tuple(warnings))
        maps = IdMaps(
            uid_map=self._one(account.uid, uid_ranges, "UID", UID_TOOL, self._available.uid_map, account, warnings),
            gid_map=self._one(account.gid, gid_ranges, "GID", GID_TOOL, self._available.gid_map, account, warnings),
        )
        return DesiredMaps(maps, tuple(warnings))

    def _one(
        self,
        own_id: int,
        ranges: Sequence[SubidRange],
        kind: str,
        tool: str,
        available: Sequence[IdMapEntry],
        account: Account,
        warnings: list[str],
    ) -> tuple[IdMapEntry, ...]:
        check_ranges(ranges, own_id=own_id, kind=kind)
        entries, left_out = user_map(own_id, ranges, available=available)
        if left_out:
            warnings.append(
                f"{len(left_out)} part(s) of the {kind} ranges of {account.name} are not available in this user "
                f"namespace and were left out, first {left_out[0]}"
            )
        if not ranges:
            warnings.append(
                f"{account.name} has no subordinate {kind} range in /etc/sub{kind.lower()}: only its own {kind} is "
                "mapped, and many images need more"
            )
        if len(entries) == 1:
            return entries
        problem = self._why_no_tool(tool)
        if problem is None:
            return entries
        if account.is_self and find_tool(tool, path=self._path) is None:
            warnings.append(f"{problem}: only the own {kind} is mapped, and many images need more")
            return entries[:1]
        raise RootlessError(f"{account.name} has subordinate {kind} ranges, but {problem}")

    def _why_no_tool(self, name: str) -> str | None:
        if name not in self._tools:
            program = find_tool(name, path=self._path)
            if program is None:
                problem: str | None = (
                    f"{name} is not installed (package uidmap on Debian and Ubuntu, shadow-utils elsewhere)"
                )
            else:
                problem = why_powerless(program)
                if problem is not None:
                    problem = (
                        f"{program} cannot work: {problem}; reinstall its package or run: "
                        f"setcap cap_set{name[3:6]}+ep {program}"
                    )
            self._tools[name] = problem
        return self._tools[name]
