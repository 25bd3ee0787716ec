# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook goes on where rootless_host could not serve some users, and only there."""

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


@pytest.mark.parametrize("name", names_of_failures())
def test_it_goes_on_only_where_the_others_were_served(name: str) -> None:
    goes_on = tasks()[0]["rescue"][0]["ansible.builtin.assert"]["that"]
    variables = {"ansible_failed_task": {"name": name}}
    expression = trust_as_template(f"{{{{ {goes_on} }}}}")
    answer = Templar(loader=DataLoader(), variables=variables).template(expression)
    assert answer is (name == "Fail where a step has failed for some users")


def test_there_is_one_such_failure() -> None:
    assert names_of_failures().count("Fail where a step has failed for some users") == 1


def test_what_was_rescued_fails_the_play_in_the_end_whatever_tags_are_asked_for() -> None:
    remembered = tasks()[0]["rescue"][1]
    last = tasks()[-1]
    assert list(remembered["ansible.builtin.set_fact"]) == ["rootless_users_unserved"]
    assert last["ansible.builtin.assert"]["that"] == "rootless_users_unserved is not defined"
    assert remembered["tags"] == last["tags"] == ["always"]
