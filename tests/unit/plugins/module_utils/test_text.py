# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others chose is shown in one format, once, wherever it leaves the library."""

from __future__ import annotations

import ast
import json
import os
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import (
    Shown,
    encodable,
    escape,
    escape_all,
    escape_lines,
    escaped_traceback,
    json_lines,
    printable,
    quoted,
    shorten,
)

MODULE_UTILS = Path(__file__).parents[4] / "plugins/module_utils"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("J\u00fcrgen \u4f60 \N{GRINNING FACE}", "J\u00fcrgen \u4f60 \N{GRINNING FACE}"),
        ("a\tb\r\nc\0\x7f", r"a\x09b\x0d\x0ac\x00\x7f"),
        ("\x1b[2J\x9b", r"\x1b[2J\u009b"),
        ("\udcff\udc80", r"\xff\x80"),
        ("\x80 \ud800", r"\u0080 \ud800"),
        # A line separator, a bidirectional override, a tag that is not seen, a no-break space, nothing assigned.
        ("\u2028\u202e\U000e0041\u00a0\u0378", r"\u2028\u202e\U000e0041\u00a0\u0378"),
        ("DOMAIN\\user \\n \\", "DOMAIN\\user \\n \\"),
        (r"\x1b \u202e \U000e0041 \x1B", r"\x5cx1b \x5cu202e \x5cU000e0041 \x5cx1B"),
        ("\\\x1b", r"\\x1b"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    assert escape(text) == expected
    assert printable(expected) == expected


def test_every_string_of_a_result_is_escaped_once() -> None:
    result = {"a\n": ["\x1b", ("\udcff", 1, None, True, 0.5)], "b": {"c": Shown("ready\\x1b\n")}}
    escaped = escape_all(result)
    assert escaped == {r"a\x0a": [r"\x1b", [r"\xff", 1, None, True, 0.5]], "b": {"c": "ready\\x1b\n"}}
    assert not isinstance(escaped["b"]["c"], Shown)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "\u00ff\u4f60 \\xff"), ("latin-1", "\u00ff\\u4f60 \\xff"), ("ascii", "\\u00ff\\u4f60 \\xff")],
)
def test_letters_that_a_terminal_does_not_have(encoding: str, expected: str) -> None:
    assert encodable(escape("\u00ff\u4f60 \udcff"), encoding) == expected


def test_subclasses_are_no_way_around() -> None:
    class Text(str):
        pass

    pair = namedtuple("pair", "one other")
    found = defaultdict(list, {Text("\n"): pair(Text("\x1b"), OrderedDict(a=Text("\n")))})
    assert escape_all(found) == {r"\x0a": [r"\x1b", {"a": r"\x0a"}]}


def test_files_keep_their_lines() -> None:
    assert escape_lines("a:1:2\n\x1b\\x1b\u2028\r\n") == "a:1:2\n\\x1b\\x5cx1b\\u2028\\x0d\n"


def test_json_keeps_letters_and_lines() -> None:
    value = {"\u00fc\u4f60": 'a"\\\n\x1b\x7f\u202e\U000e0041'}
    text = json_lines(value)
    assert json.loads(text) == value
    assert text == '{\n  "\u00fc\u4f60": "a\\"\\\\\\n\\u001b\\u007f\\u202e\\udb40\\udc41"\n}\n'


@pytest.mark.parametrize(("length", "expected"), [(80, "x" * 80), (81, "x" * 80 + "...")])
def test_shorten(length: int, expected: str) -> None:
    assert shorten("x" * length) == expected


@pytest.mark.parametrize(("value", "expected"), [("1", "'1'"), (1, "1"), (["\x1b"], r"['\x1b']"), (None, "None")])
def test_quoted(value: object, expected: str) -> None:
    assert quoted(value) == expected


def test_a_traceback_has_the_message_on_one_line() -> None:
    def fail() -> None:
        raise ValueError("forged\nok: [h]\x1b")

    with pytest.raises(ValueError, match="forged") as caught:
        fail()
    lines = escaped_traceback(caught.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == r"ValueError: forged\x0aok: [h]\x1b"


def calls_of_methods(path: Path, *names: str) -> list[str]:
    """Where a source calls a method of one of these names."""
    return [
        f"{path.name}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names
    ]


@pytest.mark.parametrize("path", sorted((MODULE_UTILS / "_module").glob("*.py")), ids=lambda path: path.name)
def test_all_that_modules_return_goes_through_one_place(path: Path) -> None:
    found = calls_of_methods(path, "exit_json", "fail_json", "warn", "deprecate", "log")
    assert bool(found) == (path.name == "common.py"), found


@pytest.mark.parametrize("path", sorted((MODULE_UTILS / "_rootless/command").glob("*.py")), ids=lambda path: path.name)
def test_all_that_the_command_writes_goes_through_two_places(path: Path) -> None:
    # Beside `say`: JSON and the reason why a command cannot be run, both escaped. `terminal.py` relays what is written.
    found = calls_of_methods(path, "write", "writelines")
    assert len(found) == {"output.py": 1, "main.py": 2, "terminal.py": 6}.get(path.name, 0), found
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "id", "") == "print"]


@pytest.mark.parametrize("path", sorted((MODULE_UTILS / "_rootless/checks").glob("*.py")), ids=lambda path: path.name)
def test_all_words_of_command_lines_are_quoted_in_one_way(path: Path) -> None:
    assert bool(calls_of_methods(path, "quote")) == (path.name == "shell.py")


@pytest.mark.parametrize("path", sorted((MODULE_UTILS / "_rootless").rglob("*.py")), ids=lambda path: path.name)
def test_nothing_is_replaced_when_it_is_read(path: Path) -> None:
    """Two names that differ in bytes that are no UTF-8 stay two names."""
    words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not words & {"replace", "ignore", "backslashreplace"}


class Module:
    """Takes what a module returns."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **told: Any) -> None:
        self.told = told
        raise SystemExit

    fail_json = exit_json


@pytest.mark.parametrize("failure", [None, "failed\n\x1b\\x1b"])
def test_the_end_of_a_module(failure: str | None) -> None:
    common = pytest.importorskip("ansible_collections.userns.rootless.plugins.module_utils._module.common")
    module = Module()
    with pytest.raises(SystemExit):
        common.finish(module, {"a": ["\udcff"]}, failure=failure, warnings=["w\n"])
    assert module.told["a"] == [r"\xff"]
    assert module.told.get("msg") == (failure and r"failed\x0a\x1b\x5cx1b")
    assert module.warnings == [r"w\x0a"]


@pytest.mark.parametrize("kind", [FileNotFoundError, RuntimeError])
def test_a_failed_call_of_a_module(kind: type[Exception]) -> None:
    common = pytest.importorskip("ansible_collections.userns.rootless.plugins.module_utils._module.common")
    module = Module()

    def call() -> Any:
        raise kind(2, "gone", os.fsdecode(b"/tmp/\xff\n\x1b"))

    with pytest.raises(SystemExit):
        common.run_call(module, call)
    assert json.dumps(module.told, ensure_ascii=False).encode()
    assert "\n" not in module.told["msg"]
    assert module.told["exception"].replace("\n", "").isprintable()
