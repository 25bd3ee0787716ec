# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_ns`: options to results."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.errors import RootlessError
from .._rootless.host import Host
from .._rootless.namespaces import Namespaces, Options
from .._rootless.report import Report
from .common import open_kernel, refuse_others, resolve, warn_of

ARGUMENT_SPEC: dict[str, Any] = {
    "users": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "method": {"type": "str", "choices": ["auto", "handles", "pause"], "default": "auto"},
    "pin": {"type": "bool"},
    "on_drift": {"type": "str", "choices": ["report", "fail", "recreate"], "default": "report"},
    "force": {"type": "bool", "default": False},
}


def run(module: AnsibleModule) -> None:
    """Do for every user what the options ask; one user's failure never stops the others."""
    params = module.params
    syscalls = open_kernel(module)
    is_root = os.geteuid() == 0
    if params["users"] is None and is_root:
        module.fail_json(
            msg="users must be given when the task runs as root: root has no rootless namespace of its own"
        )
    if params["pin"] and not is_root:
        module.fail_json(msg="pin: true needs root: a pin is a mount in the host's mount namespace; use become: true")
    accounts = resolve(params["users"] if params["users"] is not None else [str(os.geteuid())])
    refuse_others(module, accounts)
    options = Options(
        method=params["method"],
        pin=is_root if params["pin"] is None else params["pin"],
        on_drift=params["on_drift"],
        force=params["force"],
        check=module.check_mode,
    )
    try:
        namespaces = Namespaces(syscalls, host=Host(), options=options)
    except (RootlessError, OSError) as error:
        module.fail_json(msg=str(error), exception=error)
    for problem in namespaces.subids.problems():
        module.warn(f"{problem}: the line is ignored, as newuidmap and Podman do")
    act = namespaces.present if params["state"] == "present" else namespaces.absent
    reports = namespaces.each(act, accounts)
    warn_of(module, reports)
    _finish(module, reports)


def _finish(module: AnsibleModule, reports: list[Report]) -> None:
    result: dict[str, Any] = {
        "changed": any(report.changed for report in reports),
        "namespaces": [{**report.as_dict(), **report.obstacles()} for report in reports],
        "diff": [_diff(report) for report in reports if report.changed],
    }
    failed = [report for report in reports if report.failed]
    if failed:
        told = "; ".join(f"{report.user}: {'; '.join(report.messages)}" for report in failed[:3])
        more = f"; and {len(failed) - 3} more, see namespaces" if len(failed) > 3 else ""
        module.fail_json(msg=f"{len(failed)} of {len(reports)} users failed: {told}{more}", **result)
    module.exit_json(**result)


def _diff(report: Report) -> dict[str, str]:
    return {
        "before_header": f"namespace of {report.user}",
        "after_header": f"namespace of {report.user}",
        "before": json.dumps(report.before, indent=2, sort_keys=True) + "\n",
        "after": json.dumps(report.after, indent=2, sort_keys=True) + "\n",
    }
