# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan, step by step: the user's steps by the user's child, pins by root.

A kill between any two steps leaves what the next run understands: a pause process that no file names is found by
its environment, a file that names nothing alive is stale, a pin alone is a whole namespace.
"""

from __future__ import annotations

import os

from . import handles, pause, processes, user_scope
from .accounts import Account
from .as_user import Agent
from .desired import IdMaps
from .errors import RootlessError
from .handles import Handles
from .held import held
from .kernel import Syscalls
from .nsfs import NamespaceId, NamespacePair, own_userns_ino, why_foreign
from .pause_cgroups import PauseCgroups
from .pause_home import read_home
from .pin import PinError, PinRecord, PinStore
from .plan import (
    METHOD_HANDLES,
    Create,
    KillPause,
    MovePause,
    Plan,
    RemoveFile,
    StartPause,
    Step,
    Unpin,
    WriteHandles,
    WritePause,
)
from .processes import open_namespaces
from .removal import Remover
from .systemd_scopes import systemd_runs


class RaceLostError(RootlessError):
    """Somebody else, Podman perhaps, changed the state meanwhile: look again and plan anew."""


class Applier:
    """Does one plan for one user. The state directory is locked by the agent."""

    def __init__(
        self,
        agent: Agent,
        account: Account,
        *,
        remover: Remover,
        syscalls: Syscalls,
        pins: PinStore,
        cgroups: PauseCgroups,
        proc: str,
        method: str,
        run: str = "/run",
    ) -> None:
        self._agent = agent
        self._account = account
        self._remover = remover
        self._syscalls = syscalls
        self._pins = pins
        self._cgroups = cgroups
        self._moved = False
        self._proc = proc
        self._run = run
        self._method = method
        self._started: int | None = None
        self._created: NamespacePair | None = None
        self._written: list[tuple[str, bytes]] = []
        self._pinned = False
        self._refused = False
        # Whether something was changed that is not taken back.
        self._lasting = False
        self.warnings: list[str] = []
        self.changed = False

    def run(self, plan: Plan, pairs: dict[NamespaceId, NamespacePair], *, maps: IdMaps) -> None:
        """Do all steps. A namespace that is created is added to `pairs`.

        Raises `RaceLostError`, and `RootlessError` or `OSError` when a step failed; what this run had set up until
        then is taken back.
        """
        pair = pairs[plan.target] if plan.target else None
        try:
            for step in plan.steps:
                pair = self._do(step, pair, maps)
                if self._refused:
                    # What follows a pin takes away what the pin makes superfluous.
                    break
        except (RootlessError, OSError):
            self._take_back()
            raise
        if self._created is not None:
            pairs[self._created.id] = self._created

    def _do(self, step: Step, pair: NamespacePair | None, maps: IdMaps) -> NamespacePair | None:
        if isinstance(step, RemoveFile):
            if not self._remover.remove(step.name, verdict=step.verdict, identity=step.identity):
                raise RaceLostError(f"{step.name} changed while it was looked at")
            self._lasting = True
        elif isinstance(step, Unpin):
            self._pins.unpin(self._account.uid)
            self._lasting = True
        elif isinstance(step, Create):
            pair = self._create(maps)
        elif isinstance(step, KillPause):
            pid = self._started if step.pid is None else step.pid
            self._agent.call("kill_pause", pid=pid, userns=step.userns or 0)
        elif isinstance(step, MovePause):
            warning = self._move(step)
            if warning:
                self.warnings.append(warning)
                return pair
        elif pair is None:
            raise RootlessError(f"internal error: step {step} without a namespace")
        elif isinstance(step, StartPause):
            self._leave_our_cgroup()
            self._started = self._agent.call("start_pause", fds=(pair.user_fd, pair.mnt_fd))
            self._leave_session(self._started, pair.id.userns)
        elif isinstance(step, WritePause):
            pid = self._started if step.pid is None else step.pid
            self._write(pause.FILE_NAME, str(pid).encode())
        elif isinstance(step, WriteHandles):
            self._write(handles.FILE_NAME, Handles.of(self._syscalls, pair).to_bytes())
        elif not self._pin(pair):
            self._refused = True
            return pair
        self.changed = True
        return pair

    def _leave_our_cgroup(self) -> None:
        """Before the agent starts a process that stays, and that its owner can trace."""
        if self._account.is_self or self._moved:
            return
        self._moved = True
        warning = self._cgroups.receive(self._agent.pid, self._account.uid)
        if warning:
            self.warnings.append(warning)

    def _leave_session(self, pid: int, userns: int) -> None:
        """The same for a user's own run, after the pause process was started."""
        if self._account.is_self and systemd_runs(self._run):
            warning = self._move(MovePause(pid, userns, ""))
            if warning:
                self.warnings.append(warning)

    def _move(self, step: MovePause) -> str:
        """Out of a session or service. Empty if it is done, else a warning; the process runs on where it is."""
        uid = self._account.uid
        try:
            if self._account.is_self:
                home = read_home(self._proc, step.pid, uid=uid)
                if home.ends_with is None:
                    return ""
                reason = user_scope.move(step.pid, uid, proc=self._proc, run=self._run)
                return user_scope.why_it_stays(self._account, home, reason) if reason else ""
            with held(self._syscalls, step.pid):
                # The PID is a claim of the user's: nothing else may be moved, nor anything out of a batch job.
                if processes.owner(self._proc, step.pid) != uid:
                    raise RootlessError("it is not the user's")
                if os.stat(f"{self._proc}/{step.pid}/ns/user").st_ino != step.userns:
                    raise RootlessError("it is in another namespace")
                if read_home(self._proc, step.pid, uid=uid).ends_with is None:
                    return ""
                self._cgroups.take_in(step.pid, uid)
            return ""
        except OSError as error:
            reason = error.strerror or str(error)
        except RootlessError as error:
            reason = str(error)
        return f"pause process {step.pid} stays where it is ({step.why}): {reason}"

    def _create(self, maps: IdMaps) -> NamespacePair:
        self._leave_our_cgroup()
        pid = self._agent.call(
            "create",
            uid_map=[entry.as_dict() for entry in maps.uid_map],
            gid_map=[entry.as_dict() for entry in maps.gid_map],
        )
        self._started = pid
        self._created = open_namespaces(pid, proc=self._proc)
        # The owner may have killed it, and the PID be another's by now.
        reason = why_foreign(self._syscalls, self._created, uid=self._account.uid, parent=own_userns_ino(self._proc))
        if reason:
            raise RootlessError(f"the new namespace vanished at once: {reason}")
        self._leave_session(pid, self._created.id.userns)
        return self._created

    def _write(self, name: str, content: bytes) -> None:
        if not self._agent.call("write", name=name, content=content.hex()):
            raise RaceLostError(f"{name} was written by somebody else meanwhile")
        self._written.append((name, content))

    def _pin(self, pair: NamespacePair) -> bool:
        """False, with a warning, where it cannot be done and something else keeps the namespace alive."""
        left = self._pins.is_left(self._account.uid)
        try:
            self._pins.pin(self._account.uid, pair, record=PinRecord(self._account.name, self._account.home))
            self._pinned = True
            return True
        except PinError as error:
            if self._method == METHOD_HANDLES and self._created is not None:
                # Nothing else would keep the new namespace alive.
                raise
            self.warnings.append(str(error))
            if left and not self._pins.is_left(self._account.uid):
                self.changed = self._lasting = True
            return False

    def _take_back(self) -> None:
        """Undo what this run set up, as far as it can be: files first, so that no key is left without its door."""
        try:
            if self._created is None and self._started is None:
                return
            for name, content in self._written:
                file = self._agent.call("inspect")["files"].get(name)
                if file and file["content"] == content.hex():
                    self._agent.call("remove", name=name, identity=file["identity"])
            if self._started is not None:
                self._agent.call("discard", pid=self._started)
            self.changed = self._lasting
        except (RootlessError, OSError):
            # The child is gone too; what is left is what a kill leaves, and the next run repairs it.
            pass
        finally:
            if self._created is not None:
                if self._pinned:
                    self._pins.unpin(self._account.uid)
                self._created.close()


def agent_maps(agent: Agent, pair: NamespacePair, *, proc: str) -> IdMaps:
    """Let the user's child join for good, and read its maps from outside, where the user cannot forge them.

    Raises `RootlessError` when the child does not sit in the namespace afterwards.
    """
    userns, mntns = agent.call("join", fds=(pair.user_fd, pair.mnt_fd))
    try:
        userns = os.stat(f"{proc}/{agent.pid}/ns/user").st_ino
        mntns = os.stat(f"{proc}/{agent.pid}/ns/mnt").st_ino
    except PermissionError:
        # Nobody but root looks into a child that must not be traced; of one's own, its word is as good.
        if os.geteuid() == 0:
            raise
    joined = NamespaceId(userns=userns, mntns=mntns)
    if joined != pair.id:
        raise RootlessError(f"joined {joined} instead of {pair.id}")
    return IdMaps.read(proc, agent.pid)
