# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Podman keeps a user's images. Runs as the user itself (see `as_user`): home directories are the users' own.

The rule is that of storage.conf(5): `graphroot` of the user's own file, `rootless_storage_path` of the host's, or
`.local/share/containers/storage` below the home directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from .accounts import Account

_MAX_SETTINGS = 1024 * 1024
_PATH_MAX = 4096


def find_graph_root(account: Account, *, environment: Mapping[str, str], etc: str) -> tuple[str, str]:
    """The path, whether it exists or not, and the user's own file of settings, which need not be there.

    `environment` is empty unless the caller acts for itself.
    """
    config = environment.get("XDG_CONFIG_HOME") or os.path.join(account.home, ".config")
    own = environment.get("CONTAINERS_STORAGE_CONF") or os.path.join(config, "containers/storage.conf")
    data = environment.get("XDG_DATA_HOME") or os.path.join(account.home, ".local/share")
    found = _setting(own, "graphroot")
    for path in (os.path.join(etc, "containers/storage.conf"), "/usr/share/containers/storage.conf"):
        found = found or _setting(path, "rootless_storage_path")
    if found is None:
        return os.path.join(data, "containers/storage"), own
    variables = {"HOME": account.home, "UID": str(account.uid), "USER": account.name}
    expanded = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: variables.get(match[1] or match[2], match[0]), found)
    return expanded, own


def device_of(path: str) -> str | None:
    """The device, "major:minor", of a path or of the closest directory above it that can be seen; None if none can."""
    while True:
        try:
            # Opened, not only looked at: that is what mounts an automount.
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            if path in ("/", ""):
                return None
            path = os.path.dirname(path)
            continue
        try:
            device = os.fstat(fd).st_dev
        finally:
            os.close(fd)
        return f"{os.major(device)}:{os.minor(device)}"


def _setting(path: str, name: str) -> str | None:
    """A string setting of a TOML file; Python 3.9 has no parser for the whole language."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read(_MAX_SETTINGS)
    except OSError:
        return None
    match = re.search(rf"""^[ \t]*{name}\s*=\s*(["'])(.*?)\1""", content, re.MULTILINE)
    value = match[2] if match else ""
    # No path, whatever else it is.
    return value if value and "\0" not in value and len(value) < _PATH_MAX else None
