# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a program of the host's for something, with nothing of the caller's environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 20.0


def answer_of(command: Sequence[str]) -> bytes | None:
    """What a program prints; None where it cannot be run, or takes longer than 20 s."""
    try:
        return subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            env={"PATH": TOOL_PATH, "HOME": "/", "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
