# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which library this is: the collection's version, and a digest of the sources that are really here."""

from __future__ import annotations

import hashlib
from pathlib import Path

VERSION = "1.0.0-dev0"

_LIBRARY = Path(__file__).resolve().parents[1]


def version_line(name: str) -> str:
    return f"{name} {VERSION} (library {digest()})"


def digest(library: Path = _LIBRARY) -> str:
    """SHA-256 over the name and content of every source file, its first 12 digits: equal on hosts with equal files."""
    summed = hashlib.sha256()
    for path in sorted(library.rglob("*.py")):
        content = path.read_bytes()
        summed.update(f"{path.relative_to(library).as_posix()}\0{len(content)}\0".encode())
        summed.update(content)
    return summed.hexdigest()[:12]
