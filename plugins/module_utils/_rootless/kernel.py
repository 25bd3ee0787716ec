# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls the standard library lacks, one thin wrapper each.

Constants first, then the C declarations, then `Syscalls`: methods of a line or two that raise `OSError`.
Everything above this file takes a `Syscalls` as a parameter, so that tests can hand in another one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import sys
from collections.abc import Mapping, Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
RENAME_NOREPLACE = 1

# open_by_handle_at(2): the mount "descriptor" that stands for the nsfs file system, Linux 6.18.
FD_NSFS_ROOT = -10003
MAX_HANDLE_SIZE = 128

# ioctl_ns(2). _IOC_NONE and _IOC_READ of asm-generic/ioctl.h, and of asm/ioctl.h where that is another.
_OTHER_IOCTLS = os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha"))
_NONE, _READ = (1 << 29, 2 << 29) if _OTHER_IOCTLS else (0, 2 << 30)
NS_GET_USERNS = _NONE | 0xB701
NS_GET_PARENT = _NONE | 0xB702
NS_GET_NSTYPE = _NONE | 0xB703
NS_GET_OWNER_UID = _NONE | 0xB704
# Linux 6.18 for all kinds of namespaces; the answer has eight bytes.
NS_GET_ID = _READ | 8 << 16 | 0xB70D

# openat2(2), Linux 5.6.
RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8

PTRACE_SEIZE = 0x4206

PR_SET_DUMPABLE = 4
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
# capabilities(7): the second and the third make a process keep capabilities when it changes its user.
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4

KEYCTL_JOIN_SESSION_KEYRING = 1

# ioprio_set(2)
IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# The inode number of the initial user namespace: PROC_USER_INIT_INO in the kernel's include/linux/proc_ns.h.
INITIAL_USERNS_INO = 0xEFFFFFFD

# For C libraries without renameat2(): musl before 1.2.6, glibc before 2.28.
_SYS_RENAMEAT2 = {
    "x86_64": 316,
    "aarch64": 276,
    "riscv64": 276,
    "loongarch64": 276,
    "ppc64le": 357,
    "ppc64": 357,
    "s390x": 347,
    "armv7l": 382,
    "i686": 353,
}
# keyctl, ioprio_set, ioprio_get, execveat. Where the architecture is not listed, they raise ENOSYS.
_SYS_OTHERS = {
    "x86_64": (250, 251, 252, 322),
    "aarch64": (219, 30, 31, 281),
    "riscv64": (219, 30, 31, 281),
    "loongarch64": (219, 30, 31, 281),
    "ppc64le": (271, 273, 274, 362),
    "ppc64": (271, 273, 274, 362),
    "s390x": (280, 282, 283, 354),
    "armv7l": (311, 314, 315, 387),
    "i686": (288, 289, 290, 358),
}
_KEYCTL, _IOPRIO_SET, _IOPRIO_GET, _EXECVEAT = range(4)
# linux/capability.h: version 3 and no PID; twice the three sets.
_CAPABILITIES_OF_ITSELF = struct.pack("Ii", 0x20080522, 0)
_NO_CAPABILITIES = bytes(24)
# The same on every architecture but Alpha.
_SYS_PIDFD_SEND_SIGNAL = 424
_SYS_PIDFD_OPEN = 434
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_MAX_FD = 0x7FFFFFFF


def _machine() -> str:
    """The architecture whose system calls this process makes, by the names above."""
    machine = os.uname().machine
    if machine.startswith("arm") or (machine == "aarch64" and sys.maxsize < 1 << 32):
        return "armv7l"
    if machine in ("i386", "i486", "i586") or (machine == "x86_64" and sys.maxsize < 1 << 32):
        return "i686"
    return machine


class _FileHandle(ctypes.Structure):
    _fields_ = [
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * MAX_HANDLE_SIZE),
    ]


def _load() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
    libc.unshare.argtypes = [ctypes.c_int]
    libc.name_to_handle_at.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_FileHandle),
        ctypes.POINTER(ctypes.c_int),
        ctypes.c_int,
    ]
    libc.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.POINTER(_FileHandle), ctypes.c_int]
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]
    libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    libc.capset.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.syscall.restype = ctypes.c_long
    return libc


class Syscalls:
    """The running kernel. Every method raises `OSError` with the errno of the call it is named after."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(f"user namespaces are a feature of Linux; this is {sys.platform}")
        self._libc = _load()

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")
        return result

    def unshare(self, flags: int) -> None:
        """unshare(2). The process must be single-threaded for `CLONE_NEWUSER`."""
        self._checked(self._libc.unshare(flags), "unshare")

    def setns(self, fd: int, nstype: int) -> None:
        """setns(2). The process must be single-threaded for a user namespace."""
        self._checked(self._libc.setns(fd, nstype), "setns")

    def name_to_handle(self, fd: int) -> tuple[int, bytes]:
        """name_to_handle_at(2) on an open descriptor: the handle's type and its payload."""
        handle = _FileHandle(handle_bytes=MAX_HANDLE_SIZE)
        mount_id = ctypes.c_int()
        result = self._libc.name_to_handle_at(fd, b"", ctypes.byref(handle), ctypes.byref(mount_id), AT_EMPTY_PATH)
        self._checked(result, "name_to_handle_at")
        return handle.handle_type, bytes(handle.f_handle[: handle.handle_bytes])

    def open_nsfs_handle(self, handle_type: int, payload: bytes) -> int:
        """open_by_handle_at(2) below `FD_NSFS_ROOT`: a descriptor, close-on-exec."""
        handle = _FileHandle(handle_bytes=len(payload), handle_type=handle_type)
        handle.f_handle[: len(payload)] = payload
        fd = self._libc.open_by_handle_at(FD_NSFS_ROOT, ctypes.byref(handle), os.O_RDONLY | os.O_CLOEXEC)
        return self._checked(fd, "open_by_handle_at")

    def ns_userns(self, fd: int) -> int:
        """`NS_GET_USERNS` of ioctl_ns(2): a descriptor of the user namespace that owns the namespace `fd`."""
        return fcntl.ioctl(fd, NS_GET_USERNS)

    def ns_parent(self, fd: int) -> int:
        """`NS_GET_PARENT` of ioctl_ns(2): a descriptor of the parent; EPERM when it is outside the caller's view."""
        return fcntl.ioctl(fd, NS_GET_PARENT)

    def ns_type(self, fd: int) -> int:
        """`NS_GET_NSTYPE` of ioctl_ns(2): the `CLONE_NEW*` flag of a namespace; ENOTTY for any other file."""
        return fcntl.ioctl(fd, NS_GET_NSTYPE)

    def ns_owner_uid(self, fd: int) -> int:
        """`NS_GET_OWNER_UID` of ioctl_ns(2): the UID, as seen here, that owns a user namespace."""
        return int(struct.unpack("I", fcntl.ioctl(fd, NS_GET_OWNER_UID, struct.pack("I", 0)))[0])

    def ns_id(self, fd: int) -> int:
        """`NS_GET_ID` of ioctl_ns(2): a number that no other namespace had since boot; ENOTTY before Linux 6.18."""
        return int(struct.unpack("=Q", fcntl.ioctl(fd, NS_GET_ID, bytes(8)))[0])

    def open_beneath(self, dir_fd: int, path: str, flags: int, mode: int = 0) -> int:
        """openat2(2): a descriptor of what is below a directory, on the same mount, reached through no symbolic link.

        EXDEV where a mount is in the way, ELOOP for a link, ENOSYS before Linux 5.6.
        """
        resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
        how = struct.pack("=QQQ", flags, mode, resolve)
        fd = self._syscall(_SYS_OPENAT2, dir_fd, os.fsencode(path), how, len(how))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd

    def rename_noreplace(self, dir_fd: int, old: str, new: str) -> None:
        """renameat2(2) with `RENAME_NOREPLACE`, both names below `dir_fd`."""
        names = os.fsencode(old), os.fsencode(new)
        if hasattr(self._libc, "renameat2"):
            result = self._libc.renameat2(dir_fd, names[0], dir_fd, names[1], RENAME_NOREPLACE)
        else:
            number = _SYS_RENAMEAT2.get(_machine())
            if number is None:
                raise OSError(errno.ENOSYS, f"renameat2: not known on {_machine()}")
            result = self._syscall(number, dir_fd, names[0], dir_fd, names[1], RENAME_NOREPLACE)
        self._checked(result, "renameat2")

    def pidfd_open(self, pid: int) -> int:
        """pidfd_open(2): a descriptor that stands for the process, however its PID is reused."""
        if hasattr(os, "pidfd_open"):
            return os.pidfd_open(pid)
        return self._checked(self._syscall(_SYS_PIDFD_OPEN, pid, 0), "pidfd_open")

    def pidfd_send_signal(self, pidfd: int, number: int) -> None:
        """pidfd_send_signal(2)."""
        if hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(pidfd, number)
        else:
            self._checked(self._syscall(_SYS_PIDFD_SEND_SIGNAL, pidfd, number, None, 0), "pidfd_send_signal")

    def ptrace_seize(self, pid: int) -> None:
        """`PTRACE_SEIZE` of ptrace(2): trace a process without stopping it, for as long as this process lives."""
        self._checked(self._libc.ptrace(PTRACE_SEIZE, pid, None, None), "ptrace")

    def close_from(self, first: int) -> None:
        """close_range(2) from a descriptor on; one by one before Linux 5.9, or where a filter forbids it."""
        if self._syscall(_SYS_CLOSE_RANGE, first, _MAX_FD, 0) == 0:
            return
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first:
                try:
                    os.close(int(name))
                except OSError:
                    # The descriptor that listed the directory.
                    pass

    def set_dumpable(self, dumpable: bool) -> None:
        """`PR_SET_DUMPABLE` of prctl(2): whether other processes of this user may trace or read this one."""
        self._checked(self._libc.prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl")

    def securebits(self) -> int:
        """`PR_GET_SECUREBITS` of prctl(2)."""
        return self._checked(self._libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), "prctl")

    def set_securebits(self, bits: int) -> None:
        """`PR_SET_SECUREBITS` of prctl(2)."""
        self._checked(self._libc.prctl(PR_SET_SECUREBITS, bits, 0, 0, 0), "prctl")

    def drop_capabilities(self) -> None:
        """capset(2): empty the effective, permitted and inheritable sets, and with them the ambient set."""
        self._checked(self._libc.capset(_CAPABILITIES_OF_ITSELF, _NO_CAPABILITIES), "capset")

    def join_new_session_keyring(self) -> None:
        """`KEYCTL_JOIN_SESSION_KEYRING` of keyctl(2) without a name: a new keyring that no other process has."""
        self._checked(self._other(_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")

    def io_priority(self) -> int:
        """ioprio_get(2) of this process: class and level, 0 for none."""
        return self._checked(self._other(_IOPRIO_GET, IOPRIO_WHO_PROCESS, 0), "ioprio_get")

    def set_io_priority(self, priority: int) -> None:
        """ioprio_set(2) of this process."""
        self._checked(self._other(_IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, priority), "ioprio_set")

    def execveat(self, dir_fd: int, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """execveat(2) of a name below a directory, which must not be a link. Returns only by raising `OSError`."""
        argv = [os.fsencode(argument) for argument in arguments]
        envp = [os.fsencode(f"{key}={value}") for key, value in environment.items()]
        vectors = [(ctypes.c_char_p * (len(vector) + 1))(*vector) for vector in (argv, envp)]
        self._checked(self._other(_EXECVEAT, dir_fd, os.fsencode(name), *vectors, AT_SYMLINK_NOFOLLOW), "execveat")

    def mount(self, source: str | None, target: str, flags: int) -> None:
        """mount(2) without a file system type or data: bind mounts and changes of propagation."""
        result = self._libc.mount(source and os.fsencode(source), os.fsencode(target), None, flags, None)
        self._checked(result, f"mount {target}")

    def umount(self, target: str) -> None:
        """umount2(2), detached at once and never through a symbolic link."""
        self._checked(self._libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW), f"umount {target}")

    def _other(self, which: int, *args: object) -> int:
        machine = _machine()
        if machine not in _SYS_OTHERS:
            raise OSError(errno.ENOSYS, f"system call not known on {machine}")
        return self._syscall(_SYS_OTHERS[machine][which], *args)

    def _syscall(self, number: int, *args: object) -> int:
        # A variadic C function: every integer has to be passed as wide as a register.
        wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
        return int(self._libc.syscall(ctypes.c_long(number), *wide))
