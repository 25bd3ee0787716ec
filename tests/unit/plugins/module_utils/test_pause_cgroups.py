# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import pause_cgroups


def test_a_scope_that_cannot_be_made_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user would wait for systemd otherwise."""
    (tmp_path / "systemd/system").mkdir(parents=True)
    tried = []

    def refuse(name: str) -> Any:
        tried.append(name)
        raise pause_cgroups._CgroupError("systemd makes no scope: no answer in 10 s")

    monkeypatch.setattr(pause_cgroups, "_start_scope", refuse)
    cgroups = pause_cgroups.PauseCgroups(run=str(tmp_path))
    warnings = [cgroups.receive(1, uid) for uid in (1001, 1002, 1003)]
    assert all(warning and "no answer in 10 s" in warning for warning in warnings)
    assert len(tried) == 1
