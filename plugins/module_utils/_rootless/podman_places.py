# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Podman makes of runtime directories: names, modes, links, and what it says where it fails.

From the sources of Podman 3.0 to 6.0.0-rc1, each with the containers/common and containers/storage that it was
built with: `GetRuntimeDir` of pkg/util and of pkg/homedir, `defaultTmpDir` of pkg/config. Seen with 4.3.1, 5.4 and 5.8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .podman_version import STORAGE_RUN, Version

# The first that looks at the mode of the group's and others' bits only for writing.
_LENIENT = (4, 1, 0)
# The first that passes over an XDG_RUNTIME_DIR that is not there, and the first that no longer does.
_PASSES_OVER = (4, 3, 0)
# The first that looks for pause.pid where it is today, and not where its database says.
NOT_CACHED = (4, 5, 0)
# The first that keeps in its database where state is.
CACHED = (2, 2, 0)

# Podman 4 makes this, and with its database follows it for good: bolt puts the value right behind the key.
_CACHED_DIR = re.compile(rb"tmp-dir(/[^\0]{1,1000}?)(?=volume-path|[^\x21-\x7e]|$)")


@dataclass(frozen=True)
class PodmanPlaces:
    """Where one version of Podman keeps a user's state without XDG_RUNTIME_DIR, and what it refuses.

    `name` is for messages. `mask`: the bits of a directory's mode that it looks at; they must be 0700. `follows`: a
    symbolic link in place of a directory. `rundir`: $HOME/rundir is the last it tries. `passes_over`: an
    XDG_RUNTIME_DIR that is not there. `checks_owner`: it refuses an XDG_RUNTIME_DIR that is somebody else's.
    """

    name: str
    temporary: str
    mask: int
    follows: bool
    rundir: bool
    passes_over: bool
    checks_owner: bool
    stat: str

    @classmethod
    def of(cls, version: Version | None) -> PodmanPlaces:
        """None where there is no Podman, or where it does not say: then as the newest."""
        name = "Podman " + ".".join(map(str, version)) if version else "Podman 5.0 and later"
        if version is None or version >= STORAGE_RUN:
            return cls(name, "storage-run", 0o722, False, False, False, False, "lstat")
        mask = 0o777 if version < _LENIENT else 0o722 if version < NOT_CACHED else 0o700
        passes_over = _PASSES_OVER <= version < NOT_CACHED
        return cls(name, "podman-run", mask, True, True, passes_over, True, "stat" if version < NOT_CACHED else "lstat")

    def not_there(self, path: str) -> str:
        """What it says of an XDG_RUNTIME_DIR that is not there."""
        return f"{self.stat} {path}: no such file or directory"

    def anothers(self, path: str) -> str:
        """What it says of an XDG_RUNTIME_DIR that is somebody else's."""
        if self.checks_owner:
            return f'XDG_RUNTIME_DIR directory "{path}" is not owned by the current user'
        return f"mkdir {path}/libpod: permission denied"

    def no_place(self, temporary: str, home: str) -> str:
        """What it says where there is no directory for it."""
        if self.rundir:
            return f"mkdir {home}/rundir/libpod: no such file or directory"
        return f'path "{temporary}" exists and it is not writeable only by the current user'


def follows_database(version: Version | None) -> bool:
    """Whether this Podman looks for `pause.pid` where it has once written to its database."""
    return version is not None and CACHED <= version < NOT_CACHED


def cached_state_dir(database: bytes) -> str | None:
    """The state directory in the content of `bolt_state.db`; None where there is none."""
    found = _CACHED_DIR.search(database)
    return found[1].decode("utf-8", "surrogateescape") if found else None
