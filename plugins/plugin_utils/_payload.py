# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin sends: a program as source, its detours, and as much of the library as sets up a namespace.

Made once for each controller process.
"""

from __future__ import annotations

import ast
import base64
import functools
import io
import json
import tokenize
import zlib
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.userns.rootless.plugins.module_utils import _rootless

_PROGRAM = ("joiner", "become_main")
_DETOURS = ("joiner_detours", "through_sudo", "become_detours")
_FUTURE = "from __future__ import annotations\n"
# D unpacks; M is put where the program imports from its detours, and makes them part of it.
_PROLOGUE = """import zlib,binascii
D=lambda t:zlib.decompress(binascii.a2b_base64(t))
M=lambda:exec(D(R),globals())
"""
_BOOTSTRAP = (
    "import zlib,binascii;L={library!r};R={detours!r};S=zlib.decompress(binascii.a2b_base64({source!r}));exec(S)"
)


def program(user: str, *, sudo: Sequence[str], create: bool, success: str = "", asks: bool = False) -> str:
    """The argument of `python3 -c` that runs its own arguments in the user's namespace.

    `success` is the line that it writes right before it enters; `asks`: sudo may ask for a password.
    """
    arguments = f"success={success!r},asks={asks},library=L,sudo={list(sudo)!r}"
    main = f"main({user!r},{arguments},sources=(S,R.encode())if'S'in globals()else())"
    source = _packed(f"{_FUTURE}{_PROLOGUE}{_joined(_PROGRAM)}\n{main}")
    return _BOOTSTRAP.format(
        library=_library() if create else "", detours=_packed(_FUTURE + _joined(_DETOURS)), source=source
    )


@functools.cache
def _joined(names: tuple[str, ...]) -> str:
    """The sources as one module."""
    return "\n".join(_stripped(name, alone=True) for name in names)


@functools.cache
def _library() -> str:
    """`set_up` and all that it imports: the sources by name."""
    return _packed(json.dumps({name: _FUTURE + _stripped(name) for name in sorted(_closure("set_up"))}))


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _closure(name: str) -> set[str]:
    """A file of the library and those it needs, by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(_source(name))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                waiting += [node.module] if node.module else [alias.name for alias in node.names]
    return found


@functools.cache
def _source(name: str) -> str:
    return (Path(_rootless.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")


def _stripped(name: str, *, alone: bool = False) -> str:
    """A source without docstrings, comments and types' imports; with `alone` also without imports from the library:
    those at its top are of what stands before it, those inside of functions are of detours.

    Lines are taken out, and none is written anew: what today's Python writes, an older one may not read.
    """
    lines = [*_source(name).split("\n")]
    unwanted = {"__future__", "typing", "collections.abc"} if alone else {"__future__"}
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            _take_out(lines, node.body[0], instead="pass" if len(node.body) == 1 else "")
        elif isinstance(node, ast.ImportFrom):
            if node.module in unwanted or (alone and node.level):
                # Those of types are gone by now, with all that only a type checker reads.
                _take_out(lines, node, instead="M()" if node.col_offset and lines[node.lineno - 1] else "")
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            _take_out(lines, node)
    for token in tokenize.generate_tokens(io.StringIO(_source(name)).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            lines[token.start[0] - 1] = ""
    return "\n".join(line for line in lines if line)


def _take_out(lines: list[str], node: ast.stmt, *, instead: str = "") -> None:
    end = node.end_lineno or node.lineno
    lines[node.lineno - 1 : end] = [" " * node.col_offset + instead if instead else ""] + [""] * (end - node.lineno)
