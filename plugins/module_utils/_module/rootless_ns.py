# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_ns`: options to results."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.calls.change import change
from .common import fail, run_call

ARGUMENT_SPEC: dict[str, Any] = {
    "users": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "method": {"type": "str", "choices": ["auto", "handles", "pause"], "default": "auto"},
    "pin": {"type": "bool"},
    "on_drift": {"type": "str", "choices": ["report", "fail", "recreate"], "default": "report"},
    "force": {"type": "bool", "default": False},
}


def run(module: AnsibleModule) -> None:
    """Do for every user what the options ask."""
    params = module.params
    if params["users"] is None and os.geteuid() == 0:
        fail(module, "users must be given when the task runs as root: root has no rootless namespace of its own")
    run_call(module, lambda: change(**params, check=module.check_mode))
