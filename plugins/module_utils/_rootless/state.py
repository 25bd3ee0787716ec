# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one user's namespace: a verdict on every key, and what follows from them. Pure data.

Keys are looked at in this order wherever one has to be chosen: pin, handles, pause process, any other process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .nsfs import NamespaceId

MISSING = "missing"
LIVE = "live"
FOREIGN = "foreign"
DEAD = "dead"
# pause.pid only
GARBAGE = "garbage"
RECYCLED = "recycled"
# ns_handles only
CORRUPT = "corrupt"
UNKNOWN = "unknown"

ALIVE = "alive"
BROKEN = "broken"
STALE = "stale"
NONE = "none"


@dataclass(frozen=True)
class Finding:
    """One key: its verdict, the evidence for it, and the namespace it opens if it is live.

    `identity` is device and inode number of the file, `pid` what `pause.pid` says; `command` and `owner` (a UID) are
    of the process that has that PID.
    """

    verdict: str = MISSING
    evidence: str = ""
    namespace: NamespaceId | None = None
    identity: tuple[int, int] | None = None
    pid: int | None = None
    command: str | None = None
    owner: int | None = None

    @property
    def exists(self) -> bool:
        return self.verdict != MISSING


# What only misleads Podman, and is removed once it was judged so again under the file's lock.
STALE_PAUSE = frozenset({GARBAGE, DEAD, RECYCLED, FOREIGN})
STALE_HANDLES = frozenset({CORRUPT, DEAD, FOREIGN})


@dataclass(frozen=True)
class PauseProcess:
    """A pause process of the user that `pause.pid` does not name."""

    pid: int
    namespace: NamespaceId
    # Killed before its maps were written: not a namespace yet, and never one any more.
    unmapped: bool = False


@dataclass(frozen=True)
class UserState:
    """Everything that was found out about one user's namespace."""

    state_dir: str
    pause: Finding = Finding()
    handles: Finding = Finding()
    pin: Finding = Finding()
    # What root has to clear away of a pin that was half made or half removed; it opens nothing.
    pin_left: bool = False
    orphans: tuple[PauseProcess, ...] = ()
    monitors: tuple[NamespaceId, ...] = ()
    # Processes other than pause processes, by the inode number of the user namespace they live in.
    processes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    # Whether the owner can open live handles; None where nobody asked.
    owner_opens_handles: bool | None = None
    warnings: tuple[str, ...] = ()

    @property
    def target(self) -> NamespaceId | None:
        """The namespace that every key ought to open; None when none is alive.

        Where keys disagree, one in which processes live goes before an empty one: Podman has moved on to it.
        """
        keys = [finding.namespace for finding in (self.pin, self.handles, self.pause) if finding.verdict == LIVE]
        if not keys:
            keys = [*self.monitors, *(orphan.namespace for orphan in self.orphans if not orphan.unmapped)]
        inhabited = [key for key in keys if key is not None and self.processes_in(key)]
        return next(iter(inhabited or keys), None)

    def processes_in(self, namespace: NamespaceId | None) -> tuple[int, ...]:
        """PIDs that live in the namespace, pause processes left out."""
        return self.processes.get(namespace.userns, ()) if namespace else ()

    @property
    def handles_block_podman(self) -> bool:
        """Whether `ns_handles` makes Podman fail, join the wrong namespace, or never look at `pause.pid`."""
        if self.handles.verdict in (CORRUPT, DEAD, FOREIGN):
            return True
        return self.handles.verdict == LIVE and self.owner_opens_handles is False

    @property
    def state(self) -> str:
        """`alive`, `broken`, `stale` or `none`."""
        live = {finding.namespace for finding in (self.pin, self.handles, self.pause) if finding.verdict == LIVE}
        foreign = FOREIGN in (self.pause.verdict, self.pin.verdict, self.handles.verdict)
        if self.handles.verdict == CORRUPT or foreign or len(live) > 1:
            return BROKEN
        if live:
            return BROKEN if self.handles_block_podman else ALIVE
        if self.target is not None:
            return BROKEN if self.handles_block_podman else ALIVE
        if self.handles_block_podman:
            return BROKEN
        return STALE if self.pause.exists or self.handles.exists else NONE
