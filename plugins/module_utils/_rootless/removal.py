# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a file of the state directory is removed: claimed with Podman's lock, judged again under it, then unlinked.

Whatever changed since the file was first judged, its content, the process it names or the file itself, saves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .as_user import Agent
from .state import Finding

# A verdict on a file as the user's child found it (see `inspection.Inspector.judge_file`).
Judge = Callable[[str, Mapping[str, Any]], Finding]


class Remover:
    """Removes files of one user. The state directory is locked by the agent."""

    def __init__(self, agent: Agent, judge: Judge) -> None:
        self._agent = agent
        self._judge = judge

    def remove(self, name: str, *, verdict: str, identity: tuple[int, int]) -> bool:
        """Remove the file that got this verdict; False when it is not the same file, or the verdict another, by now."""
        claimed = self._agent.call("claim", name=name, identity=identity, seconds=self._agent.lock_seconds())
        if claimed is None:
            return False
        if self._judge(name, claimed).verdict != verdict:
            self._agent.call("release", name=name)
            return False
        return bool(self._agent.call("remove", name=name, identity=identity))
