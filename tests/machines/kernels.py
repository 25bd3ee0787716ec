# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels of Debian and Ubuntu for virtual machines, old and new."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import cache

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Distribution:
    """An archive, the package that always depends on the newest kernel there, and modules wanted of that."""

    mirror: str
    meta: str
    modules: tuple[str, ...]


# A client and a server of NFS, to have a file system that some other machine might serve.
DEBIAN = Distribution("http://deb.debian.org/debian", "linux-image-cloud-amd64", ("nfsv4", "nfsd"))
UBUNTU = Distribution("http://archive.ubuntu.com/ubuntu", "linux-image-virtual", ())
UBUNTU_RELEASES = ("jammy", "noble")


def of(suite: str) -> Path:
    """The kernel of a release: `vmlinuz`, and `modules` to be loaded in the order of their names.

    Raises MissingError when it cannot be had. Kernels are replaced often; the one at hand stays until the cache is
    removed.
    """
    distribution = UBUNTU if suite in UBUNTU_RELEASES else DEBIAN

    def make(part: Path) -> None:
        cache.say(f"Fetching the kernel of {suite}")
        with tempfile.TemporaryDirectory() as directory:
            root = _fetch(suite, distribution, Path(directory))
            shutil.rmtree(part, ignore_errors=True)
            (part / "modules").mkdir(parents=True)
            found = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
            if not found:
                raise cache.MissingError(f"no bootable kernel in the packages of {suite}")
            shutil.move(found[0], part / "vmlinuz")
            for number, (name, content) in enumerate(_in_order(root, distribution.modules)):
                (part / f"modules/{number:02}-{name}.ko").write_bytes(content)

    return cache.made(f"kernel-{suite}", distribution, make)


def _fetch(suite: str, distribution: Distribution, work: Path) -> Path:
    """The kernel's packages, unpacked."""
    keyring = DEBIAN_KEYRING
    if distribution is UBUNTU:
        # Debian vouches for Ubuntu's keys.
        trusted = _Archive("sid", DEBIAN.mirror, keyring, work / "keys")
        keyring = trusted.unpack(["ubuntu-keyring"]) / "usr/share/keyrings/ubuntu-archive-keyring.gpg"
    archive = _Archive(suite, distribution.mirror, keyring, work / "kernel")
    # The name of the day; later kernels of Debian keep the image and the modules in packages of their own.
    prefixes = ["linux-image-", "linux-binary-", *(["linux-modules-"] if distribution.modules else [])]
    wanted = {name for name in archive.needed_by(distribution.meta) if name.startswith(tuple(prefixes))}
    return archive.unpack(sorted(wanted - {distribution.meta}))


class _Archive:
    """One release of a package archive, looked into with apt, apart from the packages of this machine."""

    def __init__(self, suite: str, mirror: str, keyring: Path, work: Path) -> None:
        self._suite = suite
        self._work = work
        for name in ("state/lists/partial", "cache/archives/partial", "debs", "root"):
            (work / name).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
        self._run("apt-get", "--quiet", "update")

    def needed_by(self, package: str) -> set[str]:
        """All packages that a package depends on."""
        listed = self._run("apt-cache", "depends", "--recurse", "--important", package)
        return {line.strip().removeprefix("Depends:").strip() for line in listed.splitlines()}

    def unpack(self, packages: list[str]) -> Path:
        """The directory with all files of the packages."""
        self._run("apt-get", "--quiet", "download", *packages)
        for package in (self._work / "debs").glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(self._work / "root")], check=True)
        return self._work / "root"

    def _run(self, tool: str, *arguments: str) -> str:
        settings = {
            "Dir::State": self._work / "state",
            "Dir::State::status": self._work / "status",
            "Dir::Cache": self._work / "cache",
            "Dir::Etc::sourcelist": self._work / "sources.list",
            "Dir::Etc::sourceparts": "-",
            # A snapshot of sid may be older than its signature allows.
            "Acquire::Check-Valid-Until": "false",
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        try:
            result = subprocess.run(
                [tool, *options, *arguments], capture_output=True, text=True, check=False, cwd=self._work / "debs"
            )
        except FileNotFoundError:
            raise cache.MissingError(f"needs {tool}, to fetch kernels") from None
        if result.returncode:
            raise cache.MissingError(f"no kernel of {self._suite}: {' '.join(result.stderr.split()[-40:])}")
        return result.stdout


def _in_order(root: Path, wanted: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """The modules wanted and those they need, these first."""
    paths = {path.name.partition(".")[0].replace("-", "_"): path for path in root.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found:
            return
        try:
            path = paths[name]
        except KeyError:
            raise cache.MissingError(f"no module {name} in the kernel's packages") from None
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        needed = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in filter(None, needed[1].decode().split(",") if needed else ()):
            add(other.replace("-", "_"))
        found[name] = content

    for name in wanted:
        add(name)
    return list(found.items())
