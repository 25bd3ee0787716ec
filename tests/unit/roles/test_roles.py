# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role's variables are said to be is what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[3] / "roles").iterdir() if path.is_dir())


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def test_defaults_are_those_of_the_specification(role: Path) -> None:
    told = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert load(role / "defaults/main.yml") == told


def test_a_required_variable_has_no_default(role: Path) -> None:
    assert not [name for name, option in options(role).items() if option.get("required") and "default" in option]


def test_variables_carry_the_name_of_the_role(role: Path) -> None:
    internal = [name for path in (role / "vars").glob("*.yml") for name in load(path)]
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []
    assert [name for name in internal if not name.startswith(f"__{role.name}_")] == []


def test_readme_names_tags_that_exist(role: Path) -> None:
    tags: set[str] = set()
    for task in yaml.safe_load((role / "tasks/main.yml").read_text(encoding="utf-8")):
        for one in [task, *task.get("block", [])]:
            tags |= set(one.get("tags", []))
    readme = (role / "README.md").read_text(encoding="utf-8")
    # Ansible's own.
    tags -= {"always", "never"}
    assert tags
    assert sorted(tag for tag in tags if f"`{tag}`" not in readme) == []
    assert f"`ansible-doc -t role userns.rootless.{role.name}`" in readme
