# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter `split_idmap`: ID mappings cut so that each lies within one range that is available."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import IdMapError, split_mappings
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import escape
from ansible_collections.userns.rootless.plugins.plugin_utils._idmap_input import read_entries, read_mappings


def split_idmap(mappings: Any, available: Any) -> list[dict[str, int]]:
    """OCI entries that mean the same as `mappings`, or `mappings` itself where a part of them is not available."""
    try:
        parts = split_mappings(read_mappings(mappings, "mappings"), read_entries(available, "available"))
    except IdMapError as error:
        raise AnsibleFilterError(escape(f"split_idmap: {error}")) from None
    return [part.as_dict() for part in parts]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"split_idmap": split_idmap}
