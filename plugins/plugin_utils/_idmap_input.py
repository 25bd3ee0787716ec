# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ID maps as users write them in templates, read into the library's classes. Errors are the library's IdMapError."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import (
    IdMapEntry,
    IdMapError,
    OciMapping,
    parse_decimal,
    parse_id_map,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import quoted, shorten

ENTRY = '{id, parent_id, count}, {containerID, hostID, size} or "CONTAINER:HOST:COUNT"'
OCI_KEYS = frozenset({"containerID", "hostID", "size"})
ENTRY_KEYS = frozenset({"id", "parent_id", "count"})


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def read_mappings(value: object, what: str) -> tuple[OciMapping, ...]:
    """Read mappings in any notation; `what` names them in errors. OCI entries alone may have a size of 0."""
    return tuple(_read(value, what))


def read_entries(value: object, what: str) -> tuple[IdMapEntry, ...]:
    """Read a map in any notation likewise; each entry must hold an ID, and end at the last one."""
    return tuple(IdMapEntry(mapping.container_id, mapping.host_id, mapping.size) for mapping in _read(value, what))


def _read(value: object, what: str) -> Iterator[OciMapping]:
    if isinstance(value, str):
        yield from _from_text(value, what)
    elif is_list(value):
        for number, entry in enumerate(value, start=1):
            yield from _from_element(entry, f"entry {number} of {what}")
    else:
        found = quoted(value)
        raise IdMapError(f"{what} must be a list of {ENTRY}, or text with such or with lines of a uid_map, not {found}")


def _from_element(entry: object, where: str) -> Iterator[OciMapping]:
    if isinstance(entry, str) and entry.strip():
        yield from _from_text(entry, where)
        return
    keys = entry.keys() if isinstance(entry, Mapping) else frozenset()
    try:
        if not OCI_KEYS.isdisjoint(keys):
            yield OciMapping.parse(entry)
        elif not ENTRY_KEYS.isdisjoint(keys):
            yield _as_mapping(IdMapEntry.parse(entry))
        else:
            raise IdMapError(f"{quoted(entry)} is not {ENTRY}")
    except IdMapError as error:
        raise IdMapError(f"{where}: {error}") from None


def _from_text(text: str, where: str) -> Iterator[OciMapping]:
    """Podman's notation where there is a colon, else the kernel's. Empty text is the map that was never written."""
    if ":" not in text:
        yield from map(_as_mapping, parse_id_map(text.strip(), origin=where))
        return
    for word in re.split(r"\s*,\s*|\s+", text.strip()):
        fields = [parse_decimal(field) for field in word.split(":")]
        first, second, third = fields if len(fields) == 3 else (None, None, None)
        if first is None or second is None or third is None:
            raise IdMapError(f'{where}: "{shorten(word)}" is not CONTAINER:HOST:COUNT, three decimal 32-bit numbers')
        try:
            yield _as_mapping(IdMapEntry(first, second, third))
        except IdMapError as error:
            raise IdMapError(f"{where}: {error}") from None


def _as_mapping(entry: IdMapEntry) -> OciMapping:
    return OciMapping(entry.id, entry.parent_id, entry.count)
