# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root of the library's own exceptions."""

from __future__ import annotations

import os


class RootlessError(Exception):
    """An error whose message an operator can act on: what was found, where, and what to do."""


def describe(error: Exception) -> str:
    """An exception as one line for an operator: what nobody expected with its type, and where it was raised."""
    if isinstance(error, RootlessError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({os.path.basename(where.tb_frame.f_code.co_filename)}, line {where.tb_lineno})" if where else ""
    text = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {text}{place}; please report it"
