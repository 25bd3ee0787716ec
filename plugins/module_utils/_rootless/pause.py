# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause process: a process that does nothing but keep a namespace alive, and its file `pause.pid`.

Podman's protocol: `_PODMAN_PAUSE` in its environment, a session of its own, standard streams on /dev/null,
nothing else open; `catatonit -P` where it is installed, `sleep` elsewhere.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

from .errors import RootlessError

FILE_NAME = "pause.pid"
# Podman reads at most 11 characters; the kernel's highest PID is 4194304.
FILE_LIMIT = 11
_MAX_PID = 1 << 22

_COMMANDS = (
    ("/usr/libexec/podman/catatonit", "-P"),
    ("/usr/bin/catatonit", "-P"),
    ("/usr/libexec/catatonit/catatonit", "-P"),
    ("/usr/local/bin/catatonit", "-P"),
    # 68 years; "infinity" is not known everywhere.
    ("/bin/sleep", "2147483647"),
    ("/usr/bin/sleep", "2147483647"),
)
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


def parse_pid(content: bytes) -> int:
    """The PID in `pause.pid`: decimal, nothing else, not even a newline. Raises `PauseError`."""
    if not re.fullmatch(rb"[1-9][0-9]{0,6}", content) or int(content) > _MAX_PID:
        found = content[:FILE_LIMIT].decode("utf-8", "surrogateescape")
        raise PauseError(f"holds '{found}', not a PID")
    return int(content)


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


def spawn(enter: Callable[[], None], *, environment: dict[str, str]) -> int:
    """Start a process that only waits, in the namespaces that `enter` puts it into; returns its PID.

    The caller is its parent: the PID stays valid until the caller exits. Raises `OSError` as `enter` or exec(3)
    met it.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.setsid()
            enter()
            os.chdir("/")
            _exec(environment)
        except OSError as error:
            os.write(writer, f"{error.errno} {error.strerror}".encode())
        finally:
            os._exit(127)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        number, _blank, text = failure.decode().partition(" ")
        raise OSError(int(number), text)
    return pid


def _exec(environment: dict[str, str]) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    for path, argument in _COMMANDS:
        try:
            os.execve(path, [os.path.basename(path), argument], environment)
        except OSError:
            continue
    raise OSError(2, "none of " + ", ".join(path for path, _argument in _COMMANDS) + " can be run")
