# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and broken hosts: a clear error that says what to do, and nothing changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@contextmanager
def line_in(path: str, line: str) -> Iterator[None]:
    """A line more in /etc/subuid or /etc/subgid, taken out again line by line: others may write there meanwhile."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    try:
        yield
    finally:
        lines = Path(path).read_text().splitlines(keepends=True)
        lines.remove(line + "\n")
        Path(path).write_text("".join(lines))


def nothing_there(user: Any) -> bool:
    return not user.pin.exists() and user.processes() == [] and not user.pause_file.exists()


@pytest.mark.parametrize(
    ("name", "told"), [("no-such-user", "does not exist"), ("4123456789", "no user has UID"), ("0", "root needs no")]
)
def test_users_that_have_no_namespace(as_root: None, ns: Run, name: str, told: str) -> None:
    result = ns(name)
    assert (result["failed"], result["action"]) == (True, "failed")
    assert told in result["msg"]


def test_root_has_to_name_users(as_root: None, module: Run) -> None:
    assert "users must be given" in module("rootless_ns")["msg"]


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["uid", "gid"])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{name}:{own}:1000", "includes the user's own"),
        ("{own}:{first}:10", "overlap"),
        ("{name}:x:1000", "not a number"),
        ("{name}:100000", ":"),
        ("{own}:100000:0", "count"),
    ],
)
def test_ranges_that_cannot_work(ns: Run, user: Any, expected_maps: Any, kind: str, line: str, told: str) -> None:
    first = expected_maps(user)[f"{kind}_map"][1]["parent_id"]
    wrong = line.format(name=user.name, own=user.uid if kind == "uid" or "{own}:{" in line else user.gid, first=first)
    with line_in(f"/etc/sub{kind}", wrong):
        result = ns(user)
    assert result["failed"]
    assert told in result["msg"]
    assert f"/etc/sub{kind} line " in result["msg"]
    assert nothing_there(user)


@pytest.mark.alone
def test_other_peoples_malformed_lines_are_warned_of(module: Run, user: Any) -> None:
    with line_in("/etc/subuid", "somebody-else:what:ever"):
        result = module("rootless_ns", users=[user.name])
    assert result["namespaces"][0]["action"] == "created"
    warnings = str(result["warnings"])
    assert "/etc/subuid line " in warnings
    assert "somebody-else:what:ever" in warnings


@pytest.mark.alone
def test_ranges_by_name_and_by_uid_are_one_users(ns: Run, user: Any, expected_maps: Any) -> None:
    with line_in("/etc/subuid", f"{user.uid}:3900000000:500"):
        result = ns(user)
        assert result["uid_map"] == expected_maps(user)["uid_map"]
    assert result["uid_map"][-1] == {"id": 65537, "parent_id": 3900000000, "count": 500}


def test_no_ranges_means_a_single_id(ns: Run, make_user: Any) -> None:
    user = make_user(ranges=False)
    result = ns(user)
    assert result["uid_map"] == [{"id": 0, "parent_id": user.uid, "count": 1}]
    assert result["gid_map"] == [{"id": 0, "parent_id": user.gid, "count": 1}]
    assert Path(f"/proc/{result['pause_pid']}/setgroups").read_text() == "deny\n"
    assert "no subordinate UID range" in result["msg"]
    assert ns(user)["action"] == "rejoined"


def test_no_runtime_directory(ns: Run, make_user: Any) -> None:
    user = make_user(runtime_dir=False)
    squatted = user.temporary_dir
    squatted.mkdir()
    result = ns(user)
    assert result["failed"]
    for told in (str(user.runtime_dir), f"{squatted} is owned by UID 0", "enable-linger"):
        assert told in result["msg"]
    assert list(squatted.iterdir()) == []
    squatted.rmdir()
    fallen_back = ns(user)
    assert fallen_back["state_dir"] == f"{squatted}/libpod/tmp"
    assert (squatted.stat().st_uid, squatted.stat().st_mode & 0o7777) == (user.uid, 0o700)
    assert str(user.runtime_dir) in fallen_back["msg"]


@pytest.mark.parametrize("options", ["ro,size=1m", "size=4k"])
@pytest.mark.parametrize("method", ["pause", "handles"])
def test_read_only_and_full_disks(ns: Run, user: Any, options: str, method: str) -> None:
    mine = f"uid={user.uid},gid={user.gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{mine},{options}", "tmpfs", str(user.runtime_dir)], check=True)
    if not options.startswith("ro"):
        user.run("sh", "-c", f"mkdir -p {user.state_dir}; head -c 8192 /dev/zero > {user.runtime_dir}/full || true")
    result = ns(user, method=method)
    assert (result["failed"], result["changed"]) == (True, False)
    assert f"{user.runtime_dir}/libpod" in result["msg"]
    assert "No space left" in result["msg"] or "Read-only" in result["msg"]
    assert nothing_there(user)
    assert not user.handles_file.exists()


HIDE = 'for tool in newuidmap newgidmap; do mount --bind "$1" "$(command -v $tool)"; done; shift; exec "$@"'


@pytest.fixture
def broken_tools(as_root: None, tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """The start of a command line that runs the rest where newuidmap and newgidmap are broken; the host's are not."""

    def start(how: str) -> tuple[str, ...]:
        stand_in = tmp_path / how
        stand_in.write_bytes(b"" if how == "missing" else Path("/usr/bin/newuidmap").read_bytes())
        stand_in.chmod(0o644 if how == "missing" else 0o755)
        return ("unshare", "--mount", "--propagation", "private", "sh", "-c", HIDE, "sh", str(stand_in))

    return start


@pytest.mark.parametrize(
    ("how", "told"), [("missing", "newuidmap is not installed"), ("powerless", "neither the setuid bit")]
)
def test_map_tools_that_do_not_work(ns: Run, user: Any, broken_tools: Any, how: str, told: str) -> None:
    result = ns(user, prefix=broken_tools(how), pin=False)
    assert result["failed"]
    assert told in result["msg"]
    assert nothing_there(user)


def test_an_ordinary_user_without_map_tools_gets_a_single_id(
    module: Run, user: Any, broken_tools: Any, public_python: str
) -> None:
    start = (*broken_tools("missing"), *user.command())
    result = module("rootless_ns", prefix=start)
    (entry,) = result["namespaces"]
    assert (entry["action"], len(entry["uid_map"]), len(entry["gid_map"])) == ("created", 1, 1)
    assert "newuidmap is not installed" in str(result["warnings"])
    # Where the tools are back, root sees the difference.
    assert module("rootless_ns", users=[user.name], pin=False)["namespaces"][0]["drift"]


def test_a_kernel_without_user_namespaces(module: Run, user: Any, in_userns: Any) -> None:
    # The limit holds below the user namespace it is written in: a namespace of our own is limited, not the host.
    start = in_userns("0 0 4294967295", "echo 0 > /proc/sys/user/max_user_namespaces")
    result = module("rootless_ns", users=[user.name], pin=False, prefix=start)
    assert result["failed"]
    assert "user.max_user_namespaces" in result["msg"]
    assert nothing_there(user)
