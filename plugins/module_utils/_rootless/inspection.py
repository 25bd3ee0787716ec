# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out everything about one user's namespace: raw findings become verdicts.

The files were read by a child that is the user; the judging is done here, where the PIDs, handles and pins that
they name can be held against the kernel. Nothing here changes anything.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

from . import handles, pause, processes
from .accounts import Account, is_still_the_account
from .handles import CorruptHandlesError, Handles
from .kernel import INITIAL_USERNS_INO, Syscalls
from .mount_tree import HostTree
from .nsfs import NamespaceId, NamespacePair, own_userns_ino, why_foreign
from .pause_home import Home, read_home
from .pin import PinStore
from .processes import ProcessTable
from .state import (
    CORRUPT,
    DEAD,
    FOREIGN,
    GARBAGE,
    LIVE,
    RECYCLED,
    UNKNOWN,
    Finding,
    PauseProcess,
    UserState,
)
from .systemd_scopes import systemd_runs
from .user_scope import NO_MANAGER, has_manager, why_it_stays

# What open_by_handle_at(2) says of a handle that never was one: every Podman that reads it fails. Anything else but
# ESTALE (no such call, forbidden, no descriptors, no memory) says nothing about the file.
_FATAL_TO_PODMAN = frozenset({errno.EINVAL, errno.ENOTDIR, errno.EOVERFLOW, errno.EBADF})
# A thread's ID has no pidfd (ENOENT from Linux 6.15 on: handled as gone).
_NO_PROCESS_ID = frozenset({errno.EINVAL})
# In bytes: more than the mounts of all pause processes that a user has for a good reason.
_MAX_READ = 16 << 20


class Inspection:
    """The state of one user, and open descriptors of every namespace that is the user's (a context manager)."""

    def __init__(self, state: UserState, pairs: dict[NamespaceId, NamespacePair]) -> None:
        self.state = state
        self.pairs = pairs

    def __enter__(self) -> Inspection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for pair in self.pairs.values():
            pair.close()

    def living(self) -> list[NamespacePair]:
        """The namespaces among which one has to be chosen."""
        return [self.pairs[namespace] for namespace in self.state.alive]


class UserAsker(Protocol):
    """What only a child that is the user may find out (see `userside`)."""

    def opens_handles(self) -> tuple[bool | None, str]:
        """Whether the user can reopen a handle of a namespace of its own; None, and why, where that was not tried."""

    def marks(self, pids: Sequence[int]) -> dict[int, Marks]:
        """What processes say of themselves in their environment; processes that cannot be read are left out."""


@dataclass(frozen=True)
class Marks:
    """Whether a process claims to be a pause process, and to have been started inside by Podman."""

    pausing: bool
    configured: bool


@dataclass(frozen=True)
class _Look:
    """One user's inspection under way."""

    account: Account
    ask: UserAsker
    pairs: dict[NamespaceId, NamespacePair]
    # What the pin opens, if it was made for an account that had this UID before, and why it is not the user's.
    stranger: NamespaceId | None = None
    why_strange: str = ""

    def is_strange(self, userns: int) -> bool:
        return self.stranger is not None and self.stranger.userns == userns


class Inspector:
    """Judges users against one pass over the processes."""

    def __init__(
        self, syscalls: Syscalls, *, pins: PinStore, table: ProcessTable, proc: str = "/proc", run: str = "/run"
    ) -> None:
        self._syscalls = syscalls
        self._pins = pins
        self._table = table
        self._proc = proc
        self._run = run
        self._own_userns = own_userns_ino(proc)
        self._host_tree = HostTree(proc)
        # What is different in the mount trees that were looked at, by their inode numbers.
        self._trees: dict[int, str] = {}
        # How much of them was read, in bytes, by UID.
        self._read_of: dict[int, int] = defaultdict(int)

    @property
    def sees_all_handles(self) -> bool:
        """Whether ESTALE means dead: only for root in the initial user namespace."""
        return os.geteuid() == 0 and self._own_userns == INITIAL_USERNS_INO

    def inspect(
        self, account: Account, found: Mapping[str, Any], *, ask: UserAsker, reads_handles: Callable[[], bool]
    ) -> Inspection:
        """Judge what the user's child found (see `UserSide.inspect`).

        `reads_handles`: whether the host's Podman looks at ns_handles; asked where there is such a file.
        """
        pairs: dict[NamespaceId, NamespacePair] = {}
        try:
            state = self._judge(self._look(account, ask, pairs), found)
            if state.handles.exists:
                state = replace(state, reads_handles=reads_handles())
            return Inspection(state, pairs)
        except BaseException:
            for pair in pairs.values():
                pair.close()
            raise

    def judge_file(self, account: Account, name: str, file: Mapping[str, Any], *, ask: UserAsker) -> Finding:
        """The verdict on one file as the user's child found it."""
        look = self._look(account, ask, {})
        judge = {pause.FILE_NAME: self._judge_pause, handles.FILE_NAME: self._judge_handles}[name]
        try:
            return judge(look, file)
        finally:
            for pair in look.pairs.values():
                pair.close()

    def pause_processes(
        self, account: Account, *, ask: UserAsker
    ) -> tuple[tuple[PauseProcess, ...], dict[int, tuple[int, ...]]]:
        """All pause processes of a user, and the other processes by the user namespace they live in."""
        look = self._look(account, ask, {})
        try:
            found, _monitors, _strangers, inside = self._judge_processes(look, Finding())
            return found, inside
        finally:
            for pair in look.pairs.values():
                pair.close()

    def _judge(self, look: _Look, found: Mapping[str, Any]) -> UserState:
        files = found["files"]
        pin = self._judge_pin(look)
        handles_finding = self._judge_handles(look, files.get(handles.FILE_NAME))
        opens, untried = None, ""
        if handles_finding.verdict == LIVE:
            opens, untried = look.ask.opens_handles() if self.sees_all_handles else (True, "")
        pause_finding = self._judge_pause(look, files.get(pause.FILE_NAME))
        orphans, monitors, strangers, inside = self._judge_processes(look, pause_finding)
        return UserState(
            state_dir=found["state_dir"],
            pause=pause_finding,
            handles=handles_finding,
            pin=pin,
            pin_left=not pin.exists and os.geteuid() == 0 and self._pins.is_left(look.account.uid),
            orphans=orphans,
            monitors=monitors,
            strangers=frozenset([look.stranger] if look.stranger else []),
            pauses_of_strangers=strangers,
            processes=inside,
            owner_opens_handles=opens,
            has_run=found.get("has_run", True),
            is_elsewhere=found.get("cached") is not None,
            can_move_pause=self._can_move(look.account),
            warnings=tuple(
                filter(
                    None,
                    (
                        found["warning"],
                        look.why_strange,
                        untried,
                        self._why_at_risk(look.account, pause_finding),
                    ),
                )
            ),
        )

    def _look(self, account: Account, ask: UserAsker, pairs: dict[NamespaceId, NamespacePair]) -> _Look:
        record = self._pins.record(account.uid)
        # Where no account has the UID, nobody but the one that is gone can be meant.
        if record is None or not account.exists or is_still_the_account(account, name=record.name, home=record.home):
            return _Look(account, ask, pairs)
        try:
            pair = self._pins.open(account.uid)
        except OSError:
            pair = None
        if pair is None:
            return _Look(account, ask, pairs)
        with pair:
            why = f"user:[{pair.id.userns}] was made for {record.name}, who had UID {account.uid} before"
            return _Look(account, ask, pairs, pair.id, why)

    def _keep(self, look: _Look, pair: NamespacePair) -> str | None:
        """Take over an open pair if it is the user's; else close it and say why not."""
        if look.is_strange(pair.id.userns):
            reason: str | None = look.why_strange
        else:
            reason = why_foreign(self._syscalls, pair, uid=look.account.uid, parent=self._own_userns)
        if reason is not None or pair.id in look.pairs:
            pair.close()
        else:
            look.pairs[pair.id] = pair
        return reason

    def _judge_pin(self, look: _Look) -> Finding:
        uid = look.account.uid
        try:
            pair = self._pins.open(uid)
        except OSError as error:
            return Finding(FOREIGN, f"{self._pins.path(uid)} cannot be opened: {error.strerror}")
        if pair is None:
            return Finding()
        namespace = pair.id
        reason = self._keep(look, pair)
        return Finding(FOREIGN, reason) if reason else Finding(LIVE, str(namespace), namespace)

    def _judge_handles(self, look: _Look, file: Mapping[str, Any] | None) -> Finding:
        if file is None:
            return Finding()
        identity = (file["identity"][0], file["identity"][1])
        if file["content"] is None:
            return Finding(CORRUPT, file["problem"], identity=identity)
        try:
            pair = Handles.parse(bytes.fromhex(file["content"])).open(self._syscalls)
        except CorruptHandlesError as error:
            return Finding(CORRUPT, str(error), identity=identity)
        except OSError as error:
            if error.errno in _FATAL_TO_PODMAN:
                return Finding(CORRUPT, f"cannot be opened: {error.strerror}", identity=identity)
            if error.errno != errno.ESTALE:
                return Finding(UNKNOWN, f"cannot be opened here: {error.strerror}", identity=identity)
            if self.sees_all_handles:
                return Finding(DEAD, "the namespaces are gone", identity=identity)
            opens, untried = look.ask.opens_handles()
            if opens:
                return Finding(DEAD, "the namespaces are gone, or not this user's", identity=identity)
            why = untried or "this kernel lets only root open handles"
            return Finding(UNKNOWN, f"{why}; the namespaces may be alive", identity=identity)
        namespace = pair.id
        reason = self._keep(look, pair)
        if reason:
            return Finding(FOREIGN, reason, identity=identity)
        return Finding(LIVE, str(namespace), namespace, identity=identity)

    def _judge_pause(self, look: _Look, file: Mapping[str, Any] | None) -> Finding:
        if file is None:
            return Finding()
        identity = (file["identity"][0], file["identity"][1])
        if file["content"] is None:
            return Finding(GARBAGE, file["problem"], identity=identity, readable=False)
        try:
            pid, strict = pause.parse_pid(bytes.fromhex(file["content"]))
        except pause.PauseError as error:
            return Finding(GARBAGE, str(error), identity=identity, lockable=file["lockable"])
        found = self._judge_pid(look, pid)
        found = replace(found, identity=identity, pid=pid, strict=strict, lockable=file["lockable"])
        if strict:
            return found
        # Of a dead process, Podman's second way cannot even read it.
        verdict = GARBAGE if found.verdict == DEAD else found.verdict
        return replace(found, verdict=verdict, evidence=f"{found.evidence}; the file holds more than its PID")

    def _judge_pid(self, look: _Look, pid: int) -> Finding:
        """Verdict on a PID that a user's file names; the PID is nothing but a claim."""
        gone = Finding(DEAD, f"no process {pid}")
        try:
            with processes.pinned_pid(self._syscalls, pid) as pidfd:
                command = processes.comm(self._proc, pid)
                name = f"process {pid} ({command})"
                owner = processes.owner(self._proc, pid)
                nested = processes.is_nested(self._proc, pid)
                marks = None if nested else look.ask.marks([pid]).get(pid)
                pair = self._open_if_readable(pid) if marks is not None else None
                home = self._home_of(look, pid)
                if not processes.is_running(pidfd):
                    if pair is not None:
                        pair.close()
                    return gone
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                return gone
            if error.errno in _NO_PROCESS_ID:
                return Finding(RECYCLED, f"{pid} is not a process to look at: {error.strerror}")
            # No such system call, forbidden, no descriptors, no memory: that says nothing about the process.
            return Finding(UNKNOWN, f"process {pid} cannot be looked at: {error.strerror}")

        def judged(verdict: str, evidence: str, namespace: NamespaceId | None = None) -> Finding:
            return Finding(verdict, evidence, namespace, command=command, owner=owner)

        if nested:
            return judged(FOREIGN, f"{name} of UID {owner} lives in a PID namespace of its own, as in a container")
        if marks is None or pair is None:
            if owner == look.account.uid:
                return judged(FOREIGN, f"{name} cannot be looked into from here")
            return judged(RECYCLED, f"{name} of UID {owner} is not a pause process")
        namespace = pair.id
        reason = self._keep(look, pair)
        if not marks.pausing:
            found = judged(RECYCLED, f"{name} of UID {owner} is not a pause process", None if reason else namespace)
            return replace(found, unjoinable=reason is not None)
        if reason:
            return judged(FOREIGN, f"{name} of UID {owner} is a pause process, but {reason}")
        return replace(judged(LIVE, f"{name} in {namespace}", namespace), home=home)

    def _open_if_readable(self, pid: int) -> NamespacePair | None:
        try:
            return processes.open_namespaces(pid, proc=self._proc)
        except PermissionError:
            return None

    def _judge_processes(
        self, look: _Look, pause_finding: Finding
    ) -> tuple[tuple[PauseProcess, ...], tuple[NamespaceId, ...], tuple[PauseProcess, ...], dict[int, tuple[int, ...]]]:
        """Sort the processes in the user's namespaces.

        Pause processes without a file, container monitors, pause processes of an account that had this UID before, and
        all others.
        """
        orphans: list[PauseProcess] = []
        strangers: list[PauseProcess] = []
        monitors: list[NamespaceId] = []
        inside: dict[int, tuple[int, ...]] = {}
        named = pause_finding.pid if pause_finding.verdict == LIVE else None
        owned = self._table.owned_by(look.account.uid, parent=self._own_userns)
        asked = [pid for userns in owned for pid in userns.pids if pid != named]
        marks = look.ask.marks(asked) if asked else {}
        for userns in owned:
            left_out = {named}
            for pid in sorted(userns.pids):
                mark = None if processes.is_nested(self._proc, pid) else marks.get(pid)
                if mark is None:
                    if not processes.has_namespaces(f"{self._proc}/{pid}"):
                        left_out.add(pid)
                    continue
                if mark.pausing:
                    left_out.add(pid)
                elif not mark.configured:
                    continue
                if look.stranger is not None and look.is_strange(userns.userns):
                    if mark.pausing:
                        strangers.append(PauseProcess(pid, look.stranger))
                    continue
                namespace = self._namespace_of(look, pid)
                if namespace is None or namespace.userns != userns.userns:
                    continue
                elsewhere = self._elsewhere(look, pid, namespace.mntns)
                if mark.pausing:
                    unmapped, home = not self._is_mapped(pid), self._home_of(look, pid)
                    orphans.append(PauseProcess(pid, namespace, unmapped=unmapped, elsewhere=elsewhere, home=home))
                elif not elsewhere and namespace not in monitors:
                    monitors.append(namespace)
            others = (pid for pid in self._table.pids_inside(userns.userns) if pid not in left_out)
            inside[userns.userns] = tuple(others)
        return tuple(orphans), tuple(monitors), tuple(strangers), inside

    def _namespace_of(self, look: _Look, pid: int) -> NamespaceId | None:
        try:
            pair = processes.open_namespaces(pid, proc=self._proc)
        except OSError:
            return None
        namespace = pair.id
        return None if self._keep(look, pair) else namespace

    def _elsewhere(self, look: _Look, pid: int, mntns: int) -> str:
        """How a process's mounts differ from the host's, as in a service or a batch job; empty where they do not."""
        if mntns not in self._trees:
            # Each takes time, and a user can have as many as namespaces.
            if self._read_of[look.account.uid] >= _MAX_READ:
                return "its mounts are not looked at: other processes of this user's have too many"
            before = self._host_tree.read
            self._trees[mntns] = self._host_tree.difference(pid)
            self._read_of[look.account.uid] += self._host_tree.read - before
        return self._trees[mntns]

    def _home_of(self, look: _Look, pid: int) -> Home | None:
        """None also on a kernel without cgroups, which says nothing about the process."""
        try:
            return read_home(self._proc, pid, uid=look.account.uid)
        except OSError:
            return None

    def _can_move(self, account: Account) -> bool:
        return systemd_runs(self._run) and (os.geteuid() == 0 or has_manager(account.uid, run=self._run))

    def _why_at_risk(self, account: Account, pause_finding: Finding) -> str:
        """What to report of a pause process that ends with somebody's session or service and cannot be moved."""
        home = pause_finding.home
        if home is None or home.ends_with is None or not systemd_runs(self._run) or self._can_move(account):
            return ""
        return why_it_stays(account, home, NO_MANAGER)

    def _is_mapped(self, pid: int) -> bool:
        """Both maps: a run can be killed between the two, and nobody can join what has only one."""
        for name in ("uid_map", "gid_map"):
            try:
                with open(f"{self._proc}/{pid}/{name}", encoding="ascii") as file:
                    if not file.read():
                        return False
            except (FileNotFoundError, ProcessLookupError):
                return False
            except OSError:
                # That says nothing about the maps.
                continue
        return True
