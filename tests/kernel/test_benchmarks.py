# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks run, leave nothing, and the README says what they measured. How long anything takes is not tested."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import readme, report
from benchmarks.arena import people

CHECKOUT = Path(__file__).parents[2]


def _files() -> dict[str, str]:
    """What must stay as it is; other tests, beside this one, have users of their own."""
    names = [*(f"/etc/{name}" for name in ("passwd", "group", "subuid", "subgid")), "/proc/self/mountinfo"]
    return {name: "\n".join(line for line in Path(name).read_text().splitlines() if "bench" in line) for name in names}


def test_everything_is_measured_at_a_tiny_size(as_root: None, tmp_path: Path) -> None:
    before = _files()
    command = [CHECKOUT / "benchmarks/run", "--users", "2", "--rounds", "1", "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    tables, about = report.read(tmp_path / "results.json")
    assert {"set-up", "again", "join-user", "join-root", "split", "owners", "memory"} <= {table.key for table in tables}
    for table in tables:
        assert table.series
        for series in table.series:
            assert series.points, (table.key, series.name)
            assert all(len(point.samples) == 1 for point in series.points)
        if table.unit == "s":
            assert all(point.median > 0 for series in table.series for point in series.points), table.key
    assert "become plugin" in readme.short(tables, about)
    assert (tmp_path / "set-up.svg").read_text().rstrip().endswith("</svg>")

    assert _files() == before
    uids = {user.uid for user in people(2)}
    assert not [entry for entry in Path("/proc").glob("[0-9]*") if entry.exists() and entry.stat().st_uid in uids]
    assert not [user for user in people(2) if user.runtime_dir.exists() or user.pin.exists()]


def test_the_readme_says_what_was_measured() -> None:
    tables, about = report.read(CHECKOUT / "benchmarks/results/results.json")
    assert readme.short(tables, about) in (CHECKOUT / "README.md").read_text()
