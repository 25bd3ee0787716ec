# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the installed Podman and its settings ask of this host."""

from __future__ import annotations

import glob
import mmap
import re
import shutil
from collections.abc import Iterator, Mapping

from ..namespaces import NO_PAUSE_VARIABLE
from ..nsfs_support import UNKNOWN, USER
from ..subid import FILES
from .catalogue import HostFinding
from .shell import shell_word

_SETTING = re.compile(rf"^\s*(?:export\s+)?{NO_PAUSE_VARIABLE}=[\"']?([^\s\"'#]+)", re.MULTILINE)
_MAX_SETTINGS = 1024 * 1024


def check_libsubid(source: str, *, path: str) -> Iterator[HostFinding]:
    """`source` of the ranges is `FILES`, or `nss:SERVICE`: that one Podman must be built to ask."""
    program = shutil.which("podman", path=path)
    if source == FILES or program is None or _mentions_libsubid(program):
        return
    yield HostFinding(
        "podman-without-libsubid",
        f"/etc/nsswitch.conf has subid: {source.partition(':')[2]}, but {program} is not linked with libsubid",
        "sed -i 's/^subid:.*/subid: files/' /etc/nsswitch.conf  # or install a Podman built with libsubid",
    )


def _mentions_libsubid(program: str) -> bool:
    """Whether an ELF program names the library; where nothing can be said, as of a script, True is the answer."""
    try:
        with open(program, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[:4] != b"\x7fELF" or content.find(b"libsubid.so") >= 0
    except (OSError, ValueError):
        # Not to be read, or empty.
        return True


def check_handles(nsfs_handles: str, *, environment: Mapping[str, str], etc: str) -> Iterator[HostFinding]:
    """Whether users can open handles, against what this environment and that of logins asks for.

    Nothing is found where it could not be tried: the remedy would take away what may well work.
    """
    if nsfs_handles in (USER, UNKNOWN):
        return
    for origin, value in _asked(environment, etc):
        if value != "0":
            yield HostFinding(
                "handles-unusable",
                f"{NO_PAUSE_VARIABLE}={value} ({origin}), but kernel.nsfs_handles is {nsfs_handles}",
                f"sed -i /{NO_PAUSE_VARIABLE}/d {shell_word(origin)}"
                if origin.startswith("/")
                else f"unset {NO_PAUSE_VARIABLE}",
            )


def _asked(environment: Mapping[str, str], etc: str) -> Iterator[tuple[str, str]]:
    if NO_PAUSE_VARIABLE in environment:
        yield "environment of this task", environment[NO_PAUSE_VARIABLE]
    for path in (f"{etc}/environment", *sorted(glob.glob(f"{glob.escape(etc)}/environment.d/*.conf"))):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                found = _SETTING.findall(file.read(_MAX_SETTINGS))
        except OSError:
            continue
        if found:
            yield path, found[-1]
