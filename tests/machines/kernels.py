# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's kernels for virtual machines, old and new."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from . import cache

META = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"


def of(suite: str) -> Path:
    """The bootable kernel of a Debian release. Raises MissingError when it cannot be had.

    Debian replaces its kernels often; the one at hand stays until the cache is removed.
    """

    def make(part: Path) -> None:
        cache.say(f"Fetching the kernel of Debian {suite}")
        with tempfile.TemporaryDirectory() as directory:
            shutil.move(_fetch(suite, Path(directory)), part)

    return cache.made(f"kernel-{suite}", (META, MIRROR), make)


def _fetch(suite: str, work: Path) -> Path:
    for name in ("state/lists/partial", "cache/archives/partial", "debs", "root"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        # A snapshot of sid may be older than its signature allows.
        "Acquire::Check-Valid-Until": "false",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def apt(tool: str, *arguments: str) -> str:
        try:
            result = subprocess.run(
                [tool, *options, *arguments], capture_output=True, text=True, check=False, cwd=work / "debs"
            )
        except FileNotFoundError:
            raise cache.MissingError(f"needs {tool}, to fetch kernels") from None
        if result.returncode:
            raise cache.MissingError(f"no kernel of {suite}: {' '.join(result.stderr.split()[-40:])}")
        return result.stdout

    apt("apt-get", "--quiet", "update")
    # The name of the day; later kernels keep the image in a package of its own.
    depends = apt("apt-cache", "depends", "--recurse", "--important", META)
    lines = (line.removeprefix("Depends:").strip() for line in map(str.strip, depends.splitlines()))
    wanted = sorted({line for line in lines if line.startswith(("linux-image-", "linux-binary-"))} - {META})
    apt("apt-get", "--quiet", "download", *wanted)
    for package in (work / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(work / "root")], check=True)
    found = [*(work / "root/boot").glob("vmlinuz-*"), *(work / "root").glob("usr/lib/modules/*/vmlinuz")]
    if not found:
        raise cache.MissingError(f"no bootable kernel in {' '.join(wanted)} of {suite}")
    return found[0]
