# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `rootless_subid`: options to results."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .._rootless.errors import RootlessError
from .._rootless.login_defs import KINDS, read_policy
from .._rootless.subid import SubidError
from .._rootless.subid_change import Accounts, HalfDoneError, KindOutcome, OverlapError, SubidChange, overlap_entry
from .._rootless.subid_plan import Wish
from .._rootless.subid_text import Owner
from .._rootless.text import escape_lines
from .common import fail, finish

ARGUMENT_SPEC: dict[str, Any] = {
    "owners": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "kinds": {"type": "list", "elements": "str", "choices": ["uid", "gid"], "default": ["uid", "gid"]},
    "count": {"type": "int"},
    "allocate": {"type": "str", "choices": ["next", "uid"], "default": "next"},
    "ranges": {
        "type": "list",
        "elements": "dict",
        "options": {
            "owner": {"type": "str"},
            "kinds": {"type": "list", "elements": "str", "choices": ["uid", "gid"], "default": ["uid", "gid"]},
            "start": {"type": "int", "required": True},
            "count": {"type": "int", "required": True},
        },
    },
    "exclusive": {"type": "bool", "default": False},
    "reuse_released": {"type": "bool", "default": False},
    "key": {"type": "str", "choices": ["name", "uid"], "default": "name"},
    "on_overlap": {"type": "str", "choices": ["fail", "report"], "default": "report"},
    "backup": {"type": "bool", "default": False},
}


def run(module: AnsibleModule) -> None:
    """Change the files for every owner; one owner's failure never stops the others."""
    params = module.params
    asked = list(dict.fromkeys(params["owners"]))
    accounts = Accounts()
    owners: list[Owner] = []
    refused: dict[str, str] = {}
    for name in asked:
        try:
            owners.append(accounts.owner(name, key=params["key"]))
        except SubidError as error:
            refused[name] = str(error)
    _refuse_twice(module, owners)
    backups: dict[str, str] = {}

    def back_up(path: str) -> None:
        backups[path] = module.backup_local(path)

    try:
        refuse = params["on_overlap"] == "fail"
        change = SubidChange(owners, accounts, kinds=params["kinds"], refuse_overlaps=refuse)
        backup = back_up if params["backup"] else None
        if params["state"] == "absent":
            found = change.absent(check=module.check_mode, backup=backup)
        else:
            found = change.present(_wishes(module, asked), check=module.check_mode, backup=backup)
    except OverlapError as error:
        told = [overlap_entry(kind, *pair) for kind, outcome in error.found.items() for pair in outcome.overlaps]
        fail(module, f"{error}; nothing was changed (on_overlap: fail)", overlaps=told, owners=[])
    except (RootlessError, OSError) as error:
        result: dict[str, Any] = {"changed": isinstance(error, HalfDoneError), "owners": [], "overlaps": []}
        if backups:
            result["backup_files"] = backups
        fail(module, str(error), error, **result)
    _finish(module, asked, owners, refused, found, backups)


def _refuse_twice(module: AnsibleModule, owners: list[Owner]) -> None:
    seen: dict[str, str] = {}
    for owner in owners:
        for name in owner.names:
            other = seen.setdefault(name, owner.asked)
            if other != owner.asked:
                fail(module, f"'{other}' and '{owner.asked}' in owners are one owner: name it once")


def _wishes(module: AnsibleModule, asked: list[str]) -> dict[str, Wish]:
    params = module.params
    if params["count"] is not None and params["count"] < 1:
        fail(module, f"count must be at least 1, not {params['count']}")
    ranges: dict[str, dict[str, list[tuple[int, int]]]] = {kind: {} for kind in KINDS}
    for range_ in params["ranges"] or ():
        owner = range_["owner"] if range_["owner"] is not None else asked[0]
        if range_["owner"] is None and len(asked) != 1:
            fail(module, f"the range {range_['start']}:{range_['count']} needs an owner, since owners names several")
        if owner not in asked:
            fail(module, f"ranges names '{owner}', whom owners does not name")
        if range_["start"] < 1 or range_["count"] < 1:
            fail(module, f"start and count must be at least 1: {range_['start']}:{range_['count']} of {owner}")
        for kind in range_["kinds"]:
            ranges[kind].setdefault(owner, []).append((range_["start"], range_["count"]))
    return {
        kind: Wish(
            count=params["count"] or read_policy(kind).count,
            allocate=params["allocate"],
            ranges=ranges[kind],
            exclusive=params["exclusive"],
            reuse_released=params["reuse_released"],
        )
        for kind in params["kinds"]
    }


def _finish(
    module: AnsibleModule,
    asked: list[str],
    owners: list[Owner],
    refused: dict[str, str],
    found: dict[str, KindOutcome],
    backups: dict[str, str],
) -> None:
    entries = {owner.asked: _entry(owner, index, found) for index, owner in enumerate(owners)}
    for name, why in refused.items():
        entries[name] = {**_entry(Owner(name, name, frozenset()), None, found), "action": "failed", "msg": why}
    overlaps = [overlap_entry(kind, *pair) for kind, outcome in found.items() for pair in outcome.overlaps]
    result: dict[str, Any] = {
        "changed": any(outcome.changed for outcome in found.values()),
        "owners": [entries[name] for name in asked],
        "overlaps": overlaps,
        "diff": [
            {
                "before_header": outcome.path,
                "after_header": outcome.path,
                "before": escape_lines(outcome.before),
                "after": escape_lines(outcome.after),
            }
            for outcome in found.values()
            if outcome.changed
        ],
    }
    if backups:
        result["backup_files"] = backups
    warnings = [f"{problem}: the line was left as it is" for outcome in found.values() for problem in outcome.problems]
    failed = [entry for entry in result["owners"] if entry["action"] == "failed"]
    told = [f"{entry['owner']}: {entry['msg']}" for entry in failed[:3]]
    if overlaps:
        warnings.append(f"{len(overlaps)} overlap(s) between owners, the first: {overlaps[0]['msg']}")
    more = f"; and {len(failed) - 3} more, see owners" if len(failed) > 3 else ""
    finish(module, result, failure="; ".join(told) + more if told else None, warnings=warnings)


def _entry(owner: Owner, index: int | None, found: dict[str, KindOutcome]) -> dict[str, Any]:
    entry: dict[str, Any] = {"owner": owner.asked, "uid": owner.uid, "action": "none", "msg": ""}
    problems = []
    for kind in KINDS:
        outcome = found[kind].owners[index] if index is not None and kind in found else None
        entry[f"{kind}_ranges"] = _ranges(outcome.ranges) if outcome else []
        entry[f"{kind}_added"] = _ranges(outcome.added) if outcome else []
        entry[f"{kind}_removed"] = _ranges(outcome.removed) if outcome else []
        if outcome and (outcome.added or outcome.removed):
            entry["action"] = "changed"
        if outcome and outcome.problem:
            problems.append(f"{os.path.basename(found[kind].path)}: {outcome.problem}")
    if problems:
        entry.update(action="failed", msg="; ".join(problems))
    return entry


def _ranges(ranges: list[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"start": start, "count": count} for start, count in ranges]
