# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root of the library's own exceptions."""

from __future__ import annotations


class RootlessError(Exception):
    """An error whose message an operator can act on: what was found, where, and what to do."""
