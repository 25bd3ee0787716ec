# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place to measure in: mount and PID namespaces with an /etc, a /run and a /proc of their own.

A thousand users cost no change of the machine, and whatever ends the run, all that it started and mounted ends with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import ansible

from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import (
    CLONE_NEWNS,
    MS_PRIVATE,
    Syscalls,
)

CHECKOUT = Path(__file__).parents[1]
PINS = Path("/run/rootless-ns")
PAYLOAD = Path("/run/bench/payload")

_CLONE_NEWPID = 0x20000000
_MS_REC, _MS_SHARED = 0x4000, 1 << 20
_PR_SET_PDEATHSIG = 1
# ioctl_nsfs(2), Linux 6.18: u64, in the order in which mount namespaces were made.
_NS_GET_ID = 0x8008B70D

# Out of the way of real users, whose limits (user.max_user_namespaces, RLIMIT_NPROC) are counted by UID.
_FIRST_UID = 1_500_000_000
_FIRST_SUBID = 2_000_000_000
_SUBIDS = 65536
_SETTLE_SECONDS = 0.3


@dataclass(frozen=True)
class User:
    name: str
    uid: int

    @property
    def runtime_dir(self) -> Path:
        return Path(f"/run/user/{self.uid}")

    @property
    def home(self) -> Path:
        return Path(f"/run/bench/home/{self.uid}")

    @property
    def pause_file(self) -> Path:
        return self.runtime_dir / "libpod/tmp/pause.pid"

    @property
    def pin(self) -> Path:
        return PINS / str(self.uid)

    @property
    def environment(self) -> dict[str, str]:
        """As a login would have it."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "USER": self.name,
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
        }

    def become(self) -> None:
        os.setgroups([self.uid])
        os.setresgid(self.uid, self.uid, self.uid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.chdir("/")


def people(count: int) -> list[User]:
    return [User(f"bench{number}", _FIRST_UID + number) for number in range(1, count + 1)]


def enter(work: Callable[[], None]) -> int:
    """Run `work` in a new arena, as its init process; returns the exit status."""
    syscalls = Syscalls()
    _unshare_mounts(syscalls)
    syscalls.unshare(_CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            _mount_all(syscalls)
            work()
            status = 0
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # With this process, the first of its PID namespace, end all the others.
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _unshare_mounts(syscalls: Syscalls) -> None:
    """Move into a mount namespace in which every later one can be pinned, whatever CPU makes it.

    Linux 6.18 lets a mount namespace be mounted only in one with a lower number, and each CPU gives out numbers of a
    batch of its own: so this makes one on each CPU and takes the lowest. The later ones come from the same batches.
    """
    cpus = os.sched_getaffinity(0)
    made = []
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        syscalls.unshare(CLONE_NEWNS)
        fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            number = struct.unpack("Q", fcntl.ioctl(fd, _NS_GET_ID, bytes(8)))[0]
        except OSError:
            # An older kernel: none of this matters there.
            number = 0
        made.append((number, fd))
    os.sched_setaffinity(0, cpus)
    syscalls.setns(min(made)[1], CLONE_NEWNS)
    for _number, fd in made:
        os.close(fd)


def _mount_all(syscalls: Syscalls) -> None:
    syscalls.mount(None, "/", _MS_REC | MS_PRIVATE)
    _mount("-t", "proc", "proc", "/proc")
    # What a mount over /run only hides is still told of in mountinfo, and copied into each new namespace.
    for mount in reversed(_mounts_below("/run")):
        syscalls.umount(mount)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("upper", "work"):
        Path("/run/bench/etc", name).mkdir(parents=True)
    layers = "lowerdir=/etc,upperdir=/run/bench/etc/upper,workdir=/run/bench/etc/work"
    _mount("-t", "overlay", "-o", layers, "overlay", "/etc")
    # Where old Podmans look for version 2 on hosts that still have version 1 there.
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        while os.path.ismount("/sys/fs/cgroup"):
            syscalls.umount("/sys/fs/cgroup")
        _mount("-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    # As systemd leaves it; Podman complains otherwise.
    syscalls.mount(None, "/", _MS_REC | _MS_SHARED)
    shutil.copytree(Path(ansible.__file__).parent / "module_utils", PAYLOAD / "ansible/module_utils")
    (PAYLOAD / "ansible/__init__.py").touch()
    collection = PAYLOAD / "ansible_collections/userns/rootless/plugins"
    shutil.copytree(CHECKOUT / "plugins", collection, ignore=shutil.ignore_patterns("__pycache__"))


def _mounts_below(path: str) -> list[str]:
    mounts = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [mount for mount in mounts if mount == path or mount.startswith(f"{path}/")]


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def populate(users: Iterable[User], *, with_ranges: Iterable[User]) -> None:
    """Make these the arena's users, beside the machine's own; the latter ones have ranges of subordinate IDs."""
    users, with_ranges = list(users), list(with_ranges)
    lines = {
        "passwd": [f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:/usr/sbin/nologin" for user in users],
        "group": [f"{user.name}:x:{user.uid}:" for user in users],
        "shadow": [f"{user.name}:!:20000:0:99999:7:::" for user in users],
        "gshadow": [f"{user.name}:!::" for user in users],
    }
    ranges = [f"{user.name}:{_FIRST_SUBID + _SUBIDS * (user.uid - _FIRST_UID)}:{_SUBIDS}" for user in with_ranges]
    for name, added in [*lines.items(), ("subuid", ranges), ("subgid", ranges)]:
        path = Path("/etc", name)
        if not path.exists():
            path.touch(0o644)
        kept = [line for line in path.read_text().splitlines() if not line.startswith("bench")]
        path.write_text("".join(f"{line}\n" for line in [*kept, *added]))


def reset(users: Iterable[User]) -> None:
    """End everything that runs in the arena, unpin, and give the users empty runtime directories and homes."""
    if os.getpid() != 1 or not PAYLOAD.exists():
        raise RuntimeError("this would end every process of the machine: call it inside an arena only")
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    # The pins go with their parent mount.
    for mount in reversed(_mounts_below(str(PINS))):
        Syscalls().umount(mount)
    for directory in (PINS, Path("/run/user"), Path("/run/bench/home")):
        shutil.rmtree(directory, ignore_errors=True)
    for user in users:
        for directory in (user.runtime_dir, user.home):
            directory.mkdir(parents=True)
            directory.chmod(0o700)
            os.chown(directory, user.uid, user.uid)
    # The kernel takes namespaces apart later, and that would be counted against whoever comes next.
    time.sleep(_SETTLE_SECONDS)
