# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules document is what they take and give."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.userns.rootless.plugins.module_utils._rootless.report import Report

PACKAGE = "ansible_collections.userns.rootless.plugins"
MODULES = sorted(path.stem for path in (Path(__file__).parents[4] / "plugins/modules").glob("*.py"))


def load(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.modules.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_options(name: str) -> None:
    documented = yaml.safe_load(load(name).DOCUMENTATION)["options"]
    taken = importlib.import_module(f"{PACKAGE}.module_utils._module.{name}").ARGUMENT_SPEC
    assert documented.keys() == taken.keys()
    for option, spec in taken.items():
        for key in ("type", "elements", "choices", "default"):
            assert documented[option].get(key) == spec.get(key), (option, key)


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_documented_options(name: str) -> None:
    options = yaml.safe_load(load(name).DOCUMENTATION)["options"]
    for task in yaml.safe_load(load(name).EXAMPLES):
        assert task["name"]
        for key, arguments in task.items():
            if key == f"userns.rootless.{name}":
                assert (arguments or {}).keys() <= options.keys()


@pytest.mark.parametrize("name", MODULES)
def test_entries_are_documented(name: str) -> None:
    documented = yaml.safe_load(load(name).RETURN)["namespaces"]["contains"].keys()
    report = Report("alice")
    given = {**report.as_dict(), **(report.verdicts() if name.endswith("_info") else {})}
    assert documented == given.keys()
    assert json.dumps(given)


def test_action_group_names_all_modules() -> None:
    runtime = yaml.safe_load((Path(__file__).parents[4] / "meta/runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["all"]) == MODULES
