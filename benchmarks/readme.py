# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's performance section: the short form of the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .arena import CHECKOUT
from .report import number, spread
from .rounds import Point, Series, Table

README = CHECKOUT / "README.md"
_BEGIN, _END = "<!-- make bench writes from here -->\n", "<!-- to here -->\n"


@dataclass(frozen=True)
class Headline:
    """A line of the README: one of our series beside one of a peer's."""

    table: str
    size: int
    ours: str
    theirs: str
    what: str


HEADLINES = (
    Headline("join-user", 1, "become plugin", "podman unshare", "join and run `true`, as the user"),
    Headline("join-root", 1, "become plugin", "runuser, podman unshare", "join and run `true`, from root"),
    *(
        Headline("set-up", size, "rootless_ns", "podman, shell loop", f"set up {size:,} users")
        for size in (10, 100, 1000)
    ),
    Headline("set-up", 1000, "rootless_ns", "podman, xargs", "set up 1,000 users"),
    Headline("set-up", 1000, "rootless_ns", "unshare, xargs", "set up 1,000 users"),
    Headline("set-up", 1000, "rootless_ns, whole ansible run", "podman, loop of ansible", "set up 1,000 users"),
    Headline("again", 1000, "rootless_ns", "podman, shell loop", "1,000 users again, nothing to do"),
    Headline("again", 1000, "rootless_ns", "nsenter, xargs", "1,000 users again, nothing to do"),
    Headline("again", 1000, "rootless_ns", "a process each that becomes the user", "1,000 users again, nothing to do"),
    Headline("owners", 10_000, "rootless_subid", "usermod, loop", "subordinate ranges for 10,000 owners"),
    Headline("memory", 100, "pause process and pin", "podman", "memory of each namespace"),
)


def write(tables: list[Table], about: dict[str, str]) -> Path:
    """Put the short form into the README's performance section."""
    before, _begin, rest = README.read_text().partition(_BEGIN)
    _old, _end, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}{short(tables, about)}{_END}{after}")
    return README


def short(tables: list[Table], about: dict[str, str]) -> str:
    """The headlines: medians, and how many times more the peer takes."""
    by_key = {table.key: table for table in tables}
    lines = ["| what | here | instead | times |", "|---|---|---|---|"]
    for headline in HEADLINES:
        table = by_key.get(headline.table)
        here, instead = (_find(table, name, headline.size) for name in (headline.ours, headline.theirs))
        if table and here and instead:
            cells = [headline.what]
            for series, point in (here, instead):
                noted = " (extrapolated)" if point.measured else ""
                cells.append(f"{series.name}: {spread([point.median], table.unit)}{noted}")
            factor = instead[1].median / here[1].median if here[1].median > 0 else 0
            lines.append(f"| {' | '.join([*cells, number(factor) if factor else ''])} |")
    return "\n".join([*lines, "", f"{'; '.join(about.values())}.", ""])


def _find(table: Table | None, name: str, size: int) -> tuple[Series, Point] | None:
    """The series, whose name may go on with how many run at once, at a size."""
    for series in table.series if table else ():
        point = series.at(size)
        if point and (series.name == name or series.name.startswith(f"{name} -P")):
            return series, point
    return None
