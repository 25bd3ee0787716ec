# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can only be tried, as the user itself: does the kernel let it have a namespace, its maps, and handles.

Nothing of a probe outlasts it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from . import pause
from .errors import RootlessError
from .idmap import IdMapEntry
from .kernel import CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC, Syscalls
from .map_writer import write_maps

UNSHARE = "unshare"
MAPS = "maps"


def opens_handles(syscalls: Syscalls, *, proc: str) -> bool:
    """Whether this user can reopen a handle of a namespace of its own that it is not in."""
    reader, writer = os.pipe()
    hold_reader, hold_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hold_writer)
            syscalls.unshare(CLONE_NEWUSER)
            fd = os.open(f"{proc}/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            kind, payload = syscalls.name_to_handle(fd)
            os.write(writer, f"{kind} {payload.hex()}".encode())
            os.close(writer)
            os.read(hold_reader, 1)
        finally:
            os._exit(0)
    try:
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            answer = file.read().decode().split()
        if len(answer) != 2:
            return False
        os.close(syscalls.open_nsfs_handle(int(answer[0]), bytes.fromhex(answer[1])))
        return True
    except OSError:
        return False
    finally:
        os.close(hold_reader)
        os.close(hold_writer)
        os.waitpid(pid, 0)


def why_no_namespace(
    syscalls: Syscalls, *, uid_map: Sequence[IdMapEntry], gid_map: Sequence[IdMapEntry], path: str
) -> tuple[str, int, str] | None:
    """Make a namespace, use power in it, give it the maps; None if all went well, else the step, errno and text.

    The step is `unshare` or `maps`; errno is 0 where a map tool refused.
    """

    def enter() -> None:
        syscalls.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        # Where AppArmor restricts user namespaces, they can be had, but nothing can be done in them.
        syscalls.mount(None, "/", MS_REC | MS_PRIVATE)

    try:
        # Without the marks of a pause process: nobody may take this namespace for the user's.
        pid = pause.spawn(enter, environment={}, syscalls=syscalls)
    except OSError as error:
        return UNSHARE, error.errno or 0, str(error.strerror)
    try:
        write_maps(pid, uid_map=uid_map, gid_map=gid_map, path=path)
    except OSError as error:
        return MAPS, error.errno or 0, str(error)
    except RootlessError as error:
        return MAPS, 0, str(error)
    finally:
        # Our own child, not reaped yet: the PID can be nobody else's.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None
