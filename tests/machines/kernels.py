# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels of Debian releases for virtual machines, old and new."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import cache

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# The package that always depends on the newest kernel.
META = "linux-image-cloud-amd64"
# The name of the day; later kernels keep the image and the modules in packages of their own.
PREFIXES = ("linux-image-", "linux-binary-", "linux-modules-")
# A client and a server of NFS, to have a file system that some other machine might serve.
MODULES = ("nfsv4", "nfsd")


def of(suite: str) -> Path:
    """The kernel of a release: `vmlinuz`, and `modules` to be loaded in the order of their names.

    Raises MissingError when it cannot be had. Kernels are replaced often; the one at hand stays until the cache is
    removed.
    """

    def make(part: Path) -> None:
        cache.say(f"Fetching the kernel of {suite}")
        with tempfile.TemporaryDirectory() as directory:
            archive = _Archive(suite, mirror(), Path(directory))
            wanted = {name for name in archive.needed_by(META) if name.startswith(PREFIXES)}
            root = archive.unpack(sorted(wanted - {META}))
            shutil.rmtree(part, ignore_errors=True)
            (part / "modules").mkdir(parents=True)
            found = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
            if not found:
                raise cache.MissingError(f"no bootable kernel in the packages of {suite}")
            shutil.move(found[0], part / "vmlinuz")
            for number, (name, content) in enumerate(_in_order(root, MODULES)):
                (part / f"modules/{number:02}-{name}.ko").write_bytes(content)

    return cache.made(f"kernel-{suite}", (META, PREFIXES, MODULES), make)


def mirror() -> str:
    """The address of Debian's archive that this machine's apt is set up with.

    Raises MissingError where there is none, or where apt has not read it yet.
    """
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    # A list of mirrors (apt-transport-mirror(1)) or a disc is no address to fetch from.
    for address in _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).splitlines():
        if address.startswith(("http://", "https://")):
            return address
    raise cache.MissingError(
        "apt of this machine has no archive of Debian's to fetch kernels from, or has not read it yet: "
        "name one in /etc/apt/sources.list.d and run apt-get update"
    )


class _Archive:
    """One release of a package archive, looked into with apt, apart from the packages of this machine."""

    def __init__(self, suite: str, mirror: str, work: Path) -> None:
        self._suite = suite
        self._work = work
        for name in ("state/lists/partial", "cache/archives/partial", "debs", "root"):
            (work / name).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")
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
            return _run(tool, *options, *arguments, cwd=self._work / "debs")
        except subprocess.CalledProcessError as error:
            raise cache.MissingError(f"no kernel of {self._suite}: {' '.join(error.stderr.split()[-40:])}") from None


def _run(tool: str, *arguments: str, cwd: Path | None = None) -> str:
    """What a tool prints. Raises MissingError without it, CalledProcessError when it fails."""
    try:
        return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True, cwd=cwd).stdout
    except FileNotFoundError:
        raise cache.MissingError(f"needs {tool}, to fetch kernels") from None


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
