# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Podman the host has."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.podman_version import PodmanVersion, parse


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("podman version 4.3.1\n", (4, 3, 1)),
        ("podman version 6.0.0-rc1\n", (6, 0, 0)),
        ("podman version 5.9-dev\n", (5, 9, 0)),
        ("podman.exe version 5.4.2\n", (5, 4, 2)),
        ("", None),
        ("Error: something else\n", None),
    ],
)
def test_what_it_says(answer: str, version: tuple[int, int, int] | None) -> None:
    assert parse(answer) == version


def _podman(directory: Path, says: str) -> PodmanVersion:
    program = directory / "podman"
    program.write_text(f"#!/bin/sh\necho >> {directory}/asked\n{says}\n")
    program.chmod(0o755)
    return PodmanVersion(path=str(directory))


@pytest.mark.parametrize(
    ("says", "reads_handles", "storage_run"),
    [
        ("echo podman version 4.9.4", False, False),
        ("echo podman version 5.8.2", False, True),
        ("echo podman version 6.0.0", True, True),
        ("exit 125", True, True),
    ],
)
def test_what_follows_from_it(tmp_path: Path, says: str, reads_handles: bool, storage_run: bool) -> None:
    podman = _podman(tmp_path, says)
    assert podman.reads_handles() is reads_handles
    assert podman.keeps_in_storage_run() is storage_run
    assert (tmp_path / "asked").read_text() == "\n"


def test_no_podman(tmp_path: Path) -> None:
    podman = PodmanVersion(path=str(tmp_path))
    assert podman.get() is None
    assert podman.reads_handles()
    assert podman.keeps_in_storage_run()


def test_the_callers_runtime_directory_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/4711")
    podman = _podman(tmp_path, '[ -z "$XDG_RUNTIME_DIR" ] && echo podman version 1.2.3')
    assert podman.get() == (1, 2, 3)
