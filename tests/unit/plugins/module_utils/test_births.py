# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that end badly."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import births
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls


def test_a_child_that_may_not_be_ended_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root without CAP_KILL may not, once the child is the user: what is told is why it had to end."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    pid = os.fork()
    if pid == 0:
        time.sleep(100)
        os._exit(0)
    kill = os.kill
    monkeypatch.setattr(os, "kill", refuse)
    assert births.Births(lambda _channel, _order: None, Syscalls()).kill(pid, grace=0.05) is False
    kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
