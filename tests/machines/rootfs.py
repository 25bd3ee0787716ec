# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of Debian releases, as directories that hosts boot from (an overlay keeps them as they are)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from . import cache

PACKAGES = (
    # A host as an administrator knows it.
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "openssh-server", "sudo", "acl"),
    *("python3", "python3-apt", "procps", "iproute2", "ca-certificates"),
    # Rootless containers.
    *("uidmap", "podman", "crun", "fuse-overlayfs", "passt", "busybox-static"),
)
# bookworm goes without, since Podman does too where only its own packages are installed.
PAUSE_BINARY = {"bookworm": (), "trixie": ("catatonit",), "sid": ("catatonit",)}
UNWANTED = ("man", "locale", "doc")

# Nothing that wants the network or hardware, or that would set the kernel of all.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("systemd-modules-load.service", "systemd-udevd.service", "systemd-sysctl.service", "systemd-resolved.service"),
    *("systemd-networkd.service", "systemd-timesyncd.service", "console-getty.service", "getty@.service"),
    *("podman.service", "podman.socket", "podman-restart.service", "podman-auto-update.timer"),
)
FILES = {
    "etc/ssh/sshd_config.d/tests.conf": "MaxStartups 100\nUseDNS no\nPermitRootLogin prohibit-password\n",
    # What a host within a host may not do: limit PIDs and set sysctls.
    "etc/containers/containers.conf": "[containers]\npids_limit = 0\ndefault_sysctls = []\n",
    "etc/tmpfiles.d/tests.conf": "c! /dev/fuse 0666 root root - 10:229\nc! /dev/net/tun 0666 root root - 10:200\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "",
}
# systemd 262 gives logind a view of /proc without nspawn's own boot ID; what others tell it of processes is refused.
BOOT_ID = """[Unit]
DefaultDependencies=no
Before=systemd-logind.service

[Service]
Type=oneshot
ExecStart=umount /proc/sys/kernel/random/boot_id
"""
FILES_OF = {
    "sid": {
        "etc/systemd/system/tests-boot-id.service": BOOT_ID,
        "etc/systemd/system/basic.target.d/tests.conf": "[Unit]\nWants=tests-boot-id.service\n",
    }
}


def of(suite: str) -> Path:
    """The root file system of a Debian release. Raises MissingError when it cannot be made."""
    packages = PACKAGES + PAUSE_BINARY[suite]

    def make(part: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise cache.MissingError("needs mmdebstrap, to make root file systems (Debian: apt-get install mmdebstrap)")
        cache.say(f"Making a root file system of Debian {suite}: half a minute")
        started = time.monotonic()
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
        # A snapshot of sid may be older than its signature allows.
        command += ['--aptopt=Acquire::Check-Valid-Until "false"'] if suite == "sid" else []
        command += [suite, str(part)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            cache.remove(part)
            raise cache.MissingError(f"no root file system of {suite}: {' '.join(result.stderr.split()[-40:])}")
        furnish(part, FILES | FILES_OF.get(suite, {}))
        cache.say(f"Debian {suite} took {time.monotonic() - started:.0f} s")

    return cache.made(suite, (packages, UNWANTED, MASKED, FILES, FILES_OF.get(suite)), make)


def furnish(root: Path, files: dict[str, str]) -> None:
    """Make a bare root file system one that boots here."""
    for name, content in files.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        os.symlink("/dev/null", units / unit)
    # The same clock for all.
    (root / "etc/localtime").unlink(missing_ok=True)
    os.symlink("/usr/share/zoneinfo/UTC", root / "etc/localtime")
