# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command behind `make bench`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import arena, ids, join, memory, readme, report, set_up
from .rounds import Table, say

PARTS: dict[str, Callable[[int, list[int]], list[Table]]] = {
    "join": join.measure,
    "set-up": set_up.measure,
    "ids": ids.measure,
    "memory": memory.measure,
}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Measure this collection beside its peers, as root. Nothing but the results stays.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turns (default: 5)")
    parser.add_argument("--users", type=int, default=1000, help="the largest number of users (default: 1000)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write (default: benchmarks/results)")
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    if os.geteuid() != 0:
        print("SKIPPED benchmarks: they need root, to act for many users", file=sys.stderr)
        return 77
    sizes = sorted({min(size, args.users) for size in (1, 10, 100, args.users)})
    about = report.machine()
    if os.getloadavg()[0] > len(os.sched_getaffinity(0)) / 2:
        say("This machine is busy: what is measured now is worth little.")

    def work() -> None:
        started = time.monotonic()
        tables = [table for part in args.parts or PARTS for table in PARTS[part](args.rounds, sizes)]
        written = report.write(args.results.absolute(), tables, about)
        if args.results == RESULTS and not args.parts:
            written.append(readme.write(tables, about))
        say(f"measured in {time.monotonic() - started:.0f} s; wrote {', '.join(path.name for path in written)}")

    return arena.enter(work)


if __name__ == "__main__":
    sys.exit(main())
