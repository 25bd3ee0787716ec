# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the documentation, run as it stands, for real users named as in the examples."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted((CHECKOUT / "plugins/modules").glob("*.py"))
FILTERS = sorted((CHECKOUT / "plugins/filter").glob("*.yml"))
VOLUME = Path("/srv/alice-database")


def module_examples(path: Path) -> list[dict[str, Any]]:
    (text,) = re.findall(r'^EXAMPLES = r"""\n(.*?)"""', path.read_text(), re.DOTALL | re.MULTILINE)
    tasks: list[dict[str, Any]] = yaml.safe_load(text)
    return tasks


def filter_examples(path: Path) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = yaml.safe_load(yaml.safe_load(path.read_text())["EXAMPLES"])
    return tasks


def readme_plays() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    return [play for block in blocks for play in yaml.safe_load(block)]


@pytest.fixture
def subids_as_they_were(as_root: None) -> Iterator[None]:
    """The examples give ranges to owners that are nobody's users, and leave notes of those that they take away."""
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    before = {path: path.read_bytes() for path in files if path.exists()}
    yield
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture
def volume_gone(as_root: None) -> Iterator[None]:
    """The examples make a directory for a volume, on a host that has none there."""
    if VOLUME.exists() or not VOLUME.parent.is_dir():
        pytest.skip(f"this host has a {VOLUME} of its own, or no {VOLUME.parent}")
    yield
    if VOLUME.exists():
        shutil.rmtree(VOLUME)


@pytest.fixture
def alice_and_bob(subids_as_they_were: None, volume_gone: None, make_user: Callable[..., Any]) -> None:
    """The examples' users, on a host that has none of that name."""
    for name in ("alice", "bob"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        pytest.skip(f"this host has a user {name} of its own")
    for name in ("alice", "bob"):
        make_user(name=name, ranges=False)


def play(plays: list[dict[str, Any]], directory: Path) -> None:
    path = directory / "play.yml"
    path.write_text(json.dumps(plays))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", "localhost,", str(path)]
    env = dict(
        os.environ,
        ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"),
        ANSIBLE_PYTHON_INTERPRETER=sys.executable,
        ANSIBLE_TRANSPORT="local",
    )
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=env)
    assert result.returncode == 0, result.stdout + result.stderr


def runs_as_root(task: dict[str, Any]) -> bool:
    return bool(task.get("become")) or not any(name.startswith("userns.rootless.") for name in task)


def works_inside(play: dict[str, Any]) -> bool:
    return any("become_method" in task for task in play["tasks"])


def without_become(task: dict[str, Any]) -> dict[str, Any]:
    # The test is root already, and sudo need not be there.
    return {key: value for key, value in task.items() if key != "become"}


def owner_in_alices_namespace(path: Path) -> str:
    """What the kernel says there, UID:GID."""
    pin = Path(f"/run/rootless-ns/{pwd.getpwnam('alice').pw_uid}/user")
    command = ["nsenter", f"--user={pin}", "stat", "--format=%u:%g", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# It looks at everybody.
@pytest.mark.alone
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_examples(path: Path, alice_and_bob: None, tmp_path: Path) -> None:
    tasks = [without_become(task) for task in module_examples(path) if runs_as_root(task)]
    assert tasks
    play([{"hosts": "all", "gather_facts": False, "tasks": tasks}], tmp_path)


# It looks at everybody.
@pytest.mark.alone
@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_filter_examples(path: Path, alice_and_bob: None, tmp_path: Path) -> None:
    tasks = filter_examples(path)
    assert any(f"userns.rootless.{path.stem}" in json.dumps(task) for task in tasks)
    play([{"hosts": "all", "gather_facts": False, "tasks": [without_become(task) for task in tasks]}], tmp_path)
    if path.stem == "host_id":
        assert owner_in_alices_namespace(VOLUME) == "999:999"


# It looks at everybody.
@pytest.mark.alone
def test_readme_plays(alice_and_bob: None, public_python: str, tmp_path: Path) -> None:
    plays = [
        # Inside, the users' Python does the work.
        without_become(play) | {"gather_facts": False, "vars": {"ansible_python_interpreter": public_python}}
        for play in readme_plays()
        if play.get("become") or works_inside(play)
    ]
    assert len(plays) >= 5
    play(plays, tmp_path)
    for path in (VOLUME, VOLUME / "extra.conf"):
        assert owner_in_alices_namespace(path) == "999:999"


def test_examples_without_root(module: Callable[..., dict[str, Any]], user: Any) -> None:
    tasks = [task for path in MODULES for task in module_examples(path) if not runs_as_root(task)]
    plays = [play for play in readme_plays() if not play.get("become") and not works_inside(play)]
    tasks += [task for play in plays for task in play["tasks"]]
    assert tasks
    for task in tasks:
        (name,) = [key for key in task if key.startswith("userns.rootless.")]
        result = module(name.rpartition(".")[2], as_user=user, **(task[name] or {}))
        assert not result.get("failed"), result
