# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that users control hold anything at all: the answer is a result or our own error."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import Account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.handles import CorruptHandlesError, Handles
from ansible_collections.userns.rootless.plugins.module_utils._rootless.inspection import Inspector, Marks
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause import PauseError, parse_pid
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pin import PinStore
from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import (
    ProcessTable,
    age,
    comm,
    environ,
)
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import (
    SubidError,
    _nss_service,
    _parse_answer,
)


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=272, max_size=272)))
def test_any_handles_file(content: bytes) -> None:
    try:
        handles = Handles.parse(content)
    except CorruptHandlesError:
        return
    assert Handles.parse(handles.to_bytes()) == handles


@given(
    st.one_of(
        st.binary(max_size=12),
        st.text("0123456789 +-\n\t\v\f\r\0x", max_size=14).map(str.encode),
        st.integers(-9, 10**8).map(lambda number: str(number).encode()),
    )
)
def test_any_pause_file(content: bytes) -> None:
    try:
        pid, strict = parse_pid(content)
    except PauseError:
        return
    assert (str(pid).encode() == content) == strict
    # As strtol(3) of the first 11 bytes, which stops at a NUL.
    assert pid == ctypes.CDLL(None).strtol(content[:11], None, 10)
    assert 0 < pid <= 1 << 22


class Mute:
    """A user's child that can say nothing of any process."""

    def opens_handles(self) -> bool:
        return False

    def marks(self, pids: Sequence[int]) -> dict[int, Marks]:
        return {}


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    syscalls = Syscalls()
    return Inspector(syscalls, pins=PinStore(syscalls), table=ProcessTable({}, {}))


VERDICTS = {
    "pause.pid": {"garbage", "dead", "recycled", "foreign"},
    "ns_handles": {"corrupt", "dead", "unknown", "foreign"},
}


@given(
    name=st.sampled_from(sorted(VERDICTS)),
    content=st.one_of(
        st.none(),
        st.binary(max_size=300),
        st.binary(min_size=272, max_size=272),
        st.integers(0, 1 << 22).map(lambda pid: str(pid).encode()),
    ),
)
def test_any_file_gets_a_verdict(inspector: Inspector, name: str, content: bytes | None) -> None:
    account = Account("somebody", 4_000_000_000, 4_000_000_000, "/")
    problem = "is odd" if content is None else None
    file = {
        "identity": [1, 2],
        "content": content.hex() if content is not None else None,
        "problem": problem,
        "lockable": True,
    }
    finding = inspector.judge_file(account, name, file, ask=Mute())
    assert finding.verdict in VERDICTS[name]
    assert finding.evidence


@given(st.binary(max_size=2000))
def test_any_environment(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as proc:
        Path(proc, "7/ns").mkdir(parents=True)
        Path(proc, "7/ns/mnt").touch()
        Path(proc, "7/environ").write_bytes(content)
        for name, value in environ(proc, 7).items():
            assert b"\0" not in name + value


@given(name=st.binary(max_size=64), started=st.integers(0, 1 << 62))
def test_any_process_name(name: bytes, started: int) -> None:
    with tempfile.TemporaryDirectory() as proc:
        Path(proc, "7").mkdir()
        Path(proc, "7/comm").write_bytes(name)
        Path(proc, "7/stat").write_bytes(b"7 (" + name + b") S " + b"0 " * 18 + str(started).encode() + b" 0")
        assert isinstance(comm(proc, 7), str)
        assert age(proc, 7) >= 0


@given(st.text(max_size=200))
def test_any_nsswitch_file(text: str) -> None:
    assert _nss_service(text)


@given(st.text(max_size=80))
def test_any_answer_of_getsubids(text: str) -> None:
    try:
        found = _parse_answer(text, owner="alice", what="getsubids alice")
    except SubidError:
        return
    assert found.count > 0
