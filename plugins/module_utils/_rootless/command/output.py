# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for whoever reads them: a terminal, a file, or the journal, which is told how grave each one is."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from ..text import encodable, escape

# syslog(3), as sd-daemon(3) takes it before a line.
ERROR, WARNING, INFO = 3, 4, 6


def say(text: str, priority: int = INFO) -> None:
    """One line of text as it was found: what went well to the standard output, the rest to the standard error."""
    stream = sys.stdout if priority == INFO else sys.stderr
    stream.write(f"{prefix_of(priority)}{encodable(escape(text), stream.encoding)}\n")
    stream.flush()


def prefix_of(priority: int) -> str:
    """What comes before a line of this priority: something only where the line goes to the journal."""
    return f"<{priority}>" if _goes_to_journal(sys.stdout if priority == INFO else sys.stderr) else ""


def _goes_to_journal(stream: TextIO) -> bool:
    """Whether the stream is the one that systemd.exec(5) names by device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
