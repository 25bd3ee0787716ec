# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause process outlives the session or service of whoever had it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_systemd import OwnSystemd, own_systemd

from ansible_collections.userns.rootless.plugins.module_utils._rootless.held import NotHeldError, held
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls

Run = Callable[..., dict[str, Any]]

OURS = r"/rootless_ns\.slice/rootless_ns-\d+-[0-9a-f]{8}\.scope/%d"
USERS = r"/user\.slice/user-%d\.slice/user@%d\.service/user\.slice/rootless-ns-pause-[0-9a-f]{8}\.scope"


@pytest.fixture
def systemd(user: Any) -> Iterator[OwnSystemd]:
    with own_systemd(user) as host:
        yield host


def test_what_root_starts_is_in_a_slice_of_its_own(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    result = ns(user, pin=False, prefix=systemd.prefix("/system.slice/pull.service"))
    assert (result["action"], result["msg"]) == ("created", "")
    assert re.fullmatch(OURS % user.uid, systemd.cgroup_of(result["pause_pid"]))
    assert result["pause"] == {"cgroup": systemd.cgroup_of(result["pause_pid"]), "ends_with": None}


def test_what_the_user_starts_is_in_its_own_manager(ns: Run, user: Any, systemd: OwnSystemd) -> None:
    result = ns(user, prefix=(*systemd.prefix(systemd.session()), *user.command()))
    assert (result["action"], result["msg"]) == ("created", "")
    assert re.fullmatch(USERS % (user.uid, user.uid), systemd.cgroup_of(result["pause_pid"]))
    assert result["pause"]["ends_with"] is None
