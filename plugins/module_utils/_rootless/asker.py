# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a user's child, a bounded number of processes at a time (see `inspection.UserAsker`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from .errors import RootlessError
from .inspection import Marks
from .runtime_dir import RuntimeDirectory

# As many as surely fit into one message to a user's child.
_PIDS_PER_CALL = 2000
_PATHS_PER_CALL = 16


class Asked(Protocol):
    """An agent, or who answers in its place."""

    def call(self, operation: str, *, fds: Sequence[int] = (), **arguments: Any) -> Any:
        """See `as_user.Agent`."""


class NothingThere:
    """Answers in place of a user's child that would find nothing."""

    def __init__(self, directory: RuntimeDirectory) -> None:
        self._directory = directory

    def call(self, operation: str, *, fds: Sequence[int] = (), **arguments: Any) -> Any:  # noqa: ARG002
        """`inspect`, and nothing else makes sense. Raises `RootlessError`."""
        if operation != "inspect":
            raise RootlessError(f"internal error: {operation!r} for a user who has nothing")
        return {
            "state_dir": self._directory.state_dir,
            "warning": self._directory.warning,
            "cached": None,
            "files": {},
            "has_run": False,
        }

    def __enter__(self) -> NothingThere:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        pass


class CouldNotTryError(RootlessError):
    """What has to be tried as a user could not be tried: neither a yes nor a no, and nothing of another user."""


def probed(agent: Asked) -> bool:
    """Whether the agent's user can reopen a handle of a namespace of its own. Raises `CouldNotTryError`."""
    opens, why = agent.call("probe_handles")
    if opens is None:
        raise CouldNotTryError(f"whether the user can open handles of namespaces could not be tried: {why}")
    return bool(opens)


class AgentAsker:
    """Asks an agent; whether the user can open handles is asked through `probe`, which may know the answer already."""

    def __init__(self, agent: Asked, probe: Callable[[Asked], bool]) -> None:
        self._agent = agent
        self._probe = probe

    def opens_handles(self) -> tuple[bool | None, str]:
        try:
            return self._probe(self._agent), ""
        except CouldNotTryError as error:
            return None, str(error)

    def marks(self, pids: Sequence[int]) -> dict[int, Marks]:
        found: dict[int, Marks] = {}
        for start in range(0, len(pids), _PIDS_PER_CALL):
            answer = self._agent.call("marks", pids=list(pids[start : start + _PIDS_PER_CALL]))
            found.update({pid: Marks(bool(pausing), bool(configured)) for pid, pausing, configured in answer})
        return found

    def runtime_directories(self, pids: Sequence[int]) -> tuple[set[str], list[str]]:
        """The runtime directories that processes were started with, and why others cannot be looked into.

        Processes that cannot be read are left out.
        """
        found: set[str] = set()
        problems: list[str] = []
        for start in range(0, len(pids), _PATHS_PER_CALL):
            paths, unseen = self._agent.call("runtime_directories", pids=list(pids[start : start + _PATHS_PER_CALL]))
            found.update(paths)
            problems += unseen
        return found, problems
