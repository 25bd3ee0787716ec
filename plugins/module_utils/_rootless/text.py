# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that somebody else chose (names, paths, lines of files, messages of programs), as it is shown.

Inside the library such text stays as it was found: it is looked up, compared and passed on. It is escaped once, where
it leaves: in `_module/common.py` for modules, in `command/output.py` for the command, in the filters' errors.

The format: `\\xNN` is one byte, an ASCII control character or a byte that is not UTF-8. `\\uNNNN` and `\\UNNNNNNNN` are
other characters that nobody can see or that change how a line is shown. All that `str.isprintable` names printable
stays. So does a backslash, unless what follows would make it look like one of these: then it is `\\x5c`.
Different texts are different in this format, too.
"""

from __future__ import annotations

import re
from typing import Any

_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})")
_FIRST_BYTE, _LAST_BYTE, _BYTES_FROM = 0xDC80, 0xDCFF, 0xDC00

_MESSAGE_CHARS = 80


class Shown(str):
    """Text that is ready to be shown: `escape_all` leaves it as it is."""

    __slots__ = ()


def escape(text: str) -> str:
    """One line of printable characters, which can be encoded. Only for text that was not escaped before."""
    if "\\" in text:
        text = _LOOKS_ESCAPED.sub(r"\\x5c", text)
    return printable(text)


def escape_all(value: Any) -> Any:
    """The same for every string in dictionaries (keys, too) and lists; `Shown` is left as it is."""
    # Most values first: a result of thousands of users has a hundred for each.
    kind = type(value)
    if kind is int:
        return value
    if kind is str:
        return value if value.isprintable() and "\\" not in value else escape(value)
    if isinstance(value, dict):
        return {escape_all(name): escape_all(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [escape_all(item) for item in value]
    if isinstance(value, Shown):
        return str(value)
    return escape(value) if isinstance(value, str) else value


def printable(text: str) -> str:
    """For text that was escaped already, as that of modules' results, in case it was not: backslashes stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def encodable(text: str, encoding: str) -> str:
    """Escaped text without the letters that an encoding other than UTF-8 does not have."""
    if _has(encoding, text):
        return text
    return "".join(char if _has(encoding, char) else _escaped(char) for char in text)


def escape_lines(text: str) -> Shown:
    """A file's text: each line escaped, line feeds stay."""
    return Shown("\n".join(map(escape, text.split("\n"))))


def json_lines(value: Any) -> Shown:
    """JSON over several lines, printable ones, in which letters stay; strings are escaped as JSON does."""
    # Late: the command `exec` needs none of it.
    import json

    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    letters = (char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    return Shown(f"{''.join(letters)}\n")


def shorten(text: str) -> str:
    """Text of any length as a message quotes it."""
    return text if len(text) <= _MESSAGE_CHARS else f"{text[:_MESSAGE_CHARS]}..."


def quoted(value: object) -> str:
    """A value as a message quotes it, with its type to be seen."""
    return shorten(f"'{value}'" if isinstance(value, str) else repr(value))


def escaped_traceback(error: BaseException) -> str:
    """How Python reports an exception, with its message on one line."""
    import traceback

    return Shown(
        f"Traceback (most recent call last):\n{''.join(traceback.format_tb(error.__traceback__))}"
        f"{type(error).__name__}: {escape(str(error))}\n"
    )


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(char: str) -> str:
    number = ord(char)
    if _FIRST_BYTE <= number <= _LAST_BYTE:
        return f"\\x{number - _BYTES_FROM:02x}"
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
