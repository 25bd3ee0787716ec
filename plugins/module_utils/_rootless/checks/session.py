# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd keeps for a user between logins: its runtime directory, and lingering."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..accounts import Account
from .catalogue import HostFinding
from .shell import shell_word

_C_ESCAPES = {ord(letter): f"\\{code}" for letter, code in zip("\a\b\f\n\r\t\v\\\"'", "abfnrtv\\\"'")}


def check_runtime_dir(account: Account, found: Mapping[str, Any], *, run: str) -> Iterator[HostFinding]:
    """`found` is what the user's child answered to `inspect`."""
    if found.get("cached"):
        fix = f"su -s /bin/sh {shell_word(account.name)} -c 'podman system reset'  # or set XDG_RUNTIME_DIR for Podman"
        yield HostFinding("runtime-dir-cached", found["cached"], fix)
    if found["warning"] and not found["state_dir"].startswith(f"{run}/user/"):
        yield HostFinding("runtime-dir-missing", found["warning"], _linger(account))


def check_lingering(account: Account, *, run: str, var: str) -> Iterator[HostFinding]:
    """Asked of hosts only that systemd has booted, and where logind runs."""
    mark = _mark_of_lingering(account, var)
    if _managed(run) and not os.path.exists(mark):
        yield HostFinding("no-lingering", f"{mark} does not exist", _linger(account))


def lingers(account: Account, *, run: str, var: str) -> bool:
    """Whether systemd is to start the user's manager at boot."""
    return _managed(run) and os.path.exists(_mark_of_lingering(account, var))


def _managed(run: str) -> bool:
    return all(os.path.isdir(f"{run}/systemd/{name}") for name in ("system", "users"))


def _mark_of_lingering(account: Account, var: str) -> str:
    return f"{var}/lib/systemd/linger/{_escaped_as_c(account.name)}"


def _escaped_as_c(name: str) -> str:
    """The name of the file by which logind remembers a user, as systemd's `cescape` makes it of the user's name."""
    return "".join(
        _C_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in os.fsencode(name)
    )


def _linger(account: Account) -> str:
    return f"loginctl enable-linger {shell_word(account.name)}"
