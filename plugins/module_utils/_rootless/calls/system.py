# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there is anything to work with: Linux, /proc, user namespaces."""

from __future__ import annotations

import os
import sys

from ..errors import RootlessError
from ..kernel import Syscalls


def open_kernel() -> Syscalls:
    """The system calls. Raises `RootlessError` on anything but Linux, and without /proc."""
    if not sys.platform.startswith("linux"):
        raise RootlessError(f"user namespaces are a feature of Linux; this host runs {sys.platform}")
    try:
        os.stat("/proc/self/ns/user")
    except FileNotFoundError:
        raise RootlessError(
            "/proc/self/ns/user does not exist: either /proc is not mounted, or this kernel was built without "
            "user namespaces (CONFIG_USER_NS)"
        ) from None
    except OSError as error:
        raise RootlessError(
            f"/proc/self/ns/user: {error.strerror}: a security module (AppArmor, SELinux) keeps this program from it; "
            "look for its refusal in dmesg or the audit log"
        ) from None
    return Syscalls()
