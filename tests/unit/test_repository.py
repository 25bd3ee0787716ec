# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every file of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Where packages come from is the machine's to say: the configuration of its apt and pip, with whatever mirror it has.
ARCHIVES = re.compile(
    rb"(deb|security|ftp[.\w]*|archive|snapshot|ports)\.(debian|ubuntu)\.(org|com)"
    rb"|pypi\.org|pythonhosted\.org|npmjs\.(org|com)|crates\.io|proxy\.golang\.org|rubygems\.org"
)


def named(text: bytes) -> list[str]:
    return [match[0].decode() for match in ARCHIVES.finditer(text)]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("deb", "debian", "org"), True),
        (("archive", "ubuntu", "com"), True),
        (("pypi", "org"), True),
        (("registry", "npmjs", "org"), True),
        (("www", "debian", "org"), False),
    ],
)
def test_a_name_would_be_seen(labels: tuple[str, ...], found: bool) -> None:
    assert bool(named(f"http://{'.'.join(labels)}/x".encode())) is found


def test_no_file_names_a_package_archive() -> None:
    files = [
        path
        for top in ROOT.iterdir()
        if not top.name.startswith(".")
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file() and not {"__pycache__", "output"} & set(path.parts)
    ]
    assert len(files) > 200
    assert {str(path.relative_to(ROOT)): found for path in files if (found := named(path.read_bytes()))} == {}
