# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin's program does where it cannot simply join: go through sudo, set up, tell what is wrong."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .joiner import FAILURE, JoinError, OtherUserError, find_user
from .text import escape
from .through_sudo import run_through_sudo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from typing import NoReturn

PACKAGE = "userns_rootless"


def go_on(
    error: Exception, user: str, command: Sequence[str], *, library: str, sudo: Sequence[str], sources: Sequence[bytes]
) -> NoReturn:
    """Become the user through sudo where that is what is missing; else tell the error, and end."""
    try:
        if isinstance(error, OtherUserError) and sources:
            # sudo would take a UID for a name.
            entry = find_user(user)
            run_through_sudo(
                sudo, user=entry.pw_name, uid=entry.pw_uid, sources=sources, library=library, command=command
            )
    except (JoinError, OSError) as another:
        error = another
    if isinstance(error, (JoinError, OSError)):
        _fail(str(error), command)
    # Python's own report of it would hold the whole program.
    line = error.__traceback__.tb_lineno if error.__traceback__ else 0
    _fail(f"internal error: {type(error).__name__}: {error} (line {line})", command)


def _fail(text: str, command: Sequence[str]) -> NoReturn:
    text = escape(f"rootless_ns: {text}")
    if _is_module(command):
        import json

        sys.stdout.write(json.dumps({"failed": True, "msg": text}) + "\n")
    else:
        sys.stderr.write(f"{text}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILURE)


def _is_module(command: Sequence[str]) -> bool:
    """Whether Ansible waits for a module's result: it runs a file of its own, or a Python that reads the module."""
    line = command[-1] if command else ""
    return "/ansible-tmp-" in line or "python" in os.path.basename(line.strip("'\" ").rpartition(" ")[2])


def set_up(library: str, uid: int) -> None:
    """A new namespace of the user's, by the library that came along."""
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
    import_module(f"{PACKAGE}.set_up").set_up(uid)
