# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces with nothing but a loopback device: a host is reached by going in, so no address is needed."""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

NAMES = Path("/run/netns")


def names() -> list[str]:
    return [entry.name for entry in NAMES.iterdir()] if NAMES.is_dir() else []


def add(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)


def delete(name: str) -> None:
    if (NAMES / name).exists():
        subprocess.run(["ip", "netns", "delete", name], check=True)


def connect(name: str, port: int) -> socket.socket:
    """A connection to a port of the namespace's 127.0.0.1; the caller's own namespace stays what it is."""
    made: list[socket.socket | OSError] = []

    def inside() -> None:
        try:
            _enter(name)
            made.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        except OSError as error:
            made.append(error)

    # A thread that has changed its network namespace, and ends with it.
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _enter(name: str) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(NAMES / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, 0x40000000):
            raise OSError(ctypes.get_errno(), f"setns to {NAMES / name}")
    finally:
        os.close(fd)


def main() -> None:
    """ssh's ProxyCommand with ProxyUseFdpass: hand the connection over and be gone. `netns.py NAME PORT`"""
    with connect(sys.argv[1], int(sys.argv[2])) as connection, socket.socket(fileno=os.dup(1)) as ssh:
        connection.settimeout(None)
        rights = array.array("i", [connection.fileno()])
        ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


if __name__ == "__main__":
    main()
