# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: a call of the library becomes the task's result.

Everything that a module returns goes through here and is escaped here (see `_rootless.text`): names, paths and
messages hold what users chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.calls.result import CallResult
from .._rootless.errors import RootlessError
from .._rootless.text import escape, escape_all, escaped_traceback


def run_call(module: AnsibleModule, call: Callable[[], CallResult]) -> None:
    """Make the call; its warnings, its failure and its result are the task's."""
    with failing(module):
        result = call()
    finish(module, result.told, failure=result.failure, warnings=[*result.warnings, *result.user_warnings])


@contextmanager
def failing(module: AnsibleModule) -> Iterator[None]:
    """End the task as failed where the block raises. Ansible would show the text of an exception as it is."""
    try:
        yield
    except (RootlessError, OSError) as error:
        fail(module, str(error), error)
    except Exception as error:
        fail(module, f"internal error: {type(error).__name__}: {error}", error)


def finish(
    module: AnsibleModule, told: dict[str, Any], *, failure: str | None = None, warnings: Iterable[str] = ()
) -> None:
    """End the task with a result; with a `failure` it fails."""
    for text in warnings:
        module.warn(escape(text))
    if failure is not None:
        fail(module, failure, **told)
    module.exit_json(**escape_all(told))


def fail(module: AnsibleModule, message: str, error: Exception | None = None, **told: Any) -> None:
    """End the task as failed; `error` is what Ansible shows the traceback of."""
    exception = {} if error is None else {"exception": escaped_traceback(error)}
    module.fail_json(msg=escape(message), **exception, **escape_all(told))
