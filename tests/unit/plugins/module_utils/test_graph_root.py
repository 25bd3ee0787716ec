# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' storage.conf, which may hold anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.graph_root import find_graph_root


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[storage]\n  graphroot = "/srv/a"\n', "/srv/a"),
        # It would take minutes were each empty line begun with anew.
        ("\n" * 900_000 + 'graphroot = "/srv/a"\n', "/srv/a"),
        ('graphroot = "/a\0b"\n', None),
        (f'graphroot = "{"/a" * 400_000}"\n', None),
    ],
)
def test_what_is_no_path_is_no_graph_root(tmp_path: Path, content: str, found: str | None) -> None:
    path = tmp_path / "storage.conf"
    path.write_text(content)
    alice = Account("alice", 1000, 1000, str(tmp_path))
    environment = {"CONTAINERS_STORAGE_CONF": str(path)}
    default = str(tmp_path / ".local/share/containers/storage")
    assert find_graph_root(alice, environment=environment, etc=str(tmp_path))[0] == (found or default)
