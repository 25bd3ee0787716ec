# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `rootless-ns` without a kernel: usage, lines, priorities, version, reference."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.command import lines, output, version
from ansible_collections.userns.rootless.plugins.module_utils._rootless.command.arguments import (
    EXIT_CODES,
    OUTPUT,
    make_parser,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.command.main import main

CHECKOUT = Path(__file__).parents[4]


@pytest.fixture
def as_uid(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda uid: monkeypatch.setattr("os.geteuid", lambda: uid)


@pytest.mark.parametrize(
    ("uid", "arguments", "code", "text"),
    [
        (0, "", 2, "a command is needed"),
        (0, "nosuch", 2, "invalid choice"),
        (0, "present", 2, "--user or --all is needed"),
        (0, "clean --user a --all", 2, "exclude each other"),
        (1000, "absent --all", 2, "--all needs root"),
        (0, "present --user a --pin --no-pin", 2, "not allowed with"),
        (0, "present --user a --on-drift x", 2, "invalid choice"),
        (0, "absent --user a --method pause", 2, "unknown arguments: --method pause"),
        (0, "present --use a", 2, "unknown arguments: --use a"),
        (0, "info --user a -- b", 2, "unknown arguments"),
        (0, "exec --user a", 125, "behind --"),
        (1000, "exec", 125, "behind --"),
        (1000, "exec --", 125, "behind --"),
        (0, "exec --user a ls", 125, "behind --"),
        (0, "exec ls --user a -- ls", 125, "unknown arguments: ls"),
        (0, "exec -- ls", 125, "--user is needed"),
        (0, "exec --all -- ls", 125, "unknown arguments: --all"),
        (0, "exec --user", 125, "expected one argument"),
    ],
)
def test_wrong_usage(
    as_uid: Any, capsys: pytest.CaptureFixture[str], uid: int, arguments: str, code: int, text: str
) -> None:
    as_uid(uid)
    assert main(arguments.split()) == code
    told = capsys.readouterr()
    assert (told.out, text in told.err) == ("", True), told.err


@pytest.mark.parametrize("arguments", ["--help", "exec --help", "clean --help", "--version"])
def test_what_is_told_without_doing_anything(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    assert main(arguments.split()) == 0
    told = capsys.readouterr()
    assert "rootless-ns" in told.out
    assert told.err == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_error_that_nobody_expected_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    def broken(_arguments: object) -> None:
        raise ValueError("forged\nok: [h]\x1b[2J")

    monkeypatch.setattr(sys.modules[main.__module__], "_make_call", broken)
    assert main(["info", *form, "--user", "alice"]) == 1
    shown = "".join(capsys.readouterr())
    assert "internal error: ValueError: forged" in shown
    assert "\x1b" not in shown
    assert "\nok:" not in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice: alive", "alice: alive"),
        ("J\u00fcrgen \u4f60", "J\u00fcrgen \u4f60"),
        ("a\n<0>forged", "a\\x0a<0>forged"),
        ("\x1b[2J\x07\x9b", "\\x1b[2J\\x07\\u009b"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("\udcff", "\\xff"),
        ("\\x1b \\nfs", "\\x5cx1b \\nfs"),
    ],
)
def test_no_line_is_forged(capsys: pytest.CaptureFixture[str], text: str, expected: str) -> None:
    output.say(text)
    assert capsys.readouterr().out == f"{expected}\n"


ENTRY = {
    "user": "alice",
    "action": "rejoined",
    "userns": 11,
    "mntns": 12,
    "pause_pid": 13,
    "pinned": True,
    "drift": False,
    "msg": "",
    "state": "alive",
    "needs": "",
    "verdicts": {"pause_pid": {"verdict": "live"}, "ns_handles": {"verdict": "missing"}},
    "orphans": [],
}
NOTHING = {"userns": None, "mntns": None, "pause_pid": None, "pinned": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("alice: rejoined, user:[11] mnt:[12], pause process 13, pinned", 6)),
        (
            {"drift": True, "msg": "ranges changed"},
            ("alice: rejoined, user:[11] mnt:[12], pause process 13, pinned, drifted: ranges changed", 4),
        ),
        ({**NOTHING, "action": "failed", "msg": "why"}, ("alice: failed: why", 3)),
        ({**NOTHING, "action": "none"}, ("alice: none", 6)),
    ],
)
def test_what_was_done_to_a_namespace(changes: dict[str, Any], expected: tuple[str, int]) -> None:
    assert lines.changed_line({**ENTRY, **changes}) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pinned": False}, ("alice: alive, user:[11] mnt:[12], pause process 13", 6)),
        (
            {**NOTHING, "state": "stale", "needs": "clean", "verdicts": {"pause_pid": {"verdict": "dead"}}},
            ("alice: stale, needs clean, pause_pid dead", 6),
        ),
        (
            {**NOTHING, "state": "broken", "needs": "repair", "orphans": [1, 2]},
            ("alice: broken, needs repair, 2 orphan(s)", 4),
        ),
        ({"needs": "repair"}, ("alice: alive, needs repair, user:[11] mnt:[12], pause process 13, pinned", 4)),
        ({**NOTHING, "state": None, "msg": "no such user"}, ("alice: failed: no such user", 3)),
    ],
)
def test_how_a_namespace_was_found(changes: dict[str, Any], expected: tuple[str, int]) -> None:
    assert lines.seen_line({**ENTRY, **changes}) == expected


def test_what_was_cleaned() -> None:
    entry = {
        "user": "alice",
        "action": "cleaned",
        "files": [
            {"path": "/a/pause.pid", "verdict": "dead", "action": "removed", "why": ""},
            {"path": "/a/ns_handles", "verdict": "unknown", "action": "left", "why": "it may live"},
            {"path": "/b/pause.pid", "verdict": "live", "action": "left", "why": "it is alive"},
        ],
        "orphans": [{"pid": 5, "command": "catatonit", "action": "reaped"}, {"pid": 6, "action": "left"}],
        "msg": "",
    }
    expected = (
        "alice: cleaned, removed /a/pause.pid (dead), reaped 5 (catatonit), "
        "left /a/ns_handles (unknown: it may live), left orphan 6"
    )
    assert lines.cleaned_line(entry) == (expected, 6)
    nothing = {**entry, "action": "failed", "files": [], "orphans": [], "msg": "why"}
    assert lines.cleaned_line(nothing) == ("alice: failed: why", 3)


@pytest.mark.parametrize(
    ("changes", "eventful"),
    [
        ({}, False),
        ({"files": [{"verdict": "live", "action": "left"}]}, False),
        ({"files": [{"verdict": "unknown", "action": "left"}]}, True),
        ({"orphans": [{"pid": 6, "action": "left"}]}, True),
        ({"action": "cleaned"}, True),
        ({"msg": "a place was not looked into"}, True),
    ],
)
def test_what_a_timer_has_to_tell(changes: dict[str, Any], eventful: bool) -> None:
    assert lines.is_eventful({"action": "none", "files": [], "orphans": [], "msg": "", **changes}) is eventful


def test_the_version_is_the_collections() -> None:
    found = re.search(r"^version: (\S+)$", (CHECKOUT / "galaxy.yml").read_text(), re.MULTILINE)
    assert found is not None
    assert found.group(1) == version.VERSION


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    digests = [version.digest(tmp_path)]
    for name, content in (("a.py", "x"), ("deep/b.py", ""), ("a.py", "y"), ("deep/b.pyc", "no source")):
        (tmp_path / name).write_text(content)
        digests.append(version.digest(tmp_path))
    assert len(set(digests)) == 4
    assert digests[3] == digests[4]


def test_the_reference_is_up_to_date() -> None:
    # Not by runpy, which ansible-test's import hooks lead astray.
    spec = importlib.util.spec_from_file_location("command_reference", CHECKOUT / "tools/command_reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    wanted = script.reference(make_parser(), output=OUTPUT, exit_codes=EXIT_CODES)
    assert script.REFERENCE.read_text(encoding="utf-8") == wanted, "run tools/command_reference.py"
