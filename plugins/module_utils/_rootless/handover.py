# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of root's gives up before it becomes a user, and how it becomes one.

What a process inherits beside its IDs would be the user's from then on: the session keyring, limits, a nice value, the
login UID of the audit log. `switch_user` gives all of it up. `find_excess` finds what root has and others have not. It
is called once for many children, since most have nothing to give up but the keyring.

It imports little: most of its work is done in children, and each page that a child touches is copied.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    class Kernel(Protocol):
        """The system calls that are needed, as `kernel.Syscalls` has them. Each raises `OSError`."""

        def join_new_session_keyring(self) -> None: ...

        def io_priority(self) -> int: ...

        def set_io_priority(self, priority: int) -> None: ...

        def securebits(self) -> int: ...

        def set_securebits(self, bits: int) -> None: ...

        def set_dumpable(self, dumpable: bool) -> None: ...

        def drop_capabilities(self) -> None: ...


# What the kernel and systemd give any process, soft and hard; -1 is unlimited. Limits that are unlimited for
# everybody are left out. NPROC and SIGPENDING depend on the host's memory: PID 1 has the kernel's.
_USUAL_LIMITS = (
    ("CORE", 0, -1),
    ("MEMLOCK", 8 << 20, 8 << 20),
    ("MSGQUEUE", 819200, 819200),
    ("NICE", 0, 0),
    ("NOFILE", 1024, 524288),
    ("RTPRIO", 0, 0),
    ("STACK", 8 << 20, -1),
)
_LIMITS_OF_INIT = ("NPROC", "SIGPENDING")
# sched_setscheduler(2): FIFO, RR and DEADLINE.
_REAL_TIME = (1, 2, 6)
_SCHED_RESET_ON_FORK = 0x40000000
# ioprio_set(2): the class is above 13 bits of level; 1 is real time, 2 best effort, in which 4 is the usual level.
_USUAL_IO_LEVEL = 2 << 13 | 4
# SECBIT_NO_SETUID_FIXUP and SECBIT_KEEP_CAPS of capabilities(7).
_KEEPING_SECUREBITS = 1 << 2 | 1 << 4
_UNSET_LOGIN_UID = str((1 << 32) - 1)


class Excess(NamedTuple):
    """What this process has and users have not."""

    # Resource, and the soft and hard limit that a user would have at most.
    limits: tuple[tuple[int, tuple[int, int]], ...]
    real_time: bool
    negative_nice: bool
    io_priority: bool
    spared_by_the_oom_killer: bool
    blocked_signals: bool
    securebits: int


def find_excess(kernel: Kernel) -> Excess:
    """What a child of this process has to give up. Raises `OSError`."""
    # signal itself would import much.
    import _signal  # type: ignore[import-not-found,unused-ignore]

    return Excess(
        limits=tuple(_excessive_limits()),
        real_time=os.sched_getscheduler(0) & ~_SCHED_RESET_ON_FORK in _REAL_TIME,
        negative_nice=os.getpriority(os.PRIO_PROCESS, 0) < 0,
        io_priority=0 < _io_priority(kernel) < _USUAL_IO_LEVEL,
        spared_by_the_oom_killer=_oom_score_adj() < 0,
        blocked_signals=bool(_signal.pthread_sigmask(_signal.SIG_BLOCK, ())),
        securebits=kernel.securebits() & _KEEPING_SECUREBITS,
    )


def switch_user(
    uid: int, gid: int, groups: Sequence[int], kernel: Kernel, *, excess: Excess | None = None, login: bool
) -> None:
    """Turn this process, which is root's, into the user for good, with nothing of root's that users do not have.

    `excess` is that of the parent, if known. `login` is for a process that starts programs of the user's: what they do
    is recorded as the user's. At no moment may the user trace this process or read its memory, whatever
    `fs.suid_dumpable` is.

    Raises `OSError`, whose text names what could not be given up.
    """
    give_up(kernel, excess or find_excess(kernel))
    if login:
        set_login_uid(uid)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    # commit_creds() in the kernel resets "dumpable" to fs.suid_dumpable when the effective UID changes, but not when
    # the real and the saved one do: as long as they are root's, the user may do nothing to this process.
    os.setresuid(-1, uid, -1)
    kernel.set_dumpable(False)
    os.setresuid(uid, uid, uid)
    # Empty by now but for the inheritable ones, which setresuid(2) leaves.
    kernel.drop_capabilities()


def give_up(kernel: Kernel, excess: Excess) -> None:
    """Give up the keyring and all that is in excess. To be called as root.

    Raises `OSError`, whose text names what could not be given up.
    """
    try:
        kernel.join_new_session_keyring()
    except OSError as error:
        # A kernel without keyrings, or a seccomp filter: that binds the user as well.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise OSError(
                error.errno,
                f"no session keyring of its own can be had: {os.strerror(error.errno or 0)}; "
                "see /proc/key-users and sysctl kernel.keys.root_maxkeys",
            ) from None
    if excess.limits:
        import resource

        for number, limits in excess.limits:
            resource.setrlimit(number, limits)
    if excess.real_time:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if excess.negative_nice:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    if excess.io_priority:
        kernel.set_io_priority(0)
    if excess.spared_by_the_oom_killer:
        _write_oom_score_adj(0)
    if excess.blocked_signals:
        import _signal

        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if excess.securebits:
        try:
            kernel.set_securebits(kernel.securebits() & ~excess.securebits)
        except OSError as error:
            raise OSError(
                error.errno,
                f"the securebits {excess.securebits:#x} of this process keep capabilities when the user changes, and "
                "cannot be cleared: run this without them",
            ) from None


def set_login_uid(uid: int) -> None:
    """Have what this process does recorded as the user's (see pam_loginuid(8)).

    Where the audit system lets nobody change a login UID it stays that of whoever logged in. Raises `OSError` if it
    stays unset, since the user could then set it to anybody.
    """
    try:
        fd = os.open("/proc/self/loginuid", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        # A kernel without audit; or a container in which nobody may write it, the user neither.
        if error.errno in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
            return
        raise
    try:
        os.write(fd, str(uid).encode())
    except OSError as error:
        # Without CAP_AUDIT_CONTROL one that is set stays. In a user namespace it may read as another, but not as unset.
        if os.pread(fd, 16, 0).decode().strip("\n\0") == _UNSET_LOGIN_UID:
            raise OSError(error.errno, f"the login UID cannot be set: {error.strerror}") from None
    finally:
        os.close(fd)


def _excessive_limits() -> Iterator[tuple[int, tuple[int, int]]]:
    import resource

    usual: list[tuple[str, int, int]] = list(_USUAL_LIMITS)
    for name in _LIMITS_OF_INIT:
        try:
            # Asked, not changed.
            usual.append((name, *resource.prlimit(1, getattr(resource, f"RLIMIT_{name}"))))
        except (OSError, ValueError):
            continue
    for name, soft, hard in usual:
        number = getattr(resource, f"RLIMIT_{name}")
        before = resource.getrlimit(number)
        hard = _least(before[1], hard)
        # No limit is raised.
        after = _least(before[0], _least(soft, hard)), hard
        if after != before:
            yield number, after


def _least(one: int, other: int) -> int:
    """The lower limit; -1 is none."""
    return max(one, other) if -1 in (one, other) else min(one, other)


def _io_priority(kernel: Kernel) -> int:
    try:
        return kernel.io_priority()
    except OSError as error:
        # A kernel without block devices, or a filter.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return 0


def _oom_score_adj() -> int:
    try:
        with open("/proc/self/oom_score_adj", "rb") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def _write_oom_score_adj(value: int) -> None:
    # Where root may lower it (CAP_SYS_RESOURCE), what root writes is the least that anybody else may write later.
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)
