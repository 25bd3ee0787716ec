# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Become the user, join its namespace, and become a command there: what `podman unshare` does, with nothing of Podman.

This file stands alone, so that the become plugin can send its source, and imports late, so that it costs little more
than the start of Python: the library is needed only where there is no namespace yet (see `Creator`). Everything in the
user's directories is looked at as the user, and every namespace is held against the kernel before it is joined.
"""

from __future__ import annotations

import os
import sys
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

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
_GET_USERNS, _GET_PARENT, _GET_NSTYPE, _GET_OWNER_UID = 0xB701, 0xB702, 0xB703, 0xB704
# open_by_handle_at(2) on nsfs, Linux 6.18
_FD_NSFS_ROOT = -10003
_HANDLE = 136


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
    if os.geteuid() not in (0, entry.pw_uid):
        raise OtherUserError(f"UID {os.geteuid()} may not become {entry.pw_name}: that takes root, or sudo")
    if entry.pw_uid == 0:
        raise JoinError("root has no rootless namespace: name the user whose namespace is to be joined")
    own = dict(environment) if os.geteuid() == entry.pw_uid else {}
    directory = _working_directory()
    # Nothing of the caller's may get into the namespace, where its owner could take it from the process.
    os.closerange(3, 1 << 20)
    if create is not None and not _has_namespace(entry, own):
        _create(create, entry.pw_uid)
    if os.geteuid() == 0:
        become(entry)
    runtime_dir, pair = open_namespace(entry.pw_uid, own)
    if pair is None:
        raise JoinError(
            f"{entry.pw_name} has no namespace to join: neither a pin in /run/rootless-ns/{entry.pw_uid} nor a key in "
            f"{runtime_dir or 'a runtime directory'}. Set one up with userns.rootless.rootless_ns, or with podman"
        )
    enter(*pair)
    for path in (directory, entry.pw_dir, "/"):
        try:
            os.chdir(path)
            break
        except OSError:
            continue
    _check_readable(command, entry.pw_name)
    variables = _environment(environment, entry, runtime_dir)
    os.execvpe(command[0], list(command), variables)


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
        raise JoinError(f"user {user!r} does not exist on this host") from None


def become(entry: Any) -> None:
    """Turn this process, which is root's, into the user for good. No other process of the user's may trace it."""
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def open_namespace(uid: int, environment: Mapping[str, str]) -> tuple[str | None, tuple[int, int] | None]:
    """The runtime directory of the user that this process is, and descriptors of its user and mount namespace.

    Looked for in this order: the pin, Podman's file handles, Podman's pause process.
    """
    runtime_dir = _runtime_dir(uid, environment)
    state_dir = f"{runtime_dir}/libpod/tmp"
    for key, where in ((_pinned, str(uid)), (_by_handles, state_dir), (_of_pause_process, state_dir)):
        try:
            pair = key(where)
        except (OSError, ValueError, ImportError):
            # The last one where the user cannot read this Python's library.
            continue
        if pair is not None and _is_theirs(pair, uid):
            return runtime_dir, pair
    return runtime_dir, None


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


def _in_child(work: Callable[[], object]) -> Any:
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
            os.write(writer, answer.encode()[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read().decode(errors="replace")
    os.waitpid(pid, 0)
    if not told.startswith("+"):
        raise JoinError(told[1:] or "the process that looked for the namespace was killed")
    return told[1:]


def _has_namespace(entry: Any, environment: Mapping[str, str]) -> bool:
    def look() -> str:
        if os.geteuid() == 0:
            become(entry)
        return "yes" if open_namespace(entry.pw_uid, environment)[1] else ""

    return bool(_in_child(look))


def _create(create: Creator, uid: int) -> None:
    def work() -> None:
        create(uid)

    _in_child(work)


def _runtime_dir(uid: int, environment: Mapping[str, str]) -> str | None:
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


def _read(path: str, limit: int) -> bytes:
    """A small regular file of the user's, and nothing else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_mode & 0o170000 != 0o100000:
            raise ValueError(f"{path} is not a regular file")
        return os.read(fd, limit)
    finally:
        os.close(fd)


def _open_pair(user: str, mnt: str) -> tuple[int, int]:
    return os.open(user, os.O_RDONLY | os.O_CLOEXEC), os.open(mnt, os.O_RDONLY | os.O_CLOEXEC)


def _pinned(uid: str) -> tuple[int, int] | None:
    return _open_pair(f"/run/rootless-ns/{uid}/user", f"/run/rootless-ns/{uid}/mnt")


def _by_handles(state_dir: str) -> tuple[int, int] | None:
    content = _read(f"{state_dir}/ns_handles", 2 * _HANDLE + 1)
    if len(content) != 2 * _HANDLE:
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for start in (0, _HANDLE):
        handle = ctypes.create_string_buffer(content[start : start + _HANDLE], _HANDLE)
        fd = libc.open_by_handle_at(_FD_NSFS_ROOT, handle, os.O_RDONLY | os.O_CLOEXEC)
        if fd < 0:
            return None
        found.append(fd)
    return found[0], found[1]


def _of_pause_process(state_dir: str) -> tuple[int, int] | None:
    pid = int(_read(f"{state_dir}/pause.pid", 12))
    with open(f"/proc/{pid}/environ", "rb") as file:
        variables = file.read(1 << 22).split(b"\0")
    if not any(variable.startswith(b"_PODMAN_PAUSE=") and len(variable) > 14 for variable in variables):
        return None
    return _open_pair(f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt")


def _is_theirs(pair: tuple[int, int], uid: int) -> bool:
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
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, kind):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


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


def _check_readable(command: Sequence[str], name: str) -> None:
    """Where Ansible has put a module into a file, it must be there, and readable, inside the namespace."""
    if "ansible-tmp-" not in command[-1]:
        return
    for path in _temporary_files(command[-1]):
        if not os.access(path, os.R_OK):
            raise JoinError(
                f"{path} cannot be read by {name} inside its namespace. Turn on pipelining, so that no file is needed "
                "(ANSIBLE_PIPELINING=1, or pipelining = true in the section ssh_connection of ansible.cfg); or install "
                "the package acl on the host, and keep remote_tmp on a file system that was mounted when the namespace "
                "was made"
            )


def _temporary_files(text: str) -> list[str]:
    """The files in Ansible's temporary directories that a command line names, without the directories themselves."""
    words = text.replace("'", " ").replace('"', " ").split()
    return [word for word in words if "/" in word.partition("/ansible-tmp-")[2].rstrip("/")]
