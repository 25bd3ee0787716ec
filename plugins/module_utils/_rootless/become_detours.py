# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin's program does where it cannot simply join: go through sudo, set up, tell what is wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .become_main import end_with
from .joiner import JoinError, OtherUserError, find_user
from .through_sudo import run_through_sudo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from typing import NoReturn

PACKAGE = "userns_rootless"


def go_on(
    error: Exception,
    user: str,
    command: Sequence[str],
    *,
    asks: bool,
    library: str,
    sudo: Sequence[str],
    sources: Sequence[bytes],
) -> NoReturn:
    """Become the user through sudo where that is what is missing; else report the error, and end."""
    try:
        if isinstance(error, OtherUserError) and sources:
            # sudo would take a UID for a name.
            entry = find_user(user)
            run_through_sudo(
                sudo, user=entry.pw_name, uid=entry.pw_uid, asks=asks, sources=sources, library=library, command=command
            )
    except (JoinError, OSError) as another:
        error = another
    if isinstance(error, (JoinError, OSError)):
        end_with(str(error), command)
    # Python's own report of it would hold the whole program.
    line = error.__traceback__.tb_lineno if error.__traceback__ else 0
    end_with(f"internal error: {type(error).__name__}: {error} (line {line})", command)


def set_up(library: str, uid: int) -> str:
    """The user's namespace, set up or mended by the library that came along; its inode numbers, as text."""
    import binascii
    import json
    import zlib
    from importlib import abc, import_module, util

    sources = json.loads(zlib.decompress(binascii.a2b_base64(library)))
    files: dict[str, str] = {PACKAGE: "", **{f"{PACKAGE}.{name}": source for name, source in sources.items()}}

    class Importer(abc.MetaPathFinder, abc.InspectLoader):
        """Imports the library from its sources."""

        def find_spec(self, fullname: str, *_where: object) -> ModuleSpec | None:
            return util.spec_from_loader(fullname, self) if fullname in files else None

        def get_source(self, fullname: str) -> str:
            return files[fullname]

        def is_package(self, fullname: str) -> bool:
            return fullname == PACKAGE

    sys.meta_path.insert(0, Importer())
    return str(import_module(f"{PACKAGE}.set_up").set_up(uid))
