# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that becomes the command rootless-ns: what Python it runs with, and what it leaves on the disk."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
LAUNCHER = CHECKOUT / "roles/rootless_persist/files/rootless-ns"

# Python 3.6 with others beside it, as on RHEL 8: what is there is the arguments.
OLD = """
import os, sys
launcher, sys.argv, there = sys.argv[1], ["rootless-ns", "info", "--json"], sys.argv[2:]
sys.version_info = (3, 6, 8)
os.path.exists = lambda path: path in there
def execv(path, arguments):
    print(path, *arguments[1:])
    sys.exit(0)
os.execv = execv
exec(compile(open(launcher).read(), launcher, "exec"), {"__file__": launcher})
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    command = tmp_path / "bin/rootless-ns"
    command.parent.mkdir()
    shutil.copy(LAUNCHER, command)
    library = tmp_path / "lib/rootless-ns/_rootless"
    shutil.copytree(CHECKOUT / "plugins/module_utils/_rootless", library, ignore=shutil.ignore_patterns("__pycache__"))
    return command


@pytest.mark.parametrize(("umask", "compiled"), [(0o000, False), (0o002, False), (0o022, True), (0o077, False)])
def test_nothing_is_compiled_that_others_could_replace_or_not_use(installed: Path, umask: int, compiled: bool) -> None:
    line = f'umask {umask:04o}; exec "$@"'
    done = subprocess.run(["sh", "-c", line, "sh", sys.executable, "-I", str(installed), "--version"], check=True)
    assert done.returncode == 0
    directories = list(installed.parents[1].rglob("__pycache__"))
    assert bool(directories) is compiled
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} <= {0o755}


def old(*there: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OLD, str(LAUNCHER), *there]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_old_python_gives_way_to_the_newest() -> None:
    found = old("/usr/bin/python3.9", "/usr/bin/python3.12", "/usr/bin/python3.8")
    assert found.stdout == f"/usr/bin/python3.12 -I {LAUNCHER} info --json\n"


def test_an_old_python_alone_is_told() -> None:
    found = old("/usr/bin/python3.8")
    assert (found.returncode, found.stderr) == (1, "rootless-ns: needs Python 3.9 or later; this is 3.6\n")
