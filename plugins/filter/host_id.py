# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter `host_id`: who an ID in the container is on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import IdMap
from ansible_collections.userns.rootless.plugins.plugin_utils._translate import translate


def host_id(ids: Any, map: Any, unmapped: Any = "error") -> Any:
    """The ID on the host of an ID in the container, or a list of them for a list."""
    return translate("host_id", ids, map, unmapped, IdMap.to_parent)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"host_id": host_id}
