# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up the namespaces of many users, set them up again, and look at them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .arena import User, people, populate, reset
from .programs import BenchmarkError, ansible, has_podman, module, script, shell_loop
from .rounds import Point, Series, Table, say

_ANSIBLE_LOOP = 20
_PODMAN = "podman unshare true"
# A new namespace with the same maps and nothing else: what the kernel and newuidmap take.
_BARE = "unshare --mount --map-auto --map-root-user true"
# The rejoin alone, by a program in C.
_ENTER = "nsenter --preserve-credentials --user=/run/rootless-ns/$uid/user --mount=/run/rootless-ns/$uid/mnt true"
# What one process for each user costs that does nothing but to become it, in a Python that has nothing loaded.
_CHILDREN = """
import os, sys
users = [tuple(map(int, line.split())) for line in sys.stdin]
cpus = len(os.sched_getaffinity(0))
for cpu in range(cpus):
    if os.fork() == 0:
        for uid, gid in users[cpu::cpus]:
            if os.fork() == 0:
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                os._exit(0)
            os.wait()
        os._exit(0)
for cpu in range(cpus):
    os.wait()
"""


class _Notes:
    """Samples by series and size."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[int, list[float]]] = {}

    def add(self, name: str, size: int, seconds: float) -> None:
        self._samples.setdefault(name, {}).setdefault(size, []).append(seconds)

    def series(self) -> list[Series]:
        return [
            Series(name, [Point(size, taken) for size, taken in by_size.items()])
            for name, by_size in self._samples.items()
        ]


def measure(rounds: int, sizes: list[int]) -> list[Table]:
    users = people(max(sizes))
    populate(users, with_ranges=users)
    loops = [_bare, _podman] if has_podman() else [_bare]
    # What comes first fills caches.
    for first in (_ours, _whole_run, *loops):
        reset(users)
        first(users[:1], _Notes(), _Notes())
    set_up, again = _Notes(), _Notes()
    for size in sizes:
        for number in range(rounds):
            say(f"set up: {size} users, round {number + 1} of {rounds}")
            for way in (_ours, _whole_run, *loops):
                reset(users)
                way(users[:size], set_up, again)
    others = [_ansible_loop(rounds, users, sizes)] if has_podman() and len(users) > 1 else []
    return [
        Table(
            key="set-up",
            title="Set up the namespaces of many users",
            about="One module call for all, against a shell that calls Podman as each user. "
            "`unshare` makes a namespace with the same maps and leaves nothing of it.",
            series=set_up.series() + others,
            size_name="users",
            reference="podman, shell loop",
        ),
        Table(
            key="again",
            title="Again, unchanged, and a look",
            about="The same call for namespaces that are there. The module's start is a call for no user. "
            "Root looks at what is a user's through a process that has become that user: what one for each takes at "
            "least, of a Python that has nothing loaded, stands there as well, and `nsenter`, which joins and no more.",
            series=again.series(),
            size_name="users",
            reference="module's start",
        ),
    ]


def _ours(users: list[User], set_up: _Notes, again: _Notes) -> None:
    size = len(users)
    again.add("module's start", size, module("rootless_ns", users=[])[0])
    set_up.add("rootless_ns", size, _module(users, "created"))
    again.add("rootless_ns", size, _module(users, "rejoined"))
    again.add("rootless_ns_info", size, _info(users))
    cpus = len(os.sched_getaffinity(0))
    again.add(f"nsenter, xargs -P {cpus}", size, shell_loop(users, _ENTER, at_once=cpus))
    again.add("a process each that becomes the user", size, script(_CHILDREN, users))


def _whole_run(users: list[User], set_up: _Notes, again: _Notes) -> None:
    for notes in (set_up, again):
        notes.add("rootless_ns, whole ansible run", len(users), _ad_hoc(users))


def _podman(users: list[User], set_up: _Notes, again: _Notes) -> None:
    cpus = len(os.sched_getaffinity(0))
    set_up.add("podman, shell loop", len(users), shell_loop(users, _PODMAN))
    _check_podman(users)
    again.add("podman, shell loop", len(users), shell_loop(users, _PODMAN))
    reset(users)
    set_up.add(f"podman, xargs -P {cpus}", len(users), shell_loop(users, _PODMAN, at_once=cpus))


def _bare(users: list[User], set_up: _Notes, _again: _Notes) -> None:
    cpus = len(os.sched_getaffinity(0))
    set_up.add("unshare, shell loop", len(users), shell_loop(users, _BARE))
    set_up.add(f"unshare, xargs -P {cpus}", len(users), shell_loop(users, _BARE, at_once=cpus))


def _ansible_loop(rounds: int, users: list[User], sizes: list[int]) -> Series:
    """A task with a loop, for one user and for 20; what each user more takes is taken to be the same for all."""
    playbook = Path("/run/bench/loop.yml")
    measured = min(_ANSIBLE_LOOP, len(users))
    samples: dict[int, list[float]] = {1: [], measured: []}
    for number in range(rounds):
        say(f"set up: loop of ansible, round {number + 1} of {rounds}")
        for size, taken in samples.items():
            reset(users)
            playbook.write_text(json.dumps(_loop(users[:size])))
            taken.append(ansible("ansible-playbook", str(playbook)))
    points = [Point(1, samples[1])]
    for size in sizes:
        if size > 1:
            both = zip(samples[1], samples[measured])
            taken = [one + (many - one) / (measured - 1) * (size - 1) for one, many in both]
            points.append(Point(size, taken, measured=measured))
    return Series("podman, loop of ansible", points)


def _loop(users: list[User]) -> list[dict[str, object]]:
    return [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.command": f"runuser -u {{{{ item.name }}}} -- {_PODMAN}",
                    "environment": {
                        "HOME": "/run/bench/home/{{ item.uid }}",
                        "XDG_RUNTIME_DIR": "/run/user/{{ item.uid }}",
                    },
                    "loop": [{"name": user.name, "uid": user.uid} for user in users],
                }
            ],
        }
    ]


def _module(users: list[User], action: str) -> float:
    seconds, result = module("rootless_ns", users=[user.name for user in users])
    done = {(entry["action"], entry["pinned"]) for entry in result["namespaces"]}
    if done != {(action, True)}:
        raise BenchmarkError(f"rootless_ns: expected {action} and pinned, found {done}: {result}")
    return seconds


def _info(users: list[User]) -> float:
    seconds, result = module("rootless_ns_info", users=[user.name for user in users])
    states = {entry["state"] for entry in result["namespaces"]}
    if states != {"alive"}:
        raise BenchmarkError(f"rootless_ns_info: expected alive, found {states}")
    return seconds


def _ad_hoc(users: list[User]) -> float:
    arguments = json.dumps({"users": [user.name for user in users]})
    return ansible("ansible", "localhost", "-m", "userns.rootless.rootless_ns", "-a", arguments)


def _check_podman(users: list[User]) -> None:
    missing = [user.name for user in users if not user.pause_file.exists()]
    if missing:
        raise BenchmarkError(f"podman has not set up the namespaces of {missing[:5]}")
