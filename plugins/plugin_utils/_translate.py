# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters `host_id` and `container_id` have in common: one ID or a list of them, looked up in a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import (
    IdMap,
    IdMapError,
    parse_id,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import escape, quoted, shorten

from ._idmap_input import is_list, read_entries

OVERFLOW_ID = 65534
"""``DEFAULT_OVERFLOWUID`` and ``DEFAULT_OVERFLOWGID``: as whom the kernel shows an ID that has no mapping."""

UNMAPPED = ("error", "none", "overflow")


def translate(name: str, ids: Any, id_map: Any, unmapped: Any, lookup: Callable[[IdMap, int], int | None]) -> Any:
    """The other side of `ids`, one or a list of them, for the filter `name`."""
    if unmapped not in UNMAPPED:
        allowed = ", ".join(UNMAPPED)
        raise AnsibleFilterError(
            escape(f"{name}: unmapped must be one of the strings {allowed}, not {quoted(unmapped)}")
        )
    try:
        entries = read_entries(id_map, "map")
        indexed = IdMap(entries)

        def one(value: object) -> int | None:
            number = parse_id(value)
            found = lookup(indexed, number)
            if found is None and unmapped == "error":
                holds = ", ".join(map(str, entries))
                raise IdMapError(
                    f"{number} is not mapped; the map (container, host, count) "
                    + (f"is {shorten(holds)}" if holds else "is empty, as it is where there is no namespace")
                )
            return OVERFLOW_ID if found is None and unmapped == "overflow" else found

        return [one(value) for value in ids] if is_list(ids) else one(ids)
    except IdMapError as error:
        raise AnsibleFilterError(escape(f"{name}: {error}")) from None
