# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause process: a process that does nothing but keep a namespace alive, and its file `pause.pid`.

Podman's protocol: `_PODMAN_PAUSE` in its environment, a session of its own, standard streams on /dev/null,
nothing else open. See `pause_program` for what it executes.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable

from .errors import RootlessError
from .kernel import Syscalls
from .pause_program import open_pause_program

FILE_NAME = "pause.pid"
# Podman reads at most 11 characters; the kernel's highest PID is 4194304.
FILE_LIMIT = 11
_MAX_PID = 1 << 22

# What a terminal or a resource limit sends; Podman's do_pause ignores the same.
_IGNORED = (
    signal.SIGALRM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGQUIT,
    signal.SIGPOLL,
    signal.SIGPROF,
    signal.SIGVTALRM,
    signal.SIGXCPU,
    signal.SIGXFSZ,
)


class PauseError(RootlessError):
    """A pause process could not be started, or `pause.pid` holds no PID."""


def parse_pid(content: bytes) -> tuple[int, bool]:
    """The PID in `pause.pid`, and whether the file holds nothing else. Raises `PauseError`.

    As Podman's C code, which comes first: strtol(3) of at most 11 bytes, so that leading blanks, a sign and what
    follows the number do no harm. Its Go code, which comes second, reads digits only (strconv), and no such file.
    """
    found = re.match(rb"[ \t\n\v\f\r]*\+?([0-9]+)", content[:FILE_LIMIT])
    pid = int(found[1]) if found else 0
    if not 0 < pid <= _MAX_PID:
        text = content[:FILE_LIMIT].decode("utf-8", "surrogateescape")
        raise PauseError(f"holds '{text}', not a PID")
    return pid, content == str(pid).encode()


def marks(*, uid: int, gid: int, runtime_dir: str) -> dict[str, str]:
    """The environment by which a pause process is known as one, and as that of this user.

    It tells, as that of Podman's does, below which runtime directory the file that names the process lies.
    """
    return {
        "PATH": "/usr/bin:/bin",
        "XDG_RUNTIME_DIR": runtime_dir,
        "_PODMAN_PAUSE": "1",
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(uid),
        "_CONTAINERS_ROOTLESS_GID": str(gid),
    }


def spawn(enter: Callable[[], None], *, environment: dict[str, str], syscalls: Syscalls) -> int:
    """Start a process that only waits, in the namespaces that `enter` puts it into; returns its PID.

    The caller is its parent: the PID stays valid until the caller exits. Raises `OSError` as `enter` or execve(2)
    met it, and where no program is found.
    """
    # Both on the host: nothing is looked up in the namespace, where its owner decides what is found.
    program = open_pause_program()
    null = os.open(os.devnull, os.O_RDWR)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setsid()
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            enter()
            os.chdir("/")
            program.execute(syscalls, environment)
        except OSError as error:
            os.write(writer, f"{error.errno} {error.strerror}".encode())
        finally:
            os._exit(127)
    for fd in (writer, null, program.directory):
        os.close(fd)
    with os.fdopen(reader, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        code, _blank, text = failure.decode().partition(" ")
        raise OSError(int(code), text)
    try:
        os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        # A program that its users may run but not read.
        pass
    except FileNotFoundError:
        # The pipe was not closed by the program's start: whoever may send it signals has ended it before.
        os.waitpid(pid, 0)
        raise OSError(errno.ESRCH, "it was ended before its program ran") from None
    return pid
