# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens directories and files that a user has named, and asks no file system that the user serves itself.

Such a file system (fuse(4)) may answer never, and whoever waits for it cannot be killed. `O_PATH` asks none: it is
used to find out which mount a directory is on before anything else is done with it. Below a directory that may be
used, nothing on another mount is opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .errors import RootlessError
from .kernel import Syscalls

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40


class UserFileSystemError(RootlessError):
    """What the user has named is on a file system that must not be asked, or behind one."""


class LinkError(RootlessError):
    """A symbolic link that is not followed, although Podman may follow it."""


@dataclass(frozen=True)
class _Mount:
    """`owner` is the UID for which a file system in user space was mounted; None for all other file systems."""

    point: str
    type: str
    owner: int | None


class UserPaths:
    """Opens what users have named. Made once for a call: it remembers which mounts there were."""

    def __init__(self, syscalls: Syscalls, *, proc: str = "/proc", trusted: Collection[str] = ()) -> None:
        """`trusted` are directories in which users can mount something only on what is their own, such as /tmp."""
        self._syscalls = syscalls
        self._proc = proc
        self._trusted = trusted
        self._mounts = _read(proc)

    def status(self, path: str) -> os.stat_result:
        """As lstat(2). Raises `OSError` and `UserFileSystemError`."""
        fd = self._find(path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def open_directory(self, path: str) -> int:
        """A descriptor (`O_PATH`) of a directory whose last name is no symbolic link; those before it may be.

        Raises `OSError`, `NotADirectoryError` also for a link, and `UserFileSystemError`.
        """
        fd = self._find(path)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return fd

    def resolve(self, path: str) -> str:
        """The path without symbolic links, the last name included; what it names is there.

        Raises `OSError` and `UserFileSystemError`.
        """
        fd, resolved = self._walk(path, follow=True)
        os.close(fd)
        return resolved

    def open_linked(self, dir_fd: int, name: str, *, where: str, uid: int) -> tuple[int, str]:
        """Follow a symbolic link to a directory as Podman does; `dir_fd` is at `where`.

        Only a link that the user (or root) has made, and only into a directory of the user's. Returns a descriptor
        (`O_PATH`) and its path without links. Raises `LinkError` for all others, `OSError` and `UserFileSystemError`.
        """
        link = self.open_below(dir_fd, name, _PATH, where=where)
        path = os.path.normpath(os.path.join(where, name))
        try:
            status = os.fstat(link)
            if not stat.S_ISLNK(status.st_mode):
                raise LinkError(f"{path} is not a directory")
            if status.st_uid not in (uid, 0):
                raise LinkError(f"{path} is a symbolic link of UID {status.st_uid}: it is not followed; remove it")
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        try:
            fd, resolved = self._walk(os.path.join(where, target), follow=True)
        except FileNotFoundError:
            raise LinkError(
                f"{path} is a symbolic link to {target}, which does not exist: Podman fails there, too (chmod {path}: "
                f"no such file or directory). Make that directory, or remove the link: rm {path}"
            ) from None
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == uid:
            return fd, resolved
        os.close(fd)
        what = f"a directory of UID {status.st_uid}" if stat.S_ISDIR(status.st_mode) else "not a directory"
        raise LinkError(
            f"{path} is a symbolic link to {target}, {what}: Podman fails there, too (chmod {path}: operation not "
            f"permitted). Remove the link: rm {path}"
        )

    def open_file(self, path: str, flags: int) -> int:
        """Open what a path leads to if it is a regular file, links followed: as Podman reads its own files.

        Raises `OSError`, `LinkError` where it is none, and `UserFileSystemError`.
        """
        fd, resolved = self._walk(path, follow=True)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise LinkError(f"{resolved} is not a regular file")
            return os.open(f"{self._proc}/self/fd/{fd}", flags | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def open_below(self, dir_fd: int, name: str, flags: int, mode: int = 0, *, where: str) -> int:
        """Open a name in an open directory, which is at `where`, on the same mount; a symbolic link is not followed.

        Raises `OSError`, and `UserFileSystemError` where something else is mounted on it.
        """
        try:
            return self._syscalls.open_beneath(dir_fd, name, flags | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise UserFileSystemError(self._in_the_way(dir_fd, name, os.path.join(where, name))) from None
            # EPERM: a filter that does not know the call. Before Linux 5.6 only the time limit helps.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def _find(self, path: str) -> int:
        """A descriptor (`O_PATH`) of what has this name, on a mount that may be asked."""
        if os.path.dirname(path) in self._trusted:
            return self._checked(os.open(path, _PATH), path)
        return self._walk(path, follow=False)[0]

    def _walk(self, path: str, *, follow: bool) -> tuple[int, str]:
        """From the root name by name, each looked at before anything is looked up in it.

        `follow`: also the last name, if it is a link. Returns the path without links as well.
        """
        names, links = path.split("/")[::-1], 0
        walked = "/"
        fd = os.open("/", _PATH | os.O_DIRECTORY)
        try:
            while names:
                name = names.pop()
                if name in ("", "."):
                    continue
                there = os.path.join(walked, name)
                found = self._checked(_open(name, fd), there)
                status = os.fstat(found)
                if not stat.S_ISLNK(status.st_mode) or not (follow or any(names)):
                    os.close(fd)
                    fd, walked = found, there
                    continue
                try:
                    _check_link(status, os.fstat(fd), there)
                    target = os.readlink("", dir_fd=found)
                finally:
                    os.close(found)
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                names += target.split("/")[::-1]
                if target.startswith("/"):
                    os.close(fd)
                    fd, walked = os.open("/", _PATH | os.O_DIRECTORY), "/"
        except BaseException:
            os.close(fd)
            raise
        return fd, os.path.normpath(walked)

    def _checked(self, fd: int, path: str) -> int:
        """The descriptor, if it is on a mount that may be asked; if not, it is closed. Raises `UserFileSystemError`."""
        mount = self._mount_of(fd)
        if mount is not None and mount.owner:
            os.close(fd)
            raise UserFileSystemError(_refusal(path, mount))
        return fd

    def _mount_of(self, fd: int) -> _Mount | None:
        """The mount that a descriptor is on; None where that cannot be found out."""
        number = _mount_id(self._proc, fd)
        if number is not None and number not in self._mounts:
            # Mounted since.
            self._mounts = _read(self._proc)
        return None if number is None else self._mounts.get(number)

    def _in_the_way(self, dir_fd: int, name: str, path: str) -> str:
        try:
            fd = os.open(name, _PATH, dir_fd=dir_fd)
        except OSError:
            return f"{path}: something was mounted there and is gone; run again"
        try:
            mount = self._mount_of(fd)
        finally:
            os.close(fd)
        if mount is not None and mount.owner:
            return _refusal(path, mount)
        kind = f"a file system of type {mount.type}" if mount is not None else "something"
        return f"{path} is a mount point ({kind}): state of Podman's is not looked for on other mounts; umount {path}"


def is_anothers(path: str, uid: int, *, proc: str = "/proc") -> bool:
    """Whether what has this name is on its directory's own file system, and another user's. Safe for root."""
    try:
        fd, above = os.open(path, _PATH), os.open(os.path.dirname(path), _PATH)
    except OSError:
        return False
    try:
        # A mount may be one of the user's own, which is not to be asked.
        return _mount_id(proc, fd) == _mount_id(proc, above) and os.fstat(fd).st_uid != uid
    finally:
        os.close(fd)
        os.close(above)


def _check_link(link: os.stat_result, directory: os.stat_result, path: str) -> None:
    """As the kernel does for Podman (fs.protected_symlinks of proc(5)). Raises `PermissionError`."""
    shared = directory.st_mode & stat.S_ISVTX and directory.st_mode & stat.S_IWOTH
    if shared and link.st_uid not in (os.geteuid(), directory.st_uid):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _open(name: str, dir_fd: int) -> int:
    """`O_PATH`; as a directory where it is one, so that what is mounted on demand is mounted."""
    try:
        return os.open(name, _PATH | os.O_DIRECTORY, dir_fd=dir_fd)
    except NotADirectoryError:
        return os.open(name, _PATH, dir_fd=dir_fd)


def _refusal(path: str, mount: _Mount) -> str:
    return (
        f"{path} is on a file system in user space ({mount.type} at {mount.point}, served by a process of UID "
        f"{mount.owner}), which may never answer: it is not looked into; umount {mount.point}"
    )


def _mount_id(proc: str, fd: int) -> int | None:
    """From proc_pid_fdinfo(5), which is there since Linux 3.15."""
    try:
        # As bytes: a codec is loaded when it is needed first, and here nothing is to be loaded.
        with open(f"{proc}/self/fdinfo/{fd}", "rb", buffering=0) as file:
            for line in file.read().splitlines():
                if line.startswith(b"mnt_id:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def _read(proc: str) -> Mapping[int, _Mount]:
    """From proc_pid_mountinfo(5): the mounts of this mount namespace by ID."""
    mounts = {}
    try:
        with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for line in file:
                before, _dash, after = line.partition(" - ")
                words = before.split(" ", 5)
                # Type, source and the file system's own options.
                type_, *others = after.rstrip("\n").split(" ")
                mounts[int(words[0])] = _Mount(words[4], type_, _served_for(type_, others[-1] if others else ""))
    except OSError:
        pass
    return mounts


def _served_for(type_: str, options: str) -> int | None:
    """The user for which a file system in user space was mounted (`user_id` of fuse(4)); 0 where root did it."""
    if type_ not in ("fuse", "fuseblk") and not type_.startswith("fuse."):
        return None
    for option in options.split(","):
        name, _equals, value = option.partition("=")
        if name == "user_id" and value.isdigit():
            return int(value)
    return 0
