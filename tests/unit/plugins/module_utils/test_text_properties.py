# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes a user chooses: lines stay lines, results can be encoded, different names are shown as different."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.become_main import _escaped, _shown
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.shell import shell_word
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import (
    Cleaning,
    FileOutcome,
    OrphanOutcome,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.command.lines import (
    changed_line,
    cleaned_line,
    seen_line,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.nsfs import NamespaceId
from ansible_collections.userns.rootless.plugins.module_utils._rootless.report import ProcessInTheWay, Report
from ansible_collections.userns.rootless.plugins.module_utils._rootless.state import (
    DEAD,
    Finding,
    PauseProcess,
    UserState,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.text import (
    escape,
    escape_all,
    escape_lines,
    json_lines,
)

# Pieces out of which escapes can be forged, beside anything at all.
tricky = st.lists(
    st.sampled_from(
        ["\\", "x", "u", "U", "1b", "001b", "0000001b", "\x1b", "\n", "\r", "\u202e", "\udc1b", "\udcff", "5c"]
    )
).map("".join)
texts = st.text() | st.text(st.characters()) | tricky | st.binary().map(os.fsdecode)
names = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)


def unescape(shown: str) -> str:
    """What the format says, read by the letter."""
    return re.sub(
        r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))",
        lambda match: _byte(int(match[1], 16)) if match[1] else chr(int(match[2] or match[3], 16)),
        shown,
    )


def _byte(number: int) -> str:
    return chr(number) if number < 0x80 else chr(0xDC00 + number)


@given(texts)
@example("\\x5cx1b")
@example("\\\\x1b")
@example("\\\x1b")
def test_one_line_that_can_be_read_back(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    shown.encode()
    assert unescape(shown) == text


@given(texts)
def test_the_program_that_the_become_plugin_sends_means_the_same_format(text: str) -> None:
    """It has functions of its own, which import nothing."""
    shown = _shown(text)
    assert shown.isprintable()
    assert unescape(shown) == text
    written = f'"{_escaped(shown)}"'
    assert written.isascii()
    assert json.loads(written) == shown


@given(texts, texts)
def test_different_texts_differ(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(texts)
def test_lines_of_files(text: str) -> None:
    lines = escape_lines(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert [unescape(line) for line in lines] == text.split("\n")


values = st.recursive(st.none() | st.integers() | texts, lambda inner: st.dictionaries(texts, inner))


@given(values)
def test_json(value: Any) -> None:
    text = json_lines(value)
    assert all(line.isprintable() for line in text.split("\n"))
    # JSON has no word for half a character.
    if not any("\ud800" <= char <= "\udfff" for char in json.dumps(value, ensure_ascii=False)):
        assert json.loads(text) == value


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings(item)]
    return (
        [text for item in value for text in strings(item)]
        if isinstance(value, list)
        else [value] * isinstance(value, str)
    )


def outcomes(name: str) -> tuple[Cleaning, Report]:
    """What comes of a user who calls everything like this."""
    alice, namespace = Account("alice", 1000, 1000, "/"), NamespaceId(1, 2)
    finding = Finding(DEAD, f"process 1 ({name}) is {name}", command=name, pid=1)
    path = f"/run/user/1000/{name}/libpod/tmp"
    orphan = OrphanOutcome(PauseProcess(1, namespace, unmapped=False), name, 1.0, why=name)
    cleaning = Cleaning("alice", alice, [FileOutcome(f"{path}/pause.pid", "pause.pid", finding, "removed", name)])
    cleaning.orphans, cleaning.problems, cleaning.messages, cleaning.pin = [orphan], [name], [name], finding
    state = UserState(
        state_dir=path,
        pause=finding,
        handles=finding,
        pin=finding,
        pin_left=False,
        orphans=(),
        monitors=(),
        processes={},
    )
    report = Report("alice", alice, messages=[name], warnings=[name], in_the_way=[ProcessInTheWay(1, name, name)])
    report.see(state)
    return cleaning, report


@given(names, names)
def test_results_and_lines(name: str, other: str) -> None:
    shown = []
    for chosen in (name, other):
        cleaning, report = outcomes(chosen)
        told = [cleaning.as_dict(), {**report.as_dict(), **report.obstacles(), **report.verdicts()}]
        result = escape_all(told)
        assert all(text.isprintable() for text in strings(result))
        json.dumps(result, ensure_ascii=False).encode()
        lines = [cleaned_line(told[0])[0], seen_line(told[1])[0], changed_line(told[1])[0]]
        assert all(escape(line).isprintable() for line in lines)
        shown.append(result)
    for one, another in zip(strings(shown[0][0]["files"]), strings(shown[1][0]["files"])):
        assert one == another or name != other
    assert (shown[0] == shown[1]) == (name == other)


shells = [path for path in map(shutil.which, ("bash", "busybox", "zsh", "ksh")) if path]


@settings(max_examples=50, deadline=None)
@given(st.lists(names | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), max_size=3))
def test_words_of_command_lines(words: list[str]) -> None:
    line = " ".join(["printf '%s\\0'", *map(shell_word, words)])
    assert line.isprintable()
    if all(word.isprintable() for word in words):
        assert shlex.split(line)[2:] == words
    for shell in shells:
        command = [shell, *(["sh"] if shell.endswith("busybox") else []), "-c", line]
        said = subprocess.run(command, capture_output=True, check=True).stdout
        assert said == b"".join(os.fsencode(word) + b"\0" for word in words) or not words
