# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps hosts from running rootless containers, each made for real: in mount namespaces, by filters and files.

What only other kernels do is in `test_every_kernel.py`, what only systemd does in the molecule scenario `readiness`.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.catalogue import CATALOGUE
from ansible_collections.userns.rootless.plugins.module_utils._rootless.checks.mounts import check_graph_root
from ansible_collections.userns.rootless.plugins.module_utils._rootless.graph_root import find_graph_root
from ansible_collections.userns.rootless.plugins.module_utils._rootless.mountinfo import Mount

Run = Callable[..., dict[str, Any]]
Look = Callable[..., dict[str, Any]]

# /usr/bin as a copy that can be changed: an overlay, seen by one process and its children only.
SCRATCH = "mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work; "
OVERLAY = SCRATCH + "mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=/mnt/upper,workdir=/mnt/work /usr/bin; "

# The number of system calls on x86-64 and on what shares the generic table.
NUMBERS = {"x86_64": {"unshare": 272, "name_to_handle_at": 303}, "aarch64": {"unshare": 97, "name_to_handle_at": 264}}

# Runs a command under a filter that answers one system call with an error: `NUMBER ERRNO COMMAND...`.
FILTERED = """
import ctypes, os, struct, sys
number, error = int(sys.argv[1]), int(sys.argv[2])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, ctypes.byref(Filter(len(code), ctypes.addressof(program)))):
    raise OSError(ctypes.get_errno(), "no filter")
os.execvp(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def look(module: Run) -> Look:
    """`rootless_host_info` for one user, in a mount namespace that `setup` has changed."""

    def run(user: Any, setup: str = "", *, prefix: tuple[str, ...] = (), **args: Any) -> dict[str, Any]:
        if setup:
            script = f'set -e; {setup}; exec "$@"'
            prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *prefix)
        result = module("rootless_host_info", users=[user.name], prefix=prefix, **args)
        assert result["changed"] is False
        (entry,) = result["users"]
        blocked = [finding for finding in result["findings"] if finding["severity"] == "blocks"]
        assert result["ok"] is entry["ok"] is not bool(blocked)
        for finding in result["findings"]:
            assert all(finding[key] for key in ("code", "severity", "found", "why", "fix"))
            assert "\n" not in finding["fix"]
        return {**result, **entry, "all": {finding["code"]: finding for finding in result["findings"]}}

    return run


@pytest.fixture
def filtered(public_python: str) -> Callable[..., tuple[str, ...]]:
    numbers = NUMBERS.get(os.uname().machine)
    if numbers is None:
        pytest.skip(f"needs the numbers of system calls on {os.uname().machine}")
    return lambda call, error: (public_python, "-c", FILTERED, str(numbers[call]), str(error))


def with_file(path: str, content: str) -> str:
    """Shell that puts a file in the place of another."""
    return f"{SCRATCH} printf '{content}' > /mnt/file; mount --bind /mnt/file {path}"


def test_nothing_blocks_a_sound_user(look: Look, user: Any) -> None:
    found = look(user)
    assert (found["ok"], found["codes"]) == (True, [])
    assert {code for code in found["all"] if found["all"][code]["severity"] != "limits"} <= {"seccomp-filter"}


def test_nothing_is_left_behind(look: Look, user: Any) -> None:
    look(user)
    assert user.processes() == []
    assert list(user.runtime_dir.iterdir()) == []
    assert not user.pin.exists()


def test_a_live_namespace_is_left_alone(look: Look, ns: Run, user: Any) -> None:
    first = ns(user)
    assert look(user)["ok"]
    again = ns(user)
    assert (again["changed"], again["userns"], again["processes"]) == (False, first["userns"], 0)


def test_users_may_look_for_themselves(look: Look, user: Any) -> None:
    found = look(user, as_user=user)
    assert (found["ok"], found["codes"]) == (True, [])


def test_everybody_with_a_range(module: Run, user: Any) -> None:
    users = [entry["user"] for entry in module("rootless_host_info")["users"]]
    assert user.name in users
    assert "root" not in users


def test_users_that_do_not_exist_fail_the_task_but_not_the_others(module: Run, user: Any) -> None:
    result = module("rootless_host_info", users=["rnsnobodyhere", user.name])
    assert result["failed"]
    assert "rnsnobodyhere" in result["msg"]
    assert [entry["ok"] for entry in result["users"]] == [False, True]


@pytest.mark.parametrize(
    ("limit", "code", "ok"), [(0, "userns-off", False), (5, "userns-few", True), (100_000, None, True)]
)
def test_limits_of_namespaces(look: Look, user: Any, in_userns: Any, limit: int, code: str | None, ok: bool) -> None:
    """Each user namespace has limits of its own, which its root may set."""
    start = in_userns("0 0 4294967295", f"echo {limit} > /proc/sys/user/max_user_namespaces")
    found = look(user, prefix=start)
    assert found["ok"] is ok
    assert [finding["code"] for finding in found["findings"] if finding["code"].startswith("userns-")] == [
        code for code in [code] if code
    ]
    if code:
        assert found["all"][code]["found"] == f"user.max_user_namespaces = {limit}"


@pytest.mark.parametrize(
    ("call", "error", "code", "ok"),
    [
        ("unshare", 1, "userns-seccomp", False),
        ("unshare", 22, "userns-refused", False),
        ("unshare", 28, "userns-refused", False),
        ("name_to_handle_at", 1, "seccomp-filter", True),
    ],
)
def test_system_call_filters(look: Look, user: Any, filtered: Any, call: str, error: int, code: str, ok: bool) -> None:
    found = look(user, prefix=filtered(call, error))
    assert found["ok"] is ok
    assert {code, "seccomp-filter"} <= found["all"].keys()
    if call == "unshare":
        assert os.strerror(error) in found["all"][code]["found"]
        assert found["codes"] == [code]


def test_no_new_privileges(look: Look, user: Any) -> None:
    found = look(user, prefix=("setpriv", "--no-new-privs"))
    assert found["all"]["no-new-privileges"]["severity"] == "blocks"
    assert (found["ok"], found["codes"]) == (False, [])


@pytest.mark.parametrize("tool", ["newuidmap", "newgidmap"])
@pytest.mark.parametrize(
    ("code", "setup"),
    [
        ("map-tool-missing", "rm /usr/bin/{tool}"),
        ("map-tool-powerless", "cp /usr/bin/{tool} /mnt/tool; rm /usr/bin/{tool}; cp /mnt/tool /usr/bin/{tool}"),
        ("maps-refused", "cp /usr/bin/false /mnt/tool; mv /mnt/tool /usr/bin/{tool}; chmod 4755 /usr/bin/{tool}"),
    ],
)
def test_map_tools(look: Look, user: Any, code: str, setup: str, tool: str) -> None:
    found = look(user, OVERLAY + setup.format(tool=tool))
    blocking = [finding for finding in found["findings"] if finding["severity"] == "blocks"]
    assert [finding["code"] for finding in blocking] == [code]
    assert tool in blocking[0]["found"]


def test_map_tools_on_a_nosuid_mount(look: Look, user: Any) -> None:
    found = look(user, "mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin")
    assert found["ok"] is False
    assert "mounted nosuid, /usr/bin" in found["all"]["map-tool-nosuid"]["found"]
    assert found["all"]["map-tool-nosuid"]["fix"].startswith("mount -o remount,suid /usr/bin ")


def test_no_ranges(look: Look, make_user: Any) -> None:
    found = look(make_user(ranges=False))
    assert (found["ok"], found["codes"]) == (False, ["ranges-missing"])


# A mount on a file goes when somebody renames another file over it, as shadow's tools do.
@pytest.mark.alone
@pytest.mark.parametrize(
    ("content", "code", "ok"),
    [
        ("{name}:3000000000:1000", "ranges-short", True),
        ("{name}:3000000000:65535\\n{uid}:3000070000:1", None, True),
        ("{name}:{uid}:65536", "range-contains-own-id", False),
        ("{name}:65000:65536", "range-contains-account", True),
        ("{name}:3000000000:65536\\n{uid}:3000000000:10", "ranges-unusable", False),
        ("{name}:3000000000:65536\\n{name}:x:1", "ranges-unusable", False),
        ("{name}:3000000000:65536\\nother:3000065535:1", "ranges-overlap", True),
        ("other:2999999999:2\\n{uid}:3000000000:65536", "ranges-overlap", True),
        ("other:3000000000:2\\nthird:3000000000:2\\n{name}:3000065536:65536", None, True),
    ],
)
def test_ranges(look: Look, user: Any, content: str, code: str | None, ok: bool) -> None:
    text = content.format(name=user.name, uid=user.uid) + "\\n"
    found = look(user, with_file("/etc/subuid", text))
    assert (found["ok"], code in found["all"] if code else not found["codes"]) == (ok, True)
    if code:
        assert found["all"][code]["user"] == user.name


def test_no_runtime_directory(look: Look, make_user: Any) -> None:
    user = make_user(runtime_dir=False)
    found = look(user)
    assert (found["ok"], found["codes"]) == (True, ["runtime-dir-missing"])
    fallback = user.temporary_dir
    fallback.mkdir(mode=0o755)
    found = look(user)
    assert (found["ok"], found["codes"]) == (False, ["runtime-dir-unusable"])
    assert str(fallback) in found["all"]["runtime-dir-unusable"]["found"]


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        ("mount -t tmpfs tmpfs /sys/fs/cgroup", "cgroup-v1"),
        ("while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup; done", "cgroup-missing"),
        ("mount -t cgroup2 none /sys/fs/cgroup", None),
    ],
)
def test_cgroups(look: Look, user: Any, setup: str, code: str | None) -> None:
    found = look(user, setup)
    if code is None and not {"cpu", "memory", "pids"} <= controllers_of_version_2():
        code = "cgroup-controllers-missing"
    assert [one for one in found["all"] if one.startswith("cgroup-")] == [one for one in [code] if one]
    assert found["ok"]


def controllers_of_version_2() -> set[str]:
    """What this kernel has not given to version 1."""
    script = "mount -t cgroup2 none /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.controllers"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_propagation(look: Look, user: Any) -> None:
    assert look(user, "mount --make-private /")["all"]["root-mount-private"]["severity"] == "limits"
    assert "root-mount-private" not in look(user, "mount --make-shared /")["all"]


@pytest.mark.parametrize(("podman", "expected"), [("true", True), ("libsubid", False), ("script", False)])
def test_ranges_from_a_service_that_podman_cannot_ask(
    look: Look, user: Any, tmp_path: Path, podman: str, expected: bool
) -> None:
    """The program here is a stand-in: what counts is whether it is linked with libsubid."""
    program = {"true": Path("/bin/true").read_bytes(), "script": b"#!/bin/sh\n"}.get(podman)
    (tmp_path / "podman").write_bytes(program if program else Path("/bin/true").read_bytes() + b"\0libsubid.so.4\0")
    (tmp_path / "podman").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    found = look(user, with_file("/etc/nsswitch.conf", "passwd: files\\nsubid: sss\\n"), env={"PATH": path})
    assert ("podman-without-libsubid" in found["all"]) is expected
    assert "podman-without-libsubid" not in look(user, env={"PATH": path})["all"]


@pytest.mark.parametrize(
    ("content", "variable", "expected"),
    [
        ("", "1", "environment of this task"),
        ('FOO=1\\nPODMAN_NO_PAUSE_PROCESS="1"\\n', None, "/etc/environment"),
        ("PODMAN_NO_PAUSE_PROCESS=0\\n", None, None),
        ("#PODMAN_NO_PAUSE_PROCESS=1\\n", None, None),
        ("", "0", None),
    ],
)
def test_handles_asked_for_where_nobody_can_open_them(
    look: Look, user: Any, filtered: Any, content: str, variable: str | None, expected: str | None
) -> None:
    setup = "touch /etc/environment; " + with_file("/etc/environment", content)
    env = {"PODMAN_NO_PAUSE_PROCESS": variable} if variable else {}
    found = look(user, setup, prefix=filtered("name_to_handle_at", 95), env=env)
    assert found["kernel"] == {"nsfs_handles": "unsupported"}
    assert ("handles-unusable" in found["all"]) is (expected is not None)
    if expected:
        assert f"PODMAN_NO_PAUSE_PROCESS=1 ({expected})" in found["all"]["handles-unusable"]["found"]


@pytest.fixture
def killer(user: Any) -> Iterator[None]:
    """A user that kills whatever runs as it, us too, when we have become it."""
    with subprocess.Popen(user.command("sh", "-c", "while :; do kill -9 -1; done 2> /dev/null")) as process:
        yield
        process.kill()


def test_a_user_that_kills_the_probe(look: Look, user: Any, killer: None) -> None:
    found = look(user)
    assert (found["ok"], found["codes"][-1]) == (False, "not-checked")
    assert "process that acts for" in found["all"]["not-checked"]["found"]


def test_what_users_write_into_their_files_does_not_hang_anybody(look: Look, user: Any, tmp_path: Path) -> None:
    """A FIFO, a directory and a device in the place of storage.conf, given by the user's own environment."""
    fifo = user.runtime_dir / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, "/", "/dev/zero"):
        assert look(user, as_user=user, env={"CONTAINERS_STORAGE_CONF": str(path)})["ok"]


@pytest.mark.alone
def test_more_ranges_than_a_map_can_hold_hide_nothing_else(look: Look, user: Any) -> None:
    lines = "".join(f"{user.name}:{3_000_000_000 + 1000 * number}:500\\n" for number in range(400))
    user.runtime_dir.rmdir()
    found = look(user, with_file("/etc/subuid", lines))
    assert not found["ok"]
    assert {"ranges-unusable", "runtime-dir-missing"} <= set(found["codes"])
    assert found["all"]["ranges-unusable"]["fix"].endswith(f"-a 'owners={user.name} count=65536 exclusive=true'")
    assert "not-checked" not in found["codes"]


def test_ranges_that_the_outer_namespace_does_not_hold(look: Look, user: Any, in_userns: Any) -> None:
    """As in an unprivileged container."""
    found = look(user, prefix=in_userns("0 0 65536", "true"))
    assert not found["ok"]
    assert [finding["code"] for finding in found["findings"]].count("ranges-unavailable") == 2
    assert f"ranges of {user.name} are not in /proc/self/" in found["all"]["ranges-unavailable"]["found"]


@pytest.mark.parametrize(
    "before", ["", "[engine]\n", '[storage]\ndriver = "vfs"\n\tgraphroot = "/mnt"\ngraphroot_x = "stays"\n']
)
def test_images_move_to_a_local_directory_as_told(user: Any, before: str) -> None:
    """By a file of the user's own: neither root's Podman nor anybody else's images are touched."""
    path = user.runtime_dir / "its own" / "storage.conf"
    if before:
        user.run("mkdir", str(path.parent))
        path.write_text(before)
        os.chown(path, user.uid, user.gid)
    account = find_account(user.name)
    (finding,) = check_graph_root(
        account,
        [Mount("0:1", "/home", (), "nfs4", "server:/home")],
        {"path": "/home/x", "device": "0:1", "own_file": str(path)},
    )
    script = (
        f"mount -t tmpfs tmpfs /var/lib; {finding.fix}; {finding.fix}; stat -c '%a %u' /var/lib/rootless-containers/*"
    )
    line = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == f"700 {user.uid}\n"
    environment = {"CONTAINERS_STORAGE_CONF": str(path)}
    found, _file = find_graph_root(account, environment=environment, etc="/etc")
    assert found == f"/var/lib/rootless-containers/{user.uid}"
    after = path.read_text().splitlines()
    assert len([line for line in after if line.lstrip().startswith("graphroot =")]) == 1
    assert set(before.splitlines()) - set(after) <= {'\tgraphroot = "/mnt"'}


def said_in(path: Path) -> list[str]:
    """What stands in a test but for its comments and docstrings."""
    text = path.read_text()
    if path.suffix == ".yml":
        return [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    tree = ast.parse(text)
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in statements]
    return [node.value for node in constants if isinstance(node.value, str)]


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_finding_is_produced_for_real(code: str) -> None:
    """By a test on this kernel or on another one, or on a host in a molecule scenario."""
    root = Path(__file__).parents[2]
    paths = [*root.glob("tests/kernel/test_*.py"), *root.glob("molecule/**/*.yml")]
    assert any(re.search(rf"\b{code}\b(?!-)", said) for path in paths for said in said_in(path))
