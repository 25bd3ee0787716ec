# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One user's namespace, set up or mended as `rootless_ns` does by default: for the joiner, where keys are not plain."""

from __future__ import annotations

import os

from .accounts import find_account
from .errors import RootlessError
from .host import Host
from .kernel import Syscalls
from .namespaces import Namespaces, Options


def set_up(uid: int) -> str:
    """The inode numbers of its user and its mount namespace, as text. Raises `RootlessError` with the reason."""
    options = Options(pin=os.geteuid() == 0)
    report = Namespaces(Syscalls(), host=Host(), options=options).present(find_account(str(uid)))
    if report.failed or report.namespace is None:
        raise RootlessError(f"no namespace of {report.user} could be set up: {'; '.join(report.messages)}")
    return f"{report.namespace.userns} {report.namespace.mntns}"
