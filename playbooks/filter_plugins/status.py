# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the playbook `status`: what all hosts tell, as rows, as a table, and asked by JMESPath."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import printable

Row = dict[str, Any]

_HEADER = ("HOST", "USER", "STATE", "NEEDS", "PINNED", "PROCESSES", "DRIFT", "NOTES")
_FINE = ("live", "missing")
_FILES = {"pause_pid": "pause.pid", "ns_handles": "ns_handles", "pin": "pin"}
_NOTE_LENGTH = 100


def rows(results: Iterable[tuple[dict[str, Any], str]]) -> list[Row]:
    """One row per host and user, from each host's result of `rootless_ns_info`; a host without users has one, too."""
    return [row for result, host in results for row in _rows_of(host, _plain(result))]


def _rows_of(host: str, result: dict[str, Any]) -> list[Row]:
    if "namespaces" not in result:
        state = "unreachable" if result.get("unreachable") else "failed"
        return [{"host": host, "user": None, "state": state, "needs": "look", "msg": result.get("msg", "no result")}]
    common = {key: result[key] for key in ("available", "overlaps", "kernel")}
    if not result["namespaces"]:
        return [{"host": host, "user": None, "state": "nobody", "needs": "", "msg": "", **common}]
    configured = {entry["user"]: entry for entry in result["configured"]}
    return [
        {
            **namespace,
            "host": host,
            "state": namespace["state"] or "failed",
            "needs": namespace["needs"],
            "configured": configured.get(namespace["user"]),
            **common,
        }
        for namespace in result["namespaces"]
    ]


def table(found: list[Row]) -> list[str]:
    """The rows as lines with aligned columns, and a last line that counts them."""
    cells = [_HEADER, *(_cells(row) for row in found)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[-1]]) for line in cells]
    states = Counter(row["state"] for row in found)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    needed = Counter(row["needs"] for row in found if row["needs"])
    asked = "".join(f"; {count} to {need}" for need, count in sorted(needed.items()))
    hosts = len({row["host"] for row in found})
    return [*(printable(line.rstrip()) for line in lines), f"{hosts} hosts; {counted}{asked}"]


def _cells(row: Row) -> tuple[str, ...]:
    told = "verdicts" in row and row["state"] != "failed"
    return (
        row["host"],
        row["user"] or "-",
        row["state"],
        row["needs"] or "-",
        ("yes" if row["pinned"] else "no") if told else "-",
        str(row["processes"]) if told else "-",
        ("yes" if row["drift"] else "no") if told else "-",
        _notes(row),
    )


def _notes(row: Row) -> str:
    verdicts = row.get("verdicts") or {}
    notes = [f"{_FILES[key]} {found['verdict']}" for key, found in verdicts.items() if found["verdict"] not in _FINE]
    if row.get("orphans"):
        notes.append(f"{len(row['orphans'])} orphan(s)")
    # Of what cannot be looked at there is nothing but the message.
    if row["state"] in ("failed", "unreachable"):
        message = " ".join(row["msg"].split())
        notes.append(message if len(message) <= _NOTE_LENGTH else message[: _NOTE_LENGTH - 3] + "...")
    return ", ".join(notes)


def query(found: list[Row], expression: str) -> Any:
    """What a JMESPath expression finds in the rows."""
    try:
        import jmespath
    except ImportError:
        raise AnsibleFilterError(
            "query needs the Python package jmespath beside Ansible on the controller: "
            f"{sys.executable} -m pip install jmespath"
        ) from None
    try:
        return jmespath.search(str(expression), _plain(found))
    except jmespath.exceptions.JMESPathError as error:
        raise AnsibleFilterError(f"query {str(expression)!r} does not work: {error}") from None


def _plain(value: Any) -> Any:
    """Without Ansible's own types, which JMESPath's functions would not know."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "rootless_status_rows": rows,
            "rootless_status_table": table,
            "rootless_status_query": query,
        }
