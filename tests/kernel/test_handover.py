# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is root's does not reach a user through a process that root starts for it: attacks, as that user.

The user traces its pause process, puts programs of its own over the host's in its namespace, and watches the process
that becomes it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.as_user import become
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause_cgroups import PauseCgroups
from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause_program import (
    _is_static,
    open_pause_program,
)

Run = Callable[..., dict[str, Any]]

INJECT = Path(__file__).with_name("inject.py").read_text()
KEYCTL, SESSION, SEARCH, READ, LINK = 250, -3, 10, 11, 8
SECRET = "TOP-SECRET-OF-ROOT"

# Root's own: a key, and more of everything than users get. Then it becomes the command in its arguments.
AS_MIGHTY_ROOT = f"""
import ctypes, os, resource, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args])
    if result < 0:
        raise OSError(ctypes.get_errno(), str(args))
call({KEYCTL}, 1, None)
call(248, b"user", b"of-root", b"{SECRET}", {len(SECRET)}, {SESSION})
for name, limit in (
    ("NOFILE", (1 << 20, 1 << 20)), ("MEMLOCK", (1 << 40, 1 << 40)), ("NPROC", (1 << 22, 1 << 22)), ("CORE", (-1, -1)),
    ("SIGPENDING", (1 << 22, 1 << 22)), ("MSGQUEUE", (1 << 30, 1 << 30)), ("NICE", (40, 40)), ("RTPRIO", (99, 99)),
    ("STACK", (1 << 30, -1)),
):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), limit)
    except ValueError:
        # Without CAP_SYS_RESOURCE, or more files than the kernel has for a process: as much as may be.
        number = getattr(resource, "RLIMIT_" + name)
        resource.setrlimit(number, (resource.getrlimit(number)[1],) * 2)
os.nice(-7)
call(251, 1, 0, 1 << 13 | 3)
# CAP_SYS_BOOT and CAP_NET_RAW, inheritable.
header, data = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
libc.capget(header, data)
sets = list(struct.unpack("6I", data.raw))
sets[2] |= 1 << 22 | 1 << 13
if libc.capset(header, struct.pack("6I", *sets)):
    raise OSError(ctypes.get_errno(), "capset")
os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(7))
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-600")
except PermissionError:
    # Without CAP_SYS_RESOURCE, as in some containers.
    pass
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def on_x86_64() -> None:
    if platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        pytest.skip("writes registers of x86-64")


@pytest.fixture
def mighty(public_python: str) -> tuple[str, ...]:
    """The start of a command line that runs the rest as a root with a lot to lose."""
    return (public_python, "-c", AS_MIGHTY_ROOT)


@pytest.fixture
def inject(on_x86_64: None, public_python: str) -> Callable[..., list[tuple[int, str]]]:
    """Has a user make its process do system calls; their results, and what they wrote."""

    def run(user: Any, pid: int, *calls: list[Any]) -> list[tuple[int, str]]:
        return [
            tuple(answer) for answer in json.loads(user.run(public_python, "-c", INJECT, str(pid), json.dumps(calls)))
        ]

    return run


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def limits_of(pid: int) -> dict[str, tuple[float, float]]:
    """Soft and hard limits by name."""
    found = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
        soft, hard = (field.strip().replace("unlimited", "inf") for field in (line[26:47], line[47:68]))
        found[line[:26].strip()] = (float(soft), float(hard))
    return found


def test_the_key_of_root_is_out_of_reach(ns: Run, user: Any, mighty: Any, inject: Any) -> None:
    """The user searches the session keyring of its pause process, which `present` has started."""
    pid = ns(user, prefix=mighty)["pause_pid"]
    (found, _text), (mine, _nothing), (again, _nothing2), (size, _read) = inject(
        user,
        pid,
        [KEYCTL, SEARCH, SESSION, "user", "of-root", 0],
        # What is the user's own works.
        [248, "user", "of-user", "own", 3, SESSION],
        [KEYCTL, SEARCH, SESSION, "user", "of-user", 0],
        [KEYCTL, READ, SESSION, ["buffer", 64], 64],
    )
    assert found == -126, "ENOKEY was expected"
    assert mine == again > 0
    # The keyring holds nothing but the user's own key: one serial number.
    assert size == 4


def test_nobody_shares_a_keyring(ns: Run, module: Run, make_user: Any, mighty: Any, inject: Any) -> None:
    users = [make_user() for _number in range(2)]
    result = module("rootless_ns", users=[user.name for user in users], prefix=mighty)
    pids = [entry["pause_pid"] for entry in result["namespaces"]]
    inject(users[0], pids[0], [248, "user", "of-first", "own", 3, SESSION])
    assert inject(users[1], pids[1], [KEYCTL, SEARCH, SESSION, "user", "of-first", 0])[0][0] == -126


def test_limits_are_those_of_anybody(ns: Run, user: Any, mighty: Any) -> None:
    pid = ns(user, prefix=mighty)["pause_pid"]
    found, ours, first = limits_of(pid), limits_of(os.getpid()), limits_of(1)
    usual = {
        "Max core file size": (0, float("inf")),
        "Max stack size": (8 << 20, float("inf")),
        "Max open files": (1024, 524288),
        "Max locked memory": (8 << 20, 8 << 20),
        "Max processes": first["Max processes"],
        "Max pending signals": first["Max pending signals"],
        "Max msgqueue size": (819200, 819200),
        "Max nice priority": (0, 0),
        "Max realtime priority": (0, 0),
    }
    for name, (soft, hard) in usual.items():
        assert found[name][0] <= soft, name
        assert found[name][1] <= hard, name
    # Nothing is raised either.
    ns(user, state="absent")
    poor = limits_of(ns(user, prefix=("prlimit", "--nofile=600:700", "--stack=4194304:"))["pause_pid"])
    assert poor["Max open files"] == (600.0, 700.0)
    assert poor["Max stack size"] == (4 << 20, ours["Max stack size"][1])


def test_nothing_of_its_standing_is_roots(ns: Run, user: Any, mighty: Any, inject: Any) -> None:
    pid = ns(user, prefix=mighty)["pause_pid"]
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # Nice value, real-time priority, policy.
    assert (stat[16], stat[37], stat[38]) == ("0", "0", "0")
    classes = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    assert classes.startswith("none")
    status = status_of(pid)
    assert [int(status[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
    # No less than anybody's, and no less than this root's own where that is more.
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == max(
        0, int(Path("/proc/self/oom_score_adj").read_text())
    )
    # As its owner, by which less than that is refused.
    tried = user.command("sh", "-c", f"echo -1 > /proc/{pid}/oom_score_adj")
    assert subprocess.run(tried, capture_output=True, check=False).returncode != 0


def test_what_it_does_is_recorded_as_the_users(ns: Run, user: Any, make_user: Any, inject: Any) -> None:
    if not Path("/proc/self/loginuid").exists():
        pytest.skip("this kernel keeps no login UIDs")
    pid = ns(user)["pause_pid"]
    assert Path(f"/proc/{pid}/loginuid").read_text() == str(user.uid)
    # Written by itself, as the owner has it do.
    other = str(make_user().uid)
    ((fd, _text),) = inject(user, pid, [257, -100, "/proc/self/loginuid", 1, 0])
    # catatonit itself may have one open by now.
    assert fd in (3, 4)
    ((written, _text),) = inject(user, pid, [1, fd, other, len(other)])
    assert written == -1, "EPERM was expected"
    assert Path(f"/proc/{pid}/loginuid").read_text() == str(user.uid)


HOSTILE = """#!/bin/sh
: > {mark}
exec sleep 1000
"""


def test_a_program_in_the_namespace_does_not_replace_the_hosts(ns: Run, user: Any, inodes: Any) -> None:
    """Put over every program that could be a pause process, and over the places that lead to them."""
    first = ns(user)
    mark, program = user.runtime_dir / "ran", user.runtime_dir / "program"
    program.write_text(HOSTILE.format(mark=mark))
    program.chmod(0o755)
    name = Path(f"/proc/{first['pause_pid']}/comm").read_text()
    target = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={first['pause_pid']}"]
    cover = f"""
        for path in /usr/libexec/podman/catatonit /usr/bin/catatonit /usr/libexec/catatonit/catatonit /bin/sleep; do
          test ! -e $path || mount --bind {program} $path || exit 1
        done
        mount -t tmpfs tmpfs /usr/libexec && mount -t tmpfs tmpfs /proc && mount --bind /proc /dev"""
    user.run(*target, "sh", "-c", cover)
    user.kill_pause()
    second = ns(user)
    assert (second["action"], second["userns"]) == ("repaired", first["userns"])
    pid = second["pause_pid"]
    deadline = time.monotonic() + 1
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mark.exists()
    assert Path(f"/proc/{pid}/comm").read_text() == name
    assert inodes(pid) == inodes(pid)
    assert os.path.samefile(f"/proc/{pid}/exe", os.path.realpath(f"/usr/bin/{name.strip()}"))
    assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == name.strip().encode()


CGROUP_ROOTS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")


def cgroups_of(pid: int | str) -> dict[str, str]:
    """Its cgroup in each hierarchy, by the hierarchy's controllers."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {controllers: path for _number, controllers, path in (line.split(":", 2) for line in lines)}


@pytest.fixture
def own_cgroup() -> Iterator[tuple[str, ...]]:
    """The start of a command line that runs the rest in a cgroup of its own, where nobody manages cgroups."""
    roots = [path for path in map(Path, CGROUP_ROOTS) if (path / "cgroup.procs").exists()]
    if not roots or os.path.isdir("/run/systemd/system"):
        pytest.skip("needs a hierarchy of cgroups that nobody else manages")
    own = [root / f"rnstest-of-root-{os.getpid()}" for root in roots]
    for path in own:
        path.mkdir()
    yield ("sh", "-c", "; ".join(f"echo $$ > {path}/cgroup.procs" for path in own) + '; exec "$@"', "sh")
    for path in own:
        for pid in (path / "cgroup.procs").read_text().split():
            (path.parent / "cgroup.procs").write_text(pid)
        path.rmdir()


def test_it_leaves_roots_cgroup(ns: Run, user: Any, own_cgroup: Any, inject: Any) -> None:
    pid = ns(user, prefix=own_cgroup)["pause_pid"]
    found = cgroups_of(pid)
    assert "rnstest" not in str(found)
    assert f"/rootless-ns/{user.uid}" in found.values()
    if "pids" in found:
        assert found["pids"] == f"/rootless-ns/{user.uid}"
        # fork(2), over and over.
        results = [result for result, _text in inject(user, pid, *[[57]] * 40)]
        assert results.count(-11) >= 20, "EAGAIN was expected"
    ns(user, state="absent", force=True)


def test_what_cannot_be_left_is_reported(ns: Run, user: Any, own_cgroup: Any) -> None:
    """As in a container whose cgroups are read-only: a warning, and the namespace is made."""
    read_only = "; ".join(f"if mountpoint -q {path}; then mount -o remount,bind,ro {path}; fi" for path in CGROUP_ROOTS)
    container = ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{read_only}; exec "$@"', "sh")
    result = ns(user, prefix=(*own_cgroup, *container))
    assert result["action"] == "created"
    assert "Read-only file system" in result["msg"]
    assert "rnstest-of-root" in result["msg"]
    # Where there is no cgroup to leave, nothing is missing. (No pin has kept the first namespace.)
    user.kill_pause()
    again = ns(user, prefix=container)
    assert again["action"] == "created"
    assert "cgroup" not in again["msg"]


def test_a_systemd_that_makes_no_scope_is_reported(as_root: None, tmp_path: Path) -> None:
    """It is asked once, however many users there are."""
    (tmp_path / "systemd/system").mkdir(parents=True)
    cgroups = PauseCgroups(run=str(tmp_path))
    before = cgroups_of("self")
    warnings = [cgroups.receive(os.getpid(), uid) for uid in (4_100_000_001, 4_100_000_002)]
    cgroups.close()
    assert cgroups_of("self") == before
    assert warnings[0] == warnings[1]
    assert "systemd makes no scope: " in str(warnings[0])


def test_only_a_program_of_roots_is_executed(as_root: None, tmp_path: Path) -> None:
    """`sleep` is there, and before it, in turn, things that others than root could change."""

    def found() -> str:
        program = open_pause_program(str(tmp_path))
        os.close(program.directory)
        return program.name

    shutil.copytree("/usr/bin", tmp_path / "bin", ignore=lambda _path, names: {*names} - {"sleep"})
    assert found() == "sleep"
    bin_ = tmp_path / "usr/bin"
    bin_.mkdir(parents=True)
    program = bin_ / "catatonit"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    assert found() == "sleep"
    shutil.copy(tmp_path / "bin/sleep", program)
    assert found() == "catatonit"
    for mode in (0o775, 0o757, 0o644):
        program.chmod(mode)
        assert found() == "sleep"
    program.chmod(0o755)
    for path in (program, bin_):
        os.chown(path, 1, 0)
        assert found() == "sleep"
        os.chown(path, 0, 0)
    bin_.chmod(0o775)
    assert found() == "sleep"
    shutil.rmtree(tmp_path / "bin")
    with pytest.raises(FileNotFoundError, match="install catatonit"):
        found()


def test_one_that_needs_nothing_of_the_namespace_is_preferred(as_root: None, tmp_path: Path) -> None:
    """It may come last: it has no libraries that the owner of the namespace could replace."""
    static = [path for path in ("/usr/bin/catatonit", "/bin/busybox") if _is_static(path)]
    if not static:
        pytest.skip("needs a static program (Debian: apt-get install catatonit)")
    for name, source in (("usr/bin/catatonit", "/bin/sleep"), ("bin/sleep", static[0])):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(source, tmp_path / name)
    program = open_pause_program(str(tmp_path))
    os.close(program.directory)
    assert (program.name, program.arguments[0]) == ("sleep", "sleep")


def make_inheritable(capabilities: int) -> None:
    """Of this process; the other sets stay as they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = struct.pack("Ii", 0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[2] |= capabilities
    assert libc.capset(header, sets) == 0


class SlowSyscalls(Syscalls):
    """Stops for a while around each step that the library takes through it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def _stop(self) -> None:
        os.write(self._steps, b"1")
        time.sleep(0.4)

    def set_dumpable(self, dumpable: bool) -> None:
        self._stop()
        super().set_dumpable(dumpable)
        self._stop()

    def drop_capabilities(self) -> None:
        self._stop()
        super().drop_capabilities()
        self._stop()


# What the owner of a process may do to it: each line is an attack that worked.
ATTACK = """
import ctypes, os, signal, sys
pid = sys.argv[1]
for name in ("environ", "mem", "maps", "auxv", "stack", "syscall"):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            if name == "mem":
                file.seek(int(sys.argv[2], 16))
            file.read(16)
        print(name)
    except OSError:
        pass
for name in ("fd", "ns/user", "exe", "cwd", "root"):
    try:
        os.readlink(f"/proc/{pid}/{name}") if name != "fd" else os.listdir(f"/proc/{pid}/fd")
        print(name)
    except OSError:
        pass
for name, value in (("oom_score_adj", "500"), ("coredump_filter", "0"), ("clear_refs", "1")):
    try:
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(value)
        print(name)
    except OSError:
        pass
libc = ctypes.CDLL(None)
# PTRACE_SEIZE: what it takes hold of goes on.
if libc.ptrace(0x4206, int(pid), 0, 0) == 0:
    print("ptrace")
"""


@pytest.mark.alone
@pytest.mark.parametrize("suid_dumpable", ["0", "1", "2"])
def test_it_cannot_be_traced_while_it_becomes_the_user(user: Any, public_python: str, suid_dumpable: str) -> None:
    sysctl = Path("/proc/sys/fs/suid_dumpable")
    before = sysctl.read_text()
    steps, writer = os.pipe()
    account = find_account(user.name)
    stack = next(line for line in Path("/proc/self/maps").read_text().splitlines() if "[stack]" in line).split("-")[0]
    try:
        sysctl.write_text(suid_dumpable)
        pid = os.fork()
        if pid == 0:
            try:
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                make_inheritable(1 << 13 | 1 << 22)
                become(account, [account.gid], SlowSyscalls(writer))
                os.write(writer, b"2")
                time.sleep(100)
            finally:
                os._exit(1)
        os.close(writer)
        attacks = []
        step = b"1"
        while step == b"1":
            step = os.read(steps, 1)
            attacks.append(user.run(public_python, "-c", ATTACK, str(pid), stack).split())
        assert step == b"2"
        assert len(attacks) == 5
        if suid_dumpable == "1":
            # The files are the user's until the process is undumpable, its memory and its namespaces are not.
            harmless = {"fd", "oom_score_adj", "coredump_filter", "clear_refs"}
            attacks[0] = [name for name in attacks[0] if name not in harmless]
        assert attacks == [[]] * 5
        status = status_of(pid)
        assert status["Uid"].split() == [str(user.uid)] * 4
        assert [int(status[name], 16) for name in ("SigBlk", "CapInh", "CapPrm", "CapAmb")] == [0] * 4
    finally:
        sysctl.write_text(before)
        os.close(steps)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
