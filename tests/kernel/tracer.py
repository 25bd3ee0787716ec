# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one job of the library under ptrace(2), and kill it, or make the kernel fail, at one system call.

A program of its own, because it waits for children: `tracer.py JOB`, with the job as JSON (see `Job`); it prints what
happened as JSON. System calls are counted over the job's process and all its children, in the order in which they come.
Only x86-64, since it writes registers and knows the numbers of the calls.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

POKEUSER, SYSCALL, SEIZE, INTERRUPT, GET_SYSCALL_INFO = 6, 24, 0x4206, 0x4207, 0x420E
# Follow fork, vfork and clone; tell system calls from other traps.
OPTIONS = 0x01 | 0x02 | 0x04 | 0x08
ENTRY = 1
RAX, ORIG_RAX = 10 * 8, 15 * 8
WALL = 0x40000000
O_CREATES = os.O_CREAT | 0o20000000

# The calls that change something for others to see. Between two of them a kill makes no difference.
CHANGING = {
    1: "write",
    46: "sendmsg",
    56: "clone",
    57: "fork",
    58: "vfork",
    59: "execve",
    62: "kill",
    73: "flock",
    83: "mkdir",
    84: "rmdir",
    87: "unlink",
    112: "setsid",
    117: "setresuid",
    165: "mount",
    166: "umount2",
    231: "exit_group",
    258: "mkdirat",
    263: "unlinkat",
    265: "linkat",
    272: "unshare",
    308: "setns",
    316: "renameat2",
    424: "pidfd_send_signal",
    435: "clone3",
}
OPENAT = 257


class SyscallInfo(ctypes.Structure):
    _fields_ = [
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    ]


@dataclass
class Job:
    """`do`: present, absent or clean, for `user`, with `options`. `at`: the call to strike at, None for none.

    `every`: count every call, not only those that change something. `error`: the errno to inject; 0 means SIGKILL.
    """

    site: str
    user: str
    do: str
    options: dict[str, Any] = field(default_factory=dict)
    at: int | None = None
    every: bool = False
    error: int = 0


def work(job: Job) -> dict[str, Any]:
    """The job itself, as the modules do it."""
    sys.path.insert(0, job.site)
    library = "ansible_collections.userns.rootless.plugins.module_utils._rootless."
    account = import_module(library + "accounts").find_account(job.user)
    syscalls = import_module(library + "kernel").Syscalls()
    limits = import_module(library + "patience").Limits(user=5)
    host = import_module(library + "host").Host(environment={"PATH": "/usr/bin:/bin:/usr/sbin"}, limits=limits)
    if job.do == "clean":
        cleaning = import_module(library + "cleaning")
        options = cleaning.CleaningOptions(**job.options)
        outcome: dict[str, Any] = cleaning.Cleaner(syscalls, host=host, options=options).clean(account).as_dict()
        return outcome
    namespaces = import_module(library + "namespaces")
    all_users = namespaces.Namespaces(syscalls, host=host, options=namespaces.Options(**job.options))
    report: dict[str, Any] = getattr(all_users, job.do)(account).as_dict()
    return report


def child(job: Job, gate: int, answer: int) -> None:
    # Everything is imported before the gate opens: the interpreter's own calls are not the point.
    library = "ansible_collections.userns.rootless.plugins.module_utils._rootless."
    sys.path.insert(0, job.site)
    for name in ("accounts", "kernel", "host", "cleaning", "namespaces"):
        import_module(library + name)
    os.read(gate, 1)
    try:
        text = json.dumps(work(job))
    except Exception as error:
        text = json.dumps({"raised": f"{type(error).__name__}: {error}"})
    with os.fdopen(answer, "w") as file:
        file.write(text)
    os._exit(0)


def ptrace(request: int, pid: int, address: int = 0, data: Any = 0) -> int:
    result: int = libc.ptrace(request, pid, address, data)
    if result < 0 and ctypes.get_errno() != errno.ESRCH:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return result


class Tracer:
    """Follows the job and strikes once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.counted = 0
        self.struck: str | None = None
        self._failing: set[int] = set()

    def run(self, main: int, gate: int) -> None:
        ptrace(SEIZE, main, 0, OPTIONS)
        ptrace(INTERRUPT, main)
        os.write(gate, b"1")
        while True:
            pid, status = os.waitpid(-1, WALL)
            if not os.WIFSTOPPED(status):
                if pid == main:
                    return
                continue
            delivered = 0
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP | 0x80:
                self._at_syscall(pid)
            elif status >> 16 == 0:
                delivered = number
            ptrace(SYSCALL, pid, 0, delivered)

    def _at_syscall(self, pid: int) -> None:
        info = SyscallInfo()
        if ptrace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.byref(info)) < 0:
            return
        if info.op != ENTRY:
            if pid in self._failing:
                self._failing.remove(pid)
                ptrace(POKEUSER, pid, RAX, ctypes.c_void_p(-self.job.error))
            return
        if not self._counts(info):
            return
        self.counted += 1
        if self.counted != self.job.at:
            return
        self.struck = CHANGING.get(info.nr, str(info.nr))
        if self.job.error:
            self._failing.add(pid)
            ptrace(POKEUSER, pid, ORIG_RAX, ctypes.c_void_p(-1))
        else:
            os.kill(pid, signal.SIGKILL)

    def _counts(self, info: SyscallInfo) -> bool:
        # exit_group cannot fail.
        if self.job.error and info.nr in (60, 231):
            return False
        creates = info.nr == OPENAT and bool(info.args[2] & O_CREATES)
        return self.job.every or info.nr in CHANGING or creates


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    gate, answer = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate[1])
        os.close(answer[0])
        child(job, gate[0], answer[1])
    os.close(gate[0])
    os.close(answer[1])
    tracer = Tracer(job)
    tracer.run(pid, gate[1])
    # What is still traced, such as a pause process, is let go when we end; so may whoever holds the pipe be.
    os.set_blocking(answer[0], False)
    try:
        text = os.read(answer[0], 1 << 20)
    except BlockingIOError:
        text = b""
    print(json.dumps({"calls": tracer.counted, "struck": tracer.struck, "answer": json.loads(text or b"null")}))


if __name__ == "__main__":
    main()
