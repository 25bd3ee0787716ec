# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels that this machine may not have, played by the system calls that differ on them; the rest is real."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account, find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.handles import Handles
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.namespaces import Namespaces, Options
from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs_support import nsfs_handles
from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import open_namespaces


class Before618(Syscalls):
    """No handles of namespaces at all."""

    def name_to_handle(self, fd: int) -> tuple[int, bytes]:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


class RootOnly(Syscalls):
    """Later kernels: everybody but root gets the answer for a dead namespace."""

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        if os.geteuid() != 0:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return super().open_nsfs_handle(handle_type, payload)


class Seccomp(Before618):
    """A container's filter."""

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def name_to_handle(self, fd: int) -> tuple[int, bytes]:
        return Syscalls.name_to_handle(self, fd)


@pytest.fixture
def account(user: Any) -> Account:
    return find_account(user.name)


def namespaces(syscalls: Syscalls, *, variable: str | None = None, **options: Any) -> Namespaces:
    environment = {"PATH": "/usr/bin:/bin"}
    if variable is not None:
        environment["PODMAN_NO_PAUSE_PROCESS"] = variable
    # A Podman that reads handles is not packaged yet; where there is none, one of tomorrow is taken for granted.
    host = Host(environment=environment, podman_path="/nonexistent")
    return Namespaces(syscalls, host=host, options=Options(pin=True, **options))


@pytest.mark.parametrize(("kernel", "told"), [(Before618, "unsupported"), (RootOnly, "root"), (Seccomp, "unsupported")])
def test_the_probe(account: Account, kernel: type[Syscalls], told: str) -> None:
    seen = namespaces(kernel())
    assert nsfs_handles(kernel(), proc="/proc", probe_owner=lambda: seen.probe_owner(account)) == told


@pytest.mark.parametrize("kernel", [Before618, RootOnly, Seccomp])
def test_handles_fall_back_with_the_reason(account: Account, kernel: type[Syscalls]) -> None:
    report = namespaces(kernel(), variable="1").present(account)
    assert (report.action, report.method) == ("created", "pause")
    assert "does not let the user open them" in report.as_dict()["msg"]
    again = namespaces(kernel(), variable="1").present(account)
    assert (again.action, again.changed) == ("rejoined", False)
    refused = namespaces(kernel(), method="handles").present(account)
    assert (refused.action, refused.changed) == ("failed", False)
    assert "method handles is of no use here" in refused.as_dict()["msg"]


def plant_live_handles(user: Any, pid: int) -> None:
    """As a Podman that ran before the kernel was updated left them."""
    with open_namespaces(pid) as pair:
        user.handles_file.write_bytes(Handles.of(Syscalls(), pair).to_bytes())
    os.chown(user.handles_file, user.uid, user.gid)


def test_live_handles_that_the_owner_cannot_open_break_podman(user: Any, account: Account) -> None:
    made = namespaces(RootOnly()).present(account).as_dict()
    plant_live_handles(user, made["pause_pid"])
    assert namespaces(RootOnly()).look(account).verdicts()["state"] == "broken"
    report = namespaces(RootOnly()).present(account)
    assert (report.action, report.as_dict()["userns"]) == ("repaired", made["userns"])
    assert not user.handles_file.exists()
    assert namespaces(RootOnly()).look(account).verdicts()["state"] == "alive"


def as_the_user(account: Account, work: Callable[[], str]) -> str:
    """The result of a function in a process that runs as the user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.initgroups(account.name, account.gid)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            # As after an exec of the user's own.
            Syscalls().set_dumpable(True)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


@pytest.mark.parametrize(("kernel", "verdict"), [(RootOnly, "unknown"), (Seccomp, "unknown"), (Syscalls, "live")])
def test_what_the_owner_may_not_see_is_not_called_dead(
    user: Any, account: Account, kernel: type[Syscalls], verdict: str
) -> None:
    made = namespaces(Syscalls()).present(account).as_dict()
    plant_live_handles(user, made["pause_pid"])

    def look() -> str:
        myself = Namespaces(kernel(), host=Host(environment={}), options=Options())
        return str(myself.look(find_account(account.name)).verdicts()["verdicts"]["ns_handles"]["verdict"])

    assert as_the_user(account, look) == verdict

    def rejoin() -> str:
        myself = Namespaces(kernel(), host=Host(environment={}), options=Options())
        report = myself.present(find_account(account.name))
        return f"{report.action} {report.as_dict()['userns']} {report.changed}"

    assert as_the_user(account, rejoin) == f"rejoined {made['userns']} False"
    assert user.handles_file.exists()


@pytest.mark.parametrize("kernel", [Before618, Seccomp])
def test_pins_need_no_handles(user: Any, account: Account, kernel: type[Syscalls]) -> None:
    made = namespaces(kernel()).present(account).as_dict()
    user.kill_pause()
    report = namespaces(kernel()).present(account)
    assert (report.action, report.as_dict()["userns"]) == ("repaired", made["userns"])
