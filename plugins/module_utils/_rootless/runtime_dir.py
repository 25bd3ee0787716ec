# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Podman keeps a user's state: the runtime directory and `libpod/tmp` below it.

Runs as the user itself (see `as_user`), but for `candidates`, `may_have_state`, `all_podmans_agree` and
`no_runtime_directory`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import RootlessError
from .podman_places import PodmanPlaces
from .podman_version import Version
from .user_paths import UserPaths, is_anothers

STATE_SUBDIRECTORY = "libpod/tmp"
# Where Podman had pause.pid before that: below the same runtime directory.
OLD_SUBDIRECTORY = "libpod"


class NoRuntimeDirectoryError(RootlessError):
    """There is no directory in which Podman would keep this user's state.

    `may_hold_state`: of a candidate, that there is one of the user's, in which another Podman may have kept some.
    """

    def __init__(self, message: str, *, may_hold_state: bool = False) -> None:
        super().__init__(message)
        self.may_hold_state = may_hold_state


class RefusedVariableError(NoRuntimeDirectoryError):
    """XDG_RUNTIME_DIR names a directory with which the Podman of the same shell fails."""


@dataclass(frozen=True)
class RuntimeDirectory:
    """The runtime directory of a user, without symbolic links, and what is to be known of how it was chosen."""

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

    Safe for root: nothing is followed, and no file system of a user's is asked. What is below them, and in the home,
    only the user's child looks for (see `old_places`).
    """
    environment = environment or {}
    temporary = environment.get("TMPDIR") or tmp
    paths = [
        environment.get("XDG_RUNTIME_DIR", ""),
        f"{run}/user/{uid}",
        f"{temporary}/storage-run-{uid}",
        f"{temporary}/podman-run-{uid}",
        # Podman 1 and 2.
        f"{tmp}/run-{uid}",
    ]
    return [Candidate(path) for path in dict.fromkeys(paths) if path and _name_exists(path)]


def old_places(places: Sequence[str], home: str | None, *, paths: UserPaths) -> list[Candidate]:
    """Further places with state of older Podmans: in the runtime directories `places`, and in the home if given.

    Places that cannot be looked at are left out: whoever looks into the runtime directory reports that.
    """
    wanted = [(Candidate(path, OLD_SUBDIRECTORY), f"{path}/{OLD_SUBDIRECTORY}/pause.pid") for path in places]
    if home is not None:
        wanted.append((Candidate(f"{home}/rundir"), f"{home}/rundir/{STATE_SUBDIRECTORY}"))
    found = []
    for candidate, path in wanted:
        try:
            paths.status(path)
        except (OSError, RootlessError):
            continue
        found.append(candidate)
    return found


def check_candidate(candidate: Candidate, uid: int, *, paths: UserPaths) -> RuntimeDirectory:
    """The candidate as a directory to look into. Raises `NoRuntimeDirectoryError` where it is not the user's.

    Its mode is not looked at: a Podman that is given it in XDG_RUNTIME_DIR does not, either. `UserFileSystemError`
    where it must not be looked at.
    """
    if not candidate.subdirectory:
        # A state directory named by itself is checked when it is opened.
        return RuntimeDirectory(candidate.path, exists=True, subdirectory="")
    path, problem = _usable(candidate.path, uid, paths, mask=0, follow=True)
    if problem:
        raise NoRuntimeDirectoryError(
            f"{problem}: Podman does not use it, and neither do we", may_hold_state=problem.may_hold_state
        )
    return RuntimeDirectory(path, exists=True, subdirectory=candidate.subdirectory)


def all_podmans_agree(
    uid: int, *, paths: UserPaths, run: str = "/run", tmp: str = "/tmp", environment: Mapping[str, str]
) -> bool:
    """Whether every Podman would use the first directory there is: then nobody needs to know which one is here.

    Where an old one was in the temporary directory before, it may go on there (see `follows_database`). Safe for root.
    """
    chosen = environment.get("XDG_RUNTIME_DIR", "")
    if _name_exists(f"{environment.get('TMPDIR') or tmp}/podman-run-{uid}"):
        return False
    try:
        status = paths.status(chosen or f"{run}/user/{uid}")
    except OSError:
        return False
    except RootlessError:
        # Whoever looks for the directory reports that.
        return True
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        return False
    return bool(chosen) or stat.S_IMODE(status.st_mode) & 0o777 == 0o700


def find_runtime_directory(
    uid: int,
    *,
    paths: UserPaths,
    run: str = "/run",
    tmp: str = "/tmp",
    home: str = "/",
    environment: Mapping[str, str] | None = None,
    podman: Version | None = None,
) -> RuntimeDirectory:
    """What the host's Podman would use: `$XDG_RUNTIME_DIR`, then `/run/user/UID`, then one in the temporary directory.

    `environment` is given only when the process acts for itself: for another user those variables are the caller's.
    `podman` is its version (see `PodmanPlaces`); it may be left out where `all_podmans_agree`. The one in the temporary
    directory need not exist yet: Podman makes it, and so does `make_state_dir`.
    Raises `RefusedVariableError` where the Podman of the same shell fails with XDG_RUNTIME_DIR,
    `NoRuntimeDirectoryError` with what is wrong with each directory, and `UserFileSystemError` where Podman's choice is
    one that must not be looked at.
    """
    environment = environment or {}
    rules = PodmanPlaces.of(podman)
    wrong: list[str] = []
    chosen = environment.get("XDG_RUNTIME_DIR", "")
    default = f"{run}/user/{uid}"
    if chosen:
        path, problem = _usable(chosen, uid, paths, mask=0, follow=True)
        if problem is None:
            return RuntimeDirectory(path, exists=True)
        if not (problem.missing and rules.passes_over):
            raise _refused(problem, chosen, default, rules)
        wrong.append(f"XDG_RUNTIME_DIR={problem}")
    path, problem = _usable(default, uid, paths, mask=rules.mask, follow=rules.follows)
    if problem is None:
        warning = f"{wrong[0]}: {rules.name} passes it over, and so do we" if wrong else None
        return RuntimeDirectory(path, exists=True, warning=warning)
    wrong.append(str(problem))
    fallback = os.path.join(environment.get("TMPDIR") or tmp, f"{rules.temporary}-{uid}")
    exists = _name_exists(fallback)
    path, problem = _usable(fallback, uid, paths, mask=rules.mask, follow=rules.follows) if exists else (fallback, None)
    if problem is None:
        return RuntimeDirectory(path, exists=exists, warning=_instead(wrong, fallback, rules))
    wrong.append(str(problem))
    home = environment.get("HOME") or home
    if rules.rundir:
        path, problem = _usable(f"{home}/rundir", uid, paths, mask=0, follow=True)
        if problem is None:
            return RuntimeDirectory(path, exists=True, warning=_instead(wrong, path, rules))
        wrong.append(str(problem))
    raise NoRuntimeDirectoryError(
        f"no runtime directory for UID {uid}: {'; '.join(wrong)}. {rules.name} fails there, too "
        f"({rules.no_place(fallback, home)}). {_what_to_do(fallback, uid)}, or make {default}, owned by the user, "
        "mode 0700"
    )


def no_runtime_directory(
    uid: int, *, run: str = "/run", tmp: str = "/tmp", podman: Version | None = None
) -> RuntimeDirectory:
    """What `find_runtime_directory` finds where no directory's name exists; looks at nothing."""
    rules = PodmanPlaces.of(podman)
    missing, fallback = f"{run}/user/{uid}: {os.strerror(errno.ENOENT)}", f"{tmp}/{rules.temporary}-{uid}"
    return RuntimeDirectory(fallback, exists=False, warning=_instead([missing], fallback, rules))


def _refused(problem: _Problem, chosen: str, default: str, rules: PodmanPlaces) -> RefusedVariableError:
    if problem.missing:
        said = rules.not_there(chosen)
    elif problem.anothers:
        said = rules.anothers(chosen)
    elif problem.relative:
        said = f'temporary directory must be an absolute path - instead got "{chosen}/libpod/tmp"'
    else:
        said = f"mkdir {chosen}/libpod: not a directory"
    return RefusedVariableError(
        f"XDG_RUNTIME_DIR={problem}. {rules.name} fails there, too ({said}). Unset the variable, or set it to a "
        f"directory of the user's, such as {default}"
    )


def _instead(wrong: list[str], fallback: str, rules: PodmanPlaces) -> str:
    does = "do" if rules.name.endswith("later") else "does"
    return f"{'; '.join(wrong)}: using {fallback}, as {rules.name} {does}; enable lingering: loginctl enable-linger"


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


@dataclass(frozen=True)
class _Problem:
    """Why Podman would not use a directory; `may_hold_state` as in `NoRuntimeDirectoryError`."""

    text: str
    may_hold_state: bool = False
    missing: bool = False
    anothers: bool = False
    relative: bool = False

    def __str__(self) -> str:
        return self.text


def _usable(path: str, uid: int, paths: UserPaths, *, mask: int, follow: bool) -> tuple[str, _Problem | None]:
    """The path, without links if those are followed, and why Podman would not use that directory of the user's.

    `mask`: which bits of the mode are looked at. Raises `UserFileSystemError`.
    """
    if not path.startswith("/"):
        return path, _Problem(f"{path} does not start with /", relative=True)
    try:
        found = paths.resolve(path) if follow else path
        status = paths.status(found)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return path, _Problem(f"{path}: {error.strerror}", not missing, missing=error.errno == errno.ENOENT)
    name = path if found == path else f"{path} (a symbolic link to {found})"
    return found, _problem_of(name, status, uid, mask=mask)


def _problem_of(path: str, status: os.stat_result, uid: int, *, mask: int) -> _Problem | None:
    if not stat.S_ISDIR(status.st_mode):
        # Some Podmans follow a link.
        own_link = stat.S_ISLNK(status.st_mode) and status.st_uid == uid
        return _Problem(f"{path} is not a directory", own_link)
    if status.st_uid != uid:
        owner = f"{path} is owned by UID {status.st_uid} ({_name_of(status.st_uid)}), not {uid}"
        return _Problem(owner, anothers=True)
    if status.st_mode & mask != 0o700 & mask:
        return _Problem(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, must be 0700", may_hold_state=True)
    return None


def make_state_dir(directory: RuntimeDirectory, uid: int, *, paths: UserPaths) -> None:
    """Make what is missing of the state directory, mode 0700, as Podman would.

    Raises `OSError`, `UserFileSystemError`, `LinkError` for a link that is not followed, and `NoRuntimeDirectoryError`
    where somebody else was faster: in the temporary directory everybody may make one of this name. Once it is the
    user's, nobody else can put another one in its place.
    """
    if not directory.exists:
        _mkdir(directory.path)
    walked = directory.path
    fd = paths.open_directory(walked)
    try:
        # Made by us it has the right mode; what was there before has been looked at.
        problem = _problem_of(walked, os.fstat(fd), uid, mask=0 if directory.exists else 0o722)
        if problem:
            raise NoRuntimeDirectoryError(f"{problem}: it was made just now. {_what_to_do(walked, uid)}")
        for part in STATE_SUBDIRECTORY.split("/"):
            _mkdir(part, dir_fd=fd)
            try:
                below = paths.open_below(fd, part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, where=walked)
                walked = os.path.join(walked, part)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                below, walked = paths.open_linked(fd, part, where=walked, uid=uid)
            os.close(fd)
            fd = below
    finally:
        os.close(fd)


def _mkdir(path: str, *, dir_fd: int | None = None) -> None:
    try:
        os.mkdir(path, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        pass
