# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd keeps for a user between logins: its runtime directory, and lingering."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ..accounts import Account
from .catalogue import HostFinding


def check_runtime_dir(account: Account, found: Mapping[str, Any], *, run: str) -> Iterator[HostFinding]:
    """`found` is what the user's child answered to `inspect`."""
    if found["warning"] and not found["state_dir"].startswith(f"{run}/user/"):
        yield HostFinding("runtime-dir-missing", found["warning"], _linger(account))


def check_lingering(account: Account, *, run: str, var: str) -> Iterator[HostFinding]:
    """Asked of hosts only that systemd has booted, and where logind runs."""
    # logind escapes as C does.
    escaped = account.name.replace("\\", "\\\\")
    mark = f"{var}/lib/systemd/linger/{escaped}"
    managed = all(os.path.isdir(f"{run}/systemd/{name}") for name in ("system", "users"))
    if managed and not os.path.exists(mark):
        yield HostFinding("no-lingering", f"{mark} does not exist", _linger(account))


def _linger(account: Account) -> str:
    return f"loginctl enable-linger {shlex.quote(account.name)}"
