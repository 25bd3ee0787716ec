# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.podman_places import (
    cached_state_dir,
    follows_database,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.podman_version import Version

# A page of the database of Podman 4.3.1, as it is on disk: keys and values one after the other.
BEFORE = b"\0\0run-root/tmp/podman-run-1000/containersstatic-dir/home/alice/.local/share/containers/storage/libpod"


@pytest.mark.parametrize(
    ("database", "directory"),
    [
        (BEFORE + b"tmp-dir/run/user/1000/libpod/tmpvolume-path/home/alice/x", "/run/user/1000/libpod/tmp"),
        (BEFORE + b"tmp-dir/tmp/podman-run-1000/libpod/tmp\0\0\1", "/tmp/podman-run-1000/libpod/tmp"),
        (BEFORE + b"tmp-dir/tmp/podman-run-1000/libpod/tmp", "/tmp/podman-run-1000/libpod/tmp"),
        (BEFORE + b"tmp-dir/srv/libpod/tmp/x/libpod/tmpvolume-path/", "/srv/libpod/tmp/x/libpod/tmp"),
        (BEFORE + b"tmp-dir/somewhere/elsevolume-path/home", "/somewhere/else"),
        (BEFORE, None),
        (b"", None),
    ],
)
def test_what_the_database_says(database: bytes, directory: str | None) -> None:
    assert cached_state_dir(database) == directory


@pytest.mark.parametrize(
    ("version", "follows"),
    [(None, False), ((2, 1, 9), False), ((2, 2, 0), True), ((4, 4, 4), True), ((4, 5, 0), False), ((5, 4, 2), False)],
)
def test_which_podman_follows_it(version: Version | None, follows: bool) -> None:
    assert follows_database(version) is follows
