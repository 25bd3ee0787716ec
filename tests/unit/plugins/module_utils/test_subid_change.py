# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can be an owner."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.login_defs import KINDS
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import SubidError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_change import (
    KEY_NAME,
    Accounts,
    SubidChange,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_plan import Wish


@pytest.mark.parametrize("asked", ["", " a", "a\r", "a:b", "a\nb", "#a", "a\0b", "4294967295", "99999999999", "9" * 20])
def test_what_no_line_can_name(asked: str) -> None:
    with pytest.raises(SubidError, match="cannot be an owner"):
        Accounts().owner(asked, key=KEY_NAME)


def test_a_number_of_thousands_of_digits_is_a_name() -> None:
    owner = Accounts().owner("9" * 5000, key=KEY_NAME)
    assert owner.uid is None


def test_the_primary_group_of_a_user_that_is_not_listed_is_nobodys_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """As directories have them."""
    entry = pwd.struct_passwd(("ldapa", "x", 200001, 200513, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", {"ldapa": entry}.__getitem__)
    accounts = Accounts()
    assert accounts.owner("ldapa", key=KEY_NAME).uid == 200001
    assert 200513 in set(accounts.ids("gid"))


def test_who_is_named_by_a_number_is_written_by_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """subuid(5) reads a line of "6105" as that of UID 6105, too: two users would have one range."""
    entries = [
        pwd.struct_passwd(("6105", "x", 7002, 7002, "", "/", "/bin/sh")),
        pwd.struct_passwd(("alice", "x", 6105, 6105, "", "/", "/bin/sh")),
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    accounts = Accounts()
    owner = accounts.owner("6105", key=KEY_NAME)
    assert (owner.key, owner.uid) == ("7002", 7002)
    assert "6105" not in owner.names
    alice = accounts.owner("alice", key=KEY_NAME)
    assert (alice.key, alice.uid) == ("alice", 6105)


def test_a_backup_that_fails_leaves_both_files(tmp_path: Path) -> None:
    (tmp_path / "subgid").write_text("")

    def fail(path: str) -> None:
        raise SystemExit(path)

    accounts = Accounts()
    nowhere = str(tmp_path / "nowhere")
    owners = [accounts.owner("nosuchuser", key=KEY_NAME)]
    change = SubidChange(owners, accounts, etc=str(tmp_path), proc=nowhere, machines=nowhere)
    with pytest.raises(SystemExit):
        change.present({kind: Wish(count=65536) for kind in KINDS}, check=False, backup=fail)
    assert not (tmp_path / "subuid").exists()
    assert (tmp_path / "subgid").read_text() == ""
