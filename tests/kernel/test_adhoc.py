# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Through Ansible itself, by the short names, in the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


def ansible(module: str, arguments: str, *options: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", module, "-a", arguments, *options]
    env = dict(os.environ, ANSIBLE_CONFIG=str(CHECKOUT / "ansible.cfg"), ANSIBLE_PYTHON_INTERPRETER=sys.executable)
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=env)
    assert "=> {" in result.stdout, result.stdout + result.stderr
    answer: dict[str, Any] = json.loads(result.stdout.partition("=> ")[2])
    return answer


def test_ad_hoc_by_short_name(user: Any) -> None:
    first = ansible("rootless_ns", f"users={user.name}")
    assert (first["changed"], first["namespaces"][0]["action"]) == (True, "created")
    assert ansible("rootless_ns", f"users={user.name}")["changed"] is False
    assert ansible("userns.rootless.rootless_ns", f"users={user.name} state=absent", "--check")["changed"]
    assert ansible("rootless_ns", f"users={user.name} state=absent")["changed"]


def test_ad_hoc_info() -> None:
    available = ansible("rootless_ns_info", "users=[]")["available"]
    lines = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    assert available["uid_map"] == [
        {"id": int(line[0]), "parent_id": int(line[1]), "count": int(line[2])} for line in lines
    ]
    assert available["uids"] == sum(int(line[2]) for line in lines)
