# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin sends: it fits into one argument, and its parts do not get into each other's way."""

from __future__ import annotations

import ast
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import joiner
from ansible_collections.userns.rootless.plugins.plugin_utils import _payload

# MAX_ARG_STRLEN of the kernel, in bytes, on machines with pages of 4 KiB.
LONGEST_ARGUMENT = 128 * 1024


def names(files: tuple[str, ...]) -> list[str]:
    """What stands at the top of the files, by name."""
    found = []
    for file in files:
        for node in ast.parse(_payload._source(file)).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.append(node.name)
            elif isinstance(node, ast.Assign):
                targets = [part for target in node.targets for part in ast.walk(target)]
                found += [part.id for part in targets if isinstance(part, ast.Name)]
    return found


def test_program_and_detours_share_one_set_of_names() -> None:
    """A name that stands twice would mean something else once the detours are loaded."""
    found = names(_payload._PROGRAM + _payload._DETOURS)
    assert sorted(found) == sorted(set(found))


def test_it_fits_into_one_argument() -> None:
    sent = _payload.program("u" * 32, sudo=["sudo", "-H", "-S", "-n"], create=True, success="x" * 64, asks=True)
    assert len(sent) < LONGEST_ARGUMENT * 0.8


@pytest.mark.parametrize(
    ("machine", "bits", "number"),
    [
        ("x86_64", 64, 250),
        ("x86_64", 32, 288),
        ("i686", 32, 288),
        ("aarch64", 64, 219),
        ("aarch64", 32, 311),
        ("armv7l", 32, 311),
        ("s390x", 64, 280),
        ("riscv64", 64, 219),
    ],
)
def test_a_process_of_32_bits_has_numbers_of_its_own(
    monkeypatch: pytest.MonkeyPatch, machine: str, bits: int, number: int
) -> None:
    """Another number would be another system call: root's session keyring would silently be kept."""
    called = []

    def of_libc(_name: str) -> Any:
        return lambda *arguments: called.append(arguments[0]) or 0

    monkeypatch.setattr(joiner, "_of_libc", of_libc)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(sys, "maxsize", (1 << bits - 1) - 1)
    joiner._new_keyring()
    assert called == [number]
