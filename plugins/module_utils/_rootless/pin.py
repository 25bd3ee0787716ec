# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins: bind mounts of a namespace's nsfs files, which keep it alive with no process at all.

They lie in root's own directory, `/run/rootless-ns/UID/{user,mnt}`; only root makes them, the owner may open them.
Beside them the file `for` names the account that each was made for: a UID can be given to another account later. Who
compares is `accounts.is_still_the_account`.

The file `user` is mounted over a bind of the mount namespace. The kernel leaves mounts of mount namespaces, and
what is mounted on them, out of every copy of the mount tree; mounts of user namespaces it copies. Without that
floor, each new namespace on the host would hold all users' pinned user namespaces: they would outlive their
removal, and N users would cost N*N mounts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import RootlessError
from .kernel import MS_BIND, MS_PRIVATE, Syscalls
from .nsfs import NamespacePair

DIRECTORY_NAME = "rootless-ns"
_MAX_STACKED = 16
_SEARCHABLE = 0o711
_RECORD_NAME = "for"
# More than passwd(5) allows for a name and a home directory.
_MAX_RECORD = 8192
# How long another run may take to mount the directory.
LOCK_SECONDS = 10.0


class PinError(RootlessError):
    """A pin could not be made or removed."""


@dataclass(frozen=True)
class PinRecord:
    """The account that a pin was made for, as passwd(5) had it then: two lines of the file `for`."""

    name: str
    home: str

    @classmethod
    def parse(cls, content: bytes) -> PinRecord | None:
        """None where no account is named."""
        name, _newline, rest = os.fsdecode(content).partition("\n")
        return cls(name, rest.partition("\n")[0]) if name else None

    def to_bytes(self) -> bytes:
        return os.fsencode(f"{self.name}\n{self.home}\n")


class PinStore:
    """The pins of all users below `run`."""

    def __init__(self, syscalls: Syscalls, *, run: str = "/run", proc: str = "/proc") -> None:
        self._syscalls = syscalls
        self._proc = proc
        self.directory = f"{run}/{DIRECTORY_NAME}"
        self._prepared = False

    def path(self, uid: int) -> str:
        return f"{self.directory}/{uid}"

    def open(self, uid: int) -> NamespacePair | None:
        """The pinned namespaces of a user; None when there is no complete pin. Raises `OSError` for odd failures."""
        try:
            pair = NamespacePair.open(f"{self.path(uid)}/user", f"{self.path(uid)}/mnt")
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            for fd in (pair.user_fd, pair.mnt_fd):
                self._syscalls.ns_type(fd)
        except OSError:
            # Plain files that wait for their mounts: a run was killed half way, or the host booted.
            pair.close()
            return None
        return pair

    def record_path(self, uid: int) -> str:
        return f"{self.path(uid)}/{_RECORD_NAME}"

    def record(self, uid: int) -> PinRecord | None:
        """The account that the user's pin was made for; None where there is no pin, or an older version has made it."""
        try:
            fd = os.open(self.record_path(uid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return PinRecord.parse(os.read(fd, _MAX_RECORD))
        finally:
            os.close(fd)

    def uids(self) -> list[int]:
        """The UIDs that have a pin, complete or not. Only root can list them; others get none."""
        try:
            names = os.listdir(self.directory)
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def is_left(self, uid: int) -> bool:
        """Whether there is anything of a pin, complete or not."""
        return os.path.lexists(self.path(uid))

    def pin(self, uid: int, pair: NamespacePair, *, record: PinRecord) -> None:
        """Mount both files, replacing what was there. Raises `PinError`; then nothing of this user is pinned."""
        try:
            self._prepare()
            self.unpin(uid)
            os.mkdir(self.path(uid))
            # Whatever the umask is: the owner joins through it.
            os.chmod(self.path(uid), _SEARCHABLE)
            # First, so that no pin is ever there without it.
            self._write_record(uid, record)
            # The mount namespace first: alone it keeps both alive, so a kill from here on loses nothing.
            for name, fds in (("mnt", (pair.mnt_fd,)), ("user", (pair.mnt_fd, pair.user_fd))):
                path = f"{self.path(uid)}/{name}"
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444))
                for fd in fds:
                    self._syscalls.mount(f"{self._proc}/self/fd/{fd}", path, MS_BIND)
        except OSError as error:
            self.unpin(uid)
            hint = self._why_not(pair) if error.errno in (errno.EINVAL, errno.ELOOP) else ""
            raise PinError(f"cannot pin in {self.path(uid)}: {error.strerror}{hint}") from None

    def _write_record(self, uid: int, record: PinRecord) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.record_path(uid), flags, 0o444)
        try:
            # Whatever the umask is: the owner, who joins through the pin, reads it.
            os.fchmod(fd, 0o444)
            os.write(fd, record.to_bytes())
        finally:
            os.close(fd)

    def _why_not(self, pair: NamespacePair) -> str:
        """The kernel binds a mount namespace only inside an older one, by their IDs; each CPU hands out its own."""
        told = ". A mount namespace can be pinned only inside an older one"
        try:
            with open(f"{self._proc}/self/ns/mnt", "rb") as own:
                pinned, ours = self._syscalls.ns_id(pair.mnt_fd), self._syscalls.ns_id(own.fileno())
        except OSError:
            # Before Linux 6.18.
            pass
        else:
            if pinned > ours:
                return ""
            told += f", which goes by IDs that each CPU hands out by itself: this one has {pinned}, that one {ours}"
        return f"{told}: run from the host's own mount namespace"

    def unpin(self, uid: int) -> bool:
        """Unmount and remove a user's pin; False when there was none. Raises `PinError`."""
        if not os.path.lexists(self.path(uid)):
            return False
        try:
            # The record last: as long as there is a mount, it says whose.
            for name in ("user", "mnt", _RECORD_NAME):
                path = f"{self.path(uid)}/{name}"
                if name != _RECORD_NAME:
                    self._unmount_all(path)
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
            os.rmdir(self.path(uid))
        except OSError as error:
            raise PinError(f"cannot remove the pin in {self.path(uid)}: {error.strerror}") from None
        return True

    def _unmount_all(self, path: str) -> None:
        for _layer in range(_MAX_STACKED):
            try:
                self._syscalls.umount(path)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOENT):
                    return
                raise

    def _prepare(self) -> None:
        """Root's own directory, searchable by all, and a private mount, so that no pin propagates anywhere."""
        if self._prepared:
            return
        try:
            # Never readable, not even at first: whoever has it open could lock it.
            os.mkdir(self.directory, _SEARCHABLE)
        except FileExistsError:
            pass
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PinError(f"{self.directory} must be a directory of root's that nobody else may write to")
            os.fchmod(fd, _SEARCHABLE)
        finally:
            os.close(fd)
        # Two runs at once must not mount it twice: the second mount would hide the pins below.
        with self._locked():
            propagation = self._propagation()
            if propagation is None:
                self._syscalls.mount(self.directory, self.directory, MS_BIND)
            # A later `mount --make-rshared /` has taken it along, perhaps.
            if propagation != "":
                self._syscalls.mount(None, self.directory, MS_PRIVATE)
        self._prepared = True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A lock on a file that nobody but root can open. Raises `PinError` where it stays locked."""
        path = f"{self.directory}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PinError(
                            f"{path} has been locked by another process of root's for {LOCK_SECONDS:g} s; "
                            f"find it with: fuser -v {path}"
                        ) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _propagation(self) -> str | None:
        """How mounts in the directory spread ("" if not at all); None where it is no mount point.

        By the ID of its mount: another one of that name may lie hidden under a later mount.
        """
        fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with open(f"{self._proc}/self/fdinfo/{fd}", encoding="ascii") as file:
                mount_id = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
            with open(f"{self._proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                words = next((line.split(" ") for line in file if line.startswith(f"{mount_id} ")), None)
        finally:
            os.close(fd)
        # In a chroot that is no mount, even the root's is not listed.
        if words is None or words[4] != self.directory:
            return None
        return " ".join(words[6 : words.index("-", 6)])
