# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one user's namespace: a verdict on every key, and what follows from them. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .choice import choose
from .nsfs import NamespaceId
from .pause_home import Home

MISSING = "missing"
LIVE = "live"
FOREIGN = "foreign"
DEAD = "dead"
# pause.pid only
GARBAGE = "garbage"
RECYCLED = "recycled"
# ns_handles only
CORRUPT = "corrupt"
# What could not be judged: it says nothing, and stays.
UNKNOWN = "unknown"

ALIVE = "alive"
BROKEN = "broken"
STALE = "stale"
NONE = "none"


@dataclass(frozen=True)
class Finding:
    """One key: its verdict, the evidence for it, and the namespace it opens if it is live.

    A recycled `pause.pid` has one, too, where the process that it names lives in a namespace of the user's: Podman
    joins that. `unjoinable`: it is a process of the user's elsewhere, which Podman tries to join, and fails.
    `identity` is device and inode number of the file, `pid` what `pause.pid` says, `strict` whether it says nothing
    else; `command` and `owner` (a UID) are of the process that has that PID, `home` of a live pause process.
    `readable`: it is a file with a content to judge; `lockable`: one that Podman can lock, and so remove.
    """

    verdict: str = MISSING
    evidence: str = ""
    namespace: NamespaceId | None = None
    identity: tuple[int, int] | None = None
    pid: int | None = None
    command: str | None = None
    owner: int | None = None
    readable: bool = True
    strict: bool = True
    lockable: bool = True
    unjoinable: bool = False
    home: Home | None = None

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
    # How its mounts differ from the host's, where they do: a service's or a batch job's own, which nobody else adopts.
    elsewhere: str = ""
    home: Home | None = None


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
    # What the pin opens, where it was made for an account that had this UID before, and the pause processes there.
    strangers: frozenset[NamespaceId] = frozenset()
    pauses_of_strangers: tuple[PauseProcess, ...] = ()
    # Whether the owner can open live handles; None where nobody asked.
    owner_opens_handles: bool | None = None
    # Whether the host's Podman looks at ns_handles.
    reads_handles: bool = True
    # Whether Podman has run here since the host booted: it fails where it has not and finds a stale pause.pid.
    has_run: bool = True
    # Whether the host's Podman goes on in another directory wherever XDG_RUNTIME_DIR is not set.
    is_elsewhere: bool = False
    # Namespaces whose maps are what the ranges give today; None where nobody looked.
    fitting: frozenset[NamespaceId] | None = None
    # Whether this process can move pause processes into a scope of their own.
    can_move_pause: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def alive(self) -> tuple[NamespaceId, ...]:
        """The user's namespaces that live, in the order in which they are chosen when nothing else decides."""
        keys = [key.namespace for key in (self.handles, self.pause, self.pin) if key.verdict == LIVE]
        held = [
            *self.monitors,
            *(orphan.namespace for orphan in self.orphans if not (orphan.unmapped or orphan.elsewhere)),
        ]
        found = dict.fromkeys(namespace for namespace in (*keys, *held) if namespace is not None)
        superseded = self.pin.namespace if self._pin_is_superseded else None
        return tuple(namespace for namespace in found if namespace != superseded)

    @property
    def asks_for_maps(self) -> bool:
        """Whether it takes the maps (`fitting`) to tell which namespace is meant."""
        return self._pin_is_alone or len(self.alive) > 1

    @property
    def _pin_is_superseded(self) -> bool:
        """Whether all but the pin has been ended, as `podman system migrate` does, and its maps are not today's."""
        return self._pin_is_alone and self.fitting is not None and self.pin.namespace not in self.fitting

    @property
    def _pin_is_alone(self) -> bool:
        """Whether nothing but the pin opens or holds its namespace, and nobody lives there."""
        pinned = self.pin.namespace
        if self.pin.verdict != LIVE or pinned is None:
            return False
        others = [key.namespace for key in (self.pause, self.handles) if key.verdict in (LIVE, RECYCLED)]
        others += [*self.monitors, *(orphan.namespace for orphan in self.orphans)]
        unjudged = UNKNOWN in (self.pause.verdict, self.handles.verdict)
        return pinned not in others and not unjudged and not self.processes_in(pinned)

    @property
    def target(self) -> NamespaceId | None:
        """The namespace that every key ought to open; None when none is alive (see `choice`)."""
        return choose(self.alive, inhabited=self.inhabited, fitting=self.fitting, podmans=self.podman[0])

    @property
    def inhabited(self) -> tuple[NamespaceId, ...]:
        """Of those that are alive, the namespaces in which others than pause processes live."""
        return tuple(namespace for namespace in self.alive if self.processes_in(namespace))

    def pids_of(self, namespace: NamespaceId) -> tuple[int, ...]:
        """All processes known to be in the namespace, or in one below it; pause processes first."""
        pausing = [orphan.pid for orphan in self.orphans if orphan.namespace == namespace]
        if self.pause.pid is not None and self.pause.namespace == namespace:
            pausing.insert(0, self.pause.pid)
        return (*pausing, *self.processes_in(namespace))

    def processes_in(self, namespace: NamespaceId | None) -> tuple[int, ...]:
        """PIDs that live in the namespace, pause processes left out."""
        return self.processes.get(namespace.userns, ()) if namespace else ()

    @property
    def podman(self) -> tuple[NamespaceId | None, str]:
        """What Podman would do now: join this namespace (None: make a new one), or fail, and why."""
        if self.reads_handles and self.handles.exists:
            if self.handles.verdict in (CORRUPT, FOREIGN):
                return None, f"ns_handles: {self.handles.evidence}"
            if self.handles.verdict == LIVE and self.owner_opens_handles is not False:
                return self.handles.namespace, ""
            if self.handles.verdict != UNKNOWN:
                # While it is there, pause.pid is passed over.
                return self._by_monitor, ""
        pause = self.pause
        if pause.verdict == LIVE or (pause.verdict == RECYCLED and pause.namespace is not None):
            # Any process that can be joined is joined.
            return pause.namespace, ""
        if pause.verdict == FOREIGN or pause.unjoinable or (pause.verdict == GARBAGE and not pause.readable):
            return None, f"pause.pid: {pause.evidence}"
        if pause.verdict in (GARBAGE, DEAD, RECYCLED) and not (self.has_run and pause.lockable):
            return None, f"pause.pid: {pause.evidence}"
        return self._by_monitor, ""

    @property
    def _by_monitor(self) -> NamespaceId | None:
        return next(iter(self.monitors), None)

    @property
    def state(self) -> str:
        """What Podman would meet now: `alive`, `broken`, `stale` or `none`."""
        joined, fails = self.podman
        if fails or len(self.inhabited) > 1:
            return BROKEN
        target = self.target
        if target is None and joined is None:
            left = self.pause.exists or self.handles.exists or self.pin.exists
            return STALE if left else NONE
        if joined == target or self.pause.verdict == UNKNOWN:
            return ALIVE
        return BROKEN
