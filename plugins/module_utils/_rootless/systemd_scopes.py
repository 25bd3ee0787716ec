# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transient scopes of systemd's, asked for over D-Bus: as much of the protocol as that one request takes.

systemd-run(1) makes a scope around a program that it starts itself, and busctl(1) speaks to message buses only. A
process that runs already is put into a scope here. Each manager listens on a socket of its own, where the user has no
message bus as well.

The wire format is that of the D-Bus specification, the method is `StartTransientUnit` of org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

from .errors import RootlessError

DESTINATION = "org.freedesktop.systemd1"
_OBJECT = "/org/freedesktop/systemd1"
_MANAGER = f"{DESTINATION}.Manager"
UNIT_EXISTS = f"{DESTINATION}.UnitExists"

# A manager needs some milliseconds; one that loads its units anew, some seconds.
SECONDS = 10.0
# CGROUP_LIMIT_MAX of systemd: no limit.
INFINITY = (1 << 64) - 1

_ENDIAN = b"l" if sys.byteorder == "little" else b"B"
_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
# Header fields.
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIXED = {"u": ("I", 4), "b": ("I", 4), "t": ("Q", 8), "y": ("B", 1)}
# By the specification no message is longer; systemd's answers have some hundred bytes.
_MAX_LENGTH = 1 << 20
_MAX_LINE = 1024

# A property's name, the signature of its value, and the value.
Property = tuple[str, str, Any]


class SystemdError(RootlessError):
    """Why there is no scope. `name` is that of the D-Bus error, empty where the manager did not answer with one."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


def start_scope(
    name: str, properties: Sequence[Property], pids: Sequence[int], *, sockets: Sequence[str], seconds: float = SECONDS
) -> None:
    """Have a manager put processes into a new scope, and wait until it has.

    `sockets` are the manager's own, and then, if need be, a message bus that it is on (a path that ends in `bus` or
    `bus_socket`): the first that can be reached is asked.

    Raises `SystemdError`.
    """
    with _connect(sockets, time.monotonic() + seconds) as bus:
        signature = "ssa(sv)a(sa(sv))"
        variants = [(key, (kind, value)) for key, kind, value in (*properties, ("PIDs", "au", list(pids)))]
        answer = bus.call("StartTransientUnit", signature, (name, "fail", variants, []))
        bus.wait_for_job(str(answer[0]) if answer else "", name)


def attach(name: str, subcgroup: str, pids: Sequence[int], *, sockets: Sequence[str], seconds: float = SECONDS) -> None:
    """Have a manager move processes into a cgroup of a delegated unit; `subcgroup` is a path below it, or empty.

    Raises `SystemdError`.
    """
    with _connect(sockets, time.monotonic() + seconds) as bus:
        bus.call("AttachProcessesToUnit", "ssau", (name, subcgroup, list(pids)))


def systemd_runs(run: str) -> bool:
    """Whether systemd is PID 1: sd_booted(3)."""
    return os.path.isdir(f"{run}/systemd/system")


def can_be_asked(sockets: Sequence[str]) -> bool:
    """Whether one of the sockets is there."""
    return any(os.path.exists(path) for path in sockets)


def _connect(sockets: Sequence[str], deadline: float) -> _Bus:
    failure: OSError | None = None
    for path in sockets:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.settimeout(max(0.1, deadline - time.monotonic()))
            channel.connect(path)
        except OSError as error:
            channel.close()
            failure = failure or error
            continue
        return _Bus(channel, deadline, is_shared=path.endswith(("bus", "bus_socket")))
    why = f"{sockets[0]}: {failure.strerror or failure}" if failure else "it has no socket"
    raise SystemdError(f"systemd cannot be reached: {why}")


class _Bus:
    """A connection, authenticated by the kernel's word on who this process is (EXTERNAL)."""

    def __init__(self, channel: socket.socket, deadline: float, *, is_shared: bool) -> None:
        self._channel = channel
        self._deadline = deadline
        self._input = bytearray()
        self._serial = 0
        # The paths and results of jobs that have ended.
        self._ended: dict[str, str] = {}
        try:
            self._authenticate()
            if is_shared:
                self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
                rule = f"type='signal',sender='{DESTINATION}',member='JobRemoved'"
                self._call(
                    "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", (rule,)
                )
                self.call("Subscribe")
        except BaseException:
            channel.close()
            raise

    def __enter__(self) -> _Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, member: str, signature: str = "", arguments: Sequence[Any] = ()) -> list[Any]:
        """A method of the manager's, and what it returns: its first value, if that is text or a path."""
        return self._call(DESTINATION, _OBJECT, _MANAGER, member, signature, arguments)

    def wait_for_job(self, job: str, name: str) -> None:
        """Until it has ended well. Raises `SystemdError`."""
        while job not in self._ended:
            self._next()
        if self._ended[job] != "done":
            raise SystemdError(f"systemd could not start {name}: {self._ended[job]}")

    def _authenticate(self) -> None:
        uid = str(os.geteuid()).encode().hex()
        self._send(f"\0AUTH EXTERNAL {uid}\r\n".encode())
        while b"\r\n" not in self._input:
            self._receive()
            if len(self._input) > _MAX_LINE:
                break
        line, _separator, rest = bytes(self._input).partition(b"\r\n")
        if not line.startswith(b"OK "):
            raise SystemdError(f"systemd refuses this process: {line[:80].decode('ascii', 'surrogateescape')}")
        self._input = bytearray(rest)
        self._send(b"BEGIN\r\n")

    def _call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        arguments: Sequence[Any] = (),
    ) -> list[Any]:
        self._serial += 1
        serial = self._serial
        body = bytearray()
        for part, value in zip(_split(signature), arguments):
            _append(body, part, value)
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_DESTINATION, ("s", destination)),
        ]
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        message = bytearray(struct.pack("=cBBBII", _ENDIAN, _CALL, 0, 1, len(body), serial))
        _append(message, "a(yv)", fields)
        _align(message, 8)
        self._send(bytes(message + body))
        while True:
            kind, fields_found, values = self._next()
            if fields_found.get(_REPLY_SERIAL) != serial:
                continue
            if kind == _ERROR:
                said = values[0] if values else fields_found.get(_ERROR_NAME, "no reason given")
                raise SystemdError(f"systemd refuses {member}: {said}", str(fields_found.get(_ERROR_NAME, "")))
            return values

    def _next(self) -> tuple[int, dict[int, Any], list[Any]]:
        """The next message: its kind, its header fields, and its body, if that is made of text and numbers only."""
        while len(self._input) < 16:
            self._receive()
        endian = "<" if self._input[:1] == b"l" else ">"
        kind, (length,) = self._input[1], struct.unpack_from(f"{endian}I", self._input, 4)
        (length_of_fields,) = struct.unpack_from(f"{endian}I", self._input, 12)
        start = -(-(16 + length_of_fields) // 8) * 8
        if start + length > _MAX_LENGTH:
            raise SystemdError("systemd's answer makes no sense")
        while len(self._input) < start + length:
            self._receive()
        message = bytes(self._input[: start + length])
        del self._input[: start + length]
        try:
            fields = _Reader(message[: 16 + length_of_fields], 16, endian).fields()
            values = _Reader(message, start, endian).values(str(fields.get(_SIGNATURE, "")))
        except (struct.error, IndexError, ValueError):
            raise SystemdError("systemd's answer makes no sense") from None
        if kind == _SIGNAL and fields.get(_MEMBER) == "JobRemoved" and len(values) >= 4:
            self._ended[values[1]] = values[3]
        return kind, fields, values

    def _send(self, content: bytes) -> None:
        try:
            self._channel.settimeout(self._left())
            self._channel.sendall(content)
        except OSError as error:
            raise SystemdError(f"systemd cannot be asked: {error.strerror or error}") from None

    def _receive(self) -> None:
        try:
            self._channel.settimeout(self._left())
            chunk = self._channel.recv(1 << 16)
        except socket.timeout:
            raise SystemdError("systemd did not answer in time") from None
        except OSError as error:
            raise SystemdError(f"systemd does not answer: {error.strerror or error}") from None
        if not chunk:
            raise SystemdError("systemd has closed the connection")
        self._input += chunk

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise SystemdError("systemd did not answer in time")
        return left


def _split(signature: str) -> list[str]:
    """The complete types in a signature."""
    found = []
    while signature:
        length = _length_of_first(signature)
        found.append(signature[:length])
        signature = signature[length:]
    return found


def _length_of_first(signature: str) -> int:
    if signature[0] == "a":
        return 1 + _length_of_first(signature[1:])
    depth = 0
    for place, char in enumerate(signature):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"no complete type: {signature}")


def _align(out: bytearray, size: int) -> None:
    out.extend(bytes(-len(out) % size))


def _alignment(kind: str) -> int:
    if kind[0] in _FIXED:
        return _FIXED[kind[0]][1]
    return {"(": 8, "g": 1, "v": 1}.get(kind[0], 4)


def _append(out: bytearray, kind: str, value: Any) -> None:
    """A value of one complete type; that of a variant is a pair of signature and value."""
    _align(out, _alignment(kind))
    if kind in _FIXED:
        out.extend(struct.pack(f"={_FIXED[kind][0]}", value))
    elif kind in ("s", "o"):
        text = value.encode()
        out.extend(struct.pack("=I", len(text)) + text + b"\0")
    elif kind == "g":
        out.extend(bytes([len(value)]) + value.encode() + b"\0")
    elif kind == "v":
        _append(out, "g", value[0])
        _append(out, value[0], value[1])
    elif kind[0] == "(":
        for part, content in zip(_split(kind[1:-1]), value):
            _append(out, part, content)
    else:
        length_at = len(out)
        out.extend(bytes(4))
        _align(out, _alignment(kind[1:]))
        start = len(out)
        for content in value:
            _append(out, kind[1:], content)
        struct.pack_into("=I", out, length_at, len(out) - start)


class _Reader:
    """Reads what systemd answers: numbers and text; of other bodies nothing."""

    def __init__(self, message: bytes, place: int, endian: str) -> None:
        self._message = message
        self._place = place
        self._endian = endian

    def fields(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        while self._place < len(self._message):
            self._place = -(-self._place // 8) * 8
            code = self._message[self._place]
            self._place += 1
            found[code] = self._value(self._value("g"))
        return found

    def values(self, signature: str) -> list[Any]:
        if set(signature) - set("ybutsog"):
            return []
        return [self._value(kind) for kind in signature]

    def _value(self, kind: str) -> Any:
        if kind not in ("s", "o", "g", *_FIXED):
            raise ValueError(f"unexpected type: {kind}")
        size = _alignment(kind)
        self._place = -(-self._place // size) * size
        if kind in _FIXED:
            letter, size = _FIXED[kind]
            (number,) = struct.unpack_from(f"{self._endian}{letter}", self._message, self._place)
            self._place += size
            return number
        length = self._value("u" if kind != "g" else "y")
        text = self._message[self._place : self._place + length].decode("utf-8", "surrogateescape")
        self._place += length + 1
        return text
