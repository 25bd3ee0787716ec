# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of a pause process: found and opened on the host, executed in a namespace.

The owner of a namespace may mount anything over the host's programs there. So the program's directory is opened before
the namespace is joined, and the program executed below that descriptor by execveat(2): the mounts of the namespace do
not apply there. By the directory and not by the program's own descriptor, because before Linux 6.14 the process would
be named after the number of that descriptor.

A program that is not linked statically takes its libraries from the namespace, though, and with them what the owner
has put there. `catatonit` is static wherever distributions have it; `sleep` is not. It runs as the owner in any case.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass

from .kernel import Syscalls

_CANDIDATES = (
    ("/usr/libexec/podman/catatonit", "-P"),
    ("/usr/bin/catatonit", "-P"),
    ("/usr/libexec/catatonit/catatonit", "-P"),
    ("/usr/local/bin/catatonit", "-P"),
    # 68 years; "infinity" is not known everywhere.
    ("/bin/sleep", "2147483647"),
    ("/usr/bin/sleep", "2147483647"),
)
_ELF = b"\x7fELF"
_PT_INTERP = 3


@dataclass(frozen=True)
class PauseProgram:
    """An opened directory, the program's name in it, and its arguments."""

    directory: int
    name: str
    arguments: tuple[str, ...]

    def execute(self, syscalls: Syscalls, environment: dict[str, str]) -> None:
        """Replace this process. Returns only by raising `OSError`."""
        syscalls.execveat(self.directory, self.name, self.arguments, environment)


def open_pause_program(root: str = "") -> PauseProgram:
    """The first program that is static, else the first one; `root` is prepended to paths. Raises `OSError`.

    Only a program in whose place nobody but root can put another one.
    """
    dynamic = None
    for path, argument in _CANDIDATES:
        real = os.path.realpath(root + path)
        if not (_only_roots(os.path.dirname(real), stat.S_IFDIR) and _only_roots(real, stat.S_IFREG)):
            continue
        linked = _is_static(real)
        if linked is None or not os.access(real, os.X_OK):
            continue
        program = real, (os.path.basename(path), argument)
        if linked:
            return _opened(*program)
        dynamic = dynamic or program
    if dynamic is None:
        paths = ", ".join(path for path, _argument in _CANDIDATES)
        raise OSError(2, f"no program to keep it alive: install catatonit; none of {paths} is a program of root's")
    return _opened(*dynamic)


def _opened(path: str, arguments: tuple[str, ...]) -> PauseProgram:
    directory, name = os.path.split(path)
    return PauseProgram(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), name, arguments)


def _only_roots(path: str, kind: int) -> bool:
    """Whether it is of this kind, belongs to root, and nobody else may write to it."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid in _roots() and not status.st_mode & 0o022


def _roots() -> set[int]:
    """How root's files appear: as those of ID 0, and in a user namespace that does not know root as the overflow ID's.

    That one, too, only where nobody there has it: see user_namespaces(7).
    """
    try:
        with open("/proc/sys/fs/overflowuid", encoding="ascii") as file:
            overflow = int(file.read())
        with open("/proc/self/uid_map", encoding="ascii") as file:
            ranges = [[int(word) for word in line.split()] for line in file]
    except OSError:
        return {0}
    return {0} if any(first <= overflow < first + count for first, _outside, count in ranges) else {0, overflow}


def _is_static(path: str) -> bool | None:
    """Whether an ELF program names no interpreter (elf(5)); None for what is none, such as a script."""
    try:
        with open(path, "rb") as file:
            header = file.read(4096)
    except OSError:
        return None
    if header[:4] != _ELF or len(header) < 64:
        return None
    wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
    start = struct.unpack_from(f"{order}Q", header, 32)[0] if wide else struct.unpack_from(f"{order}I", header, 28)[0]
    size, count = struct.unpack_from(f"{order}HH", header, 54 if wide else 42)
    types = []
    for number in range(count):
        offset = start + number * size
        if offset + 4 > len(header):
            # Unusual, so nothing to rely on.
            return False
        types.append(struct.unpack_from(f"{order}I", header, offset)[0])
    return _PT_INTERP not in types
