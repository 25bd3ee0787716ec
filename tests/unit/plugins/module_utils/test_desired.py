# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import desired
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.desired import IdMaps, MapDesigner
from ansible_collections.userns.rootless.plugins.module_utils._rootless.errors import RootlessError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import MAX_ID, IdMapEntry
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import FileSubids

EVERYTHING = IdMaps((IdMapEntry(0, 0, MAX_ID),), (IdMapEntry(0, 0, MAX_ID),))
OTHER = Account("alice", os.geteuid() + 1, 100, "/")
MYSELF = Account("me", os.geteuid(), os.getegid(), "/")


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str | None]:
    """Map tools that are found and powerful, unless a test says otherwise: name to problem, `missing` for none."""
    problems: dict[str, str | None] = {"newuidmap": None, "newgidmap": None}
    monkeypatch.setattr(desired, "find_tool", lambda name, path: None if problems[name] == "missing" else name)
    monkeypatch.setattr(desired, "why_powerless", lambda tool: problems[tool])
    return problems


def designer(tmp_path: Path, subuid: str, subgid: str = "", available: IdMaps = EVERYTHING) -> MapDesigner:
    (tmp_path / "subuid").write_text(subuid)
    (tmp_path / "subgid").write_text(subgid)
    return MapDesigner(FileSubids(str(tmp_path)), available=available, path=None)


def test_podmans_rule(tmp_path: Path) -> None:
    subuid = f"alice:300000:10\nbob:1:1\n{OTHER.uid}:200000:5\n"
    wanted = designer(tmp_path, subuid, "alice:400000:7\n").design(OTHER)
    assert wanted.maps.uid_map == (IdMapEntry(0, OTHER.uid, 1), IdMapEntry(1, 200000, 5), IdMapEntry(6, 300000, 10))
    assert wanted.maps.gid_map == (IdMapEntry(0, 100, 1), IdMapEntry(1, 400000, 7))
    assert wanted.warnings == ()


@pytest.mark.parametrize(
    ("subuid", "subgid", "missing"),
    [("", "", ["UID", "GID"]), ("", "alice:400000:7\n", ["UID"]), ("alice:400000:7\n", "", ["GID"])],
)
def test_without_ranges_of_both_kinds_a_single_id_and_a_warning(
    tmp_path: Path, subuid: str, subgid: str, missing: list[str]
) -> None:
    """As Podman, which maps no range of one kind alone."""
    wanted = designer(tmp_path, subuid, subgid).design(OTHER)
    assert wanted.maps == IdMaps((IdMapEntry(0, OTHER.uid, 1),), (IdMapEntry(0, OTHER.gid, 1),))
    assert len(wanted.warnings) == len(missing)
    for kind, text in zip(missing, wanted.warnings):
        assert f"no subordinate {kind} range in /etc/sub{kind.lower()}:" in text


@pytest.mark.parametrize(
    ("subuid", "told"),
    [
        (f"alice:{OTHER.uid}:1\n", "own UID"),
        ("alice:200000:5\nalice:200004:5\n", "overlap"),
        ("alice:200000\n", "subuid line 1"),
        (f"{OTHER.uid}:oops:5\n", "not a number"),
    ],
)
def test_ranges_that_cannot_work(tmp_path: Path, subuid: str, told: str) -> None:
    with pytest.raises(RootlessError, match=told):
        designer(tmp_path, subuid, "alice:400000:7\n").design(OTHER)


def test_other_peoples_bad_lines_do_not_matter(tmp_path: Path) -> None:
    assert designer(tmp_path, "bob:oops\n\n# alice:oops\n").design(OTHER).maps.uid_map


def test_without_map_tools(tmp_path: Path, tools: dict[str, str | None]) -> None:
    tools.update(newuidmap="missing", newgidmap="missing")
    ranges = "alice:200000:5\nme:300000:5\n"
    wanted = designer(tmp_path, ranges, ranges).design(MYSELF)
    assert (len(wanted.maps.uid_map), len(wanted.maps.gid_map)) == (1, 1)
    assert [text for text in wanted.warnings if "newuidmap is not installed" in text]
    with pytest.raises(RootlessError, match="newuidmap is not installed"):
        designer(tmp_path, ranges, ranges).design(OTHER)
    # Nobody misses them without ranges.
    assert designer(tmp_path, "", "").design(OTHER).maps.uid_map


@pytest.mark.parametrize("account", [MYSELF, OTHER])
def test_powerless_map_tools(tmp_path: Path, tools: dict[str, str | None], account: Account) -> None:
    tools["newgidmap"] = "it has neither"
    ranges = "alice:200000:5\nme:300000:5\n"
    with pytest.raises(RootlessError, match="setcap cap_setgid"):
        designer(tmp_path, ranges, ranges).design(account)


def test_in_a_user_namespace(tmp_path: Path) -> None:
    here = IdMaps((IdMapEntry(0, 0, 200003),), (IdMapEntry(0, 0, 200003),))
    wanted = designer(tmp_path, "alice:200000:5\n", "alice:200000:3\n", available=here).design(OTHER)
    assert wanted.maps.uid_map == (IdMapEntry(0, OTHER.uid, 1), IdMapEntry(1, 200000, 3))
    assert len(wanted.warnings) == 1
    assert "not available" in wanted.warnings[0]


def test_maps_are_read_from_the_proc_root(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/uid_map").write_text("         0       1000          1\n")
    (tmp_path / "7/gid_map").write_text("")
    assert IdMaps.read(str(tmp_path), 7) == IdMaps((IdMapEntry(0, 1000, 1),), ())
