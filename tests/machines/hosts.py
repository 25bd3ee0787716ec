# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts: systemd-nspawn containers, each with its own systemd, network namespace, cgroup and file system.

Not the usual nspawn, because rootless containers must run inside, on cgroup 1 too, and nothing may be left outside:
it runs in a mount namespace and a cgroup of its own, and both vanish with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import cache, netns, rootfs

BOOT = Path(__file__).with_name("boot.sh")
PATIENCE = 60.0


@dataclass(frozen=True)
class Host:
    """A host by name; what belongs to it carries that name. `suite` is what `rootfs.of` makes its image from."""

    name: str
    suite: str = ""

    @property
    def directory(self) -> Path:
        """Its file system (the layer over the image), home directories and log."""
        return running() / self.name

    @property
    def label(self) -> str:
        """The name of its cgroup and of its network namespace."""
        return prefix() + self.name

    @property
    def cgroup(self) -> Path:
        return cgroups() / self.label

    def lay_out(self, image: Path, public_key: str, cpu: int) -> None:
        """Make the files of a fresh host; `boot` takes it from there."""
        for name in ("upper", "work", "root", "home"):
            (self.directory / name).mkdir(parents=True)
        upper = self.directory / "upper"
        for path, content in (
            ("etc/hostname", f"{self.name}\n"),
            # Without its own name sudo would wait for DNS.
            ("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n"),
            ("root/.ssh/authorized_keys", public_key),
        ):
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            (upper / path).write_text(content)
        (upper / "root").chmod(0o700)
        (self.directory / "image").symlink_to(image)
        (self.directory / "suite").write_text(self.suite)
        (self.directory / "cpu").write_text(str(cpu))

    def boot(self) -> None:
        """Boot what lies in the host's directory, also after `stop`, and wait until sshd answers."""
        if shutil.which("systemd-nspawn") is None:
            raise cache.MissingError("needs systemd-nspawn (Debian: apt-get install systemd-container)")
        netns.add(self.label)
        self.cgroup.mkdir()
        image = (self.directory / "image").resolve()
        # One CPU: on Linux 6.18 a mount namespace's file can be pinned only from the CPU it was made on,
        # unless in the namespace that the machine began with.
        cpu = (self.directory / "cpu").read_text()
        command = ["taskset", "--cpu-list", cpu, "unshare", "--mount", "--propagation", "private", str(BOOT)]
        with open(self.directory / "log", "ab") as log:
            nspawn = subprocess.Popen(
                [*command, self.name, self.label, str(self.cgroup), str(self.directory), str(image)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with netns.connect(self.label, 22) as connection:
                    connection.settimeout(5)
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or nspawn.poll() is not None:
                log = (self.directory / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.name} did not boot; its log ends with:\n{log[-2000:]}")
            time.sleep(0.05)

    def processes(self) -> list[int]:
        """Every process of the host, as the machine numbers them."""
        pids: list[int] = []
        for directory, _names, _files in os.walk(self.cgroup):
            try:
                pids += map(int, Path(directory, "cgroup.procs").read_text().split())
            except OSError:
                continue
        return pids

    def stop(self, *, power_off: bool) -> None:
        """End all its processes, orderly or at once. Its file system stays for the next `boot`."""
        if power_off:
            self._power_off()
        if self.cgroup.is_dir():
            (self.cgroup / "cgroup.kill").write_text("1")
            deadline = time.monotonic() + PATIENCE
            while "populated 1" in (self.cgroup / "cgroup.events").read_text():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"processes of {self.name} survive SIGKILL: {self.processes()}")
                time.sleep(0.01)
            for directory, _names, _files in os.walk(self.cgroup, topdown=False):
                os.rmdir(directory)
        netns.delete(self.label)

    def _power_off(self) -> None:
        """As `systemctl poweroff` does: SIGRTMIN+4 to the host's PID 1."""
        for pid in self.processes():
            try:
                inside = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
            except OSError:
                continue
            if len(inside) == 2 and inside[1] == "1":
                os.kill(pid, 34 + 4)
                deadline = time.monotonic() + PATIENCE
                while self.processes() and time.monotonic() < deadline:
                    time.sleep(0.05)
                return

    def remove(self) -> None:
        """End it and delete everything of it."""
        self.stop(power_off=False)
        if self.directory.exists():
            subprocess.run(["rm", "-rf", "--one-file-system", "--", str(self.directory)], check=True)


def running() -> Path:
    return cache.root() / "hosts"


def prefix() -> str:
    """What this cache's hosts are told by: those of another cache are another run's."""
    return f"rootless-test-{hashlib.sha256(bytes(cache.root())).hexdigest()[:6]}-"


def cgroups() -> Path:
    """Where the machine has cgroup 2 mounted, alone or beside cgroup 1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, target, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(target)
    raise cache.MissingError("needs cgroup 2, mounted anywhere (mount -t cgroup2 none DIRECTORY)")


def why_not() -> str | None:
    """Why this machine cannot boot hosts; None if it can."""
    if os.geteuid() != 0:
        return "needs root, to boot systemd hosts"
    for tool, package in (("systemd-nspawn", "systemd-container"), ("ip", "iproute2"), ("ssh", "openssh-client")):
        if shutil.which(tool) is None:
            return f"needs {tool} (Debian: apt-get install {package})"
    try:
        if not os.access(cgroups(), os.W_OK):
            return f"needs a writable cgroup tree; {cgroups()} is read-only"
    except cache.MissingError as missing:
        return str(missing)
    return None


def known() -> list[Host]:
    """All hosts that there are: the running and the stopped."""
    if not running().is_dir():
        return []
    return [
        Host(entry.name, (entry / "suite").read_text())
        for entry in sorted(running().iterdir())
        if (entry / "suite").is_file()
    ]


def up(wanted: Iterable[Host], public_key: str) -> None:
    """Boot fresh hosts, all at once, and wait for them."""
    wanted = list(wanted)
    suites = sorted({host.suite for host in wanted})
    # Each is one thread of dpkg most of the time.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        images = dict(zip(suites, pool.map(rootfs.of, suites)))
    cpus = sorted(os.sched_getaffinity(0))

    def start(number: int) -> None:
        wanted[number].lay_out(images[wanted[number].suite], public_key, cpus[number % len(cpus)])
        wanted[number].boot()

    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(start, range(len(wanted))))


def sweep() -> list[str]:
    """Remove all hosts, and what any interrupted run has left of one; the names of what was removed."""
    names = {entry.name for entry in running().iterdir()} if running().is_dir() else set()
    labels = [*(entry.name for entry in cgroups().glob(f"{prefix()}*")), *netns.names()]
    names |= {label.removeprefix(prefix()) for label in labels if label.startswith(prefix())}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: Host(name).remove(), sorted(names)))
    return sorted(names)
