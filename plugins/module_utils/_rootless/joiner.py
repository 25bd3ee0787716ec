# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Become the user, join its namespace, and become a command there: what `podman unshare` does, with nothing of Podman.

The become plugin sends the source of this file, and every task waits until it is compiled: what is needed only
sometimes stands in `joiner_detours`, and imports are late. The library is needed only where there is no namespace yet
(see `Creator`). Everything in the user's directories is looked at as the user, and every namespace is held against the
kernel before it is joined.
"""

from __future__ import annotations

import os
import sys
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    # Open descriptors of a user and a mount namespace.
    Pair = tuple[int, int]

    # Sets up the namespace of a user (a UID), as whoever this process is.
    Creator = Callable[[int], None]

# What `podman unshare` and env(1) say of failures of their own.
FAILURE = 125

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the caller's environment, what says nothing about the caller.
_KEPT = ("LANG", "LANGUAGE", "TERM", "TZ", "COLUMNS", "LINES", "NO_COLOR")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
# ioctl_ns(2)
_NONE = 1 << 29 if os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha")) else 0
_GET_USERNS, _GET_PARENT, _GET_NSTYPE, _GET_OWNER_UID = (_NONE | number for number in range(0xB701, 0xB705))

_PINS = "/run/rootless-ns"
# One half of the file ns_handles, in bytes.
HANDLE = 136


class JoinError(Exception):
    """Why the namespace cannot be joined; the text is for an operator."""


class OtherUserError(JoinError):
    """This process may not become that user."""


def join_and_run(
    user: str, command: Sequence[str], *, create: Creator | None = None, environment: Mapping[str, str]
) -> NoReturn:
    """Replace this process by `command`, run as root of the user's namespace.

    `user` is a name or a UID. Where there is no namespace `create` sets one up; without it that is an error.
    `environment` is this process's own. Raises `JoinError`, and `OSError` where the command cannot be run.
    """
    entry = find_user(user)
    uid = entry.pw_uid
    if os.geteuid() not in (0, uid):
        raise OtherUserError(f"UID {os.geteuid()} may not become {entry.pw_name}: that takes root, or sudo")
    if uid == 0:
        raise JoinError("root has no rootless namespace: name the user whose namespace is to be joined")
    is_self = os.geteuid() == uid
    own = environment if is_self else {}
    directory = _working_directory()
    # Nothing of the caller's may get into the namespace, where its owner could take it from the process.
    os.closerange(3, 1 << 20)
    # The pins lie in root's own directory: root, too, may look there.
    pair = _opened(_pinned, str(uid), uid) or (open_namespace(uid, own) if is_self else None)
    if pair is None:
        if create is not None:
            from .joiner_detours import set_up_where_there_is_none

            set_up_where_there_is_none(entry, create, own)
        if not is_self:
            become(entry)
        pair = open_namespace(uid, own)
    elif not is_self:
        become(entry)
    runtime_dir = find_runtime_dir(uid, own)
    if pair is None:
        raise JoinError(
            f"{entry.pw_name} has no namespace to join: neither a pin in {_PINS}/{uid} nor a key in "
            f"{runtime_dir or 'a runtime directory'}. Set one up with userns.rootless.rootless_ns, or with podman"
        )
    enter(*pair)
    for path in (directory, entry.pw_dir, "/"):
        try:
            os.chdir(path)
            break
        except OSError:
            continue
    if "ansible-tmp-" in command[-1]:
        from .joiner_detours import check_readable

        check_readable(command, entry.pw_name)
    _exec(command, _environment(environment, entry, runtime_dir))


def find_user(user: str) -> Any:
    """The passwd entry of a name or a decimal UID; a name that is a number wins, as with chown(1)."""
    import pwd

    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    try:
        return pwd.getpwuid(int(user))
    except (KeyError, ValueError, OverflowError):
        raise JoinError(f"user '{user}' does not exist on this host") from None


def become(entry: Any) -> None:
    """Turn this process, which is root's, into the user for good. No other process of the user's may trace it."""
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def open_namespace(uid: int, environment: Mapping[str, str]) -> Pair | None:
    """The namespaces of the user that this process is, verified.

    Looked for in this order: the pin, Podman's file handles, Podman's pause process.
    """
    state_dir = f"{find_runtime_dir(uid, environment)}/libpod/tmp"
    for key, where in ((_pinned, str(uid)), (_by_handles, state_dir), (_of_pause_process, state_dir)):
        pair = _opened(key, where, uid)
        if pair is not None:
            return pair
    return None


def _opened(key: Callable[[str], Pair | None], where: str, uid: int) -> Pair | None:
    try:
        pair = key(where)
    except (OSError, ValueError, ImportError):
        # The last one where the user cannot read this Python's library.
        return None
    return pair if pair is not None and _is_theirs(pair, uid) else None


def enter(user_fd: int, mnt_fd: int) -> None:
    """Join both namespaces and become root in them, as Podman's rootless_linux.c does."""
    setns: Callable[[int, int], None] = getattr(os, "setns", _setns)
    setns(user_fd, _CLONE_NEWUSER)
    setns(mnt_fd, _CLONE_NEWNS)
    os.close(user_fd)
    os.close(mnt_fd)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def find_runtime_dir(uid: int, environment: Mapping[str, str]) -> str | None:
    """Podman's rule, as in `runtime_dir.find_runtime_directory`."""
    fallback = os.path.join(environment.get("TMPDIR") or "/tmp", f"storage-run-{uid}")
    for path in (environment.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}", fallback):
        try:
            status = os.lstat(path) if path else None
        except OSError:
            continue
        # A directory (S_IFDIR) of the user's that nobody else may write to.
        if status and status.st_mode & 0o170722 == 0o040700 and status.st_uid == uid:
            return path
    return None


def read_small(path: str, limit: int) -> bytes:
    """A small regular file of the user's, and nothing else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_mode & 0o170000 != 0o100000:
            raise ValueError(f"{path} is not a regular file")
        return os.read(fd, limit)
    finally:
        os.close(fd)


def _open_pair(user: str, mnt: str) -> Pair:
    return os.open(user, os.O_RDONLY | os.O_CLOEXEC), os.open(mnt, os.O_RDONLY | os.O_CLOEXEC)


def _pinned(uid: str) -> Pair | None:
    return _open_pair(f"{_PINS}/{uid}/user", f"{_PINS}/{uid}/mnt")


def _by_handles(state_dir: str) -> Pair | None:
    path = f"{state_dir}/ns_handles"
    if not os.path.lexists(path):
        return None
    from .joiner_detours import open_handles

    return open_handles(read_small(path, 2 * HANDLE + 1))


def _of_pause_process(state_dir: str) -> Pair | None:
    pid = int(read_small(f"{state_dir}/pause.pid", 12))
    with open(f"/proc/{pid}/environ", "rb") as file:
        variables = file.read(1 << 22).split(b"\0")
    if not any(variable.startswith(b"_PODMAN_PAUSE=") and len(variable) > 14 for variable in variables):
        return None
    return _open_pair(f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt")


def _is_theirs(pair: Pair, uid: int) -> bool:
    """A user namespace of the user's, a direct child of ours, and a mount namespace that belongs to it."""
    user_fd, mnt_fd = pair
    try:
        if (ioctl(user_fd, _GET_NSTYPE), ioctl(mnt_fd, _GET_NSTYPE)) != (_CLONE_NEWUSER, _CLONE_NEWNS):
            return False
        owner = int.from_bytes(ioctl(user_fd, _GET_OWNER_UID, b"\0\0\0\0"), sys.byteorder)
        parent = os.fstat(ioctl(user_fd, _GET_PARENT)).st_ino
        of_mnt = os.fstat(ioctl(mnt_fd, _GET_USERNS)).st_ino
    except OSError:
        return False
    own = os.stat("/proc/self/ns/user").st_ino
    return owner == uid and parent == own and of_mnt == os.fstat(user_fd).st_ino


def _setns(fd: int, kind: int) -> None:
    """For Python before 3.12."""
    # To import ctypes itself would take as long as all the rest.
    import _ctypes

    itself: Any = None
    function = _ctypes.dlsym(_ctypes.dlopen(itself, 0), "setns")
    if _ctypes.call_function(function, (fd, kind)):
        from .joiner_detours import why_setns_fails

        raise why_setns_fails(fd, kind)


def _exec(command: Sequence[str], variables: dict[str, str]) -> NoReturn:
    """As os.execvpe, which imports what takes as long to import as this takes to run."""
    # signal itself would import much.
    import _signal  # type: ignore[import-not-found,unused-ignore]

    # What Python ignores for itself, the command would inherit.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    name = command[0]
    for directory in [""] if "/" in name else _PATH.split(":"):
        try:
            os.execve(os.path.join(directory, name), list(command), variables)
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise FileNotFoundError(2, f"{name}: no such command inside the namespace")


def _environment(caller: Mapping[str, str], entry: Any, runtime_dir: str | None) -> dict[str, str]:
    variables = {name: value for name, value in caller.items() if name in _KEPT or name.startswith("LC_")}
    variables.update(
        HOME=entry.pw_dir,
        USER=entry.pw_name,
        LOGNAME=entry.pw_name,
        SHELL="/bin/sh",
        PATH=_PATH,
        _CONTAINERS_USERNS_CONFIGURED="done",
        _CONTAINERS_ROOTLESS_UID=str(entry.pw_uid),
        _CONTAINERS_ROOTLESS_GID=str(entry.pw_gid),
    )
    if runtime_dir:
        variables["XDG_RUNTIME_DIR"] = runtime_dir
    return variables
