# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up the namespaces of many users, set them up again, and look at them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .arena import User, people, populate, reset
from .programs import BenchmarkError, ansible, has_podman, module, shell_loop
from .rounds import Point, Series, Table, say

# A loop of Podman takes 100 seconds for a thousand users: from this many on it is run once.
_MANY = 500
_ANSIBLE_LOOP = 20
_PODMAN = "podman unshare true"
# A new namespace with the same maps and nothing else: what the kernel and newuidmap take.
_BARE = "unshare --mount --map-auto --map-root-user true"

_Samples = dict[str, dict[int, list[float]]]


def measure(rounds: int, sizes: list[int]) -> list[Table]:
    users = people(max(sizes))
    populate(users, with_ranges=users)
    cpus = len(os.sched_getaffinity(0))
    set_up: _Samples = {}
    again: _Samples = {}

    def note(samples: _Samples, name: str, size: int, seconds: float) -> None:
        samples.setdefault(name, {}).setdefault(size, []).append(seconds)

    reset(users)
    module("rootless_ns_info", users=[users[0].name])
    for size in sizes:
        some = users[:size]
        for number in range(rounds):
            say(f"set up: {size} users, round {number + 1} of {rounds}")
            reset(users)
            note(again, "module's start", size, module("rootless_ns", users=[])[0])
            note(set_up, "rootless_ns", size, _module(some, "created"))
            note(again, "rootless_ns", size, _module(some, "rejoined"))
            note(again, "rootless_ns_info", size, _info(some))
            reset(users)
            note(set_up, "rootless_ns, whole ansible run", size, _ad_hoc(some))
            note(again, "rootless_ns, whole ansible run", size, _ad_hoc(some))
            if has_podman() and (size < _MANY or number == 0):
                reset(users)
                note(set_up, "podman, shell loop", size, shell_loop(some, _PODMAN))
                _check_podman(some)
                note(again, "podman, shell loop", size, shell_loop(some, _PODMAN))
                reset(users)
                note(set_up, f"podman, xargs -P {cpus}", size, shell_loop(some, _PODMAN, at_once=cpus))
            reset(users)
            if size < _MANY or number == 0:
                note(set_up, "unshare, shell loop", size, shell_loop(some, _BARE))
                note(set_up, f"unshare, xargs -P {cpus}", size, shell_loop(some, _BARE, at_once=cpus))
    tables = [
        Table(
            key="set-up",
            title="Set up the namespaces of many users",
            about="One module call for all, against a shell that calls Podman as each user. "
            "`unshare` makes a namespace with the same maps and leaves nothing of it.",
            series=_series(set_up),
            size_name="users",
            reference="podman, shell loop",
        ),
        Table(
            key="again",
            title="Again, unchanged, and a look",
            about="The same call for namespaces that are there. The module's start is a call for no user.",
            series=_series(again),
            size_name="users",
            reference="module's start",
        ),
    ]
    if has_podman() and len(users) > 1:
        tables[0].series.append(_ansible_loop(rounds, users, sizes))
    return tables


def _series(samples: _Samples) -> list[Series]:
    return [Series(name, [Point(size, taken) for size, taken in by_size.items()]) for name, by_size in samples.items()]


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
