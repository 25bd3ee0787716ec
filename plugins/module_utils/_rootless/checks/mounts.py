# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mount table says: propagation of the root, and where users keep their images."""

from __future__ import annotations

import os
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

_LOCAL = "/var/lib/rootless-containers"


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


def _move(account: Account, own_file: str) -> str:
    """To a local directory that root makes, by the user's own file, which nobody but the user touches."""
    graph_root, file = f"{_LOCAL}/{account.uid}", shlex.quote(own_file)
    as_user = (
        f"mkdir -p {shlex.quote(os.path.dirname(own_file))} && touch {file} && "
        f"{{ grep -q '^\\[storage\\]' {file} || printf '%s\\n' '[storage]' 'driver = \"overlay\"' >> {file}; }} && "
        f"sed -i -e '/^[[:space:]]*graphroot[[:space:]]*=/d' -e '/^\\[storage\\]/a graphroot = \"{graph_root}\"' {file}"
    )
    return (
        f"install -d -m 711 {_LOCAL} && install -d -m 700 -o {account.uid} -g {account.gid} {graph_root} && "
        f"runuser -u {shlex.quote(account.name)} -- sh -c {shlex.quote(as_user)}"
    )
