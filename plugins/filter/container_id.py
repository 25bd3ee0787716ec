# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter `container_id`: who an ID of the host is in the container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import IdMap
from ansible_collections.userns.rootless.plugins.plugin_utils._translate import translate


def container_id(ids: Any, map: Any, unmapped: Any = "error") -> Any:
    """The ID in the container of an ID on the host, or a list of them for a list."""
    return translate("container_id", ids, map, unmapped, IdMap.to_inside)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"container_id": container_id}
