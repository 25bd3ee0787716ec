# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: a call of the library becomes the task's result."""

from __future__ import annotations

from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule

from .._rootless.calls.result import CallResult
from .._rootless.errors import RootlessError


def run_call(module: AnsibleModule, call: Callable[[], CallResult]) -> None:
    """Make the call; its warnings, its failure and its result are the task's."""
    try:
        result = call()
    except (RootlessError, OSError) as error:
        module.fail_json(msg=str(error), exception=error)
    for text in [*result.warnings, *result.user_warnings]:
        module.warn(text)
    if result.failure is not None:
        module.fail_json(msg=result.failure, **result.told)
    module.exit_json(**result.told)
