# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small host of systemd's, where systemd is not PID 1: real managers in cgroups and mounts of their own.

A manager of root's stands for the system's, and one of the user's is the user's own. Both are `systemd --user`, which
makes scopes as PID 1 does. What is missing is PID 1's help for the user's manager to move processes out of cgroups
that are not its own: here the user may write in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from throwaway_users import User

SYSTEMD = "/lib/systemd/systemd"

# Arguments: the cgroup, the user's name and UID. Writes a line when all is there; ends with its standard input.
SCRIPT = r"""
set -e
for procs in /sys/fs/cgroup/*/cgroup.procs; do echo $$ > $procs || true; done 2> /dev/null
echo $$ > $1/cgroup.procs
exec unshare --mount --cgroup --propagation private bash -c '
set -e
while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup; done
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir -p /run/systemd/system /run/systemd/own
users=/sys/fs/cgroup/user.slice/user-$2.slice
mkdir -p /sys/fs/cgroup/init.scope $users/user@$2.service/init.scope
manage() {
  mkdir -p $1
  echo $BASHPID > $1/cgroup.procs
  shift
  exec "$@" '$SYSTEMD' --user --unit=basic.target > /dev/null 2>&1 < /dev/null
}
(manage /sys/fs/cgroup/init.scope env XDG_RUNTIME_DIR=/run/systemd/own) &
roots=$!
ln -s own/systemd/private /run/systemd/private
chown -R $2 $users
if [ $3 = yes ]; then
  # One that ends at once, as on a machine with much to do, is started again.
  for _try in 1 2 3 4 5; do
    (manage $users/user@$2.service/init.scope setpriv --reuid $2 --regid $2 --clear-groups \
      env -i PATH=/usr/bin:/bin HOME=/ XDG_RUNTIME_DIR=/run/user/$2) &
    while kill -0 $! && [ ! -S /run/user/$2/systemd/private ]; do sleep 0.02; done 2> /dev/null
    [ ! -S /run/user/$2/systemd/private ] || break
  done
  [ -S /run/user/$2/systemd/private ]
fi
while kill -0 $roots && [ ! -S /run/systemd/private ]; do sleep 0.02; done 2> /dev/null
[ -S /run/systemd/private ]
echo ready
read -r _ || true
' bash "$@"
"""

ENTER = r"""
for procs in /sys/fs/cgroup/*/cgroup.procs; do echo $$ > $procs || true; done 2> /dev/null
exec nsenter --target $0 --mount --cgroup sh -c '
mkdir -p /sys/fs/cgroup$0
if [ $1 != 0 ]; then chown $1 /sys/fs/cgroup$0 /sys/fs/cgroup$0/cgroup.procs; fi
shift
echo $$ > /sys/fs/cgroup$0/cgroup.procs
exec "$@"' "$@"
"""


class OwnSystemd:
    """`prefix` is the start of a command line that runs the rest there, as root, in a cgroup."""

    def __init__(self, pid: int, user: User) -> None:
        self._pid = pid
        self._user = user

    def prefix(self, cgroup: str) -> tuple[str, ...]:
        mine = "/user.slice/" in cgroup
        return ("bash", "-c", ENTER, str(self._pid), cgroup, str(self._user.uid if mine else 0))

    def session(self, name: str = "session-7.scope") -> str:
        return f"/user.slice/user-{self._user.uid}.slice/{name}"

    def manager(self, name: str) -> str:
        return f"/user.slice/user-{self._user.uid}.slice/user@{self._user.uid}.service/{name}"

    def run(self, cgroup: str, *command: str) -> str:
        result = subprocess.run(
            [*self.prefix(cgroup), *command], capture_output=True, text=True, check=False, cwd="/", timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def put(self, pid: int, cgroup: str) -> None:
        """Move a process there, as a manager of sessions, services or jobs does."""
        self.run(cgroup, "sh", "-c", f"echo {pid} > /sys/fs/cgroup{cgroup}/cgroup.procs")

    def end(self, cgroup: str) -> None:
        """End all that is in a cgroup, as at the end of a session or service."""
        self.run("/", "sh", "-c", f"echo 1 > /sys/fs/cgroup{cgroup}/cgroup.kill")

    def cgroup_of(self, pid: int) -> str:
        """As systemd knows it."""
        lines = self.run("/", "cat", f"/proc/{pid}/cgroup").splitlines()
        (path,) = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
        return path


@contextlib.contextmanager
def own_systemd(user: User, *, manager: bool = True) -> Iterator[OwnSystemd]:
    """`manager`: the user's own one runs."""
    if not os.path.exists(SYSTEMD) or shutil.which("nsenter") is None:
        pytest.skip("needs systemd and nsenter (Debian: apt-get install systemd util-linux)")
    roots = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line]
    if not roots or os.path.isdir("/run/systemd/system"):
        pytest.skip("needs cgroup 2 that nobody else manages")
    top = roots[0] / f"rnstest-systemd-{os.getpid()}-{user.uid}"
    top.mkdir()
    script = SCRIPT.replace("'$SYSTEMD'", SYSTEMD)
    host = subprocess.Popen(
        ["bash", "-c", script, "bash", str(top), str(user.uid), "yes" if manager else "no"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n", "no manager has come up"
        yield OwnSystemd(host.pid, user)
    finally:
        host.communicate()
        _remove(top)


def _remove(top: Path) -> None:
    (top / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 10
    while "populated 1" in (top / "cgroup.events").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for directory, _names, _files in os.walk(top, topdown=False):
        os.rmdir(directory)
