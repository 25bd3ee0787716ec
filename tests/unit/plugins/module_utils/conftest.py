# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long properties are tested: ROOTLESS_TEST_LONG takes a hundred times as many examples."""

from __future__ import annotations

import os

try:
    from hypothesis import settings
except ImportError:
    # In ansible-test's environments, where the properties are left out: the other tests are not.
    pass
else:
    settings.register_profile("long", max_examples=10_000, deadline=None)
    if os.environ.get("ROOTLESS_TEST_LONG"):
        settings.load_profile("long")
