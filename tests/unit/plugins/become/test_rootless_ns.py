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


KEY = b"0123456789abcdef" * 2
ANNOUNCED = b"ROOTLESS-NS-PROMPT-" + KEY + b" "
PROMPT = b"[sudo via ansible, key=" + KEY + b"] password:"
OTHER_PROMPT = PROMPT.replace(KEY, KEY[::-1])


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> BecomeModule:
    """As it is right after it has built a command."""
    plugin = BecomeModule()
    options = {
        "become_user": "alice",
        "become_flags": "-H -S -n",
        "become_exe": "sudo",
        "become_pass": "secret",
        "create": False,
        "python": "python3",
    }
    monkeypatch.setattr(plugin, "get_option", lambda name, *_more, **_named: options[name])
    plugin.build_become_command("id", None)
    return plugin


def test_a_prompt_is_one_only_with_the_key_that_was_announced(plugin: BecomeModule) -> None:
    assert plugin.expect_prompt()
    assert not plugin.check_password_prompt(PROMPT)
    # Not complete yet.
    assert not plugin.check_password_prompt(ANNOUNCED[:-5])
    assert not plugin.check_password_prompt(ANNOUNCED)
    assert not plugin.check_password_prompt(OTHER_PROMPT)
    assert plugin.check_password_prompt(b"lecture\r\n" + PROMPT)
    # As a terminal shows it, where all comes in one line.
    assert plugin.check_password_prompt(ANNOUNCED + PROMPT)
    assert plugin.check_success(ANNOUNCED + plugin.success.encode() + b"\r\n")
    plugin._has_become = False
    # Only the first one counts.
    assert not plugin.check_password_prompt(ANNOUNCED.replace(KEY, KEY[::-1]) + OTHER_PROMPT)


def test_all_in_one_piece_as_the_local_connection_reads_it(plugin: BecomeModule) -> None:
    assert plugin.check_password_prompt(ANNOUNCED + PROMPT)


@pytest.mark.parametrize("announced", [True, False])
def test_after_success_there_is_no_prompt(plugin: BecomeModule, announced: bool) -> None:
    if announced:
        assert not plugin.check_password_prompt(ANNOUNCED)
    assert not plugin.check_success(b"something else\n")
    assert plugin.check_success(plugin.success.encode() + b"\n")
    assert not plugin.check_password_prompt(ANNOUNCED + PROMPT)
    # A later line is output, not a second success: connections leave those lines out.
    assert not plugin.check_success(b"output\n")


def test_what_announces_a_prompt_is_no_output(plugin: BecomeModule) -> None:
    assert plugin.strip_become_prompt(ANNOUNCED + b"error\n") == b"error\n"
    assert plugin.check_password_prompt(ANNOUNCED + PROMPT)
    assert plugin.strip_become_prompt(ANNOUNCED + PROMPT + b"\nerror\n") == b"error\n"


def test_each_command_has_a_key_of_its_own(plugin: BecomeModule) -> None:
    assert plugin.check_password_prompt(ANNOUNCED + PROMPT)
    plugin.build_become_command("id", None)
    assert not plugin.check_password_prompt(PROMPT)


def test_no_key_and_no_shells_success_in_what_is_sent(plugin: BecomeModule) -> None:
    line = plugin.build_become_command("id", type("Shell", (), {"executable": "/bin/sh"}))
    assert line.endswith(" /bin/sh -c id")
    assert "key=" not in line
    assert "BECOME-SUCCESS" not in line.rpartition("/bin/sh")[2]
