# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Podman keeps a user's state: the runtime directory and `libpod/tmp` below it.

Runs as the user itself (see `as_user`), but for `candidates`, `may_have_state` and `no_runtime_directory`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import RootlessError
from .user_paths import UserPaths, is_anothers

STATE_SUBDIRECTORY = "libpod/tmp"


class NoRuntimeDirectoryError(RootlessError):
    """There is no directory in which Podman would keep this user's state.

    `may_hold_state`: of a candidate, that there is one of the user's, in which another Podman may have kept some.
    """

    def __init__(self, message: str, *, may_hold_state: bool = False) -> None:
        super().__init__(message)
        self.may_hold_state = may_hold_state


@dataclass(frozen=True)
class RuntimeDirectory:
    """The runtime directory of a user, and what an operator should know of how it was chosen."""

    path: str
    exists: bool
    warning: str | None = None
    subdirectory: str = STATE_SUBDIRECTORY

    @property
    def state_dir(self) -> str:
        return os.path.join(self.path, self.subdirectory) if self.subdirectory else self.path


@dataclass(frozen=True)
class Candidate:
    """A place where some Podman, of today or of long ago, may have left state; `subdirectory` is below `path`."""

    path: str
    subdirectory: str = STATE_SUBDIRECTORY

    @property
    def state_dir(self) -> str:
        return os.path.join(self.path, self.subdirectory) if self.subdirectory else self.path


def candidates(
    uid: int, *, run: str = "/run", tmp: str = "/tmp", environment: Mapping[str, str] | None = None
) -> list[Candidate]:
    """Every runtime directory that Podman, also an older one, would use for a user, and whose name exists.

    Safe for root: nothing is followed, and no file system of a user's is asked.
    """
    environment = environment or {}
    temporary = environment.get("TMPDIR") or tmp
    paths = [
        environment.get("XDG_RUNTIME_DIR", ""),
        f"{run}/user/{uid}",
        f"{temporary}/storage-run-{uid}",
        f"{temporary}/podman-run-{uid}",
    ]
    return [Candidate(path) for path in dict.fromkeys(paths) if path and _name_exists(path)]


def check_candidate(candidate: Candidate, uid: int, *, paths: UserPaths) -> RuntimeDirectory:
    """The candidate as a directory to look into. Raises `NoRuntimeDirectoryError` when Podman would not use it.

    `UserFileSystemError` where it must not be looked at.
    """
    # A state directory named by itself is checked when it is opened.
    problem = _problem(candidate.path, uid, paths) if candidate.subdirectory else None
    if problem:
        raise NoRuntimeDirectoryError(
            f"{problem}: Podman does not use it, and neither do we", may_hold_state=problem.may_hold_state
        )
    return RuntimeDirectory(candidate.path, exists=True, subdirectory=candidate.subdirectory)


def find_runtime_directory(
    uid: int,
    *,
    paths: UserPaths,
    run: str = "/run",
    tmp: str = "/tmp",
    environment: Mapping[str, str] | None = None,
) -> RuntimeDirectory:
    """Podman's rule: `$XDG_RUNTIME_DIR`, then `/run/user/UID`, then `${TMPDIR:-/tmp}/storage-run-UID`.

    `environment` is given only when the process acts for itself: for another user those variables are the caller's.
    The last one need not exist yet: Podman makes it, and so does `make_state_dir`. Where it is somebody else's, Podman
    fails (5.4, 5.8; 6.0 by its source), and there is no other place.
    Raises `NoRuntimeDirectoryError` with what is wrong with each, and `UserFileSystemError` where Podman's choice is a
    directory that must not be looked at.
    """
    environment = environment or {}
    wrong: list[str] = []
    chosen = environment.get("XDG_RUNTIME_DIR", "")
    if chosen:
        problem = _problem(chosen, uid, paths)
        if problem is None:
            return RuntimeDirectory(chosen, exists=True)
        wrong.append(f"XDG_RUNTIME_DIR={problem}")
    default = f"{run}/user/{uid}"
    problem = _problem(default, uid, paths)
    if problem is None:
        return RuntimeDirectory(default, exists=True, warning=_ignored(wrong))
    wrong.append(str(problem))
    fallback = os.path.join(environment.get("TMPDIR") or tmp, f"storage-run-{uid}")
    exists = _name_exists(fallback)
    problem = _problem(fallback, uid, paths) if exists else None
    if problem is None:
        return RuntimeDirectory(fallback, exists=exists, warning=_instead(wrong, fallback))
    wrong.append(str(problem))
    raise NoRuntimeDirectoryError(
        f"no runtime directory for UID {uid}: {'; '.join(wrong)}. Podman fails there, too. "
        f"{_what_to_do(fallback, uid)}, or make {default}, owned by the user, mode 0700"
    )


def no_runtime_directory(uid: int, *, run: str = "/run", tmp: str = "/tmp") -> RuntimeDirectory:
    """What `find_runtime_directory` finds where no directory's name exists; looks at nothing."""
    missing, fallback = f"{run}/user/{uid}: {os.strerror(errno.ENOENT)}", f"{tmp}/storage-run-{uid}"
    return RuntimeDirectory(fallback, exists=False, warning=_instead([missing], fallback))


def _instead(wrong: list[str], fallback: str) -> str:
    return f"{'; '.join(wrong)}: using {fallback}, as Podman 5.0 and later do; enable lingering: loginctl enable-linger"


def _what_to_do(path: str, uid: int) -> str:
    """About a directory that is in the way: whose it is need not be asked."""
    return f"As root remove {path} (rm -r), or enable lingering for the user (loginctl enable-linger {uid})"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "no user of this host"


def _name_exists(path: str) -> bool:
    """By a descriptor that opens nothing: lstat(2) would ask a file system that is mounted there, and may hang."""
    try:
        os.close(os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def may_have_state(uid: int, *, run: str = "/run", tmp: str = "/tmp") -> bool:
    """Whether a runtime directory of the user's exists: safe for root, to choose which users are worth asking.

    In the temporary directory everybody can make one with any user's name; another user's makes nobody worth asking.
    """
    return any(not is_anothers(candidate.path, uid) for candidate in candidates(uid, run=run, tmp=tmp))


def _ignored(wrong: list[str]) -> str | None:
    return f"{wrong[0]}: ignored" if wrong else None


@dataclass(frozen=True)
class _Problem:
    """Why Podman would not use a directory; `may_hold_state` as in `NoRuntimeDirectoryError`."""

    text: str
    may_hold_state: bool = False

    def __str__(self) -> str:
        return self.text


def _problem(path: str, uid: int, paths: UserPaths) -> _Problem | None:
    """Why Podman would not use the directory: it must be the user's, and nobody else may write there."""
    try:
        status = paths.status(path)
    except OSError as error:
        return _Problem(f"{path}: {error.strerror}", error.errno not in (errno.ENOENT, errno.ENOTDIR))
    return _problem_of(path, status, uid)


def _problem_of(path: str, status: os.stat_result, uid: int) -> _Problem | None:
    if not stat.S_ISDIR(status.st_mode):
        # Some Podmans follow a link.
        own_link = stat.S_ISLNK(status.st_mode) and status.st_uid == uid
        return _Problem(f"{path} is not a directory", own_link)
    if status.st_uid != uid:
        return _Problem(f"{path} is owned by UID {status.st_uid} ({_name_of(status.st_uid)}), not {uid}")
    if status.st_mode & 0o722 != 0o700:
        return _Problem(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, must be 0700", may_hold_state=True)
    return None


def make_state_dir(directory: RuntimeDirectory, uid: int, *, paths: UserPaths) -> None:
    """Make what is missing of the state directory, mode 0700, as Podman would.

    Raises `OSError`, `UserFileSystemError`, and `NoRuntimeDirectoryError` where somebody else was faster: in the
    temporary directory everybody may make one of this name. Once it is the user's, nobody else can put another one in
    its place.
    """
    if not directory.exists:
        _mkdir(directory.path)
    walked = directory.path
    fd = paths.open_directory(walked)
    try:
        problem = _problem_of(walked, os.fstat(fd), uid)
        if problem:
            raise NoRuntimeDirectoryError(f"{problem}: it was made just now. {_what_to_do(walked, uid)}")
        for part in STATE_SUBDIRECTORY.split("/"):
            _mkdir(part, dir_fd=fd)
            try:
                below = paths.open_below(fd, part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, where=walked)
            except NotADirectoryError:
                # Whoever opens the state directory reports what there is.
                return
            os.close(fd)
            fd, walked = below, os.path.join(walked, part)
    finally:
        os.close(fd)


def _mkdir(path: str, *, dir_fd: int | None = None) -> None:
    try:
        os.mkdir(path, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        pass
