# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems in user space that take every question and answer none, as fusermount(1) would mount them for a user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from throwaway_users import User

DEVICE = Path("/dev/fuse")
MNT_DETACH = 2

# Answers the first request, without which whoever asks could be killed (see fuse.h of the kernel), and no other one.
DAEMON = """
import ctypes, os, struct, sys, time
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
fd = int(sys.argv[1])
print(flush=True)
while True:
    try:
        request = os.read(fd, 1 << 17)
    except PermissionError:
        # Not mounted yet.
        time.sleep(0.01)
        continue
    length, opcode, unique = struct.unpack_from("=IIQ", request)
    if opcode == 26:
        body = struct.pack("=IIIIHHIIHH8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *[0] * 8)
        os.write(fd, struct.pack("=IiQ", 16 + len(body), 0, unique) + body)
"""


@contextlib.contextmanager
def silent_mount(target: Path, user: User) -> Iterator[None]:
    """Mount one for a user, everybody else allowed in; whoever waits for it goes on in the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(DEVICE, os.O_RDWR)
    kind = stat.S_IFMT(target.stat().st_mode)
    options = f"fd={fd},rootmode={kind:o},user_id={user.uid},group_id={user.gid},allow_other"
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE) as daemon:
        try:
            assert daemon.stdout is not None
            daemon.stdout.readline()
            if libc.mount(b"rnstest", os.fsencode(target), b"fuse.rnstest", 6, options.encode()):
                raise OSError(ctypes.get_errno(), "mount")
            os.close(fd)
            fd = -1
            yield
        finally:
            # The last one who closes the connection aborts it.
            daemon.kill()
            if fd >= 0:
                os.close(fd)
            libc.umount2(os.fsencode(target), MNT_DETACH)


def waiting(pids: list[int]) -> list[int]:
    """Those that nothing ends: state D."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D":
                found.append(pid)
    return found


def available() -> bool:
    return DEVICE.exists() and os.access(DEVICE, os.R_OK | os.W_OK)
