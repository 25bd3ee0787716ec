# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is removed is gone from the kernel, not only from the directories: nothing anywhere holds it any more."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import raw_handles

Run = Callable[..., dict[str, Any]]

libc = ctypes.CDLL(None, use_errno=True)
FD_NSFS_ROOT = -10003


def handle_of(path: str) -> bytes:
    """A handle of a namespace, which keeps nothing alive."""
    handle = raw_handles.handle_of(path)
    if handle is None:
        pytest.skip("needs file handles of namespaces (Linux 6.18, no seccomp filter)")
    return handle


def is_alive(handle: bytes) -> bool:
    fd = libc.open_by_handle_at(FD_NSFS_ROOT, ctypes.create_string_buffer(handle, 136), os.O_RDONLY)
    if fd >= 0:
        os.close(fd)
        return True
    assert ctypes.get_errno() == errno.ESTALE
    return False


def dies(handle: bytes) -> bool:
    """The kernel frees namespaces a little later, from a work queue."""
    deadline = time.monotonic() + 30
    while is_alive(handle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def handles_of(pid: int) -> list[bytes]:
    return [handle_of(f"/proc/{pid}/ns/{kind}") for kind in ("user", "mnt")]


@pytest.fixture
def new_mount_namespace() -> Iterator[Callable[[], None]]:
    """Has root make a mount namespace, as any service with a private /tmp is started; it stays until the test ends."""
    processes: list[subprocess.Popen[bytes]] = []

    def make() -> None:
        command = ["unshare", "--mount", "sh", "-c", "echo; exec sleep 100"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert processes[-1].stdout is not None
        processes[-1].stdout.readline()

    yield make
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("method", ["pause", "handles"])
@pytest.mark.parametrize("pin", [True, False])
def test_absent_frees_the_namespace(
    ns: Run, make_user: Any, new_mount_namespace: Callable[[], None], method: str, pin: bool
) -> None:
    user, neighbour = make_user(), make_user()
    ns(user)
    kept = handles_of(user.pause_pid())
    if not pin:
        ns(user, state="absent")
        ns(user, pin=False)
        kept = handles_of(user.pause_pid())
    ns(user, method=method, pin=pin)
    # Both copy the mounts they find, and stay.
    ns(neighbour)
    new_mount_namespace()
    assert [is_alive(handle) for handle in kept] == [True, True]
    assert ns(user, state="absent")["action"] == "removed"
    assert [dies(handle) for handle in kept] == [True, True]


def test_a_pin_alone_holds_both(ns: Run, user: Any) -> None:
    ns(user)
    kept = handles_of(user.pause_pid())
    user.kill_pause()
    time.sleep(0.1)
    assert user.processes() == []
    assert [is_alive(handle) for handle in kept] == [True, True]


def test_without_a_pin_the_pause_process_is_all_that_holds_it(ns: Run, user: Any) -> None:
    ns(user, pin=False)
    kept = handles_of(user.pause_pid())
    assert not user.pin.exists()
    user.kill_pause()
    assert [dies(handle) for handle in kept] == [True, True]


def test_recreate_frees_the_old_namespace(ns: Run, user: Any) -> None:
    ns(user)
    kept = handles_of(user.pause_pid())
    user.add_subuids()
    assert ns(user, on_drift="recreate")["action"] == "recreated"
    assert [dies(handle) for handle in kept] == [True, True]


def test_pins_stay_out_of_every_other_mount_namespace(
    ns: Run, make_user: Any, new_mount_namespace: Callable[[], None]
) -> None:
    pinned = make_user()
    result = ns(pinned)
    new_mount_namespace()
    ns(make_user())
    own = os.stat("/proc/self/ns/mnt").st_ino
    holders = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/mnt").stat().st_ino != own and f"user:[{result['userns']}]" in (
                entry / "mountinfo"
            ).read_text():
                holders.append(entry.name)
        except OSError:
            continue
    assert holders == []
    assert f"user:[{result['userns']}]" in Path("/proc/self/mountinfo").read_text()
