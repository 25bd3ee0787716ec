# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `rootless-ns`, as it lies on a host: launcher and library, run as a program of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.processes import comm

CHECKOUT = Path(__file__).parents[2]

Run = Callable[..., dict[str, Any]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_ctrl_c_ends_exec_as_well(installed: Path, user: Any) -> None:
    user.run("mkdir", "-p", "-m", "700", str(user.state_dir))
    lock = user.state_dir / "ns_handles.lock"
    user.run("touch", str(lock))
    line = [str(installed), "exec", "--user", user.name, "--", "true"]
    with open(lock, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd="/", start_new_session=True) as process:
            time.sleep(1.5)
            os.killpg(process.pid, signal.SIGINT)
            _out, err = process.communicate(timeout=6)
    assert (process.returncode, err.count("\n")) == (-signal.SIGINT, 1), err


def told(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout)
    assert result.stderr == ""
    return answer


def own(result: dict[str, Any]) -> dict[str, Any]:
    """What a module returns, without Ansible's own part in it."""
    return {key: value for key, value in result.items() if key not in ("invocation", "exception", "ansible_facts")}


def lasting(info: dict[str, Any]) -> dict[str, Any]:
    """The facts but for those that tests beside this one change, as they make and remove users."""
    ranges = [range_ for owner in info["configured"] for kind in ("uid_ranges", "gid_ranges") for range_ in owner[kind]]
    for range_ in ranges:
        del range_["line"]
    return {**own(info), "overlaps": []}


def test_present_and_the_module_say_the_same(command: Command, module: Run, user: Any) -> None:
    first = command("present", "--json", "--user", user.name)
    assert (first.returncode, told(first)["namespaces"][0]["action"]) == (0, "created")
    again = command("present", "--json", "--user", user.name)
    assert own(told(again)) == own(module("rootless_ns", users=[user.name]))
    entry = told(again)["namespaces"][0]
    assert (entry["action"], entry["pinned"], told(again)["changed"]) == ("rejoined", True, False)


def test_a_repair_foreseen_is_the_same(command: Command, module: Run, user: Any) -> None:
    command("present", "--user", user.name)
    user.kill_pause()
    foreseen = told(command("present", "--json", "--check", "--user", user.name))
    assert own(foreseen) == own(module("rootless_ns", users=[user.name], check=True))
    assert foreseen["namespaces"][0]["action"] == "repaired"
    assert foreseen["diff"][0]["before"] != foreseen["diff"][0]["after"]


def test_info_and_the_module_say_the_same(command: Command, module: Run, user: Any) -> None:
    command("present", "--user", user.name)
    result = told(command("info", "--json", "--user", user.name))
    expected = module("rootless_ns_info", users=[user.name])
    assert lasting(result) == lasting(expected)
    assert result["namespaces"][0]["state"] == "alive"


def test_clean_and_the_module_say_the_same(command: Command, module: Run, user: Any) -> None:
    user.state_dir.mkdir(parents=True)
    shutil.chown(user.runtime_dir / "libpod", user.uid, user.gid)
    shutil.chown(user.state_dir, user.uid, user.gid)
    user.pause_file.write_text("4194304")
    shutil.chown(user.pause_file, user.uid, user.gid)
    foreseen = told(command("clean", "--json", "--check", "--user", user.name))
    assert own(foreseen) == own(module("rootless_pause", users=[user.name], check=True))
    assert foreseen["removed"] == [str(user.pause_file)]
    assert user.pause_file.exists()
    said = command("clean", "--check", "--user", user.name)
    assert said.stdout == f"{user.name}: cleaned, removed {user.pause_file} (dead) (check: nothing was done)\n"
    line = command("clean", "--user", user.name)
    assert line.stdout == f"{user.name}: cleaned, removed {user.pause_file} (dead)\n"
    assert not user.pause_file.exists()


def test_absent_and_the_module_say_the_same(command: Command, module: Run, user: Any) -> None:
    command("present", "--user", user.name)
    foreseen = told(command("absent", "--json", "--check", "--user", user.name))
    assert own(foreseen) == own(module("rootless_ns", users=[user.name], state="absent", check=True))
    removed = command("absent", "--user", user.name)
    assert (removed.returncode, removed.stdout.startswith(f"{user.name}: removed")) == (0, True)
    assert (user.processes(), user.pin.exists()) == ([], False)


def test_one_failure_stops_nobody(command: Command, module: Run, user: Any) -> None:
    result = command("present", "--json", "--user", "nosuchuser", "--user", user.name)
    answer = told(result)
    assert (result.returncode, answer["failed"]) == (1, True)
    assert [entry["action"] for entry in answer["namespaces"]] == ["failed", "created"]
    assert answer["msg"] == module("rootless_ns", users=["nosuchuser", user.name])["msg"]
    lines = command("info", "--user", "nosuchuser", "--user", user.name)
    assert lines.returncode == 1
    assert lines.stdout.startswith(f"{user.name}: alive, user:[")
    assert lines.stderr.startswith("nosuchuser: failed: user 'nosuchuser' does not exist")
    assert len(lines.stdout.splitlines()) == len(lines.stderr.splitlines()) == 1


def test_a_user_who_cannot_be_cleaned_for_is_another_code_than_a_run_that_failed(command: Command, user: Any) -> None:
    """The timer's unit takes the first for a success: any user could keep the host degraded otherwise."""
    user.run("sh", "-c", f"mkdir -p {user.state_dir} && printf nonsense > {user.pause_file}")
    cleaned = command("clean", "--user", "nosuchuser", "--user", user.name)
    assert (cleaned.returncode, cleaned.stderr.startswith("nosuchuser: failed: ")) == (3, True)
    assert cleaned.stdout == f"{user.name}: cleaned, removed {user.pause_file} (garbage)\n"
    refused = command("clean", "--user", user.name, "--state-dir", "relative")
    assert refused.returncode == 2


@pytest.mark.alone
def test_everybody(command: Command, make_user: Any) -> None:
    users = [make_user(), make_user()]
    lines = command("info", "--all").stdout.splitlines()
    assert {f"{user.name}: none" for user in users} <= set(lines)
    users[0].run("sh", "-c", f"mkdir -p {users[0].state_dir} && printf 1 > {users[0].pause_file}")
    cleaned = command("clean", "--all").stdout
    assert f"{users[0].name}: cleaned, removed {users[0].pause_file}" in cleaned
    assert users[1].name not in cleaned
    assert "users: nothing to clean" in cleaned.splitlines()[-1]


def test_options_reach_the_library(command: Command, user: Any) -> None:
    result = told(command("present", "--json", "--no-pin", "--method", "pause", "--user", str(user.uid)))
    assert (result["namespaces"][0]["pinned"], result["namespaces"][0]["method"]) == (False, "pause")
    user.add_subuids()
    drifted = command("present", "--on-drift", "fail", "--user", user.name)
    assert (drifted.returncode, "drift" in drifted.stderr) == (1, True)
    replaced = told(command("present", "--json", "--on-drift", "recreate", "--user", user.name))
    assert replaced["namespaces"][0]["action"] == "recreated"


def test_an_ordinary_user_for_itself(command: Command, make_user: Any) -> None:
    user, other = make_user(), make_user()
    made = command("present", as_user=user)
    assert made.stdout.startswith(f"{user.name}: created, user:[")
    assert command("info", as_user=user).stdout.startswith(f"{user.name}: alive")
    assert command("exec", "--", "id", "-u", as_user=user).stdout == "0\n"
    for refused in (("info", "--user", other.name), ("present", "--pin"), ("info", "--all")):
        result = command(*refused, as_user=user)
        assert (result.returncode, "root" in result.stderr, result.stdout) == (2, True, "")
    denied = command("exec", "--user", other.name, "--", "id", as_user=user)
    assert (denied.returncode, denied.stdout) == (125, "")
    assert command("absent", as_user=user).stdout.startswith(f"{user.name}: removed")
    assert (user.processes(), other.processes()) == ([], [])


def test_exec_is_the_command(command: Command, user: Any) -> None:
    refused = command("exec", "--no-create", "--user", user.name, "--", "true")
    assert (refused.returncode, "has no namespace to join" in refused.stderr) == (125, True)
    assert user.processes() == []
    result = command("exec", "--user", user.name, "--", "cat", "/proc/self/uid_map", "-", input="from stdin\n")
    assert result.returncode == 0
    assert result.stdout.split()[:3] == ["0", str(user.uid), "1"]
    assert result.stdout.endswith("from stdin\n")
    assert command("exec", "--user", user.name, "--", "sh", "-c", "exit 7").returncode == 7
    assert command("exec", "--user", user.name, "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    # What stands behind -- is the command's alone.
    assert command("exec", "--user", user.name, "--", "echo", "--", "--user", "x").stdout == "-- --user x\n"
    missing = command("exec", "--user", user.name, "--", "nosuchcommand")
    assert missing.returncode == 125
    assert "cannot run 'nosuchcommand'" in missing.stderr


def test_exec_is_for_one_user(command: Command, make_user: Any) -> None:
    """sudo's rule for `exec --user alice *` would otherwise be one for everybody."""
    user, other = make_user(), make_user()
    refused = command("exec", "--user", user.name, "--user", other.name, "--", "true")
    assert (refused.returncode, "more than once" in refused.stderr) == (125, True)


def test_exec_passes_signals(installed: Path, command: Command, user: Any) -> None:
    command("present", "--user", user.name)
    script = 'trap "echo got it; exit 9" TERM; echo ready; while :; do sleep 0.05; done'
    line = [str(installed), "exec", "--user", user.name, "--", "sh", "-c", script]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert (process.stdout.read(), process.wait(timeout=30)) == ("got it\n", 9)


def test_the_command_ignores_the_signals_that_we_did(command: Command, user: Any) -> None:
    look = ("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    plain = subprocess.check_output(look, text=True)
    assert command("exec", "--user", user.name, "--", *look).stdout == plain


@pytest.mark.parametrize("form", ["--json", "--check"])
def test_a_reader_that_goes_away_is_no_traceback(installed: Path, user: Any, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = [str(installed), "present", form, "--user", user.name]
    result = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, check=False, cwd="/")
    os.close(writer)
    assert (result.returncode, result.stderr) == (-signal.SIGPIPE, b"")


def test_exec_gives_away_nothing_of_roots(command: Command, user: Any) -> None:
    result = command("exec", "--user", user.name, "--", "env", env={"SECRET": "hunter2", "LD_PRELOAD": ""})
    assert "SECRET" not in result.stdout
    assert f"_CONTAINERS_ROOTLESS_UID={user.uid}\n" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nosuch",),
        ("present",),
        ("info",),
        ("present", "--user"),
        ("present", "--user", "x", "--all"),
        ("present", "--user", "x", "--pin", "--no-pin"),
        ("present", "--user", "x", "--method", "magic"),
        ("present", "--us", "x"),
        ("clean", "--user", "x", "--state-dir", "relative"),
        ("clean", "--user", "x", "--user", "y", "--state-dir", "/run"),
        ("clean", "--all", "--state-dir", "/run"),
        ("info", "--user", "x", "--", "y"),
    ],
)
def test_wrong_usage(as_root: None, command: Command, arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "rootless-ns" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("exec",), ("exec", "--", "true"), ("exec", "--user", "x"), ("exec", "--user", "x", "true"), ("exec", "--nosuch")],
)
def test_wrong_usage_of_exec(as_root: None, command: Command, arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert (result.returncode, result.stdout) == (125, "")


def test_help_is_no_failure(command: Command) -> None:
    for arguments in (("--help",), ("present", "--help"), ("exec", "--help")):
        result = command(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert "exit codes:" in result.stdout


def test_nothing_of_the_callers_is_imported(command: Command, user: Any, tmp_path: Path) -> None:
    hostile = user.runtime_dir / "hostile"
    (hostile / "_rootless").mkdir(parents=True)
    for name in ("json.py", "os.py", "argparse.py", "sitecustomize.py", "usercustomize.py", "_rootless/__init__.py"):
        (hostile / name).write_text("import sys; sys.stdout.write('hostile'); sys.exit(66)")
    environment = {
        "PYTHONPATH": str(hostile),
        "PYTHONHOME": str(hostile),
        "PYTHONSTARTUP": str(hostile / "json.py"),
        "PYTHONUSERBASE": str(hostile),
        "PYTHONPLATLIBDIR": str(hostile),
        "PYTHONINSPECT": "1",
    }
    for arguments in (("info", "--json"), ("present", "--json"), ("exec", "--")):
        tail = ("echo", "fine") if arguments[0] == "exec" else ()
        result = command(arguments[0], "--user", user.name, *arguments[1:], *tail, env=environment, cwd=hostile)
        assert (result.returncode, "hostile" in result.stdout) == (0, False)


def test_a_link_to_the_command_brings_no_library_along(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    hostile = tmp_path / "lib/rootless-ns/_rootless"
    hostile.mkdir(parents=True)
    (hostile / "__init__.py").write_text("raise SystemExit(66)")
    (tmp_path / "bin/rootless-ns").symlink_to(installed)
    result = subprocess.run([tmp_path / "bin/rootless-ns", "--version"], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout.startswith("rootless-ns ")) == (0, True)


def test_a_process_name_forges_no_line(installed: Path, command: Command, user: Any, public_python: str) -> None:
    """What keeps a namespace from being removed is named; its owner chose that name."""
    script = r"open('/proc/self/comm', 'w').write('x\n<0>ok\033[2J'); print('ready', flush=True); input()"
    line = [str(installed), "exec", "--user", user.name, "--", public_python, "-c", script]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        result = command("absent", "--user", user.name)
        process.communicate("\n")
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert r"x\x0a<0>ok\x1b[2J" in result.stderr


def test_the_journal_is_told_how_grave_a_line_is(installed: Path, user: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        line = [str(installed), "present", "--user", user.name, "--user", "nosuchuser"]
        subprocess.run(line, stdout=theirs, stderr=theirs, env=environment, check=False, cwd="/")
        lines = ours.recv(1 << 16).decode().splitlines()
        # Inherited from a parent whose stream it was: this one is a pipe.
        plain = subprocess.run(line, capture_output=True, text=True, env=environment, check=False, cwd="/")
    assert lines[0].startswith(f"<6>{user.name}: created")
    assert lines[1].startswith("<3>nosuchuser: failed: ")
    assert "<" not in plain.stdout + plain.stderr


def test_the_version_tells_libraries_apart(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(installed.parents[1], other)
    versions = []
    for change in (None, "", "\n"):
        if change is not None:
            with open(other / "lib/rootless-ns/_rootless/kernel.py", "a") as file:
                file.write(change)
        versions.append(subprocess.check_output([other / "bin/rootless-ns", "--version"], text=True))
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("users", [1, 8], ids=["itself", "its workers"])
@pytest.mark.parametrize("end", [os.kill, os.killpg], ids=["to it", "to its group"])
def test_ctrl_c_ends_it_quietly_and_leaves_what_can_be_mended(
    installed: Path, command: Command, make_user: Any, users: int, end: Callable[[int, int], None]
) -> None:
    stuck, *others = [make_user() for _number in range(users)]
    stuck.run("mkdir", "-p", "-m", "700", str(stuck.state_dir))
    lock = stuck.state_dir / "ns_handles.lock"
    stuck.run("touch", str(lock))
    line = [str(installed), "present"]
    for user in (stuck, *others):
        line += ["--user", user.name]
    with open(lock, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd="/", start_new_session=True) as process:
            # It waits for the lock by now.
            time.sleep(1.5)
            end(process.pid, signal.SIGINT)
            _out, err = process.communicate(timeout=6)
    assert process.returncode == -signal.SIGINT
    assert err == "rootless-ns: interrupted; run it again: what is half done is found and mended\n"
    assert not [pid for user in (stuck, *others) for pid in user.processes() if comm("/proc", pid).startswith("python")]
    assert not stuck.pause_file.exists()
    assert command(*line[1:]).returncode == 0
    assert stuck.pause_pid()


def test_what_the_timers_service_may_do_ends_a_child_that_its_user_stops(installed: Path, user: Any) -> None:
    unit = (CHECKOUT / "roles/rootless_cleanup/templates/rootless-ns-cleanup.service.j2").read_text()
    (bounding,) = [line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")]
    capabilities = [f"+{name.lower().removeprefix('cap_')}" for name in bounding.partition("=")[2].split()]
    stopper = user.command("sh", "-c", f"while :; do pkill -STOP -x -u {user.uid} rootless-ns; sleep 0.2; done")
    line = ["setpriv", f"--bounding-set={','.join(['-all', *capabilities])}"]
    line += [str(installed), "clean", "--user", user.name]
    lock = user.state_dir / "ns_handles.lock"
    user.run("sh", "-c", f"umask 077; mkdir -p {user.state_dir}; touch {lock}; echo nonsense > {user.pause_file}")
    # So that it is there long enough to be stopped.
    with open(lock, "rb") as held, subprocess.Popen(stopper) as stopping:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/")
        stopping.kill()
    assert (done.returncode, "did not finish" in done.stderr + done.stdout) == (3, True), done
    assert [pid for pid in user.processes() if comm("/proc", pid) == "rootless-ns"] == []
