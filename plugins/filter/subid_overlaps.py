# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter `subid_overlaps`: ranges of different owners that share IDs, on one host or on hosts that share storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import MAX_ID, overlapping, parse_decimal

KINDS = ("uid", "gid")


def subid_overlaps(configured: Any) -> list[dict[str, Any]]:
    """Overlaps among `configured` of `rootless_ns_info`: a list of one host's users, or such lists by host."""
    found = []
    for kind in KINDS:
        # One user may have the same range on many hosts: that is what sharing storage needs.
        same: dict[tuple[Any, int, int], list[dict[str, Any]]] = defaultdict(list)
        for host, users in _by_host(configured):
            for entry in _ranges(host, users, kind):
                same[entry["user"], entry["start"], entry["count"]].append(entry)
        for one, other in overlapping((start, count, entries) for (_user, start, count), entries in same.items()):
            if one[0]["user"] != other[0]["user"]:
                found += [{"kind": kind, "first": first, "second": second} for first, second in product(one, other)]
    return found


def _by_host(configured: Any) -> list[tuple[str | None, Any]]:
    if isinstance(configured, Mapping):
        return [(str(host), users) for host, users in configured.items()]
    return [(None, configured)]


def _ranges(host: str | None, users: Any, kind: str) -> Iterator[dict[str, Any]]:
    if not isinstance(users, Sequence) or isinstance(users, (str, bytes)):
        raise AnsibleFilterError(
            "subid_overlaps takes what rootless_ns_info returns as configured, a list of users, or such lists by host, "
            f"not {type(users).__name__}"
        )
    for user in users:
        try:
            for range_ in user[f"{kind}_ranges"]:
                start, count = _number(range_["start"], 0), _number(range_["count"], 1)
                if start + count > MAX_ID:
                    raise ValueError(f"{start} and {count} do not fit in 32 bits")
                # A name can be looked for.
                hash(user["user"])
                entry = {"user": user["user"], "start": start, "count": count}
                yield entry if host is None else {"host": host, **entry}
        except (KeyError, TypeError, ValueError) as error:
            raise AnsibleFilterError(f"subid_overlaps: {user!r} is no entry of configured: {error!r}") from error


def _number(value: Any, least: int) -> int:
    """Whole numbers, also as text; a float or a boolean among them is a mistake."""
    if isinstance(value, str):
        value = parse_decimal(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"whole numbers from {least} on are wanted")
    return value


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"subid_overlaps": subid_overlaps}
