# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles make of their variables and of what they find, without a host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[3] / "roles"


def evaluate(expression: str, role: str, **variables: Any) -> Any:
    """An expression as it is in a role with these variables."""
    loader = DataLoader()
    internal = loader.load_from_file(str(ROLES / role / "vars/main.yml"), trusted_as_template=True)
    return Templar(loader=loader, variables={**internal, **variables}).template(trust_as_template(expression))


@pytest.mark.parametrize("role", ["rootless_host", "rootless_persist", "rootless_cleanup"])
@pytest.mark.parametrize(
    ("given", "users"),
    [
        ("alice", ["alice"]),
        ("alice, bob", ["alice", "bob"]),
        (1000, ["1000"]),
        ([1000, "bob"], ["1000", "bob"]),
        ([], []),
        (["null", None, "None"], ["null", "None"]),
        (None, []),
    ],
)
def test_users_are_a_list(role: str, given: Any, users: list[str]) -> None:
    assert evaluate(f"{{{{ __{role}_users }}}}", role, **{f"{role}_users": given}) == users


@pytest.mark.parametrize(
    ("answer", "podman", "changed", "state"),
    [
        ("user", "podman version 6.0.0", True, "present"),
        ("user", "podman version 5.8.1", True, "absent"),
        ("root", "podman version 6.0.0", True, "absent"),
        ("unsupported", "", True, "absent"),
        # It could be tried as nobody: no reason to take anything away.
        ("unknown", "podman version 6.0.0", False, None),
    ],
)
def test_the_setting_for_handles_follows_what_was_tried(
    answer: str, podman: str, changed: bool, state: str | None
) -> None:
    tasks = yaml.safe_load((ROLES / "rootless_host/tasks/handles.yml").read_text())
    (task,) = [task for task in tasks if "ansible.builtin.lineinfile" in task]
    found = {
        "__rootless_host_probed": {"kernel": {"nsfs_handles": answer}},
        "__rootless_host_podman_version": {"stdout": podman},
    }
    assert evaluate(f"{{{{ {task['when']} }}}}", "rootless_host", **found) is changed
    if changed:
        # They are templates of each other.
        variables = {name: trust_as_template(text) for name, text in task["vars"].items()}
        told = evaluate(task["ansible.builtin.lineinfile"]["state"], "rootless_host", **found, **variables)
        assert told == state


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({}, "--all"),
        ({"rootless_cleanup_users": None}, "--all"),
        ({"rootless_cleanup_users": "alice"}, '"--user=alice"'),
        # systemd takes what is doubled as it is.
        ({"rootless_cleanup_users": ["DOM\\bob", "a b", "c%h"]}, '"--user=DOM\\\\bob" "--user=a b" "--user=c%%h"'),
    ],
)
def test_the_unit_of_the_timer_names_the_users(given: dict[str, Any], arguments: str) -> None:
    template = ROLES / "rootless_cleanup/templates/rootless-ns-cleanup.service.j2"
    unit = evaluate(
        template.read_text(),
        "rootless_cleanup",
        rootless_cleanup_orphans=False,
        rootless_cleanup_repair=False,
        ansible_managed="",
        **given,
    )
    assert f"\nExecStart=/usr/local/bin/rootless-ns clean {arguments}\n" in unit


def test_of_units_enabled_by_name_the_name_is_no_uid() -> None:
    links = [
        {"path": f"/etc/systemd/system/x.wants/rootless-ns@{name}.service"} for name in ("alice", "app2024", "1000")
    ]
    found = evaluate(
        "{{ [__rootless_persist_enabled_uids, __rootless_persist_enabled | length] }}",
        "rootless_persist",
        __rootless_persist_links={"files": links},
    )
    assert found == [["1000"], 3]


def test_names_of_those_who_linger_are_as_logind_escapes_them() -> None:
    tasks = (ROLES / "rootless_host/tasks/lingering.yml").read_text()
    (line,) = [line for line in tasks.splitlines() if "map('replace'" in line]
    found = evaluate(
        f"{{{{ names {line.strip().removesuffix('}}')} }}}}", "rootless_host", names=["DOM\\\\bob", "alice"]
    )
    assert found == ["DOM\\bob", "alice"]


def task(role: str, file: str, name: str) -> dict[str, Any]:
    tasks = yaml.safe_load((ROLES / role / "tasks" / file).read_text())
    (found,) = [one for one in tasks if one["name"] == name]
    return dict(found)


def test_no_program_out_of_the_way_is_made_setuid() -> None:
    found = ["/usr/local/bin/newuidmap", "/usr/bin/newgidmap", "/home/eve/usr/bin/newuidmap", "/bin/newuidmap"]
    mended = task("rootless_host", "map_tools.yml", "Give back the setuid bit that Debian and Ubuntu ship")
    variables = {"__rootless_host_powerless": found}
    assert list(evaluate(mended["loop"], "rootless_cleanup", **variables)) == ["/usr/bin/newgidmap", "/bin/newuidmap"]


@pytest.mark.parametrize(
    ("written", "refused", "loaded"), [(False, True, True), (True, False, True), (False, False, False)]
)
def test_a_profile_that_was_never_loaded_is_loaded(written: bool, refused: bool, loaded: bool) -> None:
    profile = task("rootless_host", "apparmor.yml", "Write the profile")
    variables = {"__rootless_host_profile": {"changed": written}, "__rootless_host_refused": refused}
    condition = profile["changed_when"].replace("__rootless_host_profile is changed", "__rootless_host_profile.changed")
    assert evaluate(f"{{{{ {condition} }}}}", "rootless_cleanup", **variables) is loaded
    assert profile["notify"] == "Load AppArmor profile for rootless containers"


@pytest.mark.parametrize(
    ("unit", "successes"),
    [
        ("rootless_persist/templates/rootless-ns@.service.j2", "SIGTERM"),
        # 3: some users could not be cleaned for.
        ("rootless_cleanup/templates/rootless-ns-cleanup.service.j2", "3 SIGTERM"),
    ],
)
def test_a_unit_that_was_stopped_has_not_failed(unit: str, successes: str) -> None:
    assert f"\nSuccessExitStatus={successes}\n" in (ROLES / unit).read_text()


@pytest.mark.parametrize(
    ("version", "restarts"),
    [
        ("systemd 239 (239-82.el8)", False),
        ("systemd 243", False),
        ("systemd 244", True),
        ("systemd 252 (252.39-1~deb12u2)", True),
    ],
)
def test_the_unit_restarts_where_systemd_takes_that_of_a_oneshot(version: str, restarts: bool) -> None:
    unit = evaluate(
        (ROLES / "rootless_persist/templates/rootless-ns@.service.j2").read_text(),
        "rootless_persist",
        __rootless_persist_systemctl={"stdout": f"{version}\n+PAM +AUDIT -SELINUX\n"},
        rootless_persist_method="auto",
        rootless_persist_on_drift="report",
        ansible_managed="",
    )
    settings = dict(line.partition("=")[::2] for line in unit.splitlines() if "=" in line and line[0] != "#")
    assert ("Restart" in settings, "StartLimitBurst" in settings) == (restarts, restarts)
    if restarts:
        # Or a failure that takes its time each time is tried for ever.
        longest = int(settings["TimeoutStartSec"]) + int(settings["RestartSec"])
        assert settings["StartLimitIntervalSec"] == "1h"
        assert int(settings["StartLimitBurst"]) * longest < 3600


SEEN = {"users": [{"user": "alice", "uid": 1000}, {"user": "bob", "uid": 1001}, {"user": "D\\eve", "uid": 1002}]}


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ({}, []),
        ({"__rootless_host_active_now": {"skipped": True}, "__rootless_host_given": {"owners": []}}, []),
        (
            {
                "__rootless_host_given": {
                    "owners": [
                        {"owner": "alice", "action": "changed", "msg": ""},
                        {"owner": "bob", "action": "failed", "msg": "subuid: no IDs left"},
                    ]
                },
                "__rootless_host_active_now": {"stdout_lines": ["active", "failed", "inactive"]},
                "__rootless_host_enabled": {"stderr_lines": ["bob: lingering was not enabled: x"]},
                "__rootless_host_buses": {"stderr_lines": ["alice: no bus in /run/user/1000: y"]},
            },
            [
                "bob: subuid: no IDs left",
                "bob: lingering was not enabled: x",
                "bob: user@1001.service does not start",
                "D\\eve: user@1002.service does not start",
                "alice: no bus in /run/user/1000: y",
            ],
        ),
    ],
)
def test_what_could_not_be_done_for_whom(results: dict[str, Any], told: list[str]) -> None:
    steps = ("given", "active_now", "enabled", "buses")
    defaults = {f"__rootless_host_{step}": {"skipped": True} for step in steps}
    variables = {**defaults, **results, "__rootless_host_seen": SEEN}
    assert evaluate("{{ __rootless_host_unserved }}", "rootless_host", **variables) == told


def lingering_task(name: str) -> dict[str, Any]:
    (block,) = [
        one["block"]
        for one in yaml.safe_load((ROLES / "rootless_host/tasks/lingering.yml").read_text())
        if "block" in one
    ]
    (found,) = [one for one in block if one["name"] == name]
    return dict(found)


def test_buses_are_asked_only_of_managers_that_run() -> None:
    asking = lingering_task("Have user managers listen on their buses")
    variables = {
        "__rootless_host_seen": SEEN,
        "__rootless_host_active_now": {"stdout_lines": ["active", "failed", "active"]},
        **{name: trust_as_template(text) for name, text in asking["vars"].items()},
    }
    given = evaluate(asking["ansible.builtin.shell"]["stdin"], "rootless_host", **variables)
    assert given == "1000 alice\n1002 D\\eve\n"


@pytest.mark.parametrize(
    ("refused", "calls", "told"),
    [
        ("", ["alice D\\eve x*"], ""),
        ("D\\eve", ["alice D\\eve x*", "alice", "D\\eve", "x*"], "D\\eve: lingering was not enabled: Could not: no"),
    ],
)
def test_one_user_who_cannot_linger_keeps_nobody_else_from_it(
    tmp_path: Path, refused: str, calls: list[str], told: str
) -> None:
    loginctl = tmp_path / "loginctl"
    loginctl.write_text(
        f"""#!/bin/sh
shift 2
printf '%s\\n' "$*" >> {tmp_path}/calls
for user; do test "$user" != '{refused}' || {{ printf 'Could not:\\nno\\n' >&2; exit 1; }}; done
"""
    )
    loginctl.chmod(0o755)
    script = lingering_task("Enable lingering")["ansible.builtin.shell"]["cmd"]
    done = subprocess.run(
        ["sh", "-c", script],
        input="alice\nD\\eve\nx*",
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert done.stderr.strip() == told
