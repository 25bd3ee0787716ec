# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of docs/batch-systems.md, run as they are printed, in jobs as Slurm makes them, with the real Podman.

A job has a cgroup, which ends what is in it as `proctrack/cgroup` does, and with `job_container/tmpfs` a mount
namespace with a directory of its own on /tmp that only a bind mount of its file keeps alive.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from throwaway_users import User, detach

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/batch-systems.md"
COMMAND = Path("/usr/local/bin/rootless-ns")
PIDS = Path("/sys/fs/cgroup/pids")
WHERE = "readlink /proc/self/ns/user; ls /tmp"

# All of them use the one place where the command is installed.
pytestmark = pytest.mark.alone


def scripts() -> dict[str, str]:
    """The page's scripts by the first comment in each, up to a colon."""
    found = {}
    for text in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL):
        first, comment = text.splitlines()[:2]
        assert first == "#!/bin/sh"
        found[comment.removeprefix("# ").partition(":")[0]] = text
    return found


@pytest.fixture(scope="module")
def base(as_root: None) -> Iterator[Path]:
    """A BasePath as AutoBasePath makes it: its mounts are nobody else's."""
    path = Path(f"/var/lib/rnsjobs{os.getpid()}")
    path.mkdir(mode=0o755)
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "--make-private", path], check=True)
    yield path
    detach(path)
    shutil.rmtree(path)


@pytest.fixture
def where_it_belongs(base: Path, installed: Path, public_python: str) -> Iterator[None]:
    """The command in /usr/local, as the roles install it, and a private /tmp does not hide it."""
    if COMMAND.exists() or COMMAND.is_symlink():
        pytest.skip(f"this host has a {COMMAND} of its own")
    copy = base / "installed"
    shutil.copytree(installed.parents[1], copy)
    COMMAND.symlink_to(copy / "bin/rootless-ns")
    yield
    COMMAND.unlink()
    shutil.rmtree(copy)


@dataclass
class Job:
    """A job of a user's on this node. `private`: with job_container/tmpfs."""

    number: int
    user: User
    base: Path
    private: bool
    # What a TaskProlog has said, on top of what came with the job.
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.base / str(self.number)

    @property
    def namespace(self) -> Path:
        return self.directory / ".ns"

    @property
    def tmp(self) -> Path:
        """What the job sees as /tmp."""
        return self.directory / f".{self.number}/_tmp" if self.private else Path("/tmp")

    @property
    def cgroup(self) -> Path:
        return PIDS / f"rnsjob{self.number}"

    def start(self) -> None:
        self.cgroup.mkdir()
        if not self.private:
            return
        self.tmp.mkdir(parents=True)
        self.tmp.chmod(0o1777)
        os.chown(self.tmp, self.user.uid, -1)
        self.namespace.touch()
        script = (
            'mount --make-rprivate / && mount --bind "$0" /tmp && mount -t tmpfs none /dev/shm && '
            'umount -l "$1" && echo made && read -r _line'
        )
        line = ["unshare", "--mount", "sh", "-euc", script, str(self.tmp), str(self.base)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "made\n"
            subprocess.run(["mount", "--bind", f"/proc/{maker.pid}/ns/mnt", self.namespace], check=True)
            maker.communicate("\n")

    def step(self, *command: str, **environment: str) -> str:
        """Run a command as the user, in the job's cgroup and mount namespace, as slurmstepd does."""
        enter = [f"--mount={self.namespace}"] if self.private else []
        as_user = self.user.command(*command, env={**self.environment, **environment})
        as_user = [word for word in as_user if not word.endswith("=UNSET")]
        line = ["nsenter", *enter, "--", *as_user]
        join = f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"'
        done = subprocess.run(
            ["sh", "-euc", join, "sh", *line], capture_output=True, text=True, check=False, cwd="/", timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def task_prolog(self, name: str) -> None:
        said = self.step("sh", "-c", scripts()[name])
        for line in said.splitlines():
            what, _blank, rest = line.partition(" ")
            assert what in ("export", "unset"), line
            variable, _sign, value = rest.partition("=")
            self.environment[variable] = value if what == "export" else "UNSET"

    def podman(self, command: str = WHERE) -> list[str]:
        return self.step("podman", "unshare", "sh", "-c", command).split()

    def processes(self) -> list[int]:
        return [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()]

    def end_processes(self) -> None:
        """As proctrack/cgroup does at the end of a step."""
        for _attempt in range(100):
            if not self.processes():
                return
            for pid in self.processes():
                os.kill(pid, 9)
            time.sleep(0.02)
        raise AssertionError(f"{self.processes()} survived SIGKILL")

    def tear_down(self) -> None:
        detach(self.namespace)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def make_job(base: Path, where_it_belongs: None) -> Iterator[Callable[..., Job]]:
    if shutil.which("podman") is None:
        pytest.skip("needs podman (Debian: apt-get install podman)")
    made: list[Job] = []

    def make(user: User, *, private: bool, environment: dict[str, str] | None = None) -> Job:
        home = {"HOME": str(user.runtime_dir)}
        made.append(Job(1000 * os.getpid() + len(made), user, base, private, {**home, **(environment or {})}))
        made[-1].start()
        return made[-1]

    yield make
    for job in made:
        job.end_processes()
        job.tear_down()
        job.cgroup.rmdir()


def as_root(name: str, *arguments: str, **variables: str) -> str:
    """One of the page's scripts, run by the batch system's daemon."""
    env = {"PATH": os.environ["PATH"], **variables}
    line = ["sh", "-euc", f"squeue() {{ {variables.get('SQUEUE', ':')}; }}\n{scripts()[name]}", "script", *arguments]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/mnt").exists()


def pause_pid(job: Job) -> int:
    """Of the Podman in a job with a private /tmp."""
    return int((job.tmp / f"run-{job.user.uid}/libpod/tmp/pause.pid").read_text())


def test_every_script_of_the_page_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert len(scripts()) == 9
    assert [name for name in scripts() if f'("{name}"' not in source] == []


def test_a_job_with_the_nodes_tmp(make_job: Callable[..., Job], user: User, command: Any) -> None:
    slurm = {"SLURM_JOB_USER": user.name, "SLURMD_NODENAME": "node"}
    assert f"{user.name}: created" in as_root("Prolog", **slurm)
    job = make_job(user, private=False)
    job.task_prolog("TaskProlog")
    namespace, *seen = job.podman()
    assert namespace == f"user:[{os.stat(f'/proc/{user.pause_pid()}/ns/user').st_ino}]"
    assert Path("/tmp").stat().st_ino == int(job.podman("stat -c %i /tmp")[0])
    assert seen
    job.end_processes()
    # The namespace of root's Prolog is in no job's cgroup; the next job of the user joins it.
    assert "nothing to clean" in as_root("Epilog", **slurm) or user.name in as_root("Epilog", **slurm)
    assert user.pause_file.exists()
    later = make_job(user, private=False)
    later.task_prolog("TaskProlog")
    assert later.podman()[0] == namespace


def test_the_epilog_cleans_what_a_job_left_and_waits_for_the_last_one(make_job: Callable[..., Job], user: User) -> None:
    job = make_job(user, private=False)
    job.task_prolog("TaskProlog")
    job.podman()
    job.end_processes()
    slurm = {"SLURM_JOB_USER": user.name, "SLURMD_NODENAME": "node"}
    as_root("Epilog", SQUEUE="echo 12345", **slurm)
    assert user.pause_file.exists()
    assert f"removed {user.pause_file} (dead)" in as_root("Epilog", **slurm)
    assert not user.pause_file.exists()


def test_a_directory_of_the_node_where_the_job_was_submitted(
    make_job: Callable[..., Job], make_user: Callable[..., User], base: Path
) -> None:
    user = make_user(runtime_dir=False)
    as_root("Prolog", SLURM_JOB_USER=user.name, SLURMD_NODENAME="node")
    home = base / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, user.uid, user.gid)
    job = make_job(user, private=False, environment={"HOME": str(home)})
    job.task_prolog("TaskProlog")
    assert job.environment["XDG_RUNTIME_DIR"] == "UNSET"
    (namespace,) = job.podman("readlink /proc/self/ns/user")
    (pause,) = [pid for pid in user.processes() if os.stat(f"/proc/{pid}/ns/user").st_ino == int(namespace[6:-1])]
    assert pause not in job.processes()


def test_a_job_with_a_private_tmp(make_job: Callable[..., Job], user: User, command: Any) -> None:
    # What the user's logins have stays theirs.
    assert command("present", "--user", user.name).returncode == 0
    logins = os.stat(f"/proc/{user.pause_pid()}/ns/user").st_ino
    first, second = (make_job(user, private=True) for _job in range(2))
    seen = {}
    for job in (first, second):
        job.environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path=/run/user/{user.uid}/bus"
        job.task_prolog("TaskProlog with a private /tmp")
        job.step("touch", f"/tmp/data-of-{job.number}")
        namespace, *files = job.podman()
        assert f"data-of-{job.number}" in files
        # Each task finds it again.
        job.task_prolog("TaskProlog with a private /tmp")
        assert job.podman()[0] == namespace
        assert pause_pid(job) in job.processes()
        store = job.step("podman", "info", "--format", "{{.Store.GraphRoot}} {{.Store.RunRoot}}").split()
        assert store == [f"/tmp/run-{user.uid}/storage", f"/tmp/run-{user.uid}/containers"]
        seen[job.number] = namespace
    assert len({*seen.values(), f"user:[{logins}]"}) == 3

    # Older than what may be about to write its PID to a file.
    time.sleep(11)
    # The end of one: its pause process with it, and nobody else's, whoever cleans up.
    first.end_processes()
    first.tear_down()
    as_root("Epilog", SLURM_JOB_USER=user.name, SLURMD_NODENAME="node")
    cleaned = command("clean", "--all", "--orphans")
    assert cleaned.returncode == 0, cleaned.stderr
    assert second.podman()[0] == seen[second.number]
    assert alive(pause_pid(second))
    # Nor is it given to the user's other sessions.
    assert command("present", "--user", user.name).returncode == 0
    assert os.stat(f"/proc/{user.pause_pid()}/ns/user").st_ino == logins


def test_the_next_step_makes_a_namespace_anew(make_job: Callable[..., Job], user: User) -> None:
    job = make_job(user, private=True)
    job.task_prolog("TaskProlog with a private /tmp")
    job.step("touch", "/tmp/data")
    job.podman()
    job.end_processes()
    job.task_prolog("TaskProlog with a private /tmp")
    assert "data" in job.podman()
    assert pause_pid(job) in job.processes()


def test_nothing_keeps_a_private_tmp_alive_after_the_job(make_job: Callable[..., Job], user: User) -> None:
    """Without proctrack/cgroup, that is: what is in no session of the job escapes."""
    first, second = (make_job(user, private=True) for _job in range(2))
    for job in (first, second):
        job.task_prolog("TaskProlog with a private /tmp")
        job.podman()
    gone, stays = pause_pid(first), pause_pid(second)
    as_root("CloneNSEpilog", SLURM_NS=str(first.namespace), SLURM_JOB_ID=str(first.number))
    for _attempt in range(100):
        if not alive(gone):
            break
        time.sleep(0.02)
    assert (alive(gone), alive(stays)) == (False, True)
    assert second.podman()[0] == os.readlink(f"/proc/{stays}/ns/user")


def test_pbs(make_job: Callable[..., Job], user: User) -> None:
    assert f"{user.name}: created" in as_root("PBS prologue", "1.server", user.name)
    job = make_job(user, private=False)
    assert job.podman()[0] == os.readlink(f"/proc/{user.pause_pid()}/ns/user")
    as_root("PBS epilogue", "1.server", user.name)
    assert alive(user.pause_pid())


def test_lsf(make_job: Callable[..., Job], user: User) -> None:
    job = make_job(user, private=False)
    assert f"{user.name}: created" in job.step("sh", "-c", scripts()[("LSF PRE_EXEC")])
    assert job.podman()[0] == os.readlink(f"/proc/{user.pause_pid()}/ns/user")
    job.end_processes()
    assert f"removed {user.pause_file} (dead)" in job.step("sh", "-c", scripts()[("LSF POST_EXEC")])
