# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ID arithmetic: `split_idmap`, and subordinate ranges for many owners."""

from __future__ import annotations

import random
import subprocess
import time

from ansible_collections.userns.rootless.plugins.filter.split_idmap import split_idmap

from .arena import User, people, populate
from .programs import BenchmarkError, module
from .rounds import Point, Series, Table, say

_RANGES = (10, 100, 1_000, 10_000, 100_000)
_OWNERS = (100, 1_000, 10_000)
# usermod once for each of this many, in files as full as they are half way.
_SAMPLED = 20
# So that the ranges of 10,000 owners fit between SUB_UID_MIN and SUB_UID_MAX.
_COUNT = 16384


def measure(rounds: int, sizes: list[int]) -> list[Table]:
    largest = max(sizes)
    return [
        _split(rounds, [size for size in _RANGES if size <= 100 * largest]),
        _owners(rounds, [size for size in _OWNERS if size <= 100 * largest]),
    ]


def _split(rounds: int, sizes: list[int]) -> Table:
    points = []
    for size in sizes:
        say(f"split_idmap: {size} ranges")
        available = [{"id": 10 * number, "parent_id": 20 * number, "count": 10} for number in range(size)]
        # Each mapping lies across two of the ranges, so that all are cut.
        mappings = [{"containerID": 10 * number, "hostID": 10 * number + 5, "size": 10} for number in range(size - 1)]
        random.Random(size).shuffle(mappings)
        split_idmap(mappings, available)
        samples = []
        for _round in range(rounds):
            started = time.perf_counter()
            parts = split_idmap(mappings, available)
            samples.append(time.perf_counter() - started)
            if len(parts) != 2 * len(mappings):
                raise BenchmarkError(f"split_idmap: {len(parts)} parts of {len(mappings)} mappings")
        points.append(Point(size, samples))
    return Table(
        key="split",
        title="`split_idmap`",
        about="As many mappings as there are ranges available, in no order, each across two of them.",
        series=[Series("split_idmap", points)],
        size_name="ranges",
    )


def _owners(rounds: int, sizes: list[int]) -> Table:
    series = {name: Series(name) for name in ("rootless_subid", "rootless_subid, unchanged", "usermod, loop")}
    for size in sizes:
        users = people(size)
        samples: dict[str, list[float]] = {name: [] for name in series}
        for number in range(rounds):
            say(f"subordinate ranges: {size} owners, round {number + 1} of {rounds}")
            populate(users, with_ranges=[])
            for name in ("rootless_subid", "rootless_subid, unchanged"):
                seconds, result = module("rootless_subid", owners=[user.name for user in users], count=_COUNT)
                if result["changed"] != (name == "rootless_subid"):
                    raise BenchmarkError(f"{name}: changed is {result['changed']}")
                samples[name].append(seconds)
            half = size // 2
            populate(users, with_ranges=users[:half])
            sampled = users[half : half + _SAMPLED]
            samples["usermod, loop"].append(_usermod(sampled) * size / len(sampled))
        for name, taken in samples.items():
            measured = min(_SAMPLED, size) if name == "usermod, loop" else None
            series[name].points.append(Point(size, taken, measured=measured))
    populate([], with_ranges=[])
    return Table(
        key="owners",
        title="Subordinate ranges for many owners",
        about="UID and GID ranges for all, by one module call that finds the gaps, against `usermod --add-subuids "
        "--add-subgids` once for each, which has to be told the range.",
        series=[series["rootless_subid"], series["rootless_subid, unchanged"], series["usermod, loop"]],
        size_name="owners",
        reference="usermod, loop",
    )


def _usermod(users: list[User]) -> float:
    started = time.perf_counter()
    for number, user in enumerate(users):
        last = 1_000_000_000 + number * _COUNT
        ranges = f"{last}-{last + _COUNT - 1}"
        subprocess.run(["usermod", "--add-subuids", ranges, "--add-subgids", ranges, user.name], check=True)
    return time.perf_counter() - started
