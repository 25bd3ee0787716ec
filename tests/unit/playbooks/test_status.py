# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table and the query of the playbook `status`."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.playbooks.filter_plugins.status import query, rows, table


def entry(user: str, state: str | None, **other: Any) -> dict[str, Any]:
    files = ("pause_pid", "ns_handles", "pin")
    verdicts = {name: {"verdict": other.pop(name, "missing"), "evidence": ""} for name in files} if state else {}
    known = {"user": user, "state": state, "verdicts": verdicts, "orphans": [], "method": "pause", "msg": ""}
    needs = {"alive": "", "broken": "repair", "stale": "clean", None: "look"}[state]
    return {**known, "needs": needs, "pinned": state == "alive", "processes": 0, "drift": False, **other}


def result(*entries: dict[str, Any]) -> dict[str, Any]:
    configured = [{"user": one["user"], "uid_ranges": []} for one in entries if one["state"]]
    common = {"available": {"uids": 1}, "overlaps": [], "kernel": {"nsfs_handles": "user"}}
    return {"namespaces": list(entries), "configured": configured, **common}


FLEET = [
    (result(entry("alice", "alive", pause_pid="live"), entry("bob", "broken", ns_handles="corrupt")), "node1"),
    (result(), "node2"),
    ({"unreachable": True, "msg": "no\nroute"}, "node3"),
    ({"msg": "no Python"}, "node4"),
    (result(entry("carol", None, msg="no such user")), "node5"),
]


def test_every_host_is_in_the_table() -> None:
    assert table(rows(FLEET)) == [
        "HOST   USER   STATE        NEEDS   PINNED  PROCESSES  DRIFT  NOTES",
        "node1  alice  alive        -       yes     0          no",
        "node1  bob    broken       repair  no      0          no     ns_handles corrupt",
        "node2  -      nobody       -       -       -          -",
        "node3  -      unreachable  look    -       -          -      no route",
        "node4  -      failed       look    -       -          -      no Python",
        "node5  carol  failed       look    -       -          -      no such user",
        "5 hosts; 1 alive, 1 broken, 2 failed, 1 nobody, 1 unreachable; 3 to look; 1 to repair",
    ]


def test_a_query_sees_all_hosts() -> None:
    pytest.importorskip("jmespath")
    found = rows(FLEET)
    others = query(found, "[?state!='alive'].{host:host,user:user}")
    assert [(one["host"], one["user"]) for one in others] == [
        ("node1", "bob"),
        ("node2", None),
        ("node3", None),
        ("node4", None),
        ("node5", "carol"),
    ]
    assert query(found, "[?user=='alice'].kernel.nsfs_handles") == ["user"]
    assert query(found, "[?user=='alice'].configured.uid_ranges") == [[]]


@pytest.mark.parametrize("wrong", ["[?", "[].length(kernel.nothing)"])
def test_a_wrong_query_is_named(wrong: str) -> None:
    pytest.importorskip("jmespath")
    with pytest.raises(AnsibleFilterError, match="does not work"):
        query(rows(FLEET), wrong)


def test_without_jmespath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(AnsibleFilterError, match="pip install jmespath"):
        query([], "[]")


def test_no_host_forges_lines_or_commands_the_terminal() -> None:
    odd = "x\ny\x1b[2J\udcff\u202e"
    shown = r"x\x0ay\x1b[2J\xff\u202e"
    lines = table(rows([({"unreachable": True, "msg": odd}, odd), (result(entry(odd, "alive")), r"a\x1b")]))
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith(shown)
    # What modules have escaped is not escaped again.
    assert lines[2].split()[:2] == [r"a\x1b", shown]
