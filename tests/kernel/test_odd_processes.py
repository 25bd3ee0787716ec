# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that are not what they look like at first, and locks that others hold."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import pin as pins
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinError, PinStore

Run = Callable[..., dict[str, Any]]

# Its first thread ends, another one lives on.
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_still_lives_there(ns: Run, user: Any, public_python: str) -> None:
    ns(user)
    inside = ["nsenter", f"--user={user.pin}/user", f"--mount={user.pin}/mnt", public_python, "-c", HEADLESS]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            for _attempt in range(100):
                if not Path(f"/proc/{process.pid}/ns/mnt").exists():
                    break
                time.sleep(0.02)
            assert not Path(f"/proc/{process.pid}/ns/mnt").exists()
            assert ns(user)["processes"] == 1
            refused = ns(user, state="absent")
            assert refused["action"] == "failed"
            assert "1 other process(es) live in it" in refused["msg"]
        finally:
            process.kill()
    assert ns(user, state="absent")["action"] == "removed"


@pytest.mark.alone
def test_nobody_but_root_can_lock_the_pins(as_root: None, ns: Run, user: Any) -> None:
    """Somebody has opened their directory while that could be read, and holds a lock on it for ever."""
    directory = Path("/run/rootless-ns")
    directory.mkdir(mode=0o711, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        started = time.monotonic()
        assert ns(user)["pinned"] is True
        assert time.monotonic() - started < 5
    finally:
        os.close(fd)
    lock = Path("/run/rootless-ns.lock").stat()
    assert (lock.st_uid, lock.st_mode & 0o777) == (0, 0o600)


def test_the_directory_of_pins_is_never_readable_and_its_lock_has_a_limit(
    as_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real = os.mkdir

    def noting(path: str, mode: int = 0o777, **how: Any) -> None:
        modes.append(mode)
        real(path, mode, **how)

    monkeypatch.setattr(os, "mkdir", noting)
    monkeypatch.setattr(pins, "LOCK_SECONDS", 0.1)
    store = PinStore(Syscalls(), run=str(tmp_path))
    with open(f"{store.directory}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PinError, match="fuser -v"):
            store._prepare()
    assert modes == [0o711]
