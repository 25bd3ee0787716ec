# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules document is what they take and give."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_host_info import user_entry
from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_subid import _entry
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.catalogue import (
    CATALOGUE,
    SEVERITIES,
    HostFinding,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import (
    Cleaning,
    FileOutcome,
    OrphanOutcome,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs import NamespaceId
from ansible_collections.userns.rootless.plugins.module_utils._rootless.readiness import UserReadiness, as_dict
from ansible_collections.userns.rootless.plugins.module_utils._rootless.report import ProcessInTheWay, Report
from ansible_collections.userns.rootless.plugins.module_utils._rootless.state import Finding, PauseProcess
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_change import KindOutcome
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_plan import OwnerOutcome
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_text import Owner

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


def given_by(name: str) -> dict[str, Any]:
    """An entry as a module returns it, under the name of the list it is in."""
    if name == "rootless_pause":
        orphan = OrphanOutcome(PauseProcess(1, NamespaceId(2, 3)), "sleep", 4.0)
        files = [FileOutcome("/run/user/1/libpod/tmp/pause.pid", "pause.pid", Finding())]
        return {"users": Cleaning("alice", files=files, orphans=[orphan]).as_dict()}
    if name == "rootless_subid":
        outcome = OwnerOutcome(ranges=[(1, 2)], added=[(1, 2)], removed=[(3, 4)])
        found = {kind: KindOutcome(f"/etc/sub{kind}", "", "", [outcome]) for kind in ("uid", "gid")}
        return {"owners": _entry(Owner("alice", "alice", frozenset()), 0, found)}
    if name == "rootless_host_info":
        return {"users": user_entry(UserReadiness("alice"), host_blocked=False)}
    report = Report("alice", in_the_way=[ProcessInTheWay(1, "conmon", "web")])
    return {"namespaces": {**report.as_dict(), **(report.verdicts() if name.endswith("_info") else report.obstacles())}}


@pytest.mark.parametrize("name", MODULES)
def test_entries_are_documented(name: str) -> None:
    ((key, given),) = given_by(name).items()
    documented = yaml.safe_load(load(name).RETURN)[key]["contains"]
    assert documented.keys() == given.keys()
    assert json.dumps(given)
    for field, value in given.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            assert documented[field]["contains"].keys() == value[0].keys()


def test_host_findings_are_documented() -> None:
    documented = yaml.safe_load(load("rootless_host_info").RETURN)["findings"]["contains"]
    codes = re.findall(r"V\(([a-z0-9-]+)\)", "".join(documented["code"]["description"]))
    assert sorted(codes) == sorted(CATALOGUE)
    assert documented.keys() == as_dict(HostFinding("userns-off", "found", "fix"), None).keys()
    assert re.findall(r"V\((\w+)\)", "".join(documented["severity"]["description"])) == list(SEVERITIES)


def test_action_group_names_all_modules() -> None:
    runtime = yaml.safe_load((Path(__file__).parents[4] / "meta/runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["all"]) == MODULES
