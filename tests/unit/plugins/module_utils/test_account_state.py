# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a user's manager does not run: what shadow and systemd say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import host_programs
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.account_state import Shadow
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.catalogue import HostFinding
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.cgroups import check_delegation
from ansible_collections.userns.rootless.plugins.module_utils._rootless.mountinfo import Mount

TODAY = 20_783
BOB = Account("bob", 1001, 1001, "/home/bob")


@pytest.mark.parametrize(
    ("line", "why", "fix"),
    [
        ("bob:$y$x:20783:0:99999:7:::", None, None),
        ("bob:!:20783::99999:7:::", None, None),
        ("bob:!:20783:0:99999:7:::", None, None),
        # chage -E 0, yesterday, today, tomorrow.
        ("bob:!:20783:0:99999:7::0:", "account has expired (1970-01-01, ", "chage --expiredate -1 bob"),
        ("bob:$y$x:20783:0:99999:7::20782:", "account has expired (2026-11-25, ", "chage --expiredate -1 bob"),
        ("bob:$y$x:20783:0:99999:7::20783:", "account has expired", "chage --expiredate -1 bob"),
        ("bob:$y$x:20783:0:99999:7::20784:", None, None),
        # chage -d 0.
        ("bob:$y$x:0:0:99999:7:::", "has to be changed", "passwd bob"),
        ("bob:!:0:0:99999:7:::", "has to be changed", "chage --lastday 2026-11-26 --maxdays -1 bob"),
        ("bob:$y$x:20693:0:90:7:::", None, None),
        ("bob:$y$x:20692:0:90:7:30::", "password has expired: it is 91 days old, of at most 90", "passwd bob"),
        ("bob:*:20692:0:90:7:::", "password has expired", "chage --lastday 2026-11-26 --maxdays -1 bob"),
        ("bob:$y$x:20692:0:-1:7::-1:", None, None),
        ("bob:$y$x:20692:0:::::", None, None),
        ("bob:$y$x::0:90:7:::", None, None),
        # A clock that was wrong.
        ("bob:$y$x:30000:0:90:7:::", None, None),
        ("bob:$y$x:x:y:z:7::99999999999999999999:", None, None),
        ("carol:!:20783:0:99999:7::0:", None, None),
    ],
)
def test_what_shadow_says(tmp_path: Path, line: str, why: str | None, fix: str | None) -> None:
    (tmp_path / "shadow").write_text(f"alice:!:0:0:99999:7::0:\nbob:!\n{line}\n")
    found = Shadow(etc=str(tmp_path)).why_refused("bob", today=TODAY)
    assert (found and found.fix) == fix
    assert found is None or (why and why in found.why)


def test_who_cannot_read_it_is_told_nothing(tmp_path: Path) -> None:
    assert Shadow(etc=str(tmp_path)).why_refused("bob") is None


def _found(tmp_path: Path) -> list[HostFinding]:
    for directory in ("run/systemd/system", "run/systemd/users", "var/lib/systemd/linger", "cgroup"):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    mounts = [Mount("0:26", f"{tmp_path}/cgroup", (), "cgroup2", "none")]
    return list(
        check_delegation(
            BOB,
            mounts,
            run=f"{tmp_path}/run",
            cgroup=f"{tmp_path}/cgroup",
            var=f"{tmp_path}/var",
            shadow=Shadow(etc=str(tmp_path)),
        )
    )


def test_an_expired_account_is_not_to_be_started(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("bob:!:20783:0:99999:7::0:\n")
    (finding,) = _found(tmp_path)
    assert finding.code == "user-manager-refused"
    assert finding.found.startswith("user@1001.service does not run: the account has expired")
    assert finding.fix == "chage --expiredate -1 bob && systemctl start user@1001.service"


@pytest.mark.parametrize(
    ("lingers", "says", "code"),
    [
        (True, "echo ExecMainStatus=224", "user-manager-refused"),
        (True, "echo ExecMainStatus=1", "no-user-manager"),
        (True, "exit 1", "no-user-manager"),
        # Nobody has tried.
        (False, "echo ExecMainStatus=224", "no-user-manager"),
    ],
)
def test_what_pam_refused_for_other_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lingers: bool, says: str, code: str
) -> None:
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\ntest "$3" = user@1001.service || exit 9\n{says}\n')
    systemctl.chmod(0o755)
    monkeypatch.setattr(host_programs, "TOOL_PATH", str(systemctl.parent))
    if lingers:
        (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
        (tmp_path / "var/lib/systemd/linger/bob").touch()
    (finding,) = _found(tmp_path)
    assert finding.code == code
    assert ("systemctl start" in finding.fix) is (code == "no-user-manager")
