# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join a namespace that is there, and run `true`: what each task of a play pays for the become plugin."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping

from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

from .arena import User, people, populate, reset
from .programs import has_podman, host_python, module
from .rounds import Candidate, Point, Series, Table, as_user, interleaved, say, spawned

_RUNS_PER_SAMPLE = 20


def measure(rounds: int, _sizes: list[int]) -> list[Table]:
    (user,) = people(1)
    populate([user], with_ranges=[user])
    reset([user])
    module("rootless_ns", users=[user.name])
    say("join: as the user")
    by_user = _candidates(_commands(user), user.environment)
    as_themselves = as_user(user, lambda: interleaved(by_user, rounds))
    say("join: as root")
    become = ["runuser", "-u", user.name, "--"]
    commands = _commands(user)
    for name in ("podman unshare", "unshare --map-auto", "nsenter"):
        if name in commands:
            commands[f"runuser, {name}"] = [*become, *commands.pop(name)]
    from_root = interleaved(_candidates(commands, {**os.environ, **user.environment}), rounds)
    return [
        _table("join-user", "the user itself", as_themselves, reference="podman unshare"),
        _table("join-root", "root", from_root, reference="runuser, podman unshare"),
    ]


def _commands(user: User) -> dict[str, list[str]]:
    python = [host_python(), "-I", "-S", "-c"]
    commands = {"become plugin": [*python, program(user.name, sudo=["sudo"], create=True), "true"]}
    if has_podman():
        commands["podman unshare"] = ["podman", "unshare", "true"]
    commands["unshare --map-auto"] = ["unshare", "--mount", "--map-auto", "--map-root-user", "true"]
    commands["nsenter"] = ["nsenter", f"--user={user.pin}/user", f"--mount={user.pin}/mnt", "true"]
    commands["python3 -c pass"] = [*python, "pass"]
    return commands


def _candidates(commands: Mapping[str, list[str]], environment: Mapping[str, str]) -> dict[str, Candidate]:
    def candidate(command: list[str]) -> Candidate:
        return lambda: statistics.median(spawned(command, environment) for _run in range(_RUNS_PER_SAMPLE))

    return {name: candidate(command) for name, command in commands.items()}


def _table(key: str, who: str, samples: Mapping[str, list[float]], *, reference: str) -> Table:
    return Table(
        key=key,
        title=f"Join a namespace and run `true`, started by {who}",
        about=f"Each sample is the median of {_RUNS_PER_SAMPLE} runs. All but `unshare`, which makes a new namespace, "
        "join the same one.",
        series=[Series(name, [Point(1, taken)]) for name, taken in samples.items()],
        reference=reference,
    )
