# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Python source as another user through sudo, without it standing in sudo's log: only the command stands there.

The source waits on a socket with a name that cannot be guessed; both ends ask the kernel who the other one is. Stands
alone and imports late, as `joiner` does.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import NoReturn

# The announcement of the key that sudo's prompt will hold, and the prompt itself.
ANNOUNCEMENT = "ROOTLESS-NS-PROMPT-"
PROMPT = "[sudo via ansible, key={key}] password:"

# Runs as the other user: argv is the socket's name, then the command.
LOADER = """
import _socket, os, sys
s = _socket.socket(1, 1)
s.connect("\\0" + sys.argv.pop(1))
c = s.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
if int.from_bytes(c[4:8], sys.byteorder) != int(os.environ["SUDO_UID"]):
    sys.exit("the source did not come from who called sudo")
d = b""
while True:
    c = s.recv(65536)
    if not c: break
    d += c
s.close()
L, R, S = d.split(b"\\0")
exec(S, {"L": L.decode(), "R": R.decode()})
"""


def run_through_sudo(
    sudo: Sequence[str],
    *,
    user: str,
    uid: int,
    asks: bool,
    sources: Sequence[bytes],
    library: str,
    command: Sequence[str],
) -> NoReturn:
    """Replace this process by sudo, and let that run a program as the user with `command` as its arguments.

    With `asks`, sudo's prompt holds a key that only Ansible and sudo know: it is made here, written to the standard
    error before sudo starts, and handed to sudo in its environment, which others cannot read. So nothing that the
    user's processes write passes for that prompt, not even before the namespace is entered.

    `sudo` is the program and its flags; `sources` are that of the program and, packed, that of its detours, which with
    `library` are the program's global variables `R` and `L`. Raises `OSError` when sudo cannot be run.
    """
    import socket

    name = f"rootless-ns-{os.urandom(16).hex()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0{name}")
    server.listen(1)
    # The server's parent becomes sudo: when that ends, so does the waiting.
    parent = os.getpid()
    if os.fork() == 0:
        try:
            _serve(server, parent, uid, b"\0".join((library.encode(), sources[1], sources[0])))
        finally:
            os._exit(0)
    server.close()
    if asks:
        key = os.urandom(16).hex()
        # Without an end of the line: what follows is the prompt or the sign of success, and Ansible drops such lines.
        os.write(2, f"{ANNOUNCEMENT}{key} ".encode())
        os.environ["SUDO_PROMPT"] = PROMPT.format(key=key)
    python = [sys.executable or "python3", "-I", "-S", "-c", LOADER, name]
    os.execvp(sudo[0], [*sudo, "-u", user, *python, *command])


def _serve(server: socket.socket, parent: int, uid: int, content: bytes) -> None:
    import socket

    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    server.settimeout(1)
    while os.getppid() == parent:
        try:
            client = server.accept()[0]
        except socket.timeout:
            continue
        peer = int.from_bytes(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if peer in (0, uid):
            client.settimeout(10)
            client.sendall(content)
            return
        client.close()
