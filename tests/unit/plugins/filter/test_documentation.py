# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters document is what they take."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ansible.errors")

FILTERS = sorted((Path(__file__).parents[4] / "plugins/filter").glob("*.py"))


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_options(path: Path) -> None:
    documented = yaml.safe_load(path.with_suffix(".yml").read_text())["DOCUMENTATION"]
    plugin = importlib.import_module(f"ansible_collections.userns.rootless.plugins.filter.{path.stem}")
    assert documented["name"] == path.stem
    ((name, function),) = plugin.FilterModule().filters().items()
    assert name == path.stem
    # The first is what stands before the bar, whatever the function calls it.
    taken = dict(list(inspect.signature(function).parameters.items())[1:])
    options = documented["options"]
    assert list(options) == ["_input", *taken]
    assert set(documented["positional"].split(", ")) <= options.keys()
    for option, parameter in taken.items():
        assert options[option].get("required", False) == (parameter.default is parameter.empty)
        assert parameter.default in (options[option].get("default"), parameter.empty)
