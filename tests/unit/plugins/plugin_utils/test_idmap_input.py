# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The notations in which users write maps, and everything that is none."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ansible.errors")

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import (
    MAX_ID,
    IdMapEntry,
    IdMapError,
    OciMapping,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import escape
from ansible_collections.userns.rootless.plugins.plugin_utils._idmap_input import read_entries, read_mappings

ROOTLESS = ((0, 1000, 1), (1, 100000, 65536))
AS_ENTRIES = [{"id": 0, "parent_id": 1000, "count": 1}, {"id": 1, "parent_id": 100000, "count": 65536}]
AS_OCI = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]


@pytest.mark.parametrize(
    "written",
    [
        AS_ENTRIES,
        tuple(AS_ENTRIES),
        [{"id": "0", "parent_id": "1000", "count": "1"}, AS_ENTRIES[1]],
        AS_OCI,
        [{"containerID": "0", "hostID": "1000", "size": "1"}, AS_OCI[1]],
        ["0:1000:1", "1:100000:65536"],
        ["0:1000:1,1:100000:65536"],
        [" 0:1000:1", "1:100000:65536\n"],
        "0:1000:1 1:100000:65536",
        "0:1000:1,1:100000:65536",
        "\n  0:1000:1 ,\t1:100000:65536\n",
        "0:1000:1\n1:100000:65536\n",
        "         0       1000          1\n         1     100000      65536\n",
        "0 1000 1\n1 100000 65536",
        "0 1000 1\r\n1 100000 65536\r\n",
        ["         0       1000          1", "         1     100000      65536"],
        [AS_ENTRIES[0], AS_OCI[1]],
        [AS_OCI[0], "1:100000:65536"],
    ],
)
def test_notations(written: Any) -> None:
    assert read_entries(written, "map") == tuple(IdMapEntry(*line) for line in ROOTLESS)
    assert read_mappings(written, "map") == tuple(OciMapping(*line) for line in ROOTLESS)


@pytest.mark.parametrize("empty", [[], (), "", " \n"])
def test_the_empty_map(empty: Any) -> None:
    assert read_entries(empty, "map") == ()
    assert read_mappings(empty, "map") == ()


@pytest.mark.parametrize("what", [None, 7, 1.5, True, b"0:1000:1", bytearray(b"0:1:1"), {}, AS_ENTRIES[0], {"0:1:1"}])
def test_what_is_no_list_and_no_text(what: Any) -> None:
    for read in (read_entries, read_mappings):
        with pytest.raises(IdMapError, match=r"^map must be a list of .id, parent_id, count.,"):
            read(what, "map")


NOT_AN_ENTRY = 'is not {id, parent_id, count}, {containerID, hostID, size} or "CONTAINER:HOST:COUNT"'
WHOLE = f"must be a whole number from 0 to {MAX_ID}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, f"None {NOT_AN_ENTRY}"),
        (0, f"0 {NOT_AN_ENTRY}"),
        (True, f"True {NOT_AN_ENTRY}"),
        ([], f"[] {NOT_AN_ENTRY}"),
        ([0, 1000, 1], f"[0, 1000, 1] {NOT_AN_ENTRY}"),
        ([AS_ENTRIES[0]], NOT_AN_ENTRY),
        (b"0:1000:1", NOT_AN_ENTRY),
        ({}, f"{{}} {NOT_AN_ENTRY}"),
        ("", f"'' {NOT_AN_ENTRY}"),
        (" ", f"' ' {NOT_AN_ENTRY}"),
        ({"start": 1, "count": 1}, "must be a mapping of exactly id, parent_id, count"),
        ({"ID": 0, "ParentID": 1, "Count": 1}, NOT_AN_ENTRY),
        ({"container_id": 0, "host_id": 1}, NOT_AN_ENTRY),
        ({"id": 0, "parent_id": 1}, "must be a mapping of exactly id, parent_id, count"),
        ({"containerID": 0, "hostID": 1}, "must be a mapping of exactly containerID, hostID, size"),
        ({**AS_ENTRIES[0], "source": "x"}, "must be a mapping of exactly id, parent_id, count"),
        ({**AS_OCI[0], **AS_ENTRIES[0]}, "must be a mapping of exactly containerID, hostID, size"),
        ({"id": -1, "parent_id": 0, "count": 1}, f"id {WHOLE}"),
        ({"id": 0, "parent_id": "-1", "count": 1}, f"parent_id {WHOLE}"),
        ({"id": 0, "parent_id": False, "count": 1}, f"parent_id {WHOLE}"),
        ({"id": 0, "parent_id": 0, "count": 1.0}, f"count {WHOLE}"),
        ({"id": 0, "parent_id": 0, "count": None}, f"count {WHOLE}"),
        ({"id": 0, "parent_id": 0, "count": [1]}, f"count {WHOLE}"),
        ({"id": 0, "parent_id": 0, "count": MAX_ID + 1}, f"count {WHOLE}"),
        ({"id": 0, "parent_id": 0, "count": 0}, "count must be at least 1"),
        ({"id": 2, "parent_id": 0, "count": MAX_ID}, "runs past the last 32-bit ID"),
        ({"containerID": 0, "hostID": True, "size": 1}, f"hostID {WHOLE}"),
        ({"containerID": 0, "hostID": 0, "size": -1}, f"size {WHOLE}"),
        ({"containerID": "0x1", "hostID": 0, "size": 1}, f"containerID {WHOLE}"),
        ("0:1000", '"0:1000" is not CONTAINER:HOST:COUNT'),
        ("0:1000:1:u", '"0:1000:1:u" is not CONTAINER:HOST:COUNT'),
        ("+0:1000:1", '"+0:1000:1" is not CONTAINER:HOST:COUNT'),
        ("0:@1000:1", '"0:@1000:1" is not CONTAINER:HOST:COUNT'),
        ("0::1", '"0::1" is not CONTAINER:HOST:COUNT'),
        ("0:-1:1", '"0:-1:1" is not CONTAINER:HOST:COUNT'),
        ("0:1:4294967296", '"0:1:4294967296" is not CONTAINER:HOST:COUNT'),
        ("0:1000:1,", '"" is not CONTAINER:HOST:COUNT'),
        ("0:1000:1,,1:100000:1", '"" is not CONTAINER:HOST:COUNT'),
        ("0:1000:1;1:100000:1", "is not CONTAINER:HOST:COUNT"),
        ("0: 1000: 1", '"0:" is not CONTAINER:HOST:COUNT'),
        ("0:1000:1\n1 100000 65536", '"1" is not CONTAINER:HOST:COUNT'),
        ("0:1000:0", "count must be at least 1"),
        ("2:0:4294967295", "runs past the last 32-bit ID"),
        ("0 1000", '"0 1000" is not three decimal 32-bit numbers'),
        ("0 1000 1 1 100000 65536", "is not three decimal 32-bit numbers"),
        ("0 1000 1, 1 100000 65536", "is not three decimal 32-bit numbers"),
        ("0 1000 1\n\n1 100000 65536", 'line 2: "" is not three decimal'),
        ("alice", '"alice" is not three decimal 32-bit numbers'),
    ],
)
def test_bad_entries(entry: Any, message: str) -> None:
    for read in (read_entries, read_mappings):
        with pytest.raises(IdMapError) as caught:
            read([{"id": 5, "parent_id": 5, "count": 1}, entry], "map")
        assert message in str(caught.value)
        assert str(caught.value).startswith("entry 2 of map")
        # The same alone, as text, names no entry.
        if isinstance(entry, str) and entry.strip():
            with pytest.raises(IdMapError, match=r"^map") as caught:
                read(entry, "map")
            assert message in str(caught.value)


def test_only_oci_mappings_may_be_empty_or_run_past_the_last_id() -> None:
    for size, message in ((0, "count must be at least 1"), (MAX_ID, "runs past the last 32-bit ID")):
        written = [{"containerID": 5, "hostID": 5, "size": size}]
        assert read_mappings(written, "mappings") == (OciMapping(5, 5, size),)
        with pytest.raises(IdMapError, match=message):
            read_entries(written, "map")


def test_messages_are_short() -> None:
    for hostile in (
        ["\x1b[2J" * 1000],
        "0:1:1 " + "9" * 10**6,
        [{"id": "\x00" * 10**6}],
        ["x" * 10**6],
        {"a": "b" * 10**6},
    ):
        with pytest.raises(IdMapError) as caught:
            read_entries(hostile, "map")
        assert len(str(caught.value)) < 500
        assert escape(str(caught.value)).isprintable()
