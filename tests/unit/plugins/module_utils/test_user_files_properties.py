# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that users control hold anything at all: the answer is a result or our own error."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.userns.rootless.plugins.module_utils._rootless.handles import CorruptHandlesError, Handles
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause import PauseError, parse_pid


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=272, max_size=272)))
def test_any_handles_file(content: bytes) -> None:
    try:
        handles = Handles.parse(content)
    except CorruptHandlesError:
        return
    assert Handles.parse(handles.to_bytes()) == handles


@given(st.one_of(st.binary(max_size=12), st.integers(-9, 10**8).map(lambda number: str(number).encode())))
def test_any_pause_file(content: bytes) -> None:
    try:
        pid = parse_pid(content)
    except PauseError:
        return
    assert str(pid).encode() == content
    assert 0 < pid <= 1 << 22
