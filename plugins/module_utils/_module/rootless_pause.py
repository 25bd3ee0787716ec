# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_pause`: options to results."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.calls.clean import clean
from .._rootless.cleaning import CleaningOptions
from .common import run_call

ARGUMENT_SPEC: dict[str, Any] = {
    "users": {"type": "list", "elements": "str"},
    "orphans": {"type": "bool", "default": False},
    "repair": {"type": "bool", "default": False},
    "state_dir": {"type": "path"},
}


def run(module: AnsibleModule) -> None:
    """Clean for every user."""
    params = module.params
    options = CleaningOptions(
        orphans=params["orphans"], repair=params["repair"], state_dir=params["state_dir"], check=module.check_mode
    )
    run_call(module, lambda: clean(params["users"], options))
