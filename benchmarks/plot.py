# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log-log line plots as SVG."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from .rounds import Series, Table

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 240, 40, 50
# Okabe and Ito's, which the colour-blind can tell apart.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


class _Scale:
    """Decades that hold all values, on a length in pixels."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def plot(table: Table) -> str:
    """The medians of a table's series over its sizes; dashed where they were worked out and not measured."""
    points = [point for series in table.series for point in series.points]
    x = _Scale([point.size for point in points], _LEFT, _WIDTH - _RIGHT)
    y = _Scale([point.median for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, _TOP - 16, table.title.replace("`", "")),
    ]
    for value in x.decades:
        parts += [
            _line(x(value), _TOP, x(value), _HEIGHT - _BOTTOM),
            _text(x(value), _HEIGHT - 30, f"{value:,g}", "middle"),
        ]
    for value in y.decades:
        parts += [
            _line(_LEFT, y(value), _WIDTH - _RIGHT, y(value)),
            _text(_LEFT - 8, y(value) + 4, f"{value:g} s", "end"),
        ]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, table.size_name, "middle"))
    for number, series in enumerate(table.series):
        parts += _drawn(series, _COLOURS[number % len(_COLOURS)], x, y, row=number)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(series: Series, colour: str, x: _Scale, y: _Scale, *, row: int) -> list[str]:
    path = " ".join(f"{x(point.size)},{y(point.median)}" for point in series.points)
    dashes = ' stroke-dasharray="5 4"' if any(point.measured for point in series.points) else ""
    circles = [
        f'<circle cx="{x(point.size)}" cy="{y(point.median)}" r="3" fill="{colour}"/>' for point in series.points
    ]
    line, left = _TOP + 8 + 20 * row, _WIDTH - _RIGHT + 16
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>',
        *circles,
        f'<line x1="{left}" y1="{line}" x2="{left + 22}" y2="{line}" stroke="{colour}" stroke-width="2"{dashes}/>',
        _text(left + 28, line + 4, series.name),
    ]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
