# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What joining a namespace takes only sometimes: handles, setting one up, and what to say of failures.

Sent with `joiner` by the become plugin, but compiled only when it is needed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .joiner import HANDLE, JoinError, become, is_runtime_dir, keys_in, open_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .joiner import Creator, Pair

_TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# open_by_handle_at(2) on nsfs, Linux 6.18
_FD_NSFS_ROOT = -10003


def open_handles(content: bytes) -> Pair | None:
    """The namespaces that a file `ns_handles` opens, where the kernel lets this user open them."""
    if len(content) < 2 * HANDLE:
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for start in (0, HANDLE):
        handle = ctypes.create_string_buffer(content[start : start + HANDLE], HANDLE)
        fd = libc.open_by_handle_at(_FD_NSFS_ROOT, handle, os.O_RDONLY | os.O_CLOEXEC)
        if fd < 0:
            return None
        found.append(fd)
    return found[0], found[1]


def runtime_dir_by_version(uid: int, chosen: str | None, default: str, tmp: str) -> str | None:
    """As `podman_places.PodmanPlaces` has it. Raises `JoinError` where Podman fails with XDG_RUNTIME_DIR (`chosen`)."""
    version = _podman_version()
    before_5 = version is not None and version < (5, 0)
    # Podman 4.3 and 4.4 pass over what is not there.
    if chosen and (os.path.lexists(chosen) or version is None or not (4, 3) <= version < (4, 5)):
        what = "is not a directory of the user's" if os.path.lexists(chosen) else "does not exist"
        raise JoinError(
            f"XDG_RUNTIME_DIR={chosen} {what}: Podman fails there, too. Unset the variable, or set it to {default}"
        )
    # Of a Podman before 5.0; a link in place of the directory is followed then.
    mask = 0o700 if before_5 and version is not None and version >= (4, 5) else 0o722
    if is_runtime_dir(default, uid, mask=mask, follow=before_5):
        return default
    places = [f"{tmp}/podman-run-{uid}", f"{tmp}/storage-run-{uid}"]
    if not before_5:
        places.reverse()
    there = [path for path in places if is_runtime_dir(path, uid, mask=mask, follow=before_5 and path is places[0])]
    alive = [path for path in there if keys_in(path, uid)]
    return next(iter(alive if len(alive) == 1 else there), None)


def _podman_version() -> tuple[int, ...] | None:
    """The version of the host's Podman; None where there is none, or where it does not say."""
    import re
    import shutil
    import subprocess

    program = shutil.which("podman", path=_TOOL_PATH)
    if program is None:
        return None
    try:
        told = subprocess.run(  # pylint: disable=ansible-bad-function
            [program, "--version"],
            env={"PATH": _TOOL_PATH, "HOME": "/"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"\bversion (\d{1,4})\.(\d{1,4})", told)
    return (int(found[1]), int(found[2])) if found else None


def why_setns_fails(fd: int, kind: int) -> OSError:
    """Fail once more, in a way that tells the error."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.setns(fd, kind)
    return OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


# keyctl(2) on machines that joiner.py does not name; asm-generic/unistd.h has 219 for all newer ones.
_KEYCTL_ELSEWHERE = {
    "i686": 288,
    "armv7l": 311,
    "ppc64le": 271,
    "ppc64": 271,
    "s390x": 280,
    "riscv64": 219,
    "loongarch64": 219,
}


def keyctl_number() -> int:
    """The number of keyctl(2) for this process. Raises `JoinError` where it is not known."""
    machine = os.uname().machine
    if sys.maxsize < 1 << 32:
        # As kernel._machine: what a process of 32 bits is, on whichever kernel.
        machine = (
            "armv7l" if machine.startswith(("arm", "aarch64")) else "i686" if machine[-2:] in ("64", "86") else machine
        )
    number = _KEYCTL_ELSEWHERE.get(machine)
    if number is None:
        raise JoinError(f"the number of keyctl(2) is not known on {machine}: root's session keyring would be kept")
    return number


def why_no_keyring(number: int) -> str | None:
    """Join a session keyring once more, and return the error; None where there is no keyring to leave."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(ctypes.c_long(number), ctypes.c_long(1), None) >= 0:
        return None
    reason = ctypes.get_errno()
    return None if reason in (errno.ENOSYS, errno.EPERM, errno.EACCES) else os.strerror(reason)


def set_up_where_there_is_none(entry: Any, create: Creator, environment: Mapping[str, str]) -> None:
    """Have `create` set up the user's namespace, unless a look as the user finds one. Raises `JoinError`."""

    def look() -> str:
        if os.geteuid() == 0:
            become(entry)
        return "there" if open_keys(entry.pw_uid, environment) else ""

    if not _in_child(look):
        _in_child(lambda: create(entry.pw_uid))


def choose_key(
    keys: Sequence[tuple[str, Pair]], entry: Any, create: Creator | None, environment: Mapping[str, str]
) -> Pair:
    """Which of the namespaces is meant, by the library's rule, as the user that this process is by now.

    It mends the keys, too, so that the next look is a plain one. Raises `JoinError` where it cannot be asked.
    """
    opened = ", ".join(f"{name} opens user:[{os.fstat(pair[0]).st_ino}]" for name, pair in keys)
    is_alone = len(keys) == 1
    if create is None:
        if is_alone:
            return keys[0][1]
        raise JoinError(f"the keys of {entry.pw_name} disagree: {opened}. Mend that with userns.rootless.rootless_ns")
    try:
        chosen = _in_child(lambda: create(entry.pw_uid))
    except JoinError:
        if is_alone:
            # It is alive, and nothing speaks for another one.
            return keys[0][1]
        raise
    for _name, pair in (*keys, *open_keys(entry.pw_uid, environment)):
        if chosen == f"{os.fstat(pair[0]).st_ino} {os.fstat(pair[1]).st_ino}":
            return pair
    raise JoinError(f"the namespace of {entry.pw_name} that is meant vanished while it was joined; {opened}")


def _in_child(work: Callable[[], object]) -> str:
    """Do something in a child that may end up as another user; its end is waited for. Raises `JoinError`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            answer = f"+{work() or ''}"
        except BaseException as error:
            answer = f"-{error}"
        try:
            os.write(writer, answer[:1000].encode("utf-8", "surrogatepass"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read().decode("utf-8", "surrogatepass")
    os.waitpid(pid, 0)
    if not told.startswith("+"):
        raise JoinError(told[1:] or "the process that looked for the namespace was killed")
    return told[1:]


def unreadable_file(command: Sequence[str]) -> str | None:
    """A file that Ansible has put a module into, and that is not there, or not readable, inside the namespace."""
    for path in _temporary_files(command[-1]):
        if not os.access(path, os.R_OK):
            return path
    return None


def _temporary_files(text: str) -> list[str]:
    """The files in Ansible's temporary directories that a command line names, without the directories themselves."""
    words = text.replace("'", " ").replace('"', " ").split()
    return [word for word in words if "/" in word.partition("/ansible-tmp-")[2].rstrip("/")]
