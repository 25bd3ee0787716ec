# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For whom a pin was made: the record beside it, and whether that account still has the UID."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import joiner
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account, is_still_the_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinRecord, PinStore

UID = 1005


@pytest.mark.parametrize(
    "record",
    [
        PinRecord("alice", "/home/alice"),
        PinRecord("DOM\\alice", ""),
        PinRecord("\udcff", "/h\udcfe"),
        PinRecord("a", "/"),
    ],
)
def test_records_come_back(record: PinRecord) -> None:
    assert PinRecord.parse(record.to_bytes()) == record


@pytest.mark.parametrize("content", [b"", b"\n", b"\n/home/alice\n"])
def test_a_record_without_a_name_is_none(content: bytes) -> None:
    assert PinRecord.parse(content) is None


def test_a_record_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    store = PinStore(Syscalls(), run=str(tmp_path))
    (tmp_path / f"rootless-ns/{UID}").mkdir(parents=True)
    assert store.record(UID) is None
    (tmp_path / "other").write_text("alice\n/home/alice\n")
    path = Path(store.record_path(UID))
    path.symlink_to(tmp_path / "other")
    assert store.record(UID) is None
    path.unlink()
    os.mkfifo(path)
    assert store.record(UID) is None
    path.unlink()
    path.write_text("alice\n/home/alice\n")
    assert store.record(UID) == PinRecord("alice", "/home/alice")
    assert store.uids() == [UID]


PASSWD = {
    "bob": (UID, "/home/bob"),
    "alias": (UID, "/home/alias"),
    "moved": (2005, "/home/moved"),
    "svc": (UID + 1, "/nonexistent"),
    "sshd": (UID + 2, "/var/empty"),
}


@pytest.fixture
def passwd(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str) -> pwd.struct_passwd:
        if "\0" in name:
            raise ValueError("embedded null byte")
        uid, home = PASSWD[name]
        return pwd.struct_passwd((name, "x", uid, uid, "", home, "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", entry)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry(next(name for name in PASSWD if PASSWD[name][0] == uid)))


@pytest.mark.parametrize(
    ("now", "name", "home", "same"),
    [
        ("bob", "bob", "/home/bob", True),
        ("bob", "bob", "/srv/bob", True),
        ("bob", "alice", "/home/alice", False),
        # Renamed.
        ("bob", "alice", "/home/bob", True),
        # Another name of the same UID.
        ("bob", "alias", "/home/alias", True),
        # Its own UID was changed.
        ("bob", "moved", "/home/moved", False),
        # No home of its own says nothing.
        ("svc", "alice", "/nonexistent", False),
        ("sshd", "alice", "/var/empty", False),
        ("svc", "svc", "/", True),
        ("bob", "ali\0ce", "/home/alice", False),
    ],
)
@pytest.mark.usefixtures("passwd")
def test_the_library_and_the_joiner_agree_on_who_is_another(
    now: str, name: str, home: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid, home_now = PASSWD[now]
    assert is_still_the_account(Account(now, uid, uid, home_now), name=name, home=home) is same
    monkeypatch.setattr(joiner, "_PINS", str(tmp_path))
    (tmp_path / str(uid)).mkdir()
    assert joiner.made_for_another(uid) is None
    (tmp_path / str(uid) / "for").write_bytes(PinRecord(name, home).to_bytes())
    (tmp_path / str(uid) / "user").touch()
    ino = (tmp_path / str(uid) / "user").stat().st_ino
    for asked in (None, ino):
        assert joiner.made_for_another(uid, asked) == (None if same else name)
    assert joiner.made_for_another(uid, ino + 1) is None
