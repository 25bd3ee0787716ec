# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The library's own rules, held against its source."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[4] / "plugins"
LIBRARY = sorted((PLUGINS / "module_utils/_rootless").rglob("*.py"))
MODULES = sorted((PLUGINS / "modules").glob("*.py"))


def imports(path: Path) -> list[tuple[int, str]]:
    """Every import as level (0: absolute) and top-level name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, (node.module or "").partition(".")[0]))
    return found


def test_there_is_something_to_check() -> None:
    assert len(LIBRARY) > 20
    assert len(MODULES) > 1


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_the_library_stands_on_the_standard_library_alone(path: Path) -> None:
    for level, name in imports(path):
        # Never out of the library: it is copied onto hosts as a package of its own.
        assert level <= len(path.relative_to(PLUGINS / "module_utils/_rootless").parts)
        if level == 0 and sys.version_info >= (3, 10):
            assert name in sys.stdlib_module_names
        assert level or name != "ansible"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_only_one_file_knows_c(path: Path) -> None:
    # And the joiner, which is sent to hosts without the library.
    assert ((0, "ctypes") in imports(path)) == (path.name in ("kernel.py", "joiner_detours.py"))


@pytest.mark.parametrize("name", ["joiner", "become_main"])
def test_the_joiner_starts_without_the_library_and_without_detours(name: str) -> None:
    tree = ast.parse((PLUGINS / f"module_utils/_rootless/{name}.py").read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level]
    assert [node.module for node in at_once] == ([] if name == "joiner" else ["joiner"])
    later = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert later <= {"joiner", "joiner_detours", "become_detours"}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_calls_are_on_top_and_the_command_on_top_of_them(path: Path) -> None:
    layer = path.relative_to(PLUGINS / "module_utils/_rootless").parts[0]
    above = {"command": set(), "calls": {"command"}}.get(layer, {"calls", "command"})
    assert not [name for level, name in imports(path) if level and name in above]


@pytest.mark.parametrize("path", [*LIBRARY, *MODULES], ids=lambda path: path.name)
def test_targets_may_have_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_are_documentation_and_a_short_main(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == ["main"]
    end = functions[0].end_lineno
    assert end is not None
    assert end - functions[0].lineno < 20
