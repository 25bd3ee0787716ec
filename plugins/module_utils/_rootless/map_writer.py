# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a new user namespace's ID maps, the way Podman does: `newuidmap` and `newgidmap`, else a single ID.

Runs as the user itself (see `as_user`); the maps are computed by the caller.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Sequence

from .errors import RootlessError
from .idmap import IdMapEntry, format_id_map

# Where distributions install setuid programs; NixOS has them in wrappers.
TOOL_PATH = "/run/wrappers/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
UID_TOOL = "newuidmap"
GID_TOOL = "newgidmap"

# linux/capability.h
_CAP_SETGID, _CAP_SETUID = 6, 7
_VFS_CAP_FLAGS_EFFECTIVE = 1


class MapError(RootlessError):
    """The maps could not be written."""


def find_tool(name: str, *, path: str = TOOL_PATH) -> str | None:
    """The program's path, or None when it is not installed."""
    return shutil.which(name, path=path)


def why_powerless(tool: str) -> str | None:
    """Why a map tool cannot do its work (it needs the setuid bit or a file capability); None if nothing is seen."""
    status = os.stat(tool)
    owner_problem = None
    if status.st_mode & stat.S_ISUID:
        if status.st_uid != 0:
            owner_problem = f"its setuid bit is of UID {status.st_uid}, not root"
    elif not _has_capability(tool):
        owner_problem = "it has neither the setuid bit nor a file capability that lets it write an ID map"
    if owner_problem is None and os.statvfs(tool).f_flag & os.ST_NOSUID:
        return "it lies on a file system mounted nosuid"
    return owner_problem


def _has_capability(tool: str) -> bool:
    """Whether cap_setuid or cap_setgid, as the tool's name says, is among its file's capabilities and takes effect."""
    try:
        attribute = os.getxattr(tool, "security.capability")
    except OSError:
        return False
    if len(attribute) < 8:
        return False
    # struct vfs_cap_data of linux/capability.h: flags, then the first 32 of the permitted capabilities.
    flags, permitted = struct.unpack_from("<II", attribute)
    number = _CAP_SETGID if os.path.basename(tool) == GID_TOOL else _CAP_SETUID
    return bool(flags & _VFS_CAP_FLAGS_EFFECTIVE and permitted >> number & 1)


def write_maps(pid: int, *, uid_map: Sequence[IdMapEntry], gid_map: Sequence[IdMapEntry], path: str) -> None:
    """Write both maps of the process's new user namespace. Raises `MapError` and `OSError`.

    A map of one line is the user's own ID: the kernel lets the user write that itself, once setgroups(2) is denied.
    """
    # Denied before any map is written; afterwards the kernel refuses the change.
    if len(gid_map) == 1:
        _write(f"/proc/{pid}/setgroups", "deny")
    running = []
    for tool, name, entries in ((UID_TOOL, "uid_map", uid_map), (GID_TOOL, "gid_map", gid_map)):
        if len(entries) == 1:
            _write(f"/proc/{pid}/{name}", format_id_map(entries))
        else:
            running.append(_start(tool, pid, entries, path=path))
    for program, process in running:
        _finish(program, process)


def _write(path: str, content: str) -> None:
    # One write(2) only, as the kernel wants.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content.encode())
    except OSError as error:
        raise MapError(f"cannot write {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def _start(tool: str, pid: int, entries: Sequence[IdMapEntry], *, path: str) -> tuple[str, subprocess.Popen[bytes]]:
    program = find_tool(tool, path=path)
    if program is None:
        raise MapError(f"{tool} is not installed: install the package uidmap (Debian, Ubuntu) or shadow-utils")
    arguments = [program, str(pid)]
    for entry in entries:
        arguments += [str(entry.id), str(entry.parent_id), str(entry.count)]
    # Two run at once, and in a forked child: AnsibleModule.run_command offers neither.
    return program, subprocess.Popen(  # pylint: disable=ansible-bad-function
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": TOOL_PATH, "LC_ALL": "C"},
    )


def _finish(program: str, process: subprocess.Popen[bytes]) -> None:
    # The child as a whole is under a time limit; the tool is setuid and could not be killed from here anyway.
    said = process.communicate()[1].decode("utf-8", "surrogateescape").strip()
    if process.returncode:
        reason = why_powerless(program)
        tool = os.path.basename(program)
        fix = f": {reason}; reinstall its package or run: setcap cap_set{tool[3:6]}+ep {program}" if reason else ""
        raise MapError(f"{program} refused the map (exit status {process.returncode}): {said}{fix}")
