# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mount table says: propagation of the root, and where users keep their images."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ..accounts import Account
from ..mountinfo import Mount, mount_at
from .catalogue import HostFinding

# Served by other machines, which know nothing of our user namespaces.
_REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "panfs", "smb3", "smbfs"}
    | {f"fuse.{name}" for name in ("beegfs", "ceph", "cvmfs2", "glusterfs", "juicefs", "s3fs", "sshfs")}
)

_STORAGE_CONF = "/etc/containers/storage.conf"
_LOCAL = "/var/lib/rootless-containers"
# Without a file root's Podman has these by itself; with one it wants to be told.
_ROOTFUL = (
    "[storage]",
    'driver = "overlay"',
    'runroot = "/run/containers/storage"',
    'graphroot = "/var/lib/containers/storage"',
)


def check_propagation(mounts: list[Mount]) -> Iterator[HostFinding]:
    root = mount_at(mounts, "/")
    if root is not None and not any(field.startswith("shared:") for field in root.fields):
        yield HostFinding("root-mount-private", f"/ ({root.type}) is not a shared mount", "mount --make-rshared /")


def check_graph_root(account: Account, mounts: list[Mount], found: Mapping[str, Any]) -> Iterator[HostFinding]:
    """`found` is what the user's child answered to `graph_root`; `mounts` were read after that."""
    mount = next((mount for mount in reversed(mounts) if mount.device == found["device"]), None)
    if mount is not None and mount.type in _REMOTE:
        said = f"{found['path']} lies on {mount.type} ({mount.source}, mounted on {mount.point})"
        yield HostFinding("graph-root-remote", said, _move(account, found["own_file"]))


def _move(account: Account, own_file: str | None) -> str:
    """To a local directory that root makes: for all users in the host's file, which goes behind the user's own."""
    # $UID is Podman's.
    setting = f'rootless_storage_path = "{_LOCAL}/$UID"'
    steps = [
        f"install -d -m 711 {_LOCAL}",
        f"install -d -m 700 -o {account.uid} -g {account.gid} {_LOCAL}/{account.uid}",
        f"{{ test -e {_STORAGE_CONF} || printf '%s\\n' {shlex.join(_ROOTFUL)} > {_STORAGE_CONF}; }}",
        f"sed -i -e '/^ *rootless_storage_path/d' -e '/^\\[storage\\]/a {setting}' {_STORAGE_CONF}",
    ]
    if own_file is not None:
        # As the user: root follows nothing that a user's file names.
        steps.append(f"runuser -u {account.name} -- sed -i '/^ *graphroot/d' {shlex.quote(own_file)}")
    return " && ".join(steps)
