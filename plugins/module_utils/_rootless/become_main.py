# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the become plugin runs on a host. Its source is sent there, with `joiner` before it.

What it takes only sometimes stands in `become_detours`, which is sent along, but compiled only when it is needed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .joiner import join_and_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(user: str, *, library: str, sudo: Sequence[str], sources: Sequence[bytes]) -> NoReturn:
    """Run the command in `sys.argv` in the user's namespace.

    `library` holds the library's sources, packed; it is empty if no namespace is to be set up. `sources` are this
    program and its detours, for sudo to run as the user; empty where sudo runs them already.
    """
    command = sys.argv[1:]

    def create(uid: int) -> None:
        from .become_detours import set_up

        set_up(library, uid)

    try:
        join_and_run(user, command, create=create if library else None, environment=os.environ)
    except Exception as error:
        from .become_detours import go_on

        go_on(error, user, command, library=library, sudo=sudo, sources=sources)
