# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that the become plugin runs on a host. Its source is sent there, with `joiner` before it.

What it takes only sometimes stands in `become_detours`, which is sent along, but compiled only when it is needed.
"""

from __future__ import annotations

import os
import sys
from fcntl import ioctl
from typing import TYPE_CHECKING

from .joiner import FAILURE, JoinError, join_and_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

# Seconds that a connection may take to read a line.
_PATIENCE = 10.0


def main(
    user: str, *, success: str, asks: bool, library: str, sudo: Sequence[str], sources: Sequence[bytes]
) -> NoReturn:
    """Run the command in `sys.argv` in the user's namespace.

    `success` is the line by which Ansible knows that becoming has worked. `asks`: until then Ansible answers a prompt
    of sudo's with the password. `library` holds the library's sources, packed; it is empty if no namespace is to be
    set up. `sources` are this program and its detours, for sudo to run as the user; empty where sudo runs them already.
    """
    command = sys.argv[1:]

    def create(uid: int) -> str:
        from .become_detours import set_up

        return set_up(library, uid)

    def announce() -> None:
        os.write(1, f"{success}\n".encode())
        if asks:
            _wait_until_read(1)

    def fail(reason: str) -> NoReturn:
        end_with(reason, command)

    if os.geteuid() == 0:
        _leave_terminal()
    try:
        join_and_run(
            user,
            command,
            create=create if library else None,
            environment=os.environ,
            announce=announce if success else None,
            fail=fail,
        )
    except Exception as error:
        from .become_detours import go_on

        go_on(error, user, command, asks=asks, library=library, sudo=sudo, sources=sources)


def end_with(reason: str, command: Sequence[str]) -> NoReturn:
    """Report why the command was not run, and end. Imports nothing: the user's mounts may be in force."""
    text = _shown(f"rootless_ns: {reason}")
    if _is_module(command):
        os.write(1, f'{{"failed": true, "msg": "{_escaped(text)}"}}\n'.encode("ascii"))
    else:
        os.write(2, f"{text}\n".encode())
    os._exit(FAILURE)


def _is_module(command: Sequence[str]) -> bool:
    """Whether Ansible waits for a module's result: it runs a file of its own, or a Python that reads the module."""
    line = command[-1] if command else ""
    return "/ansible-tmp-" in line or "python" in os.path.basename(line.strip("'\" ").rpartition(" ")[2])


def _leave_terminal() -> None:
    """Have no controlling terminal any more: the user's programs must not reach that of whoever runs Ansible."""
    try:
        os.setsid()
        return
    except PermissionError:
        if os.getsid(0) == os.getpid():
            # A connection has made this session for this command alone, and its terminal, too.
            return
    # A process that leads no session, only a process group, gives its terminal up by itself: ioctl_tty(2).
    import termios

    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        # It has none.
        return
    ioctl(fd, termios.TIOCNOTTY)
    os.close(fd)


def _shown(text: str) -> str:
    """What users have named may hold anything: as `text.escape`, which takes long to import."""
    shown = []
    for place, char in enumerate(text):
        code = ord(char)
        if char.isprintable() and not (char == "\\" and text[place + 1 : place + 2] in ("x", "u", "U")):
            shown.append(char)
        elif code < 0x80 or 0xDC80 <= code <= 0xDCFF:
            shown.append(f"\\x{code & 0xFF:02x}")
        else:
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(shown)


def _escaped(text: str) -> str:
    """Text as in a JSON string."""
    return "".join(_escape(char) if char in '"\\' or not " " <= char <= "~" else char for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    units = [code] if code < 0x10000 else [0xD7C0 + (code >> 10), 0xDC00 | code & 0x3FF]
    return "".join(f"\\u{unit:04x}" for unit in units)


def _wait_until_read(fd: int) -> None:
    """Wait until the other end has read all that was written. Raises `JoinError` where it does not.

    What the user's programs write can then overtake it in no other stream, and pass for a prompt of sudo's.
    """
    import termios
    import time

    # A pipe reports at either end how much is in it; a socket or a terminal reports what it has not delivered yet.
    is_pipe = os.fstat(fd).st_mode & 0o170000 == 0o010000
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            answer = ioctl(fd, termios.FIONREAD if is_pipe else termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            # A file, in which nothing waits.
            return
        if not int.from_bytes(answer, sys.byteorder):
            return
        if time.monotonic() > deadline:
            raise JoinError(f"nobody has read the standard output for {_PATIENCE:g} s")
        time.sleep(0.0005)
