# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of what stays for each user: the pause process, and what the kernel keeps for the namespace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from .arena import User, people, populate, reset
from .programs import has_podman, module, shell_loop
from .rounds import Point, Series, Table, say

_USERS = 100
# Of meminfo: what the kernel allocates for itself, a CPU's copies of counters with it.
_KERNEL = ("Slab", "KernelStack", "PageTables", "Percpu")
_SETTLE_SECONDS = 0.5


def measure(rounds: int, sizes: list[int]) -> list[Table]:
    users = people(min(_USERS, max(sizes)))
    populate(users, with_ranges=users)
    ways: dict[str, Callable[[list[User]], object]] = {"pause process and pin": _ours, "pin alone": _pin_alone}
    if has_podman():
        ways["podman"] = lambda some: shell_loop(some, "podman unshare true", at_once=os.cpu_count() or 1)
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for number in range(-1, rounds):
        say(f"memory: round {number + 1} of {rounds}")
        for name, way in ways.items():
            found = _grown(users, way)
            for kind, value in found.items():
                # The first time fills caches.
                if number >= 0:
                    samples[name].setdefault(kind, []).append(value)
    about = f"For each of {len(users)} users, in KiB. "
    return [
        Table(
            key=kind,
            title=f"Memory of each namespace{title}",
            about=about + explained,
            series=[Series(name, [Point(len(users), taken[kind])]) for name, taken in samples.items()],
            unit="KiB",
            reference="podman",
        )
        for kind, title, explained in (
            ("memory", "", "The two below together."),
            ("memory-kernel", ": the kernel's", f"Growth of {', '.join(_KERNEL)} in meminfo, whoever caused it."),
            ("memory-processes", ": processes", "Proportional set size of the processes that stay."),
        )
    ]


def _ours(users: list[User]) -> None:
    module("rootless_ns", users=[user.name for user in users])


def _pin_alone(users: list[User]) -> None:
    _ours(users)
    for pid in _left(users):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _grown(users: list[User], way: Callable[[list[User]], object]) -> dict[str, float]:
    """KiB for each user."""
    reset(users)
    time.sleep(_SETTLE_SECONDS)
    before = _kernel_kib()
    way(users)
    time.sleep(_SETTLE_SECONDS)
    kernel = (_kernel_kib() - before) / len(users)
    processes = sum(_fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"] for pid in _left(users)) / len(users)
    return {"memory": kernel + processes, "memory-kernel": kernel, "memory-processes": processes}


def _left(users: list[User]) -> list[int]:
    """The users' processes."""
    uids = {user.uid for user in users}
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if entry.stat().st_uid in uids]


def _kernel_kib() -> int:
    fields = _fields(Path("/proc/meminfo"))
    return sum(fields[name] for name in _KERNEL)


def _fields(path: Path) -> dict[str, int]:
    """The lines `Name: NUMBER kB` of a file in /proc."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}
