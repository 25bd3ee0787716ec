# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages, and what is made of a manager's answers. Real managers are asked in tests/kernel."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import systemd_scopes
from ansible_collections.userns.rootless.plugins.module_utils._rootless.systemd_scopes import SystemdError, start_scope

JOB = "/org/freedesktop/systemd1/job/7"


def padded(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode() + b"\0"


def message(kind: int, fields: list[tuple[int, str, bytes]], body: bytes, endian: str = "<") -> bytes:
    """By hand, as the D-Bus specification has it; all in little endian unless the header says so."""
    content = b""
    for code, signature, value in fields:
        content = padded(content, 8) + bytes([code, 1]) + signature.encode() + b"\0"
        content = padded(content, 4) if signature != "g" else content
        content += value
    head = (
        (b"l" if endian == "<" else b"B")
        + bytes([kind, 0, 1])
        + struct.pack(f"{endian}III", len(body), 1, len(content))
    )
    return padded(head + content, 8) + body


REPLY = message(2, [(5, "u", struct.pack("<I", 1)), (8, "g", b"\x01o\0")], text(JOB))
REFUSED = message(
    3,
    [(4, "s", text("org.freedesktop.systemd1.UnitExists")), (5, "u", struct.pack("<I", 1)), (8, "g", b"\x01s\0")],
    text("Unit x.scope was already loaded."),
)


def removed(result: str, job: str = JOB) -> bytes:
    body = struct.pack("<I", 7) + text(job)
    body = padded(body, 4) + text("x.scope")
    body = padded(body, 4) + text(result)
    return message(4, [(3, "s", text("JobRemoved")), (8, "g", b"\x04uoss\0")], body)


# A signal with a body of types that nobody asks for.
OTHER = message(4, [(3, "s", text("UnitNew")), (8, "g", b"\x06a{sv}o\0")], struct.pack("<II", 0, 0) + text("/x"))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Path]:
    """A socket; what is written to the file beside it is what a manager there answers, before it hangs up."""
    path = tmp_path / "private"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _address = listener.accept()
        with connection:
            line = connection.recv(1 << 16)
            (tmp_path / "auth").write_bytes(line)
            connection.sendall((tmp_path / "greeting").read_bytes())
            asked = b""
            while b"StartTransientUnit" not in asked:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return
                asked += chunk
            (tmp_path / "asked").write_bytes(asked)
            answer = (tmp_path / "answer").read_bytes()
            # In pieces.
            for start in range(0, len(answer), 50):
                connection.sendall(answer[start : start + 50])
            if not answer:
                connection.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    (tmp_path / "greeting").write_bytes(b"OK 0123456789abcdef\r\n")
    yield path
    listener.close()


def start(path: Path, **how: float) -> None:
    properties = (("Slice", "s", "a.slice"), ("Delegate", "b", True), ("TasksMax", "t", systemd_scopes.INFINITY))
    start_scope("x.scope", properties, [7, 8], sockets=(str(path),), **how)


def test_what_is_asked(manager: Path, tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(OTHER + removed("failed", "/other") + REPLY + OTHER + removed("done"))
    start(manager)
    assert (tmp_path / "auth").read_bytes() == f"\0AUTH EXTERNAL {str(os.geteuid()).encode().hex()}\r\n".encode()
    asked = (tmp_path / "asked").read_bytes()
    assert asked.startswith(b"BEGIN\r\n")
    assert b"Delegate\0\x01b\0\x01\0\0\0" in asked
    assert b"Slice\0\x01s\0" in asked
    assert b"TasksMax\0\x01t\0" in asked
    assert bytes([255] * 8) in asked
    assert b"PIDs\0\x02au\0" in asked
    assert struct.pack("<III", 8, 7, 8) in asked


@pytest.mark.parametrize(
    ("answer", "said", "name"),
    [
        (REFUSED, "already loaded", "org.freedesktop.systemd1.UnitExists"),
        (REPLY + removed("failed"), "could not start x.scope: failed", ""),
        (removed("canceled") + REPLY, "canceled", ""),
        (REPLY, "closed the connection", ""),
        (REPLY[:40], "closed the connection", ""),
        (b"l\x02\0\x01\xff\xff\xff\xff" + bytes(8), "makes no sense", ""),
        (b"l\x02\0\x01" + struct.pack("<III", 0, 1, 16) + b"\x05\x03(((" + bytes(11), "makes no sense", ""),
    ],
)
def test_what_comes_back(manager: Path, tmp_path: Path, answer: bytes, said: str, name: str) -> None:
    (tmp_path / "answer").write_bytes(answer)
    with pytest.raises(SystemdError, match=said) as caught:
        start(manager)
    assert caught.value.name == name


def test_a_manager_that_does_not_answer_is_not_waited_for(manager: Path, tmp_path: Path) -> None:
    (tmp_path / "answer").write_bytes(b"")
    with pytest.raises(SystemdError, match="in time"):
        start(manager, seconds=0.2)


def test_a_manager_that_refuses(manager: Path, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_bytes(b"REJECTED EXTERNAL\r\n")
    with pytest.raises(SystemdError, match="refuses this process: REJECTED"):
        start(manager)


def test_no_manager(tmp_path: Path) -> None:
    with pytest.raises(SystemdError, match="private: No such file"):
        start(tmp_path / "private")
