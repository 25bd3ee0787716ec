# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users name their processes, directories and containers as they like: results stay text, lines stay lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

Run = Callable[..., dict[str, Any]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

# Clear a screen, forge a line, are no UTF-8, turn the direction of what follows. A process's name has 15 bytes.
COMM = b"\x1b[2J\nok: [h]\xff"
SHOWN_COMM = r"\x1b[2J\x0aok: [h]\xff"
DIRECTORY = b"x\xff\xfe\r\nok: [h]\x1b[2J\xe2\x80\xae\\x41\xc3\xa9"
SHOWN_DIRECTORY = r"x\xff\xfe\x0d\x0aok: [h]\x1b[2J\u202e\x5cx41é"
NO_PROCESS = b"4194304"


def assert_shown(value: Any, *, lines: bool = False) -> None:
    """Nothing in a result commands a terminal, forges a line, or cannot be encoded."""
    if isinstance(value, dict):
        for name, item in value.items():
            assert_shown(name)
            assert_shown(item, lines=name in ("before", "after", "exception"))
    elif isinstance(value, list):
        for item in value:
            assert_shown(item)
    elif isinstance(value, str):
        value.encode()
        assert (value.replace("\n", "") if lines else value).isprintable(), value


@contextmanager
def odd_process(user: Any, *, pausing: bool, inside: int | None = None) -> Iterator[int]:
    """A process of the user's with an odd name, in a namespace of its own or in that of another process."""
    program = user.runtime_dir / os.fsdecode(COMM)
    shutil.copy("/usr/bin/sleep", program)
    program.chmod(0o755)
    variables = {"XDG_RUNTIME_DIR": str(odd_runtime_dir(user)), **({"_PODMAN_PAUSE": "1"} if pausing else {})}
    enter = ["nsenter", "--preserve-credentials", f"--user=/proc/{inside}/ns/user", f"--mount=/proc/{inside}/ns/mnt"]
    line = user.command(*(enter if inside else ["unshare", "--user", "--mount"]), str(program), "300", env=variables)
    with subprocess.Popen(line, cwd="/") as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_bytes()[:-1] != COMM[:15]:
                assert process.poll() is None
            yield process.pid
        finally:
            process.kill()


def odd_runtime_dir(user: Any) -> Path:
    path: Path = user.runtime_dir / os.fsdecode(DIRECTORY)
    return path


def plant(user: Any, path: Path, content: bytes) -> None:
    user.run("mkdir", "-p", "-m", "700", str(path.parent.parent.parent), str(path.parent))
    path.write_bytes(content)
    os.chown(path, user.uid, user.gid)


def test_a_path_that_is_no_text(module: Run, make_user: Callable[[], Any]) -> None:
    hostile, honest = make_user(), make_user()
    file = odd_runtime_dir(hostile) / "libpod/tmp/pause.pid"
    shown = f"{hostile.runtime_dir}/{SHOWN_DIRECTORY}/libpod/tmp/pause.pid"
    other = honest.state_dir / "pause.pid"
    with odd_process(hostile, pausing=True) as pid:
        for check in (True, False):
            plant(hostile, file, NO_PROCESS)
            plant(honest, other, NO_PROCESS)
            result = module("rootless_pause", users=[hostile.name, honest.name], check=check, diff=True)
            assert_shown(result)
            assert result["removed"] == [shown, str(other)]
            (entry, _entry) = result["users"]
            assert [found["path"] for found in entry["files"]] == [shown]
            assert [(orphan["pid"], orphan["command"]) for orphan in entry["orphans"]] == [(pid, SHOWN_COMM)]
            # JSON has escapes of its own; read back, the diff holds the name as it was found.
            assert os.fsdecode(DIRECTORY) in "".join(json.loads(result["diff"][0]["before"]))
            # What is shown is not what is acted on.
            assert file.exists() == check


def test_a_path_that_is_no_text_in_the_command(
    command: Command,
    make_user: Callable[[], Any],
) -> None:
    user = make_user()
    file = odd_runtime_dir(user) / "libpod/tmp/pause.pid"
    shown = f"{user.runtime_dir}/{SHOWN_DIRECTORY}/libpod/tmp/pause.pid"
    with odd_process(user, pausing=True):
        plant(user, file, NO_PROCESS)
        result = command("clean", "--user", user.name, "--check")
        assert result.returncode == 0, result.stderr
        (line,) = (result.stdout + result.stderr).splitlines()
        assert line.isprintable()
        assert f"removed {shown} (dead)" in line
        result = command("clean", "--user", user.name, "--json")
        told = json.loads(result.stdout)
        assert_shown(told)
        assert told["removed"] == [shown]
    assert not file.exists()


@pytest.mark.parametrize("state", ["absent", "present"])
def test_a_process_in_the_way(module: Run, ns: Run, make_user: Callable[[], Any], state: str) -> None:
    user = make_user()
    made = ns(user, method="pause")
    with odd_process(user, pausing=False, inside=made["pause_pid"]) as pid:
        if state == "present":
            user.add_subuids()
        result = module("rootless_ns", users=[user.name], state=state, on_drift="recreate")
        assert_shown(result)
        assert f"{pid} ({SHOWN_COMM})" in result["msg"]
        (entry,) = result["namespaces"]
        assert [process["command"] for process in entry["in_the_way"]] == [SHOWN_COMM]


def test_a_pause_process_that_is_none(module: Run, command: Command, make_user: Callable[[], Any]) -> None:
    user = make_user()
    with odd_process(user, pausing=False) as pid:
        plant(user, user.pause_file, str(pid).encode())
        result = module("rootless_ns_info", users=[user.name])
        assert_shown(result)
        evidence = result["namespaces"][0]["verdicts"]["pause_pid"]["evidence"]
        assert SHOWN_COMM in evidence
        told = command("info", "--user", user.name)
        assert all(line.isprintable() for line in (told.stdout + told.stderr).splitlines())


@pytest.mark.parametrize("content", [b"x\n2\n", b"\xff\xfe", b"\x1b[2J", b"'4194304"])
def test_what_a_file_holds(module: Run, command: Command, user: Any, content: bytes) -> None:
    plant(user, user.pause_file, content)
    result = module("rootless_ns_info", users=[user.name])
    assert_shown(result)
    assert result["namespaces"][0]["verdicts"]["pause_pid"]["verdict"] == "garbage"
    told = command("info", "--user", user.name, "--json")
    assert_shown(json.loads(told.stdout))


def test_a_user_who_is_asked_for_by_an_odd_name(module: Run, command: Command, as_root: None) -> None:
    for name in ("rootless_ns", "rootless_ns_info", "rootless_pause", "rootless_host_info"):
        result = module(name, users=["nobody\n\x1b[2J\udcff\\x1b"])
        assert_shown({key: value for key, value in result.items() if key != "invocation"})
        assert result["failed"]
        assert r"nobody\x0a\x1b[2J\xff\x5cx1b" in result["msg"]
    result = command("exec", "--user", "nobody\n\x1b[2J\\x1b", "--", "true")
    (line,) = result.stderr.splitlines()
    assert r"nobody\x0a\x1b[2J\x5cx1b" in line


@pytest.mark.alone
def test_owners_of_ranges(module: Run, user: Any) -> None:
    """`/etc/subuid` may hold anything, and overlaps with it are reported."""
    path = Path("/etc/subuid")
    before = path.read_bytes()
    try:
        start = int(next(line for line in before.decode().splitlines() if line.startswith(user.name)).split(":")[1])
        path.write_bytes(before + b"ev\xffil\x1b[2J:%d:10\nev\xfeil\x1b[2J:x:10\n" % start)
        for name, args in (
            ("rootless_ns_info", {}),
            ("rootless_host_info", {"users": [user.name]}),
            ("rootless_subid", {"owners": [user.name], "state": "absent"}),
        ):
            result = module(name, check=True, diff=True, **args)
            assert_shown(result)
            assert r"ev\xffil\x1b[2J" in json.dumps(result, ensure_ascii=False).replace("\\\\", "\\")
    finally:
        path.write_bytes(before)


def test_what_the_mount_table_holds(module: Run, user: Any, tmp_path: Path) -> None:
    """A user may mount a file system of its own at any name; lines of the table end at line feeds only."""
    point = tmp_path / "\r0 0 0:0 - \x1b[2J\udcff"
    point.mkdir()
    script = 'mount -t tmpfs "s\r\x1b\\x41" "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(point))
    for name in ("rootless_host_info", "rootless_ns"):
        result = module(name, users=[user.name], prefix=prefix)
        assert_shown(result)
        assert not result.get("failed"), result


def test_what_the_become_plugin_says(public_python: str) -> None:
    """What the program that it sends prints where it fails: a line, or the result of a module."""
    name = "nobody\n\x1b[2J\udcff\\x1b"
    for script, stream in (("true", "stderr"), ("/tmp/ansible-tmp-1/x", "stdout")):
        line = [public_python, "-I", "-S", "-c", program(name, sudo=["sudo"], create=True), "sh", "-c", script]
        result = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/")
        (said,) = getattr(result, stream).splitlines()
        said = json.loads(said)["msg"] if stream == "stdout" else said
        assert said.isprintable()
        assert r"user 'nobody\x0a\x1b[2J\xff\x5cx1b' does not exist" in said
