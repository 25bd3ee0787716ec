# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests: a kernel of its own each, under QEMU, with the tests in its initial file system. No hardware help is needed.

The file system is two archives one after the other: a Debian that is made once, and what changes: the checkout's part.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

import ansible

from . import cache

PACKAGES = ("python3", "uidmap", "passwd", "mount", "util-linux", "apparmor")
UNWANTED = ("doc", "man", "locale", "info", "zoneinfo", "perl")
# Pure Python, so those of the checkout's .venv do.
DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
CHECKOUT = Path(__file__).parents[2]
TESTS = "tests/kernel/test_every_kernel.py"
PATIENCE = 600
INIT = f"""#!/bin/sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root PYTHONPATH=/site NO_COLOR=1 ROOTLESS_TEST_GUEST=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/user
exec < /dev/null > /dev/ttyS0 2>&1
cd /checkout
uname -sr
python3 -m pytest -p no:cacheprovider --color no -v -rs {TESTS}
echo "guest: tests ended with $?"
echo b > /proc/sysrq-trigger
sleep 60
"""


def why_not() -> str | None:
    """Why this machine cannot run guests; None if it can."""
    if os.geteuid() != 0:
        return "needs root, to make a root file system for guests"
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio"), ("dpkg", "dpkg")):
        if shutil.which(tool) is None:
            return f"needs {tool} (Debian: apt-get install {package})"
    if not Path("/usr/share/seabios/bios-256k.bin").exists() and not Path("/usr/share/qemu/bios-256k.bin").exists():
        return "needs a BIOS for the guests (Debian: apt-get install seabios)"
    return None


def debian() -> Path:
    """The archive that all guests begin with."""

    def make(part: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise cache.MissingError("needs mmdebstrap, to make root file systems (Debian: apt-get install mmdebstrap)")
        cache.say("Making a root file system for guests: 20 seconds")
        with tempfile.TemporaryDirectory(dir=part.parent) as directory:
            root = Path(directory) / "root"
            command = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(PACKAGES)}"]
            command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
            result = subprocess.run([*command, "trixie", str(root)], capture_output=True, text=True, check=False)
            if result.returncode:
                raise cache.MissingError(f"no root file system for guests: {' '.join(result.stderr.split()[-40:])}")
            for name in ("var/lib/apt", "var/cache"):
                shutil.rmtree(root / name, ignore_errors=True)
            with open(part, "wb") as archive:
                _archive(root, archive)

    return cache.made("guest", (PACKAGES, UNWANTED), make)


def _archive(root: Path, archive: BinaryIO) -> None:
    """Everything below a directory as a cpio archive, as the kernel unpacks it."""
    archive.flush()
    command = "find . -print0 | cpio --null --create --format=newc --quiet"
    subprocess.run(["sh", "-c", command], cwd=root, stdout=archive, check=True)


def _checkout(archive: BinaryIO, kernel: Path) -> None:
    """Append the archive of what is to be tested, and of the kernel's modules."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        site, checkout = root / "site", root / "checkout"
        for name in DISTRIBUTIONS:
            for file in importlib.metadata.files(name) or ():
                if ".." not in file.parts:
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file.locate(), site / file)
        shutil.copytree(Path(ansible.__file__).parent / "module_utils", site / "ansible/module_utils")
        (site / "ansible/__init__.py").touch()
        for name in ("plugins", "roles", "tests/kernel"):
            shutil.copytree(CHECKOUT / name, checkout / name)
        shutil.copy(CHECKOUT / "pyproject.toml", checkout)
        shutil.copytree(kernel / "modules", root / "modules")
        collections = checkout / ".collections/ansible_collections/userns"
        collections.mkdir(parents=True)
        (collections / "rootless").symlink_to("../../..")
        _archive(root, archive)


def run(kernel: Path) -> tuple[int, str]:
    """Boot a kernel and run the tests on it: their exit code, and all that was printed."""
    # Neither a file nor a process stays, whatever becomes of us.
    with open(os.memfd_create("initrd"), "wb") as initrd:
        with open(debian(), "rb") as file:
            shutil.copyfileobj(file, initrd, 1 << 20)
        _checkout(initrd, kernel)
        initrd.flush()
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
        command += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "1536"]
        command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
        command += ["-kernel", str(kernel / "vmlinuz"), "-initrd", f"/proc/self/fd/{initrd.fileno()}"]
        command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off apparmor=1 security=apparmor"]
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=False,
                pass_fds=[initrd.fileno()],
            )
        except subprocess.TimeoutExpired as expired:
            return 1, f"{(expired.stdout or b'').decode(errors='replace')}\nthe guest took longer than {PATIENCE} s"
    text = result.stdout.decode(errors="replace").replace("\r", "")
    _before, found, after = text.rpartition("guest: tests ended with ")
    return (int(after.split()[0]), text) if found else (1, f"{text}\nthe guest ended before its tests")
