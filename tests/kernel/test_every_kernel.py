# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold on every kernel; `make test-kernels` runs it on old and new ones.

What to expect is probed here, with the system calls themselves, and never taken from a version or from the library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_handles import handle_of

Run = Callable[..., dict[str, Any]]

libc = ctypes.CDLL(None, use_errno=True)
FD_NSFS_ROOT = -10003
SIZE = 136


def opens(handle: bytes) -> bool:
    fd = libc.open_by_handle_at(FD_NSFS_ROOT, ctypes.create_string_buffer(handle, SIZE), os.O_RDONLY)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def opens_as(user: Any, handle: bytes) -> bool:
    """Whether the user itself can open a handle, tried where Podman tries it: outside the namespace."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
            os._exit(0 if opens(handle) else 1)
        finally:
            os._exit(2)
    answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert answer in (0, 1)
    return answer == 0


@pytest.fixture
def handles(ns: Run, make_user: Callable[..., Any]) -> str:
    """Who can open handles of namespaces on this kernel: `unsupported`, `root` or `user`."""
    user = make_user()
    handle = handle_of(f"/proc/{ns(user)['pause_pid']}/ns/user")
    if handle is None or not opens(handle):
        return "unsupported"
    return "user" if opens_as(user, handle) else "root"


def test_the_kernel_is_told_right(module: Run, handles: str, user: Any) -> None:
    assert module("rootless_ns_info", users=[user.name])["kernel"]["nsfs_handles"] == handles


def test_set_up_and_rejoin(module: Run, ns: Run, user: Any, expected_maps: Any, inodes: Any) -> None:
    first = ns(user)
    assert (first["action"], first["pinned"]) == ("created", True)
    assert {kind: first[kind] for kind in ("uid_map", "gid_map")} == expected_maps(user)
    assert (first["userns"], first["mntns"]) == inodes(first["pause_pid"])
    pinned = [os.stat(user.pin / name).st_ino for name in ("user", "mnt")]
    assert pinned == [first["userns"], first["mntns"]]
    second = ns(user)
    assert (second["action"], second["changed"]) == ("rejoined", False)
    (entry,) = module("rootless_ns_info", users=[user.name])["namespaces"]
    assert (entry["state"], entry["userns"], entry["drift"]) == ("alive", first["userns"], False)


@pytest.mark.parametrize("who", ["root", "owner"])
def test_the_pin_outlives_every_process(ns: Run, user: Any, inodes: Any, who: str) -> None:
    first = ns(user)
    user.kill_pause()
    assert user.processes() == []
    again = ns(user, as_user=user if who == "owner" else None)
    assert (again["action"], again["userns"], again["mntns"]) == ("repaired", first["userns"], first["mntns"])
    assert inodes(user.pause_pid()) == (first["userns"], first["mntns"])


def test_handles_where_the_user_can_open_them_else_a_pause_process(
    ns: Run, user: Any, handles: str, reads_handles: bool
) -> None:
    result = ns(user, env={"PODMAN_NO_PAUSE_PROCESS": "1"})
    if not reads_handles:
        assert (result["action"], result["method"]) == ("created", "pause")
        assert "reads none" in result["msg"]
    elif handles == "user":
        assert (result["action"], result["method"], result["pause_pid"]) == ("created", "handles", None)
        assert user.processes() == []
        assert user.handles_file.stat().st_size == 272
    else:
        assert (result["action"], result["method"]) == ("created", "pause")
        assert "does not let the user open them" in result["msg"]
        assert user.processes() == [result["pause_pid"]]
        assert not user.handles_file.exists()
    again = ns(user, env={"PODMAN_NO_PAUSE_PROCESS": "1"})
    assert (again["action"], again["changed"], again["userns"]) == ("rejoined", False, result["userns"])


def test_handles_or_nothing(ns: Run, user: Any, handles: str) -> None:
    result = ns(user, method="handles")
    if handles == "user":
        assert (result["action"], result["method"]) == ("created", "handles")
    else:
        assert (result["action"], result["changed"]) == ("failed", False)
        assert "method handles is of no use here" in result["msg"]
        assert user.processes() == []


@pytest.fixture
def planted(ns: Run, user: Any, handles: str) -> dict[str, Any]:
    """Handles of the user's live namespace, as a Podman on another kernel may have left them."""
    made = ns(user)
    packed = [handle_of(f"/proc/{made['pause_pid']}/ns/{kind}") for kind in ("user", "mnt")]
    if handles == "unsupported":
        assert packed == [None, None]
        pytest.skip("there are no handles on this kernel")
    user.handles_file.write_bytes(b"".join(handle for handle in packed if handle))
    os.chown(user.handles_file, user.uid, user.gid)
    return made


def test_what_the_owner_cannot_open_is_not_called_dead(
    module: Run, ns: Run, user: Any, handles: str, planted: dict[str, Any]
) -> None:
    own = module("rootless_ns_info", as_user=user)["namespaces"][0]["verdicts"]["ns_handles"]["verdict"]
    assert own == ("live" if handles == "user" else "unknown")
    again = ns(user, as_user=user)
    assert (again["action"], again["changed"], again["userns"]) == ("rejoined", False, planted["userns"])
    assert user.handles_file.exists()


def test_root_repairs_what_would_mislead_podman(
    module: Run, ns: Run, user: Any, handles: str, planted: dict[str, Any]
) -> None:
    entry = module("rootless_ns_info", users=[user.name])["namespaces"][0]
    assert entry["verdicts"]["ns_handles"]["verdict"] == "live"
    assert entry["state"] == ("alive" if handles == "user" else "broken")
    again = ns(user)
    assert again["userns"] == planted["userns"]
    assert again["changed"] is (handles != "user")
    assert user.handles_file.exists() is (handles == "user")


in_guests_only = pytest.mark.skipif(
    not os.environ.get("ROOTLESS_TEST_GUEST"),
    reason="changes the whole machine, so in guests only (make test-kernels)",
)


@pytest.fixture
def sysctl(as_root: None) -> Iterator[Callable[[str, int], None]]:
    """Sets kernel parameters until the test is over."""
    before: dict[Path, str] = {}

    def write(name: str, value: int) -> None:
        path = Path("/proc/sys", name.replace(".", "/"))
        if not path.exists():
            pytest.skip(f"this kernel has no {name}")
        before.setdefault(path, path.read_text())
        path.write_text(str(value))

    yield write
    for path, value in before.items():
        path.write_text(value)


@pytest.fixture
def no_user_namespaces(sysctl: Callable[[str, int], None]) -> None:
    sysctl("user.max_user_namespaces", 0)


@in_guests_only
@pytest.mark.alone
def test_no_namespace_may_be_made(ns: Run, user: Any, no_user_namespaces: None) -> None:
    result = ns(user)
    assert (result["action"], result["changed"]) == ("failed", False)
    assert "user.max_user_namespaces" in result["msg"]
    assert user.processes() == []


@in_guests_only
@pytest.mark.alone
def test_what_is_pinned_needs_no_new_namespace(ns: Run, user: Any, request: pytest.FixtureRequest, inodes: Any) -> None:
    first = ns(user)
    user.kill_pause()
    request.getfixturevalue("no_user_namespaces")
    again = ns(user)
    assert (again["action"], again["userns"]) == ("repaired", first["userns"])
    assert inodes(user.pause_pid()) == (first["userns"], first["mntns"])


@in_guests_only
@pytest.mark.alone
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("user.max_user_namespaces", 0, "userns-off"),
        ("user.max_mnt_namespaces", 0, "userns-off"),
        ("user.max_user_namespaces", 3, "userns-few"),
        ("kernel.unprivileged_userns_clone", 0, "userns-for-root-only"),
    ],
)
def test_what_the_kernel_forbids(
    module: Run, ns: Run, user: Any, sysctl: Any, name: str, value: int, code: str
) -> None:
    before = module("rootless_host_info", users=[user.name])
    assert before["ok"]
    sysctl(name, value)
    result = module("rootless_host_info", users=[user.name])
    (finding,) = [finding for finding in result["findings"] if finding["code"] not in codes(before)]
    assert finding["code"] == code
    assert f"{name} = {value}" in finding["found"]
    assert name in finding["fix"]
    # What is said to block does.
    assert (ns(user)["action"] == "created") is result["ok"] is (finding["severity"] != "blocks")


def codes(result: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in result["findings"]}


# Everything but user namespaces, to a program by a pattern: a profile for its very path goes before this one. Files of
# namespaces have no path, so it takes a flag to allow them.
FORBIDDING = """abi <abi/4.0>,
include <tunables/global>
profile tests-no-userns {directory}/python* {flags} {{
  allow all,
  audit deny userns,
}}
"""


@pytest.fixture
def anew(module: Run, user: Any) -> Run:
    """Runs a module for the user in a Python of its own: a profile takes hold of what is started under it."""

    def run(name: str) -> dict[str, Any]:
        result = module(name, users=[user.name], prefix=("env",))
        assert name == "rootless_ns" or not result.get("failed"), result
        return result

    return run


@pytest.fixture
def forbid(as_root: None, public_python: str, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Has AppArmor refuse user namespaces to Python until the test is over; without flags their files, too."""
    features = Path("/sys/kernel/security/apparmor/features/namespaces/mask")
    if not features.exists() or "userns_create" not in features.read_text():
        pytest.skip("AppArmor of this kernel has no say in user namespaces")
    profile = tmp_path / "profile"

    def load(flags: str = "flags=(attach_disconnected)") -> None:
        directory = os.path.dirname(os.path.realpath(public_python))
        profile.write_text(FORBIDDING.format(directory=directory, flags=flags))
        subprocess.run(["apparmor_parser", "--replace", "--skip-cache", str(profile)], check=True)

    yield load
    subprocess.run(["apparmor_parser", "--remove", str(profile)], check=True)


@pytest.fixture
def restricted(tmp_path: Path) -> Iterator[None]:
    """The switch of Ubuntu's kernels, on: a copy of /proc/sys/kernel with that one file more. Debian's have none."""
    settings = Path("/proc/sys/kernel")
    copy = tmp_path / "kernel"
    # Some can only be written.
    with contextlib.suppress(shutil.Error):
        shutil.copytree(settings, copy)
    (copy / "apparmor_restrict_unprivileged_userns").write_text("1\n")
    subprocess.run(["mount", "--bind", str(copy), str(settings)], check=True)
    yield
    subprocess.run(["umount", str(settings)], check=True)


@in_guests_only
@pytest.mark.alone
def test_files_that_apparmor_forbids(module: Run, user: Any, forbid: Callable[..., None]) -> None:
    forbid(flags="")
    result = module("rootless_host_info", users=[user.name], prefix=("env",))
    assert result["failed"]
    assert "/proc/self/ns/user: Permission denied" in result["msg"]


@in_guests_only
@pytest.mark.alone
def test_what_apparmor_forbids(anew: Run, user: Any, forbid: Callable[..., None]) -> None:
    before = anew("rootless_host_info")
    assert before["ok"]
    forbid()
    result = anew("rootless_host_info")
    assert not result["ok"]
    (finding,) = [finding for finding in result["findings"] if finding["code"] not in codes(before)]
    assert (finding["code"], finding["severity"]) == ("userns-refused", "blocks")
    assert "Permission denied" in finding["found"]
    # The command that is told finds the reason.
    told = subprocess.run(["sh", "-euc", finding["fix"]], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert 'operation="userns_create"' in told
    assert 'profile="tests-no-userns"' in told
    (entry,) = anew("rootless_ns")["namespaces"]
    assert entry["action"] == "failed"
    assert "Permission denied" in entry["msg"]
    assert user.processes() == []


def profile_of_the_role(program: str, _finding: dict[str, Any]) -> None:
    template = Path(__file__).parents[2] / "roles/rootless_host/templates/apparmor.j2"
    PROFILE.write_text(template.read_text().replace("{{ __rootless_host_python }}", program))
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", str(PROFILE)], check=True)


def profile_as_told(program: str, finding: dict[str, Any]) -> None:
    assert program in finding["fix"]
    subprocess.run(["sh", "-euc", finding["fix"]], check=True)


PROFILE = Path("/etc/apparmor.d/userns-rootless")


@in_guests_only
@pytest.mark.alone
@pytest.mark.parametrize("allow", [profile_of_the_role, profile_as_told])
def test_what_apparmor_forbids_is_allowed(
    anew: Run,
    user: Any,
    forbid: Callable[..., None],
    restricted: None,
    public_python: str,
    allow: Callable[[str, dict[str, Any]], None],
) -> None:
    """The switch is simulated; that user namespaces are refused, and that the profile has them allowed, is not."""
    forbid()
    (finding,) = [one for one in anew("rootless_host_info")["findings"] if one["code"] == "userns-apparmor"]
    assert "kernel.apparmor_restrict_unprivileged_userns = 1" in finding["found"]
    (entry,) = anew("rootless_ns")["namespaces"]
    assert entry["action"] == "failed"
    assert "kernel.apparmor_restrict_unprivileged_userns" in entry["msg"]
    try:
        allow(os.path.realpath(public_python), finding)
        assert anew("rootless_host_info")["ok"]
        assert anew("rootless_ns")["namespaces"][0]["action"] == "created"
    finally:
        subprocess.run(["apparmor_parser", "--remove", str(PROFILE)], check=True)
        PROFILE.unlink()
    assert "userns-apparmor" in codes(anew("rootless_host_info"))


@in_guests_only
@pytest.mark.alone
def test_controllers_that_are_not_delegated(module: Run, user: Any) -> None:
    """Control groups as systemd makes them for a user, without systemd."""
    root = Path("/sys/fs/cgroup")
    service = root / f"user.slice/user-{user.uid}.slice/user@{user.uid}.service"
    booted = Path("/run/systemd/system")
    booted.mkdir(parents=True)

    def found() -> dict[str, str]:
        result = module("rootless_host_info", users=[user.name])
        return {finding["code"]: finding["found"] for finding in result["findings"] if finding["user"]}

    try:
        assert found().keys() == {"no-user-manager"}
        service.mkdir(parents=True)
        for wanted, missing in (("+pids", "cpu memory"), ("+cpu +memory", "")):
            for path in (root, root / "user.slice", service.parent):
                (path / "cgroup.subtree_control").write_text(wanted)
            told = found().get("cgroup-not-delegated", "")
            assert told.endswith(f"but not {missing}") if missing else not told
    finally:
        booted.rmdir()
        for path in (service, service.parent, root / "user.slice"):
            if path.exists():
                path.rmdir()


def test_handles_that_are_asked_for(module: Run, user: Any, handles: str) -> None:
    assert "handles-unusable" not in codes(module("rootless_host_info", users=[user.name]))
    result = module("rootless_host_info", users=[user.name], env={"PODMAN_NO_PAUSE_PROCESS": "1"})
    assert ("handles-unusable" in codes(result)) is (handles != "user")
    assert result["kernel"]["nsfs_handles"] == handles


@pytest.fixture
def nfs(user: Any) -> Iterator[Path]:
    """A home directory on NFS, served by this kernel to itself, set up as exportfs(8) and rpc.nfsd(8) do."""
    modules = sorted(Path("/modules").glob("*.ko"))
    if not modules:
        pytest.skip("this guest has no modules of NFS")
    for path in modules:
        with open(path, "rb") as file:
            # finit_module(2); a second time it says EEXIST.
            libc.syscall(313, file.fileno(), b"", 0)
    with socket.socket() as any_socket:
        # SIOCSIFFLAGS of netdevice(7), with IFF_UP.
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 1))
    export = Path("/run/export")
    export.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(export)], check=True)
    (export / "home").mkdir()
    os.chown(export / "home", user.uid, user.gid)
    subprocess.run(["mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd"], check=True)
    rpc = Path("/proc/net/rpc")
    forever = 2147483647
    # Read and write, no_root_squash, insecure_locks, no_subtree_check, fsid.
    flags = 0x2434
    for name, line in (
        ("auth.unix.ip", f"nfsd 127.0.0.1 {forever} all"),
        ("nfsd.fh", f"all 1 \\x00000000 {forever} {export}"),
        ("nfsd.export", f"all {export} {forever} {flags} 65534 65534 0"),
    ):
        (rpc / name / "channel").write_text(f"{line}\n")
    # Version 4 alone needs neither rpcbind nor lockd.
    Path("/proc/fs/nfsd/versions").write_text("-2 -3 +4\n")
    Path("/proc/fs/nfsd/portlist").write_text("tcp 2049\n")
    Path("/proc/fs/nfsd/threads").write_text("1\n")
    point = Path("/run/nfs")
    point.mkdir()
    options = "addr=127.0.0.1,clientaddr=127.0.0.1,vers=4.2,sec=sys"
    subprocess.run(["mount", "-i", "-t", "nfs4", "-o", options, "127.0.0.1:/", str(point)], check=True)
    yield point / "home"
    subprocess.run(["umount", "-l", str(point)], check=True)


@in_guests_only
def test_images_on_nfs(module: Run, user: Any, nfs: Path) -> None:
    assert module("rootless_host_info", users=[user.name])["ok"]
    subprocess.run(["usermod", "--home", str(nfs), user.name], check=True)
    result = module("rootless_host_info", users=[user.name])
    (finding,) = [finding for finding in result["findings"] if finding["severity"] == "blocks"]
    assert (finding["code"], finding["user"]) == ("graph-root-remote", user.name)
    assert f"{nfs}/.local/share/containers/storage lies on nfs4 (127.0.0.1:/" in finding["found"]
    # What is said to block does: that server gives no files to subordinate IDs.
