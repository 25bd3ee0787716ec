# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the become plugin makes of options for sudo."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.userns.rootless.plugins.become.rootless_ns import BecomeModule, _interactive


@pytest.mark.parametrize(
    ("flag", "interactive"),
    [
        ("-n", ""),
        ("--non-interactive", ""),
        ("-Hn", "-H"),
        ("-nH", "-H"),
        # Arguments of other options, and long ones.
        ("-gnagios", "-gnagios"),
        ("-unina", "-unina"),
        ("--chdir=/n", "--chdir=/n"),
        ("nina", "nina"),
    ],
)
def test_where_there_is_a_password_sudo_may_ask(flag: str, interactive: str) -> None:
    assert _interactive(flag) == interactive


@pytest.mark.parametrize("option", ["become_flags", "become_exe"])
def test_quotes_that_do_not_end_are_told(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    plugin = BecomeModule()
    options = {"become_flags": "", "become_exe": "sudo", "become_pass": None, option: "sudo 'x"}
    monkeypatch.setattr(plugin, "get_option", lambda name, *_more: options[name])
    with pytest.raises(AnsibleError, match=rf"{option} of become_method .*No closing quotation"):
        plugin._sudo()
