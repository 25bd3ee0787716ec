# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mount table says: propagation of the root, and where users keep their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..mountinfo import Mount, mount_at
from .catalogue import HostFinding

# Served by other machines, which know nothing of our user namespaces.
_REMOTE = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "panfs", "smb3", "smbfs"}
    | {f"fuse.{name}" for name in ("beegfs", "ceph", "cvmfs2", "glusterfs", "juicefs", "s3fs", "sshfs")}
)


def check_propagation(mounts: list[Mount]) -> Iterator[HostFinding]:
    root = mount_at(mounts, "/")
    if root is not None and not any(field.startswith("shared:") for field in root.fields):
        yield HostFinding("root-mount-private", f"/ ({root.type}) is not a shared mount", "mount --make-rshared /")


def check_graph_root(mounts: list[Mount], found: Mapping[str, Any]) -> Iterator[HostFinding]:
    """`found` is what the user's child answered to `graph_root`; `mounts` were read after that."""
    mount = next((mount for mount in reversed(mounts) if mount.device == found["device"]), None)
    if mount is not None and mount.type in _REMOTE:
        yield HostFinding(
            "graph-root-remote",
            f"{found['path']} lies on {mount.type} ({mount.source}, mounted on {mount.point})",
            'printf \'[storage]\\ndriver = "overlay"\\nrootless_storage_path = "/var/tmp/containers-$USER"\\n\' '
            "> /etc/containers/storage.conf  # any local directory; those of the users are made by Podman",
        )
