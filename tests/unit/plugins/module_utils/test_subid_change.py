# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can be an owner."""

from __future__ import annotations

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid import SubidError
from ansible_collections.userns.rootless.plugins.module_utils._rootless.subid_change import KEY_NAME, Accounts


@pytest.mark.parametrize("asked", ["", " a", "a\r", "a:b", "a\nb", "#a", "a\0b", "4294967295", "99999999999"])
def test_what_no_line_can_name(asked: str) -> None:
    with pytest.raises(SubidError, match="cannot be an owner"):
        Accounts().owner(asked, key=KEY_NAME)
