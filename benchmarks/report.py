# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as JSON, Markdown, and plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.release import __version__ as ansible_version

from .plot import plot
from .programs import host_python, version_of
from .rounds import Point, Series, Table


def machine() -> dict[str, str]:
    """What the numbers depend on; nothing that names this machine."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": f"{len(cpu)} x {cpu[0]}" if cpu else platform.machine(),
        "memory": f"{memory / 2**20:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.2f} at the start",
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "python": version_of(host_python(), "--version"),
        "podman": version_of("podman", "--version"),
        "unshare": version_of("unshare", "--version"),
        "ansible": f"ansible-core {ansible_version}",
    }


def write(directory: Path, tables: list[Table], about: dict[str, str]) -> list[Path]:
    """Write the results; the paths written."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "results.json": json.dumps({"machine": about, "tables": [asdict(table) for table in tables]}, indent=1) + "\n",
        "results.md": markdown(tables, about),
        **{f"{table.key}.svg": plot(table) for table in tables if table.size_name},
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    return [directory / name for name in texts]


def read(path: Path) -> tuple[list[Table], dict[str, str]]:
    """What `write` has written as JSON."""
    content = json.loads(path.read_text())
    return [_table(table) for table in content["tables"]], content["machine"]


def _table(fields: dict[str, Any]) -> Table:
    series = [Series(one["name"], [Point(**point) for point in one["points"]]) for one in fields["series"]]
    return Table(**{**fields, "series": series})


def markdown(tables: list[Table], about: dict[str, str]) -> str:
    lines = ["# Measured", "", "`make bench` made this file. Medians, and in brackets the least and the greatest.", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    for table in tables:
        lines += ["", f"## {table.title}", "", table.about, "", *_rows(table)]
        if table.size_name:
            lines += ["", f"![{table.title}]({table.key}.svg)"]
    return "\n".join([*lines, ""])


def _rows(table: Table) -> list[str]:
    reference = table.named(table.reference) if table.reference else None
    heads = [table.size_name] if table.size_name else []
    heads += ["what", "median", "rounds"] + ([f"times {table.reference}"] if reference else [])
    rows = [heads, ["---"] * len(heads)]
    for size in sorted({point.size for series in table.series for point in series.points}):
        against = reference.at(size) if reference else None
        for series in table.series:
            point = series.at(size)
            if point is None:
                continue
            row = [f"{size:,}"] if table.size_name else []
            row += [
                series.name,
                spread(point.samples, table.unit) + _worked_out(point, table),
                str(len(point.samples)),
            ]
            if reference:
                row.append(spread(_ratios(point, against), "") if against else "")
            rows.append(row)
    return [f"| {' | '.join(row)} |" for row in rows]


def _worked_out(point: Point, table: Table) -> str:
    return f" extrapolated from {point.measured} {table.size_name}" if point.measured else ""


def _ratios(point: Point, against: Point) -> list[float]:
    """Round by round, where both have been run in each; otherwise that of the medians."""
    if len(point.samples) == len(against.samples):
        return [one / other for one, other in zip(point.samples, against.samples) if other]
    return [point.median / against.median]


def spread(values: list[float], unit: str) -> str:
    if not values:
        return ""
    factor, shown = _shown(statistics.median(values), unit)
    low, middle, high = (number(value * factor) for value in (min(values), statistics.median(values), max(values)))
    text = f"{middle} ({low}-{high})" if len(values) > 1 else middle
    return f"{text} {shown}".strip()


def _shown(value: float, unit: str) -> tuple[float, str]:
    if unit != "s":
        return 1, unit
    return (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1, "s")


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
