# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.idmap import (
    MAX_ID,
    IdMapEntry,
    IdMapError,
    format_id_map,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import (
    NssSubids,
    SubidError,
    SubidFile,
    SubidRange,
    check_ranges,
    open_subids,
    parse_subid,
    read_subid_file,
    user_map,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import escape

INITIAL = (IdMapEntry(0, 0, MAX_ID),)


def range_of(start: int, count: int, *, line: int = 1) -> SubidRange:
    return SubidRange(owner="alice", start=start, count=count, source="/etc/subuid", line=line)


def spans(ranges: tuple[SubidRange, ...]) -> list[tuple[int, int]]:
    return [(range_.start, range_.count) for range_ in ranges]


def lines_of(entries: tuple[IdMapEntry, ...]) -> list[str]:
    return [str(entry) for entry in entries]


def write_tool(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_parse_skips_blanks_and_comments_and_counts_lines() -> None:
    text = "# head\n\nalice:100000:65536\n  \t\n  # alice:1:1\n1000:0:1\nbob:4294967294:1"
    ranges, problems = parse_subid(text, source="/etc/subuid")
    assert problems == ()
    assert [str(range_) for range_ in ranges] == [
        "alice:100000:65536 (/etc/subuid line 3)",
        "1000:0:1 (/etc/subuid line 6)",
        "bob:4294967294:1 (/etc/subuid line 7)",
    ]
    assert ranges[0].end == 165536


@pytest.mark.parametrize(
    ("line", "owner", "why"),
    [
        ("alice:x:65536", "alice", "start is not a number"),
        ("alice:-1:65536", "alice", "start is not a number"),
        ("alice:1:", "alice", "count is not a number"),
        ("alice:1:\u0661", "alice", "count is not a number"),
        ("alice:1:1 ", "alice", "count is not a number"),
        ("alice:1:1\r", "alice", "count is not a number"),
        ("alice:0100000:65536", "alice", "start has a leading zero: shadow reads it as octal, Podman as decimal"),
        ("alice:4294967296:1", "alice", "start does not fit in 32 bits"),
        (f"alice:1:{'9' * 6000}", "alice", "count does not fit in 32 bits"),
        ("alice:1:0", "alice", "count must be at least 1 and the last ID at most 4294967294"),
        ("alice:4294967295:1", "alice", "count must be at least 1 and the last ID at most 4294967294"),
        ("alice:4294901760:65536", "alice", "count must be at least 1 and the last ID at most 4294967294"),
        ("alice", "alice", "it does not have the three fields owner:start:count"),
        ("alice:1", "alice", "it does not have the three fields owner:start:count"),
        ("alice:1:1:1", "alice", "it does not have the three fields owner:start:count"),
        (":1:1", None, "the owner is empty"),
        (" alice:1:1", "alice", "there is white space around the owner"),
        ("\udcff:x:1", "\udcff", "start is not a number"),
    ],
)
def test_parse_reports_malformed_lines(line: str, owner: str | None, why: str) -> None:
    ranges, problems = parse_subid(f"bob:1:1\n{line}\nbob:9:1", source="/etc/subuid")
    assert spans(ranges) == [(1, 1), (9, 1)]
    (problem,) = problems
    assert (problem.line, problem.owner, problem.why) == (2, owner, why)


def test_problem_is_one_short_line() -> None:
    problems = parse_subid("alice:x:65536\n\udcff:\x00" + "x" * 1000, source="/etc/subuid")[1]
    assert str(problems[0]) == '/etc/subuid line 1: "alice:x:65536": start is not a number'
    assert escape(str(problems[1])).isprintable()
    assert len(str(problems[1])) < 200


def test_read_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_subid_file(tmp_path / "subuid") == SubidFile((), ())


def test_read_names_the_file_and_bears_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_bytes(b"\xff:1:1\n\xfe\n")
    read = read_subid_file(str(path))
    assert [str(range_) for range_ in read.ranges] == [f"\udcff:1:1 ({path} line 1)"]
    assert [problem.source for problem in read.problems] == [str(path)]


def test_read_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SubidError, match=f"cannot read {tmp_path}: Is a directory"):
        read_subid_file(tmp_path)


def test_read_too_large(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(SubidError, match=f"{path} is larger than 67108864 bytes"):
        read_subid_file(path)


def test_files_by_name_or_uid(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("alice:500000:10\n1000:300000:10\nbob:1:1\nalice:100000:10\nbroken\n")
    (tmp_path / "subgid").write_text("1000:7:1\nalice:::\n")
    subids = open_subids(etc=str(tmp_path))
    assert subids.source == "files"
    assert spans(subids.uid_ranges("alice", 1000)) == [(100000, 10), (300000, 10), (500000, 10)]
    assert spans(subids.gid_ranges("alice", 1000)) == [(7, 1)]
    assert spans(subids.uid_ranges("1000", 1000)) == [(300000, 10)]
    assert subids.uid_ranges("carol", 1002) == ()
    assert subids.owners() == ("1000", "alice", "bob")
    assert [(Path(p.source).name, p.line, p.owner) for p in subids.problems()] == [
        ("subuid", 5, "broken"),
        ("subgid", 2, "alice"),
    ]


@pytest.mark.parametrize(
    ("nsswitch", "source"),
    [
        (None, "files"),
        ("", "files"),
        ("passwd: files sss\n", "files"),
        ("subid: files sss\n", "files"),
        ("subid: sss\n", "nss:sss"),
        ("passwd: files\nSUBID:\tsss files\n", "nss:sss"),
        ("#subid: sss\n", "files"),
        ("subid:\nsubid: sss # ours\n", "nss:sss"),
        ("subid: # sss\n", "files"),
        ("subids: sss\n", "files"),
    ],
)
def test_open_follows_nsswitch(tmp_path: Path, nsswitch: str | None, source: str) -> None:
    if nsswitch is not None:
        (tmp_path / "nsswitch.conf").write_text(nsswitch)
    assert open_subids(etc=str(tmp_path)).source == source


def test_nss_asks_the_tool(tmp_path: Path) -> None:
    tool = write_tool(
        tmp_path / "getsubids",
        f'echo "$*|$LC_ALL|$HOME" >> {tmp_path}/calls\n'
        '[ "$1" = -g ] && { echo "0: alice 7 1"; exit; }\n'
        'echo "0: DOMAIN\\\\al ice 500000 10"; echo "1: DOMAIN\\\\al ice 100000 65536"',
    )
    (tmp_path / "nsswitch.conf").write_text("subid: sss\n")
    subids = open_subids(etc=str(tmp_path), getsubids=tool)
    assert [str(range_) for range_ in subids.uid_ranges("alice", 1000)] == [
        "alice:100000:65536 (nss)",
        "alice:500000:10 (nss)",
    ]
    assert spans(subids.gid_ranges("alice", 1000)) == [(7, 1)]
    assert (tmp_path / "calls").read_text() == "alice|C|\n-g alice|C|\n"
    assert subids.owners() == ()
    assert subids.problems() == ()


def test_nss_status_one_is_no_ranges(tmp_path: Path) -> None:
    tool = write_tool(tmp_path / "getsubids", "echo 'Error fetching ranges' >&2; exit 1")
    assert NssSubids(service="sss", getsubids=tool).uid_ranges("alice", 1000) == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo broken library >&2; exit 127", "ended with status 127: broken library"),
        ("kill -9 $$", "ended with status -9"),
        ("echo '0: alice x 65536'", 'answered "0: alice x 65536", which is not a range'),
        ("echo 'alice 1 65536'", "which is not a range"),
        ("echo '0: alice 1 0'", "which is not a range"),
        ("echo '0: alice 4294967295 1'", "which is not a range"),
        ("echo", "which is not a range"),
    ],
)
def test_nss_failures(tmp_path: Path, body: str, message: str) -> None:
    tool = write_tool(tmp_path / "getsubids", body)
    with pytest.raises(SubidError, match=f"NSS service sss, but .*{message}"):
        NssSubids(service="sss", getsubids=tool).gid_ranges("alice", 1000)


def test_nss_failures_where_nobody_waits_for_children(tmp_path: Path) -> None:
    tool = write_tool(tmp_path / "getsubids", "exit 127")
    was = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(SubidError, match="ended with status 127"):
            NssSubids(service="sss", getsubids=tool).uid_ranges("alice", 1000)
    finally:
        signal.signal(signal.SIGCHLD, was)


def test_nss_tool_missing(tmp_path: Path) -> None:
    with pytest.raises(SubidError, match="is not there; install getsubids"):
        NssSubids(service="sss", getsubids=str(tmp_path / "getsubids")).uid_ranges("alice", 1000)


def test_nss_tool_not_executable(tmp_path: Path) -> None:
    tool = tmp_path / "getsubids"
    tool.write_text("")
    with pytest.raises(SubidError, match="cannot be run: Permission denied"):
        NssSubids(service="sss", getsubids=str(tool)).uid_ranges("alice", 1000)


def test_nss_tool_hangs(tmp_path: Path) -> None:
    tool = write_tool(tmp_path / "getsubids", "exec sleep 60")
    with pytest.raises(SubidError, match=r"gave no answer in 0\.1 s"):
        NssSubids(service="sss", getsubids=tool, timeout_seconds=0.1).uid_ranges("alice", 1000)


def test_nss_name_is_never_an_option(tmp_path: Path) -> None:
    with pytest.raises(SubidError, match="would take the account name -g for an option"):
        NssSubids(service="sss", getsubids=str(tmp_path / "never-run")).uid_ranges("-g", 1000)


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [range_of(100000, 65536), range_of(165536, 1)],
        [range_of(0, 1000), range_of(1001, MAX_ID - 1001)],
    ],
)
def test_check_accepts(ranges: list[SubidRange]) -> None:
    check_ranges(ranges, own_id=1000, kind="UID")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([range_of(1000, 1)], r"alice:1000:1 \(/etc/subuid line 1\) includes the user's own GID, 1000"),
        ([range_of(500, 501)], "includes the user's own GID"),
        (
            [range_of(200000, 10, line=4), range_of(199999, 2, line=9)],
            r"alice:199999:2 \(/etc/subuid line 9\) and alice:200000:10 \(/etc/subuid line 4\): these GID ranges",
        ),
        ([range_of(5, 1), range_of(5, 1)], "overlap"),
        ([range_of(2000, 3_000_000_000), range_of(2001, 2_000_000_000)], "hold 5000000000 IDs in all"),
    ],
)
def test_check_refuses(ranges: list[SubidRange], message: str) -> None:
    with pytest.raises(SubidError, match=message):
        check_ranges(ranges, own_id=1000, kind="GID")


@pytest.mark.parametrize(
    ("ranges", "available", "expected", "left_out"),
    [
        pytest.param([], INITIAL, ["0 1000 1"], [], id="no ranges"),
        pytest.param(
            [range_of(500000, 10), range_of(100000, 65536), range_of(165536, 4)],
            INITIAL,
            ["0 1000 1", "1 100000 65536", "65537 165536 4", "65541 500000 10"],
            [],
            id="initial namespace: sorted, end to end, adjacent ranges not joined",
        ),
        pytest.param(
            [range_of(2000, 100)],
            (IdMapEntry(0, 100000, 2050), IdMapEntry(2050, 900000, 1000)),
            ["0 1000 1", "1 2000 50", "51 2050 50"],
            [],
            id="a range in two extents becomes two lines",
        ),
        pytest.param(
            [range_of(2000, 100), range_of(5000, 10), range_of(70000, 5)],
            (IdMapEntry(0, 1000, 1), IdMapEntry(1, 100000, 2049), IdMapEntry(5005, 800000, 5000)),
            ["0 1000 1", "1 2000 50", "51 5005 5"],
            [(2050, 50), (5000, 5), (70000, 5)],
            id="what is not available is left out, without a hole",
        ),
    ],
)
def test_user_map(
    ranges: list[SubidRange],
    available: tuple[IdMapEntry, ...],
    expected: list[str],
    left_out: list[tuple[int, int]],
) -> None:
    entries, missing = user_map(1000, ranges, available=available)
    assert lines_of(entries) == expected
    assert spans(missing) == left_out


def test_user_map_names_what_it_left_out() -> None:
    missing = user_map(0, [range_of(5, 10, line=3)], available=[IdMapEntry(0, 0, 10)])[1]
    assert [str(part) for part in missing] == ["alice:10:5 (/etc/subuid line 3)"]


def test_user_map_without_the_own_id() -> None:
    with pytest.raises(SubidError, match="ID 1000 is not mapped in the current user namespace"):
        user_map(1000, [], available=[IdMapEntry(0, 0, 1000)])


def test_user_map_never_numbers_past_32_bits() -> None:
    with pytest.raises(IdMapError, match="runs past"):
        user_map(1000, [range_of(1, MAX_ID - 1), range_of(1, MAX_ID - 1)], available=INITIAL)


def test_user_map_takes_what_the_kernel_takes() -> None:
    ranges = [range_of(2000 + 2 * number, 1) for number in range(340)]
    assert len(user_map(1000, ranges[:339], available=INITIAL)[0]) == 340
    with pytest.raises(SubidError, match=r"would have 341 lines in .* at most 340 lines"):
        user_map(1000, ranges, available=INITIAL)


def test_user_map_stays_under_a_page() -> None:
    ranges = [range_of(100000, 100)]
    text = "0 1000 1\n1 100000 100\n"
    entries = user_map(1000, ranges, available=INITIAL, page_bytes=len(text) + 1)[0]
    assert format_id_map(entries) == text
    with pytest.raises(SubidError, match=r"2 lines in 22 bytes, .* less than 22 bytes"):
        user_map(1000, ranges, available=INITIAL, page_bytes=len(text))
