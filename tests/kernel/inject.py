# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make another process do system calls, as its owner can under ptrace(2): `inject.py PID CALLS`.

`CALLS` is JSON: lists of a number and arguments; text among the arguments is passed by address, `["buffer", SIZE]` is
room for an answer. Prints JSON: for each call its result, and what is in its buffer. Only x86-64. The process must be
waiting in a system call, as a pause process is.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

ATTACH, DETACH, GETREGS, SETREGS, SYSCALL, SETOPTIONS = 16, 17, 12, 13, 24, 0x4200
TRACESYSGOOD = 1
# Where struct user_regs_struct of sys/user.h has them.
RAX, RIP, RSP, ORIG_RAX = 10, 16, 19, 15
ARGUMENTS = (14, 13, 12, 7, 9, 8)

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, pid: int, data: Any = None) -> None:
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}: {os.strerror(ctypes.get_errno())}")


class Victim:
    """A process that is traced; `call` makes it do one system call."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        ptrace(ATTACH, pid)
        os.waitpid(pid, 0x40000000)
        ptrace(SETOPTIONS, pid, TRACESYSGOOD)
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        self.registers = (ctypes.c_ulonglong * 27)()
        ptrace(GETREGS, pid, self.registers)

    def call(self, number: int, *arguments: Any) -> tuple[int, str]:
        registers = (ctypes.c_ulonglong * 27)(*self.registers)
        place = (self.registers[RSP] - 8192) & ~15
        buffer, size = 0, 0
        values = []
        for argument in arguments:
            if isinstance(argument, list):
                buffer, size = place, argument[1]
                argument, place = place, place + (size + 15 & ~15)
            elif isinstance(argument, str):
                content = argument.encode() + b"\0"
                os.pwrite(self.memory, content, place)
                argument, place = place, place + (len(content) + 15 & ~15)
            values.append(argument & (1 << 64) - 1)
        for where, value in zip(ARGUMENTS, values):
            registers[where] = value
        # It waits behind an instruction that does system calls.
        registers[RIP] = self.registers[RIP] - 2
        registers[RAX], registers[ORIG_RAX] = number, (1 << 64) - 1
        ptrace(SETREGS, self.pid, registers)
        for _stop in ("entry", "exit"):
            while True:
                ptrace(SYSCALL, self.pid)
                _pid, status = os.waitpid(self.pid, 0x40000000)
                if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
                    break
        ptrace(GETREGS, self.pid, registers)
        result = ctypes.c_longlong(registers[RAX]).value
        return result, os.pread(self.memory, size, buffer).rstrip(b"\0").decode("latin-1") if size else ""

    def release(self) -> None:
        registers = (ctypes.c_ulonglong * 27)(*self.registers)
        # The call that it waited in is made again.
        registers[RIP] = self.registers[RIP] - 2
        registers[RAX], registers[ORIG_RAX] = self.registers[ORIG_RAX], (1 << 64) - 1
        ptrace(SETREGS, self.pid, registers)
        ptrace(DETACH, self.pid)


if __name__ == "__main__":
    victim = Victim(int(sys.argv[1]))
    answers = [victim.call(*call) for call in json.loads(sys.argv[2])]
    victim.release()
    print(json.dumps(answers))
