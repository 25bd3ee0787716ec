# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_ns_info`: a look at ID maps, ranges and namespaces; changes nothing."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.calls.info import look
from .common import run_call

ARGUMENT_SPEC: dict[str, Any] = {"users": {"type": "list", "elements": "str"}}


def run(module: AnsibleModule) -> None:
    """Gather and return."""
    run_call(module, lambda: look(module.params["users"]))
