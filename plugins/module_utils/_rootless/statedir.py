# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in a user's state directory, handled without ever trusting what lies there.

Runs as the user itself (see `as_user`). Each directory must be the user's; a symbolic link is followed where Podman
follows it, if the user (or root) has made it. Files are opened without blocking, and of regular files only the start
is read, as Podman does, whoever owns them and by whichever link they are reached: the kernel judges the user's access.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from types import TracebackType

from .errors import RootlessError
from .kernel import Syscalls
from .user_paths import LinkError, UserPaths

# In front of our own temporary files, where the file system has no unnamed ones; swept under the lock.
_TEMPORARY_PREFIX = ".rootless-ns."
_LOCK_POLL_SECONDS = 0.01

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StateDirError(RootlessError):
    """Something in the state directory is not as it must be, or cannot be changed."""


@dataclass(frozen=True)
class Artefact:
    """One file of the state directory as found: its content, or why it is not a file to read.

    `identity` is its device and inode number; `content` is None with a `problem`. `lockable`: by its mode the user may
    write to it, without which Podman cannot lock it.
    """

    identity: tuple[int, int]
    content: bytes | None = None
    problem: str | None = None
    lockable: bool = True


class StateDir:
    """An open state directory. Names are single components."""

    def __init__(
        self, *, runtime_dir: str, subdirectory: str, uid: int, syscalls: Syscalls, paths: UserPaths | None = None
    ) -> None:
        """Raises `FileNotFoundError` when it does not exist, `StateDirError` when it must not be entered.

        `UserFileSystemError` where a file system of the user's is in the way.
        """
        self.path = os.path.join(runtime_dir, subdirectory).rstrip("/")
        self._uid = uid
        self._syscalls = syscalls
        self._locks: list[int] = []
        self._claims: dict[str, int] = {}
        self._paths = paths or UserPaths(syscalls)
        try:
            self._fd = self._paths.open_directory(runtime_dir)
        except NotADirectoryError:
            raise StateDirError(f"{runtime_dir} is not a directory") from None
        # Without symbolic links.
        self._real = runtime_dir
        try:
            # Looked at before by its name: it must be the same directory, or one that is the user's as well.
            if subdirectory:
                self._check_owner(runtime_dir)
            self._enter(subdirectory)
        except BaseException:
            os.close(self._fd)
            raise

    def _check_owner(self, path: str) -> None:
        """Each directory on the way is the user's: nobody else can put a state directory there."""
        if os.fstat(self._fd).st_uid != self._uid:
            raise StateDirError(f"{path} is not owned by UID {self._uid}")

    def _enter(self, subdirectory: str) -> None:
        """Step by step into the directory itself, which is then open for reading."""
        for part in [*filter(None, subdirectory.split("/")), "."]:
            path = os.path.normpath(os.path.join(self._real, part))
            try:
                fd = self._open(part, _DIRECTORY, where=self._real)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise StateDirError(f"{path}: {error.strerror}") from None
                fd, path = self._follow(part, path)
            os.close(self._fd)
            self._fd, self._real = fd, path
            self._check_owner(path)

    def _follow(self, part: str, path: str) -> tuple[int, str]:
        try:
            return self._paths.open_linked(self._fd, part, where=self._real, uid=self._uid)
        except LinkError as error:
            raise StateDirError(str(error)) from None
        except OSError as error:
            raise StateDirError(f"{path}: {error.strerror}") from None

    def _open(self, name: str, flags: int, mode: int = 0, *, where: str | None = None) -> int:
        return self._paths.open_below(self._fd, name, flags, mode, where=where or self.path)

    def _status(self, name: str) -> os.stat_result:
        """As lstat(2), of what is on the directory's own file system."""
        fd = self._open(name, os.O_PATH | os.O_NOFOLLOW)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory and with it every lock taken here."""
        for fd in (*self._claims.values(), *self._locks, self._fd):
            os.close(fd)
        self._claims.clear()
        self._locks.clear()

    def read(self, name: str, *, limit: int) -> Artefact | None:
        """The file's first `limit` bytes, and one more if it has more; None when there is no such file. Never blocks.

        The identity is that of the name itself, also where it is a symbolic link.
        """
        try:
            status = self._status(name)
            identity = _identity(status)
            if stat.S_ISLNK(status.st_mode):
                fd = self._open_link(name)
            elif stat.S_ISREG(status.st_mode):
                fd = self._open(name, os.O_RDONLY | _FILE)
            else:
                return Artefact(identity, problem=_not_a_file(status))
        except FileNotFoundError:
            return None
        except LinkError as error:
            return Artefact(identity, problem=f"is a symbolic link: {error}")
        except OSError as error:
            return Artefact(identity, problem=f"cannot be opened: {error.strerror}")
        with os.fdopen(fd, "rb", buffering=0) as file:
            opened = os.fstat(fd)
            if not stat.S_ISLNK(status.st_mode):
                identity = _identity(opened)
            if not stat.S_ISREG(opened.st_mode):
                return Artefact(identity, problem=_not_a_file(opened))
            try:
                return Artefact(identity, content=file.read(limit + 1), lockable=self._may_write(opened))
            except OSError as error:
                return Artefact(identity, problem=f"cannot be read: {error.strerror}")

    def _may_write(self, status: os.stat_result) -> bool:
        wanted = stat.S_IWUSR if status.st_uid == self._uid else stat.S_IWOTH | stat.S_IWGRP
        return bool(status.st_mode & wanted)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            self._status(name)
        except OSError:
            return False
        return True

    def _open_link(self, name: str) -> int:
        """What a symbolic link leads to. Raises `LinkError` where that is no file to read."""
        target = os.readlink(name, dir_fd=self._fd)
        try:
            return self._paths.open_file(os.path.join(self._real, target), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            raise LinkError(f"{target} does not exist") from None

    def lock(self, name: str, *, timeout: float) -> None:
        """Take flock(2) `LOCK_EX` on a lock file, made 0600 if missing, until `close`.

        Raises `StateDirError` when somebody holds it for `timeout` seconds: the holder may be hostile.
        """
        try:
            fd = self._open(name, os.O_RDWR | os.O_CREAT | _FILE, 0o600)
        except OSError as error:
            raise StateDirError(f"cannot open the lock file {self.path}/{name}: {error.strerror}") from None
        self._locks.append(fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StateDirError(f"the lock file {self.path}/{name} is not a regular file; remove it")
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateDirError(
                        f"{self.path}/{name} is locked by another process for more than {timeout:.2g} seconds; "
                        f"see who holds it: fuser -v {self.path}/{name}"
                    ) from None
            time.sleep(_LOCK_POLL_SECONDS)

    def write_new(self, name: str, content: bytes) -> bool:
        """Put a complete new file, mode 0600, in place at once; False when one of that name exists already."""
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
            return self._write_renamed(name, content)
        with os.fdopen(fd, "wb", buffering=0) as file:
            _write_all(file.fileno(), content)
            try:
                # Nothing is left behind by a kill before this line, and it never replaces anything.
                os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._fd, follow_symlinks=True)
            except FileExistsError:
                return False
        return True

    def _write_renamed(self, name: str, content: bytes) -> bool:
        """The same on file systems without unnamed temporary files (NFS, older overlays)."""
        temporary = f"{_TEMPORARY_PREFIX}{name}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=self._fd)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                _write_all(file.fileno(), content)
            self._syscalls.rename_noreplace(self._fd, temporary, name)
        except FileExistsError:
            os.unlink(temporary, dir_fd=self._fd)
            return False
        except BaseException:
            os.unlink(temporary, dir_fd=self._fd)
            raise
        return True

    def sweep(self) -> None:
        """Remove temporary files of ours that a killed run left. Only under the lock."""
        for entry in os.listdir(self._fd):
            if entry.startswith(_TEMPORARY_PREFIX):
                try:
                    os.unlink(entry, dir_fd=self._fd)
                except FileNotFoundError:
                    pass

    def claim(self, name: str, identity: tuple[int, int], *, limit: int, timeout: float) -> Artefact | None:
        """Take Podman's fcntl(2) write lock on a file and look at it again; None when it is another one by now.

        The lock is held until `remove` or `release`. The file is read through the locked descriptor: closing any other
        descriptor of it would give the lock away. What nobody can open cannot be locked either, and is only looked at.
        Raises `StateDirError` when somebody else holds the lock for `timeout` seconds.
        """
        self.release(name)
        fd = self._lock_file_itself(name, timeout=timeout)
        if fd is None:
            artefact = self.read(name, limit=limit)
            return artefact if artefact and artefact.identity == identity else None
        self._claims[name] = fd
        if _identity(os.fstat(fd)) != identity or self._identity_of(name) != identity:
            self.release(name)
            return None
        # Only regular files are locked.
        return Artefact(identity=identity, content=os.pread(fd, limit + 1, 0))

    def release(self, name: str) -> None:
        """Let go of a claim, if there is one."""
        fd = self._claims.pop(name, None)
        if fd is not None:
            os.close(fd)

    def remove(self, name: str, identity: tuple[int, int]) -> bool:
        """Remove what was claimed under a name; False if it is another file by now.

        Whatever kind of file it is, only the name goes. Raises `StateDirError` when it cannot be removed.
        """
        try:
            status = self._status(name)
            if _identity(status) != identity:
                return False
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=self._fd)
            else:
                os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StateDirError(f"cannot remove {self.path}/{name}: {error.strerror}") from None
        finally:
            self.release(name)
        return True

    def _identity_of(self, name: str) -> tuple[int, int] | None:
        try:
            return _identity(self._status(name))
        except FileNotFoundError:
            return None

    def _lock_file_itself(self, name: str, *, timeout: float) -> int | None:
        try:
            if not stat.S_ISREG(self._status(name).st_mode):
                return None
            fd = self._open(name, os.O_RDWR | _FILE)
        except OSError:
            # Not a file anybody could hold Podman's lock on.
            return None
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    os.close(fd)
                    return None
                if time.monotonic() > deadline:
                    os.close(fd)
                    raise StateDirError(
                        f"{self.path}/{name} is locked by another process for more than {timeout:.2g} seconds"
                    ) from None
            time.sleep(_LOCK_POLL_SECONDS)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _not_a_file(status: os.stat_result) -> str:
    return f"is {_kind(status.st_mode)}, not a regular file"


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "a device"


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
