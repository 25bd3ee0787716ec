# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Podman this host has: where it keeps a user's state, and which of the two files it reads, goes by that."""

from __future__ import annotations

import re
import shutil

from .host_programs import TOOL_PATH, answer_of

# (major, minor, patch)
Version = tuple[int, int, int]

# The first that reads ns_handles.
HANDLES = (6, 0, 0)
# The first that keeps state in storage-run-UID where there is no /run/user/UID; before: podman-run-UID.
STORAGE_RUN = (5, 0, 0)


class PodmanVersion:
    """The version of the host's Podman, asked once and only when it matters: that takes tens of milliseconds."""

    def __init__(self, *, path: str = TOOL_PATH) -> None:
        """`path`: where the program is looked for. What users have installed for themselves is not looked at."""
        self._path = path
        self._asked: tuple[Version | None] | None = None

    def get(self) -> Version | None:
        """None where there is no Podman, or where it does not tell."""
        if self._asked is None:
            self._asked = (_ask(shutil.which("podman", path=self._path)),)
        return self._asked[0]

    def __str__(self) -> str:
        version = self.get()
        return ".".join(map(str, version)) if version else "(of unknown version)"

    def reads_handles(self) -> bool:
        """Whether the host's Podman looks at `ns_handles`; one that is not there, or does not tell, is a new one."""
        version = self.get()
        return version is None or version >= HANDLES

    def keeps_in_storage_run(self) -> bool:
        """Whether it keeps state in storage-run-UID, and not in podman-run-UID, without /run/user/UID."""
        version = self.get()
        return version is None or version >= STORAGE_RUN


def _ask(program: str | None) -> Version | None:
    if program is None:
        return None
    # Without the variables by which it would look for a namespace to join.
    answer = answer_of([program, "--version"])
    return parse(answer.decode("utf-8", "surrogateescape")) if answer is not None else None


def parse(answer: str) -> Version | None:
    """The version in `podman version 5.4.2`, also where a suffix such as `-rc1` follows."""
    found = re.search(r"\bversion (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", answer)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None
