# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
from pathlib import Path

from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause_cgroups import PauseCgroups


def test_a_scope_that_cannot_be_made_is_tried_once(tmp_path: Path) -> None:
    """Each user would wait for systemd otherwise."""
    (tmp_path / "systemd/system").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "systemd/private"))
        # One waits to be accepted; the next one would be, too.
        listener.listen()
        listener.setblocking(False)
        cgroups = PauseCgroups(run=str(tmp_path), seconds=0.1)
        warnings = [cgroups.receive(1, uid) for uid in (1001, 1002, 1003)]
        cgroups.close()
        assert all(
            warning and "systemd makes no scope: systemd did not answer in time" in warning for warning in warnings
        )
        listener.accept()[0].close()
        try:
            listener.accept()
        except BlockingIOError:
            return
    raise AssertionError("it was tried again")
