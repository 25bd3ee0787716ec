# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line for each user, made of the entries that modules return, and how grave it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .output import ERROR, INFO, WARNING

Line = tuple[str, int]
Entry = Mapping[str, Any]


def changed_line(entry: Entry) -> Line:
    """What was done to a user's namespace."""
    return _line(entry, [entry["action"], *_where(entry)], failed=entry["action"] == "failed")


def seen_line(entry: Entry) -> Line:
    """How a user's namespace was found."""
    if entry["state"] is None:
        return _line(entry, ["failed"], failed=True)
    odd = [f"{name} {found['verdict']}" for name, found in entry["verdicts"].items() if found["verdict"] not in _PLAIN]
    asked = [f"needs {entry['needs']}"] if entry["needs"] else []
    text, priority = _line(entry, [entry["state"], *asked, *_where(entry), *odd, *_orphans(entry)], failed=False)
    return text, WARNING if entry["needs"] in ("look", "repair") else priority


def cleaned_line(entry: Entry) -> Line:
    """What was removed for a user, and what was left though it is not in use."""
    done = [f"removed {file['path']} ({file['verdict']})" for file in entry["files"] if file["action"] == "removed"]
    done += [f"repaired {file['path']} ({file['verdict']})" for file in entry["files"] if file["action"] == "repaired"]
    done += [
        f"reaped {orphan['pid']} ({orphan['command']})" for orphan in entry["orphans"] if orphan["action"] == "reaped"
    ]
    left = [
        f"left {file['path']} ({file['verdict']}{file['why'] and ': '}{file['why']})"
        for file in entry["files"]
        if _is_odd(file)
    ]
    left += [f"left orphan {orphan['pid']}" for orphan in entry["orphans"] if orphan["action"] == "left"]
    return _line(entry, [entry["action"], *done, *left], failed=entry["action"] == "failed")


def is_eventful(entry: Entry) -> bool:
    """Whether cleaning found anything of a user's worth a line where nobody asked for this user."""
    left = [file for file in entry["files"] if _is_odd(file)]
    return bool(entry["action"] != "none" or entry["msg"] or left or entry["orphans"])


_PLAIN = ("live", "missing")


def _is_odd(file: Entry) -> bool:
    return file["action"] == "left" and file["verdict"] not in _PLAIN


def _line(entry: Entry, parts: list[str], *, failed: bool) -> Line:
    text = f"{entry['user']}: {', '.join(parts)}"
    if entry["msg"]:
        text = f"{text}: {entry['msg']}"
    if failed:
        return text, ERROR
    return text, WARNING if entry["msg"] else INFO


def _where(entry: Entry) -> list[str]:
    """The namespace and what keeps it."""
    if entry["userns"] is None:
        return []
    found = [f"user:[{entry['userns']}] mnt:[{entry['mntns']}]"]
    if entry["pause_pid"] is not None:
        found.append(f"pause process {entry['pause_pid']}")
    if entry["pinned"]:
        found.append("pinned")
    if entry["drift"]:
        found.append("drifted")
    return found


def _orphans(entry: Entry) -> list[str]:
    return [f"{len(entry['orphans'])} orphan(s)"] if entry["orphans"] else []
