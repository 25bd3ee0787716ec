# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of Debian releases, as directories that hosts boot from (an overlay keeps them as they are).

Two kinds: ready for rootless containers, and bare. No host has a network, so on a bare one lie the packages that would
make it ready, as a repository that apt installs from.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import cache

PACKAGES = (
    # A host as an administrator knows it.
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "openssh-server", "sudo", "acl"),
    *("python3", "python3-apt", "procps", "iproute2", "ca-certificates"),
    # Rootless containers.
    *("uidmap", "podman", "crun", "fuse-overlayfs", "passt", "busybox-static"),
)
# What ssh, Ansible and the scenarios need; busybox is what containers are made of.
BARE_PACKAGES = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "openssh-server", "python3", "procps", "busybox-static"),
)
# What lies there. apt's module installs python3-apt for itself.
OFFERED = ("python3-apt", "uidmap", "dbus-user-session", "catatonit", "podman", "crun")
NETWORK_HELPER = {"bookworm": "slirp4netns", "trixie": "passt", "sid": "passt"}
# bookworm goes without, since Podman does too where only its own packages are installed.
PAUSE_BINARY = {"bookworm": (), "trixie": ("catatonit",), "sid": ("catatonit",)}
UNWANTED = ("man", "locale", "doc")

# Nothing that wants the network or hardware, or that would set the kernel of all.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("systemd-modules-load.service", "systemd-udevd.service", "systemd-sysctl.service", "systemd-resolved.service"),
    *("systemd-networkd.service", "systemd-timesyncd.service", "console-getty.service", "getty@.service"),
    *("podman.service", "podman.socket", "podman-restart.service", "podman-auto-update.timer"),
    # Root is the same user on all hosts and the machine, and has 128 inotify instances by default: its managers,
    # one a host, are what exceeded them.
    "user@0.service",
)
FILES = {
    "etc/ssh/sshd_config.d/tests.conf": "MaxStartups 100\nUseDNS no\nPermitRootLogin prohibit-password\n",
    # What a host within a host may not do: limit PIDs and set sysctls.
    "etc/containers/containers.conf": "[containers]\npids_limit = 0\ndefault_sysctls = []\n",
    "etc/tmpfiles.d/tests.conf": "c! /dev/fuse 0666 root root - 10:229\nc! /dev/net/tun 0666 root root - 10:200\n",
    # Else for ten seconds after a user's last session, and a test that makes another user of that UID would wait.
    "etc/systemd/logind.conf.d/tests.conf": "[Login]\nUserStopDelaySec=0\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "",
}
BARE_FILES = {
    "etc/apt/sources.list": "deb [trusted=yes] file:/srv/packages ./\n",
    # Nothing comes by chance: what is needed has to be asked for.
    "etc/apt/apt.conf.d/tests": 'APT::Install-Recommends "false";\n',
}
# Runs in the new root file system.
OFFER = """set -eu
apt-get --quiet --quiet --yes --download-only install "$@"
mkdir /srv/packages
cd /srv/packages
mv /var/cache/apt/archives/*.deb .
number=0
for deb in *.deb; do
  # No escapes in the name.
  name=$((number += 1)).deb
  mv "$deb" "$name"
  dpkg-deb --field "$name"
  printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \\
    "$name" "$(stat --format %s "$name")" "$(sha256sum "$name" | cut -d ' ' -f 1)"
done > Packages
"""
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


def of(name: str) -> Path:
    """The root file system of a Debian release, or of a bare host with `bare-` before it.

    Raises MissingError when it cannot be made.
    """
    suite = name.removeprefix("bare-")
    if name == suite:
        return _made(name, suite, PACKAGES + PAUSE_BINARY[suite], offered=(), files=FILES)
    return _made(name, suite, BARE_PACKAGES, offered=(*OFFERED, NETWORK_HELPER[suite]), files=FILES | BARE_FILES)


def _made(name: str, suite: str, packages: Sequence[str], *, offered: Sequence[str], files: Mapping[str, str]) -> Path:
    def make(part: Path) -> None:
        if not shutil.which("mmdebstrap"):
            raise cache.MissingError("needs mmdebstrap, to make root file systems (Debian: apt-get install mmdebstrap)")
        cache.say(f"Making a root file system of Debian, {name}: half a minute")
        started = time.monotonic()
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
        # A snapshot of sid may be older than its signature allows.
        command += ['--aptopt=Acquire::Check-Valid-Until "false"'] if suite == "sid" else []
        if offered:
            command += [f'--customize-hook=chroot "$1" sh -c {shlex.quote(OFFER)} sh {" ".join(offered)}']
        command += [suite, str(part)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            cache.remove(part)
            raise cache.MissingError(f"no root file system, {name}: {' '.join(result.stderr.split()[-40:])}")
        furnish(part, {**files, **FILES_OF.get(suite, {})})
        cache.say(f"{name} took {time.monotonic() - started:.0f} s")

    recipe = (packages, UNWANTED, MASKED, files, FILES_OF.get(suite))
    return cache.made(name, (*recipe, offered, OFFER) if offered else recipe, make)


def furnish(root: Path, files: Mapping[str, str]) -> None:
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
