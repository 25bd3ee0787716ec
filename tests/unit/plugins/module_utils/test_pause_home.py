# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.pause_home import Home, home_of, read_home

UID = 1000
MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "ends_with"),
    [
        # Sessions, of whomever.
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1001.slice/session-c2.scope", "session-c2.scope"),
        ("/user.slice/user-0.slice/session-12.scope", "session-12.scope"),
        # Services.
        ("/system.slice/ansible-pull.service", "ansible-pull.service"),
        ("/system.slice/rootless-ns@1000.service", "rootless-ns@1000.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/custom.service", "custom.service"),
        (f"{MANAGER}/app.slice/sync.service", "sync.service"),
        (f"{MANAGER}/sync.service", "sync.service"),
        (f"{MANAGER}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope", "vte-spawn-1.scope"),
        (f"{MANAGER}/app.slice/run-r7.scope", "run-r7.scope"),
        # Made to stay, by Podman or by this library.
        (f"{MANAGER}/user.slice/podman-pause-8f3a2b1c.scope", None),
        (f"{MANAGER}/user.slice/rootless-ns-pause-8f3a2b1c.scope", None),
        (f"{MANAGER}/user.slice/podman-1234.scope", None),
        ("/rootless_ns.slice/rootless_ns-7-0badcafe.scope/1000", None),
        ("/rootless-ns/1000", None),
        # Batch systems and container engines.
        ("/slurm/uid_1000/job_7/step_0", None),
        ("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", None),
        ("/system.slice/slurmd.service/job_7", None),
        ("/system.slice/condor.service/htcondor/slot1", None),
        ("/pbs_jobs.service/jobid/7.server", None),
        ("/machine.slice/libpod-0123.scope/container", None),
        ("/machine.slice/machine-guest.scope/payload/system.slice/cron.service", None),
        ("/system.slice/docker-0123.scope", None),
        (f"{MANAGER}/app.slice/engine.service/job", None),
        (f"{MANAGER}/user.slice/libpod-0123.scope/container", None),
        # Of another user's manager.
        ("/user.slice/user-1001.slice/user@1001.service/app.slice/job.service", None),
        # Not a session of logind's.
        ("/machine.slice/session-3.scope", None),
        # The manager itself, nothing, and outside our cgroup namespace.
        (f"{MANAGER}/init.scope", None),
        (MANAGER, None),
        ("/init.scope", None),
        ("/", None),
        ("/../system.slice/cron.service", None),
    ],
)
def test_what_a_process_ends_with(path: str, ends_with: str | None) -> None:
    assert home_of({"": path}, uid=UID) == Home(path, ends_with)
    assert home_of({"name=systemd": path, "": "/", "memory": "/", "pids": path}, uid=UID) == Home(path, ends_with)


SESSION = "/user.slice/user-1000.slice/session-3.scope"


@pytest.mark.parametrize(
    ("memory", "ends_with"),
    [
        ("/", "session-3.scope"),
        ("/user.slice", "session-3.scope"),
        (SESSION, "session-3.scope"),
        ("/slurm/uid_1000/job_7/step_0", None),
        (f"{SESSION}/job_7", None),
        ("/user.slic", None),
    ],
)
def test_a_process_that_another_hierarchy_keeps_elsewhere_is_somebodys(memory: str, ends_with: str | None) -> None:
    """On cgroup version 1, Slurm leaves systemd's hierarchy alone."""
    assert home_of({"name=systemd": SESSION, "memory": memory}, uid=UID).ends_with == ends_with


def test_it_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text("2:pids:/user.slice\n1:name=systemd:/a:b.service\n0::/a:b.service\n")
    assert read_home(str(tmp_path), 7, uid=UID) == Home("/a:b.service", None)
    (tmp_path / "7/cgroup").write_text("0::/system.slice/a:b.service\n")
    assert read_home(str(tmp_path), 7, uid=UID) == Home("/system.slice/a:b.service", "a:b.service")
    with pytest.raises(FileNotFoundError):
        read_home(str(tmp_path), 8, uid=UID)
