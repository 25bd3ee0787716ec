# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.podman import check_handles


@pytest.mark.parametrize(
    ("handles", "codes"),
    [("user", []), ("unknown", []), ("root", ["handles-unusable"]), ("unsupported", ["handles-unusable"])],
)
def test_a_setting_is_held_against_what_was_tried(tmp_path: Path, handles: str, codes: list[str]) -> None:
    (tmp_path / "environment").write_text("PODMAN_NO_PAUSE_PROCESS=1\n")
    found = check_handles(handles, environment={}, etc=str(tmp_path))
    assert [finding.code for finding in found] == codes
