# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts as Ansible sees them: an inventory file, and the key that opens them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import cache, netns
from .hosts import Host


def key() -> Path:
    """The private key of root on every host; made once."""

    def make(part: Path) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "userns.rootless tests", "-f", str(part)]
        subprocess.run(command, check=True)
        part.with_suffix(".pub").unlink()

    return cache.made("key", "ed25519", make)


def public_key() -> str:
    return subprocess.run(["ssh-keygen", "-y", "-f", str(key())], capture_output=True, text=True, check=True).stdout


def write(path: Path, hosts: Iterable[Host]) -> None:
    """Write an inventory (JSON is YAML): one host a release in `releases` and one in `bare`, others in `fleet`."""
    groups: dict[str, dict[str, Any]] = {"releases": {}, "bare": {}, "fleet": {}}
    for host in hosts:
        proxy = f"{sys.executable} {Path(netns.__file__)} {host.label} 22"
        group = next((group for group in ("bare", "fleet") if host.name.startswith(group)), "releases")
        groups[group][host.name] = {
            "ansible_ssh_common_args": f"-o ProxyUseFdpass=yes -o ProxyCommand='{proxy}'",
            "debian_release": host.suite.removeprefix("bare-"),
        }
    common = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key()),
        "ansible_python_interpreter": "/usr/bin/python3",
        # The hosts are made anew for every run, and only this machine reaches them.
        "ansible_host_key_checking": False,
        # Ansible names the sockets of open connections after the host: those of another cache's hosts are others.
        "ansible_control_path_dir": str(cache.root() / "ssh"),
        "ansible_ssh_extra_args": "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
    }
    children = {name: {"hosts": members} for name, members in groups.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"all": {"vars": common, "children": children}}, indent=2) + "\n")
