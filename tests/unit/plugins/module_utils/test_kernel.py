# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that need no privilege, also the way they are made where the C library lacks them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import kernel
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


class OlderLibrary:
    """A C library without the newer functions, as musl before 1.2.6 is."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        if name == "renameat2":
            raise AttributeError(name)
        return getattr(self._library, name)


@pytest.fixture(params=["current", "older"])
def syscalls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Syscalls:
    if request.param == "older":
        load = kernel._load
        monkeypatch.setattr(kernel, "_load", lambda: OlderLibrary(load()))
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)
    return Syscalls()


def test_rename_never_replaces(syscalls: Syscalls, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        syscalls.rename_noreplace(fd, "old", "new")
        (tmp_path / "old").write_text("other")
        with pytest.raises(FileExistsError, match="renameat2"):
            syscalls.rename_noreplace(fd, "old", "new")
    finally:
        os.close(fd)
    assert (tmp_path / "new").read_text() == "old"


def test_pidfd(syscalls: Syscalls) -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        fd = syscalls.pidfd_open(process.pid)
        syscalls.pidfd_send_signal(fd, signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
        os.close(fd)
    with pytest.raises(OSError, match="No such process"):
        syscalls.pidfd_open(process.pid)


def test_namespaces_are_told_from_other_files(syscalls: Syscalls, tmp_path: Path) -> None:
    with open("/proc/self/ns/user", "rb") as file:
        assert syscalls.ns_type(file.fileno()) == kernel.CLONE_NEWUSER
    with open("/proc/self/ns/mnt", "rb") as file:
        assert syscalls.ns_type(file.fileno()) == kernel.CLONE_NEWNS
    (tmp_path / "file").touch()
    with open(tmp_path / "file", "rb") as file, pytest.raises(OSError, match="Inappropriate ioctl"):
        syscalls.ns_type(file.fileno())


def test_errors_carry_their_number(syscalls: Syscalls) -> None:
    with pytest.raises(OSError, match="setns: Bad file descriptor"):
        syscalls.setns(-1, kernel.CLONE_NEWNS)


def test_another_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    with pytest.raises(OSError, match="freebsd14"):
        Syscalls()
