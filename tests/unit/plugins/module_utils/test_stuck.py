# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.stuck import DIRECTORY, StuckProcesses

UID = 4711


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("records are root's")


def records(tmp_path: Path) -> StuckProcesses:
    return StuckProcesses(run=str(tmp_path), proc="/proc")


def test_a_record_lasts_as_long_as_its_process(root: None, tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    assert records(tmp_path).why_not_to_start(UID) == ""
    told = records(tmp_path).record(UID, process.pid)
    assert told.startswith(f"it cannot be ended: {process.pid} (state ")
    assert (tmp_path / DIRECTORY).stat().st_mode & 0o7777 == 0o700
    assert f"1 process(es) that an earlier run started for this user cannot be ended: {process.pid} (" in (
        records(tmp_path).why_not_to_start(UID)
    )
    assert records(tmp_path).why_not_to_start(UID + 1) == ""
    process.kill()
    # A zombie holds nothing.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert records(tmp_path).why_not_to_start(UID) == ""
    assert list((tmp_path / DIRECTORY).iterdir()) == []
    assert records(tmp_path).record(UID, process.pid) == ""


def test_the_pid_of_another_process_is_none(root: None, tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    records(tmp_path).record(UID, process.pid)
    (tmp_path / DIRECTORY / str(UID)).write_text(f"{process.pid} 1\n")
    assert records(tmp_path).why_not_to_start(UID) == ""


@pytest.mark.parametrize("content", ["", "x y\n", "1\n", "-1 2\n", "99999999999 1\n", "\0\n"])
def test_rubbish_is_no_record(root: None, tmp_path: Path, content: str) -> None:
    (tmp_path / DIRECTORY).mkdir(mode=0o700)
    (tmp_path / DIRECTORY / str(UID)).write_text(content)
    assert records(tmp_path).why_not_to_start(UID) == ""


def test_what_others_planted_is_not_read_and_not_written(
    root: None, tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / DIRECTORY).symlink_to(elsewhere)
    assert records(tmp_path).record(UID, process.pid).startswith("it cannot be ended")
    assert list(elsewhere.iterdir()) == []
    (tmp_path / DIRECTORY).unlink()
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY).chmod(0o770)
    records(tmp_path).record(UID, process.pid)
    assert list((tmp_path / DIRECTORY).iterdir()) == []
    (tmp_path / DIRECTORY).chmod(0o700)
    (tmp_path / DIRECTORY / str(UID)).symlink_to(elsewhere / "target")
    records(tmp_path).record(UID, process.pid)
    assert list(elsewhere.iterdir()) == []
    assert records(tmp_path).why_not_to_start(UID) == ""


def test_a_stopped_process_is_named_as_such(root: None, tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert "(state T" in records(tmp_path).record(UID, process.pid)
