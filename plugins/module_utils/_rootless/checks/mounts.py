# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mount table says: propagation of the root, and where users keep their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..accounts import Account
from ..mountinfo import Mount, mount_at
from .catalogue import HostFinding
from .shell import shell_word

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
    graph_root = f"{_LOCAL}/{account.uid}"
    # The file is an argument: what shell_word writes is for an interactive shell, and this one is any.
    as_user = (
        'mkdir -p "${1%/*}" && touch "$1" && '
        "{ grep -q '^\\[storage\\]' \"$1\" || printf '%s\\n' '[storage]' 'driver = \"overlay\"' >> \"$1\"; } && "
        f"sed -i -e '/^[[:space:]]*graphroot[[:space:]]*=/d' -e '/^\\[storage\\]/a graphroot = \"{graph_root}\"' \"$1\""
    )
    return (
        f"install -d -m 711 {_LOCAL} && install -d -m 700 -o {account.uid} -g {account.gid} {graph_root} && "
        f"runuser -u {shell_word(account.name)} -- sh -c {shell_word(as_user)} sh {shell_word(own_file)}"
    )
