# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of the command lines that findings recommend."""

from __future__ import annotations

import os
import shlex


def shell_word(text: str) -> str:
    """A word as an administrator's interactive shell reads it, of printable characters only.

    A word with others is written as bash, zsh, ksh and busybox read it, `$'...'` with three octal digits for each byte:
    neither can a line feed end the command, nor a bidirectional override show another one.
    """
    if text.isprintable():
        return shlex.quote(text)
    letters = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\{byte:03o}" for byte in os.fsencode(text)
    )
    return f"$'{''.join(letters)}'"
