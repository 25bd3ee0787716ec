# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clean what crashes leave: stale `pause.pid` and `ns_handles` in every place where one may lie, and orphans.

Only what misleads Podman goes, each file by the removal protocol; what is alive, or cannot be judged, stays. So does
the last file by which Podman finds, or misses, a namespace that is alive: without it Podman would make a second one.
That takes a repair.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import handles, pause, processes
from .accounts import Account
from .as_user import Agent
from .errors import describe
from .host import Host, Scene
from .kernel import Syscalls
from .namespaces import Namespaces, Options
from .plan import REPAIRED
from .podman_places import PodmanPlaces, follows_database
from .processes import ProcessTable
from .removal import Remover
from .runtime_dir import Candidate, NoRuntimeDirectoryError, candidates
from .state import (
    LIVE,
    STALE_HANDLES,
    STALE_PAUSE,
    UNKNOWN,
    Finding,
    PauseProcess,
    UserState,
)

CLEANED = "cleaned"
NO_ACTION = "none"
FAILED = "failed"

REMOVED = "removed"
REAPED = "reaped"
LEFT = "left"

# Podman starts its pause process before it writes pause.pid, under no lock: who is younger may be in between.
ORPHAN_SECONDS = 10.0
# More runtime directories than one user has for a good reason.
_MAX_PLACES = 50


@dataclass(frozen=True)
class CleaningOptions:
    """What is asked for every user alike. `state_dir`: look here, instead of wherever state may lie.

    `repair`: where a namespace is alive that Podman does not find any more, make the keys open it.
    """

    orphans: bool = False
    repair: bool = False
    state_dir: str | None = None
    check: bool = False


@dataclass
class FileOutcome:
    """One file: its verdict, and what became of it. `why` it was left."""

    path: str
    name: str
    finding: Finding
    action: str = LEFT
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        namespace = self.finding.namespace
        return {
            "path": self.path,
            "verdict": self.finding.verdict,
            "evidence": self.finding.evidence,
            "pid": self.finding.pid,
            "command": self.finding.command,
            "owner": self.finding.owner,
            "userns": namespace.userns if namespace else None,
            "mntns": namespace.mntns if namespace else None,
            "action": self.action,
            "why": self.why,
        }


@dataclass
class OrphanOutcome:
    """One pause process that no file names, and what became of it."""

    process: PauseProcess
    command: str
    age: float
    action: str = LEFT
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "pid": self.process.pid,
            "command": self.command,
            "age": round(self.age, 1),
            "userns": self.process.namespace.userns,
            "mntns": self.process.namespace.mntns,
            "action": self.action,
            "why": self.why,
        }


@dataclass
class Cleaning:
    """The outcome for one user. `problems`: places that were not looked into, with the reason."""

    user: str
    account: Account | None = None
    files: list[FileOutcome] = field(default_factory=list)
    orphans: list[OrphanOutcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    pin: Finding = field(default_factory=Finding)
    messages: list[str] = field(default_factory=list)
    # Places that may hold state of the user's and that nobody could look into: no orphan is ended then.
    unseen: list[str] = field(default_factory=list)
    # Files whose removal would lead Podman away from a namespace that is alive.
    leading: list[FileOutcome] = field(default_factory=list)
    # Whether a namespace is alive that Podman does not find, and whether its keys were made to open it.
    misled: bool = False
    mended: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.messages)

    @property
    def removed(self) -> list[str]:
        return [file.path for file in self.files if file.action == REMOVED]

    @property
    def reaped(self) -> list[int]:
        return [orphan.process.pid for orphan in self.orphans if orphan.action == REAPED]

    @property
    def repaired(self) -> bool:
        """Whether the keys were made to open the user's namespace."""
        return self.mended or any(file.action == REPAIRED for file in self.files)

    @property
    def changed(self) -> bool:
        return bool(self.removed or self.reaped or self.repaired)

    def fail(self, message: str) -> None:
        self.messages.append(message)

    def as_dict(self) -> dict[str, Any]:
        """The entry as the module returns it."""
        done = CLEANED if self.removed or self.reaped else REPAIRED if self.repaired else NO_ACTION
        return {
            "user": self.account.name if self.account else self.user,
            "uid": self.account.uid if self.account else None,
            "action": FAILED if self.failed else done,
            "files": [file.as_dict() for file in self.files],
            "orphans": [orphan.as_dict() for orphan in self.orphans],
            "pin": {"verdict": self.pin.verdict, "evidence": self.pin.evidence},
            "removed": self.removed,
            "reaped": self.reaped,
            "problems": self.problems,
            "msg": "; ".join([*self.messages, *self.problems]),
        }


class Cleaner:
    """All users of one call."""

    def __init__(self, syscalls: Syscalls, *, host: Host, options: CleaningOptions) -> None:
        self._scene = Scene(syscalls, host)
        self._syscalls = syscalls
        self._options = options

    @property
    def process_table(self) -> ProcessTable:
        """All processes, as of the start of the call."""
        return self._scene.table

    def close(self) -> None:
        """End the processes that were started in vain."""
        self._scene.close()

    def clean(self, account: Account) -> Cleaning:
        """Judge every file and every orphan of a user; remove and reap what is stale.

        Whatever goes wrong is in the outcome.
        """
        outcome = Cleaning(account.name, account)
        try:
            self._clean(account, outcome)
        except Exception as error:
            outcome.fail(describe(error))
        return outcome

    def _clean(self, account: Account, outcome: Cleaning) -> None:
        pausing, inside = self._pause_processes(account, outcome)
        places = self._places(account, pausing, outcome)
        states = []
        for place, asked in places:
            if self._scene.why_given_up(account):
                outcome.unseen.append(place.state_dir)
                outcome.problems.append(f"{place.state_dir} was not looked into any more")
                continue
            try:
                states.append(self._clean_place(account, place, outcome, asked=asked))
            except Exception as error:
                outcome.fail(_said(error, place))
                outcome.unseen.append(place.state_dir)
        if not self._scene.why_given_up(account):
            states += self._clean_old_places(account, [place for place, _asked in places], outcome)
        if outcome.misled and self._options.repair:
            self._repair(account, outcome)
        if places and not outcome.failed and self._scene.why_given_up(account):
            outcome.fail(self._scene.why_given_up(account))
        if pausing:
            try:
                self._judge_orphans(account, pausing, inside, states, outcome)
            except Exception as error:
                outcome.fail(f"orphans: {describe(error)}")

    def _pause_processes(
        self, account: Account, outcome: Cleaning
    ) -> tuple[tuple[PauseProcess, ...], dict[int, tuple[int, ...]]]:
        if account.uid not in self._scene.table.owners():
            return (), {}
        try:
            with self._scene.agent(account) as agent:
                return self._scene.inspector.pause_processes(account, ask=self._scene.asker(agent))
        except Exception as error:
            outcome.fail(f"orphans: {describe(error)}")
            return (), {}

    def _places(
        self, account: Account, pausing: tuple[PauseProcess, ...], outcome: Cleaning
    ) -> list[tuple[Candidate, bool]]:
        """Where state of the user may be, and whether it was asked to clean there."""
        asked = self._options.state_dir
        places = dict.fromkeys(self._candidates(account), asked is None)
        # A Podman with a runtime directory of its own: its pause processes name it.
        try:
            own, unseen = self._runtime_directories(account, pausing)
        except Exception as error:
            outcome.fail(f"runtime directories of pause processes: {describe(error)}")
            own, unseen = set(), ["the runtime directories of pause processes"]
        outcome.problems += unseen
        if len(own) > _MAX_PLACES:
            unseen = [f"{len(own)} runtime directories are in use: only {_MAX_PLACES} were looked at"]
            outcome.problems += unseen
        outcome.unseen += unseen
        for path in sorted(own)[:_MAX_PLACES]:
            places.setdefault(Candidate(path), asked is None)
        if asked is not None:
            places = {place: False for place in places if place.state_dir != asked.rstrip("/")}
            places[Candidate(asked, subdirectory="")] = True
        return list(places.items())

    def _candidates(self, account: Account) -> list[Candidate]:
        host = self._scene.host
        return candidates(account.uid, run=host.run, tmp=host.tmp, environment=host.environment_of(account))

    def _clean_old_places(self, account: Account, places: Sequence[Candidate], outcome: Cleaning) -> list[UserState]:
        """Those that only the user's child may look for: below its runtime directories, and in its home."""
        states = []
        try:
            with self._scene.agent(account) as agent:
                # A home may be far away: it is left alone where no Podman would look into it.
                version = self._scene.podman.get()
                found = agent.call(
                    "old_places",
                    places=list(dict.fromkeys(place.path for place in places)),
                    home=PodmanPlaces.of(version).rundir,
                    database=follows_database(version),
                )
            for place in found:
                asked = self._options.state_dir is None
                states.append(self._clean_place(account, Candidate(**place), outcome, asked=asked))
        except Exception as error:
            outcome.problems.append(f"places of old Podmans, also in {account.home}: {describe(error)}")
            outcome.unseen.append(f"places of old Podmans, also in {account.home}")
        return states

    def _runtime_directories(self, account: Account, pausing: tuple[PauseProcess, ...]) -> tuple[set[str], list[str]]:
        """What pause processes name, and why some of it cannot be looked into."""
        pids = [process.pid for process in pausing]
        if not pids:
            return set(), []
        with self._scene.agent(account) as agent:
            return self._scene.asker(agent).runtime_directories(pids)

    def _clean_place(self, account: Account, place: Candidate, outcome: Cleaning, *, asked: bool) -> UserState:
        with self._scene.agent(account, place) as agent:
            state, files = self._judge(account, agent, outcome)
            outcome.pin = state.pin
            if not asked:
                return state
            stale = [file for file in files if _is_stale(file)]
            stale = self._without_leading(account, state, stale, outcome)
            if self._options.check:
                for file in stale:
                    file.action = REMOVED
            elif stale and agent.call("lock", make=False, seconds=agent.lock_seconds()):
                remover = self._remover(account, agent)
                for file in stale:
                    self._remove(file, remover, outcome)
        outcome.files += files
        return state

    def _without_leading(
        self, account: Account, state: UserState, stale: list[FileOutcome], outcome: Cleaning
    ) -> list[FileOutcome]:
        """The files that can go: after that Podman joins what is alive, or nothing is."""
        if not account.exists:
            # Nobody runs Podman there any more.
            return stale
        gone = {file.name for file in stale}
        # What only an empty orphan holds has nothing to lose.
        kept = tuple(orphan for orphan in state.orphans if state.processes_in(orphan.namespace))
        after = replace(
            state,
            orphans=kept,
            pause=Finding() if pause.FILE_NAME in gone else state.pause,
            handles=Finding() if handles.FILE_NAME in gone else state.handles,
        )
        if after.target is None or after.podman == (after.target, "") or not (stale or self._options.repair):
            return stale
        if state.state_dir != self._state_dir_of_podman(account):
            return stale
        outcome.misled = True
        for file in stale:
            file.why = (
                f"{after.target} is alive, and without this file Podman would make a second one: rootless_ns mends it"
            )
        outcome.leading += stale
        return []

    def _state_dir_of_podman(self, account: Account) -> str | None:
        try:
            with self._scene.agent(account) as agent:
                return str(agent.call("inspect")["state_dir"])
        except NoRuntimeDirectoryError:
            return None

    def _repair(self, account: Account, outcome: Cleaning) -> None:
        """Make the keys open the namespace that is alive, as `rootless_ns` does."""
        pin = outcome.pin.exists and os.geteuid() == 0
        for check in (True, False):
            namespaces = Namespaces(self._syscalls, host=self._scene.host, options=Options(pin=pin, check=check))
            # Which also ends what it has started for further users.
            (report,) = namespaces.each(namespaces.present, [account])
            if report.failed:
                for message in report.messages:
                    outcome.fail(message)
                return
            if report.action != REPAIRED:
                # None is alive any more, or its maps are not today's: to set up a new one is more than was asked for.
                return
            if self._options.check:
                break
        outcome.mended = True
        for file in outcome.leading:
            file.action, file.why = REPAIRED, ""

    def _judge(self, account: Account, agent: Agent, outcome: Cleaning) -> tuple[UserState, list[FileOutcome]]:
        found = agent.call("inspect")
        outcome.problems += [found["refused"]] if "refused" in found else []
        # What is not the user's own holds no state of the user's.
        outcome.unseen += [found["state_dir"]] if found.get("may_hold_state") else []
        with self._scene.judge(account, agent, found) as seen:
            state = seen.state
        files = []
        for name, finding in ((pause.FILE_NAME, state.pause), (handles.FILE_NAME, state.handles)):
            if finding.exists:
                why = _why_left(state, finding)
                files.append(FileOutcome(os.path.join(state.state_dir, name), name, finding, why=why))
        return state, files

    def _remover(self, account: Account, agent: Agent) -> Remover:
        def judge(name: str, file: Mapping[str, Any]) -> Finding:
            return self._scene.inspector.judge_file(account, name, file, ask=self._scene.asker(agent))

        return Remover(agent, judge)

    def _remove(self, file: FileOutcome, remover: Remover, outcome: Cleaning) -> None:
        identity = file.finding.identity or (0, 0)
        try:
            if remover.remove(file.name, verdict=file.finding.verdict, identity=identity):
                file.action = REMOVED
            else:
                file.why = "it changed while it was looked at"
        except Exception as error:
            file.why = describe(error)
            outcome.fail(file.why)

    def _judge_orphans(
        self,
        account: Account,
        pausing: tuple[PauseProcess, ...],
        inside: Mapping[int, tuple[int, ...]],
        states: list[UserState],
        outcome: Cleaning,
    ) -> None:
        named = {state.pause.pid for state in states if state.pause.verdict == LIVE}
        if named.issuperset(process.pid for process in pausing):
            # As almost always: that takes no second look at all processes for each user.
            return
        if self._options.orphans and not self._options.check:
            # Whoever has moved in since the call began must be seen.
            self._scene.rescan()
            pausing, inside = self._pause_processes(account, outcome)
        keyed = {state.handles.namespace for state in states if state.handles.verdict == LIVE}
        for process in pausing:
            orphan = self._describe(process)
            # What has ended meanwhile has no age any more.
            if process.pid in named or not orphan.age:
                continue
            outcome.orphans.append(orphan)
            others = inside.get(process.namespace.userns, ())
            if not self._options.orphans:
                orphan.why = "orphans are only reported (orphans: false)"
            elif orphan.age < ORPHAN_SECONDS:
                orphan.why = f"it is younger than {ORPHAN_SECONDS:g} s: its PID may be about to be written to a file"
            elif process.elsewhere:
                orphan.why = f"it belongs to a service or a batch job with mounts of its own: {process.elsewhere}"
            elif others:
                orphan.why = f"{len(others)} other process(es) live in its namespace"
            elif process.namespace in keyed and process.namespace != outcome.pin.namespace:
                orphan.why = "nothing else keeps alive the namespace that ns_handles opens"
            elif outcome.unseen:
                # A file that nobody could look at may name it.
                orphan.why = (
                    f"it may be in use: its PID may be in a place that was not looked into: {outcome.unseen[0]}"
                )
            else:
                self._reap(account, process, orphan, outcome)

    def _describe(self, process: PauseProcess) -> OrphanOutcome:
        proc = self._scene.host.proc
        return OrphanOutcome(process, processes.comm(proc, process.pid), processes.age(proc, process.pid))

    def _reap(self, account: Account, process: PauseProcess, orphan: OrphanOutcome, outcome: Cleaning) -> None:
        """End an orphan, unless a file names it by now, or one that cannot be looked at may."""
        try:
            own, unseen = self._runtime_directories(account, (process,))
            for place in dict.fromkeys([*self._candidates(account), *(Candidate(path) for path in sorted(own))]):
                with self._scene.agent(account, place) as agent:
                    found = agent.call("inspect")
                unseen += [found["state_dir"]] if found.get("may_hold_state") else []
                file = found["files"].get(pause.FILE_NAME)
                if file and file["content"] and _names(bytes.fromhex(file["content"]), process.pid):
                    orphan.why = "it changed while it was looked at"
                    return
            if unseen:
                outcome.unseen += unseen
                orphan.why = f"it may be in use: its PID may be in a place that was not looked into: {unseen[0]}"
            elif self._options.check or self._end(account, process):
                orphan.action = REAPED
            else:
                orphan.why = "it changed while it was looked at"
        except Exception as error:
            orphan.why = f"it may be in use: a place where its PID may be was not looked into: {describe(error)}"
            outcome.unseen.append(f"{process.pid}'s runtime directory")
            outcome.fail(f"orphan {process.pid}: {describe(error)}")

    def _end(self, account: Account, process: PauseProcess) -> bool:
        with self._scene.agent(account) as agent:
            return bool(agent.call("kill_pause", pid=process.pid, userns=process.namespace.userns))


def _is_stale(file: FileOutcome) -> bool:
    return file.finding.verdict in (STALE_PAUSE if file.name == pause.FILE_NAME else STALE_HANDLES)


def _names(content: bytes, pid: int) -> bool:
    try:
        return pause.parse_pid(content)[0] == pid
    except pause.PauseError:
        return False


def _why_left(state: UserState, finding: Finding) -> str:
    if finding.verdict == UNKNOWN:
        return f"it may be alive: {finding.evidence}"
    if finding.verdict != LIVE:
        return ""
    if finding is state.handles and state.owner_opens_handles is False:
        return "it is alive, but this kernel lets only root open it and Podman fails: rootless_ns repairs that"
    return "it is alive"


def _said(error: Exception, place: Candidate) -> str:
    if isinstance(error, OSError) and not error.filename:
        return f"{place.state_dir}: {describe(error)}"
    return describe(error)
