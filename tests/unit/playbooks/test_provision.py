# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook goes on where a role could not serve some users, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

CHECKOUT = Path(__file__).parents[3]


def tasks() -> list[dict[str, Any]]:
    (play,) = yaml.safe_load((CHECKOUT / "playbooks/provision.yml").read_text())
    found: list[dict[str, Any]] = play["tasks"]
    return found


def names_of_failures() -> list[str]:
    files = sorted((CHECKOUT / "roles/rootless_host/tasks").glob("*.yml"))
    every = [task for path in files for task in yaml.safe_load(path.read_text())]
    return [task["name"] for task in every if "ansible.builtin.assert" in task]


SOME = "Fail where a step has failed for some users"
CHECK = "Fail if something keeps them from running"


@pytest.mark.parametrize("name", names_of_failures())
@pytest.mark.parametrize("others", [True, False])
def test_it_goes_on_only_where_others_were_served(name: str, others: bool) -> None:
    looked = {"users": [{"user": "alice", "ok": others}, {"user": "bob", "ok": False}]}
    variables = {"ansible_failed_task": {"name": name}, "__rootless_host_left": looked}
    assert goes_on(0, variables) is (name == SOME or (name == CHECK and others))


@pytest.mark.parametrize(
    ("found", "others"),
    [
        ({}, False),
        ({"__rootless_persist_now": {"skipped": True}}, False),
        ({"__rootless_persist_now": {"namespaces": [{"action": "failed"}]}}, False),
        ({"__rootless_persist_now": {"namespaces": [{"action": "failed"}, {"action": "rejoined"}]}}, True),
    ],
)
def test_it_goes_on_where_others_have_namespaces(found: dict[str, Any], others: bool) -> None:
    assert goes_on(1, found) is others


def goes_on(block: int, variables: dict[str, Any]) -> Any:
    expression = tasks()[block]["rescue"][0]["ansible.builtin.assert"]["that"]
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(f"{{{{ {expression} }}}}"))


def test_there_is_one_such_failure_of_each_kind() -> None:
    assert [names_of_failures().count(name) for name in (SOME, CHECK)] == [1, 1]


def test_what_was_rescued_fails_the_play_in_the_end_whatever_tags_are_asked_for() -> None:
    last = tasks()[-1]
    assert last["ansible.builtin.assert"]["that"] == "rootless_users_unserved is not defined"
    assert last["tags"] == ["always"]
    for block in tasks()[:2]:
        assert [task["tags"] for task in block["rescue"]] == [["always"]] * 2
        assert list(block["rescue"][1]["ansible.builtin.set_fact"]) == ["rootless_users_unserved"]
