# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters under their full names, in a play that Ansible runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible.errors")

CHECKOUT = Path(__file__).parents[4]
# Where make has linked it, or the path that ansible-test insists on.
LINKED = CHECKOUT / ".collections"
COLLECTIONS = LINKED if LINKED.is_dir() else CHECKOUT.parents[2]

NAMESPACES = [
    {
        "user": "alice",
        "state": "alive",
        "uid_map": [{"id": 0, "parent_id": 1000, "count": 1}, {"id": 1, "parent_id": 100000, "count": 65536}],
    },
    {"user": "bob", "state": "none", "uid_map": []},
]
ALICE = "(namespaces | selectattr('user', 'equalto', 'alice') | first)"
BOB = "(namespaces | selectattr('user', 'equalto', 'bob') | first)"

TEMPLATES: list[tuple[str, Any]] = [
    (f"999 | userns.rootless.host_id({ALICE}.uid_map)", 100998),
    (f"'999' | userns.rootless.host_id(map={ALICE}.uid_map)", 100998),
    (f"['0', '999'] | map('int') | userns.rootless.host_id({ALICE}.uid_map)", [1000, 100998]),
    ("0 | userns.rootless.host_id(namespaces | map(attribute='uid_map') | flatten)", 1000),
    ("100998 | userns.rootless.container_id('0:1000:1,1:100000:65536')", 999),
    (f"[0, 70000] | userns.rootless.host_id({ALICE}.uid_map, unmapped='none')", [1000, None]),
    (f"70000 | userns.rootless.host_id({BOB}.uid_map, unmapped='overflow')", 65534),
    (f"[999] | map('userns.rootless.host_id', {ALICE}.uid_map)", [100998]),
    (
        f"[{{'containerID': 0, 'hostID': '0', 'size': 3}}] | userns.rootless.split_idmap({ALICE}.uid_map)",
        [{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 1, "size": 2}],
    ),
    (f"'0:0:3' | userns.rootless.split_idmap({ALICE}.uid_map) | map(attribute='size')", [1, 2]),
]

FAILING = [
    (f"0 | userns.rootless.host_id({BOB}.uid_map)", "host_id: 0 is not mapped; the map"),
    (f"0 | userns.rootless.host_id({BOB})", "host_id: map must be a list of"),
    (
        "0 | userns.rootless.host_id([{'id': 0}])",
        "entry 1 of map: ID map entry {'id': 0}: it must be a mapping of exactly",
    ),
    ("0 | userns.rootless.host_id('0:1:1', unmapped=none)", "unmapped must be one of the strings"),
    ("0 | userns.rootless.host_id(namespaces[0].nothing)", "has no attribute 'nothing'"),
    ("0 | userns.rootless.host_id([{'id': 0, 'parent_id': namespaces[0].nothing, 'count': 1}])", "'nothing'"),
]


def test_templates(tmp_path: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {
            "ansible.builtin.assert": {"that": "found == expected", "fail_msg": "{{ found | to_json }}"},
            "vars": {"found": f"{{{{ {template} }}}}", "expected": expected},
        }
        for template, expected in TEMPLATES
    ]
    for template, message in FAILING:
        tasks += [
            {"ansible.builtin.debug": {"msg": f"{{{{ {template} }}}}"}, "register": "failed", "ignore_errors": True},
            {
                "ansible.builtin.assert": {"that": "failed is failed and message in failed.msg"},
                "vars": {"message": message},
            },
        ]
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"namespaces": NAMESPACES}, "tasks": tasks}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [sys.executable, "-m", "ansible.cli.playbook", "--inventory", "localhost,", "play.yml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"ok={len(tasks)} " in result.stdout
