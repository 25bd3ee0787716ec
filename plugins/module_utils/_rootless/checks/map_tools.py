# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that write users' ID maps: there, with privileges, where privileges count."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from ..map_writer import GID_TOOL, UID_TOOL, find_tool, why_powerless
from ..mountinfo import Mount, mount_of
from .catalogue import HostFinding
from .shell import shell_word


def check_map_tools(path: str, mounts: Sequence[Mount]) -> Iterator[HostFinding]:
    """`path` is the search path."""
    for tool in (UID_TOOL, GID_TOOL):
        program = find_tool(tool, path=path)
        if program is None:
            yield HostFinding(
                "map-tool-missing",
                f"no {tool} in {path}",
                "apt-get install uidmap  # Debian, Ubuntu; elsewhere: dnf install shadow-utils",
            )
        elif os.statvfs(program).f_flag & os.ST_NOSUID:
            mount = mount_of(mounts, program)
            point = mount.point if mount else "/"
            yield HostFinding(
                "map-tool-nosuid",
                f"{program} lies on a file system mounted nosuid, {point}",
                f"mount -o remount,suid {shell_word(point)}  # and in /etc/fstab",
            )
        else:
            problem = why_powerless(program)
            if problem is not None:
                # A setuid bit, of whomever, goes before capabilities.
                word = shell_word(program)
                owned = os.stat(program).st_mode & stat.S_ISUID
                fix = f"chown root: {word} && chmod u+s {word}" if owned else f"setcap cap_set{tool[3:6]}+ep {word}"
                yield HostFinding("map-tool-powerless", f"{program}: {problem}", fix)
