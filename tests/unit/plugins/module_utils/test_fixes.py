# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that findings tell an operator to run, run: on files of the test's own."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account, find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.calls.users import unlisted
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.catalogue import HostFinding
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.kernel_gates import why_refused
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.mounts import check_graph_root
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.podman import check_libsubid
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.ranges import RangeChecker
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.session import check_lingering
from ansible_collections.userns.rootless.plugins.module_utils._rootless.map_writer import why_powerless
from ansible_collections.userns.rootless.plugins.module_utils._rootless.mountinfo import Mount
from ansible_collections.userns.rootless.plugins.module_utils._rootless.readiness import as_dict
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import SubidRange, parse_subid

ALICE, BOB = Account("alice", 1000, 1000, "/"), Account("bob", 1001, 1001, "/")
GOOD = "carol:300000:65536"


def run(finding: HostFinding) -> None:
    subprocess.run(["sh", "-euc", finding.fix], check=True)


def ranges_of(path: Path, *owners: str) -> list[SubidRange]:
    return [range_ for range_ in parse_subid(path.read_text(), source=str(path))[0] if range_.owner in owners]


@pytest.mark.parametrize("bad", ["bob:4300000:x", "bob:1.*[2]$^:/|\\", "bob:", "bob:1:2:3"])
def test_all_bad_lines_and_no_others_go(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"# mine\nalice:5:y\n{bad}\n{bad}0\n{GOOD}\n")
    checker = RangeChecker([], parse_subid(path.read_text(), source=str(path))[1], [])
    findings = [
        finding
        for account in (ALICE, BOB)
        for finding in checker.check(account, [], [])
        if finding.code == "ranges-unusable"
    ]
    assert len(findings) == 2
    for finding in findings:
        run(finding)
    assert path.read_text() == f"# mine\n{bad}0\n{GOOD}\n"


def test_a_line_that_no_terminal_shows_is_left_to_a_human(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"alice:1\x07:2\n{GOOD}\n")
    checker = RangeChecker([], parse_subid(path.read_text(), source=str(path))[1], [])
    (finding,) = [found for found in checker.check(ALICE, [], []) if found.code == "ranges-unusable"]
    run(finding)
    assert path.read_text() == f"alice:1\x07:2\n{GOOD}\n"


def test_only_one_of_two_owners_loses_what_they_share(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"alice:100000:65536\n1001:120000:65536\nalice:900000:65536\n{GOOD}\n")
    first, second = ranges_of(path, "alice")[0], ranges_of(path, "1001")[0]
    checker = RangeChecker([("uid", first, second)], [], [])
    fixes = {
        finding.fix
        for account, owners in ((ALICE, ("alice",)), (BOB, ("1001",)))
        for finding in checker.check(account, ranges_of(path, *owners), [])
        if finding.code == "ranges-overlap"
    }
    (fix,) = fixes
    for _owner in range(2):
        run(HostFinding("ranges-overlap", "", fix))
    assert path.read_text() == f"alice:100000:65536\nalice:900000:65536\n{GOOD}\n"


@pytest.mark.parametrize(
    ("lines", "code", "left"),
    [
        (["1000:900:65536"], "range-contains-own-id", []),
        (["alice:100000:65536", "alice:110000:65536"], "ranges-unusable", ["alice:100000:65536"]),
        (["alice:100000:65536", "alice:100000:65536"], "ranges-unusable", ["alice:100000:65536"]),
        (["alice:1001:65536"], "range-contains-account", []),
    ],
)
def test_a_range_that_cannot_be_is_taken_away_whatever_its_key(
    tmp_path: Path, lines: list[str], code: str, left: list[str]
) -> None:
    path = tmp_path / "subuid"
    path.write_text("\n".join([*lines, GOOD, ""]))
    checker = RangeChecker([], [], [(1000, "alice"), (1001, "bob")])
    (finding,) = [
        finding for finding in checker.check(ALICE, ranges_of(path, "alice", "1000"), []) if finding.code == code
    ]
    run(finding)
    assert path.read_text().splitlines() == [*left, GOOD]


def test_a_range_of_group_ids_holds_no_group(tmp_path: Path) -> None:
    path = tmp_path / "subgid"
    path.write_text(f"alice:1002:65536\n{GOOD}\n")
    checker = RangeChecker([], [], [(1003, "bob")], [(1000, "alice"), (1004, "staff")])
    findings = [
        finding
        for finding in checker.check(ALICE, ranges_65536(), ranges_of(path, "alice"))
        if finding.code == "range-contains-account"
    ]
    (finding,) = findings
    assert "holds the GID of staff, 1004" in finding.found
    run(finding)
    assert path.read_text() == f"{GOOD}\n"


def test_where_a_service_gives_ranges_nothing_is_told_of_files() -> None:
    checker = RangeChecker([], [], [], source="nss:sss")
    short = SubidRange("alice", 100_000, 10, "nss", None)
    own = SubidRange("alice", 900, 65536, "nss", None)
    findings = [*checker.check(ALICE, [], [short]), *checker.check(ALICE, [own], [own])]
    assert {finding.code for finding in findings} == {"ranges-missing", "ranges-short", "range-contains-own-id"}
    for finding in findings:
        assert "service sss" in finding.fix
        assert "rootless_subid" not in finding.fix.partition("#")[0]
        assert "sed" not in finding.fix


def test_a_short_range_is_made_ordinary_whatever_login_defs_says() -> None:
    (finding,) = RangeChecker([], [], []).check(ALICE, [SubidRange("alice", 100_000, 10, "f", 1)], ranges_65536())
    assert finding.fix.endswith("rootless_subid -a 'owners=alice count=65536'")


def ranges_65536() -> list[SubidRange]:
    return [SubidRange("alice", 100_000, 65_536, "f", 1)]


@pytest.mark.parametrize(
    ("content", "told"), [(b"", 0), (b"#!/bin/sh\n", 0), (b"\x7fELF", 1), (b"\x7fELF libsubid.so.4", 0)]
)
def test_what_an_odd_podman_says_of_libsubid(tmp_path: Path, content: bytes, told: int) -> None:
    podman = tmp_path / "podman"
    podman.write_bytes(content)
    podman.chmod(0o755)
    assert len(list(check_libsubid("nss:sss", path=str(tmp_path)))) == told


def test_both_limits_rise_where_one_is_used_up(tmp_path: Path) -> None:
    """Which of the two it was nobody can tell from the kernel's answer."""
    limits = tmp_path / "sys/user"
    limits.mkdir(parents=True)
    (limits / "max_user_namespaces").write_text("20000\n")
    (limits / "max_mnt_namespaces").write_text("20\n")
    fix = why_refused(str(tmp_path), errno.ENOSPC, "No space left on device").fix
    assert "sysctl -w user.max_user_namespaces=40000 " in fix
    assert "sysctl -w user.max_mnt_namespaces=15000 " in fix


@pytest.mark.parametrize(
    ("switch", "number", "code"),
    [
        ("1\n", errno.EPERM, "userns-apparmor"),
        ("1\n", errno.EACCES, "userns-apparmor"),
        # Neither the switch nor a profile ever answers so.
        ("1\n", errno.ENOSPC, "userns-refused"),
        ("0\n", errno.EACCES, "userns-refused"),
        (None, errno.EACCES, "userns-refused"),
        ("", errno.EACCES, "userns-refused"),
    ],
)
def test_the_switch_of_ubuntus_kernels(tmp_path: Path, switch: str | None, number: int, code: str) -> None:
    """On a simulated /proc. That the profile lets user namespaces through is tried in guests."""
    name = "apparmor_restrict_unprivileged_userns"
    settings, status = tmp_path / "sys/kernel", tmp_path / "self/status"
    settings.mkdir(parents=True)
    status.parent.mkdir()
    status.write_text("Name:\tpython3\nSeccomp:\t0\n")
    if switch is not None:
        (settings / name).write_text(switch)
    finding = why_refused(str(tmp_path), number, "so it is")
    assert finding.code == code
    assert "so it is" in finding.found
    for text in (finding.found, finding.fix):
        assert (f"kernel.{name}" in text) is (code == "userns-apparmor")
    assert (os.path.realpath(sys.executable) in finding.fix) is (code == "userns-apparmor")


@pytest.mark.parametrize(
    ("tool", "flags", "permitted", "powerless"),
    [
        ("newuidmap", 0x02000001, 1 << 7, False),
        ("newgidmap", 0x02000001, 1 << 6, False),
        ("newgidmap", 0x02000001, 1 << 7, True),
        ("newuidmap", 0x02000001, 1 << 13, True),
        ("newuidmap", 0x02000000, 1 << 7, True),
    ],
)
def test_only_the_right_capability_gives_a_map_tool_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, flags: int, permitted: int, powerless: bool
) -> None:
    (tmp_path / tool).touch(mode=0o755)
    attribute = struct.pack("<IIIII", flags, permitted, 0, 0, 0)
    monkeypatch.setattr(os, "getxattr", lambda _path, _name: attribute)
    assert (why_powerless(str(tmp_path / tool)) is not None) is powerless


def test_users_whom_a_directory_does_not_list_are_found() -> None:
    nobody = find_account("nobody")
    assert {owner: found.uid for owner, found in unlisted(["nobody", "containers"], []).items()} == {
        "nobody": nobody.uid
    }
    assert unlisted([f"0{nobody.uid}", "root", "0"], []) == {}
    assert unlisted(["nobody", str(nobody.uid)], [nobody]) == {}


def test_names_reach_the_shell_as_they_are() -> None:
    account = Account("DOM\\alice", 1000, 1000, "/")
    for finding in RangeChecker([], [], []).check(account, [], []):
        words = subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {finding.fix}"], capture_output=True, text=True, check=True
        )
        assert json.loads(words.stdout.splitlines()[-1]) == {"owners": ["DOM\\alice"], "count": 65536}


ODD = os.fsdecode(b"a'b\n\x1b[2J\xff\xe2\x80\xae")


@pytest.mark.parametrize("name", ["alice", "D\\alice x", "-alice", ODD])
def test_names_and_paths_in_command_lines(tmp_path: Path, name: str) -> None:
    """No line that an administrator pastes ends early, commands the terminal, or shows another command."""
    account = Account(name, 1000, 1000, f"/home/{name}")
    own_file = tmp_path / name / "containers/storage.conf"
    mounts = [Mount("0:50", "/home", (), "nfs4", f"server:/{name}")]
    (move,) = check_graph_root(account, mounts, {"path": name, "device": "0:50", "own_file": str(own_file)})
    (tmp_path / "systemd/system").mkdir(parents=True)
    (tmp_path / "systemd/users").mkdir()
    (linger,) = check_lingering(account, run=str(tmp_path), var=str(tmp_path))
    missing = RangeChecker([], [], [], source="nss:x").check(account, [], [])
    findings = [move, linger, *missing]
    assert all(as_dict(finding, name)["fix"].isprintable() for finding in findings)
    # Only the words that are ours, run by the shell of an administrator.
    ours = "".join(f"{name}() {{ printf '%s\\0' \"$@\"; }}; " for name in ("runuser", "loginctl"))
    line = f"install() {{ :; }}; {ours}{move.fix}; {linger.fix}"
    words = subprocess.run(["bash", "-euc", line], check=True, stdout=subprocess.PIPE).stdout.split(b"\0")
    assert words[:5] == [b"-u", os.fsencode(name), b"--", b"sh", b"-c"]
    assert words[6:-1] == [b"sh", bytes(own_file), b"enable-linger", os.fsencode(name)]
    subprocess.run(["sh", "-euc", words[5], "sh", own_file], check=True)
    assert 'graphroot = "/var/lib/rootless-containers/1000"' in own_file.read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("alice", "alice"),
        ("D\\alice", "D\\\\alice"),
        ("m\u00fcller", "m\\303\\274ller"),
        ("o'x\n\x1b", "o\\'x\\n\\033"),
    ],
)
def test_logind_remembers_users_in_files_with_names_of_its_own(tmp_path: Path, name: str, mark: str) -> None:
    for directory in ("run/systemd/system", "run/systemd/users", "var/lib/systemd/linger"):
        (tmp_path / directory).mkdir(parents=True)
    account, places = Account(name, 1000, 1000, "/"), {"run": f"{tmp_path}/run", "var": f"{tmp_path}/var"}
    assert [finding.code for finding in check_lingering(account, **places)] == ["no-lingering"]
    (tmp_path / "var/lib/systemd/linger" / mark).touch()
    assert not list(check_lingering(account, **places))


def test_what_was_not_quoted_is_escaped() -> None:
    assert as_dict(HostFinding("not-checked", "a\n\\x1b", "b\n\\x1b"), None)["fix"] == "b\\x0a\\x1b"
