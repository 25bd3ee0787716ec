# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change subuid(5) and subgid(5) as shadow does: its locks, a new file beside the old one, renamed over it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RootlessError

_LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.05
_SUFFIX = ".rootless"


class EditError(RootlessError):
    """A file cannot be locked or written."""


@contextmanager
def accounts_locked(etc: str) -> Iterator[None]:
    """Hold the lock that everything which changes accounts takes first, lckpwdf(3).

    shadow's tools wait for this one only: if they have it and find a file's own lock taken, they give up at once.
    """
    path = os.path.join(etc, ".pwd.lock")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EditError(f"cannot lock {path}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise EditError(f"cannot lock {path}: {error.strerror}") from None
            if time.monotonic() > deadline:
                raise EditError(f"{path} is locked by another process for more than {_LOCK_SECONDS:g} s; try again")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold shadow's lock on a file of /etc: `PATH.lock`, a link to a file that holds our PID.

    A lock whose process is gone is taken over. Raises `EditError` when another process keeps it.
    """
    own, lock = f"{path}.{os.getpid()}", f"{path}.lock"
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        try:
            _write_new(own, f"{os.getpid()}\0".encode())
            while True:
                holder = _try_link(own, lock)
                if holder is None:
                    break
                if time.monotonic() > deadline:
                    by = f"process {holder}: try again" if holder else "a file that names no process: remove it"
                    raise EditError(f"{lock} is held for more than {_LOCK_SECONDS:g} s by {by}")
                time.sleep(_POLL_SECONDS)
        finally:
            _remove(own)
    except OSError as error:
        raise EditError(f"cannot lock {path}: {error.strerror} ({error.filename})") from None
    try:
        yield
    finally:
        os.unlink(lock)


def _try_link(own: str, lock: str) -> int | None:
    """Make the lock; None if it is ours now, else the PID of who has it (0: being made or unreadable)."""
    try:
        os.link(own, lock)
        return None
    except FileExistsError:
        pass
    try:
        with open(lock, "rb") as file:
            content = file.read(32)
    except FileNotFoundError:
        return 0
    digits = content.split(b"\0")[0].strip()
    if not digits.isdigit() or int(digits) == 0:
        return 0
    try:
        os.kill(int(digits), 0)
    except ProcessLookupError:
        try:
            os.unlink(lock)
        except FileNotFoundError:
            pass
        return int(digits)
    except OverflowError:
        return 0
    except PermissionError:
        pass
    return int(digits)


def _write_new(path: str, content: bytes) -> None:
    """Make a file that is only ours; what a dead process of the same PID left goes first."""
    _remove(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def replace_file(path: str, content: bytes) -> None:
    """Put new content in a file's place at once, with mode, owner and SELinux context of the old one.

    A symbolic link stays one, as with shadow. Only under the lock. Raises `EditError`; the old file stays then.
    """
    path = os.path.realpath(path)
    new = f"{path}{_SUFFIX}"
    try:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            status = None
        _remove(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                if status is not None:
                    os.fchown(fd, status.st_uid, status.st_gid)
                    _copy_context(path, fd)
                os.fchmod(fd, stat.S_IMODE(status.st_mode) if status else 0o644)
                os.fsync(fd)
            os.rename(new, path)
        except BaseException:
            _remove(new)
            raise
        _sync_directory(os.path.dirname(path))
    except OSError as error:
        raise EditError(f"cannot write {path}: {error.strerror}") from None


def _copy_context(path: str, fd: int) -> None:
    try:
        os.setxattr(fd, "security.selinux", os.getxattr(path, "security.selinux"))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            raise


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
