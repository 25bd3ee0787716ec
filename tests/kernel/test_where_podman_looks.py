# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's own Podman, and where it looks: whatever it finds, the collection finds, and the other way round."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from throwaway_users import goes_by_its_database, is_podman_before_5, kill_and_wait, shadow

from ansible_collections.userns.rootless.plugins.module_utils._rootless import cleaning
from ansible_collections.userns.rootless.plugins.module_utils._rootless.accounts import find_account
from ansible_collections.userns.rootless.plugins.module_utils._rootless.cleaning import Cleaner, CleaningOptions
from ansible_collections.userns.rootless.plugins.module_utils._rootless.host import Host
from ansible_collections.userns.rootless.plugins.module_utils._rootless.kernel import Syscalls
from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

Run = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman (Debian: apt-get install podman)")

# With cgroup 2 where old Podmans look for it.
IN_CGROUP_2 = (
    "while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup || break; done; "
    'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
)


@pytest.fixture
def home(make_user: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Gives a user a home of its own; without one all test users share the root directory."""

    def make(user: Any) -> Path:
        path = tmp_path_factory.mktemp("home")
        for directory in (path, *path.parents):
            if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
                directory.chmod(directory.stat().st_mode | 0o055)
        os.chown(path, user.uid, user.gid)
        path.chmod(0o700)
        shadow("usermod", "--home", str(path), user.name)
        return path

    return make


class Podman:
    """Runs this host's Podman as a user with these variables and no others."""

    def run(self, user: Any, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        line = ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_CGROUP_2, "sh"]
        line += ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--init-groups", "env", "-i"]
        line += ["PATH=/usr/bin:/bin", f"HOME={home}", *(f"{name}={value}" for name, value in variables.items())]
        line += ["podman", "unshare", "readlink", "/proc/self/ns/user"]
        return subprocess.run(line, capture_output=True, text=True, check=False, cwd="/", timeout=60)

    def userns(self, user: Any, home: Path, **variables: str) -> int:
        """The user namespace that it works in."""
        done = self.run(user, home, **variables)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.strip().removeprefix("user:[").removesuffix("]"))


@pytest.fixture
def joined(public_python: str) -> Callable[..., int]:
    """The user namespace that the become plugin joins, from root's account or from the user's with its variables."""

    def join(user: Any, caller: str = "root", **variables: str) -> int:
        line = [public_python, "-I", "-S", "-c", program(user.name, sudo=["false"], create=False)]
        line += ["readlink", "/proc/self/ns/user"]
        if caller != "root":
            line = user.command(*line, env=variables)
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/", timeout=60)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.strip().removeprefix("user:[").removesuffix("]"))

    return join


@pytest.fixture(params=["root", "the user"])
def caller(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own() -> Podman:
    return Podman()


@pytest.fixture
def nomad(make_user: Any) -> Any:
    """A user without a runtime directory."""
    return make_user(runtime_dir=False)


@pytest.mark.parametrize("first", ["podman", "ours"])
def test_without_a_session(
    ns: Run, module: Run, own: Podman, nomad: Any, home: Any, joined: Any, caller: Any, first: str
) -> None:
    where = home(nomad)
    made = own.userns(nomad, where) if first == "podman" else ns(nomad, pin=False)["userns"]
    assert joined(nomad, caller, XDG_RUNTIME_DIR="") == made
    assert ns(nomad)["userns"] == made
    assert own.userns(nomad, where) == made
    (entry,) = module("rootless_ns_info", users=[nomad.name])["namespaces"]
    assert (entry["state"], entry["userns"]) == ("alive", made)
    assert entry["state_dir"] == f"{nomad.temporary_dir}/libpod/tmp"
    told = ns(nomad)["msg"]
    version = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    assert f"as Podman {version} does" in told


def test_without_a_session_for_oneself(ns: Run, own: Podman, nomad: Any, home: Any) -> None:
    where = home(nomad)
    variables = {"XDG_RUNTIME_DIR": "", "HOME": str(where), "TMPDIR": str(where)}
    made = own.userns(nomad, where, TMPDIR=str(where))
    assert ns(nomad, as_user=nomad, env=variables)["userns"] == made


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o777, 0o500])
def test_modes_of_the_usual_directory(ns: Run, own: Podman, user: Any, home: Any, mode: int) -> None:
    where = home(user)
    user.runtime_dir.chmod(mode)
    made = own.userns(user, where)
    found = ns(user)
    assert found["userns"] == made
    assert (found["state_dir"] == str(user.state_dir)) == (mode in (0o700, 0o755))


@pytest.mark.skipif(not is_podman_before_5(), reason="needs a Podman before 5.0: later ones end there")
def test_the_home_comes_last(ns: Run, own: Podman, nomad: Any, home: Any) -> None:
    where = home(nomad)
    nomad.temporary_dir.mkdir()
    refused = own.run(nomad, where)
    failed = ns(nomad)
    assert (refused.returncode != 0, failed["failed"]) == (True, True)
    said = f"mkdir {where}/rundir/libpod: no such file or directory"
    assert said in refused.stderr
    assert said in failed["msg"]
    (where / "rundir").mkdir(mode=0o700)
    os.chown(where / "rundir", nomad.uid, nomad.gid)
    made = own.userns(nomad, where)
    found = ns(nomad)
    assert (found["userns"], found["state_dir"]) == (made, f"{where}/rundir/libpod/tmp")


@pytest.mark.parametrize("kind", ["link", "mode"])
def test_the_variable(ns: Run, own: Podman, user: Any, home: Any, joined: Any, kind: str) -> None:
    """Podman follows a link and does not look at the mode."""
    where = home(user)
    real, link = where / "rt", where / "link"
    real.mkdir(mode=0o700)
    os.chown(real, user.uid, user.gid)
    link.symlink_to("rt")
    if kind == "mode":
        real.chmod(0o777)
    variables = {"XDG_RUNTIME_DIR": str(link if kind == "link" else real), "HOME": str(where)}
    made = own.userns(user, where, **variables)
    assert joined(user, "the user", **variables) == made
    found = ns(user, as_user=user, env=variables)
    assert (found["userns"], found["state_dir"]) == (made, f"{real}/libpod/tmp")
    # Root takes no variable of anybody's: it finds the namespace by its process.
    assert ns(user)["userns"] == made


@pytest.mark.parametrize("kind", ["missing", "root", "file"])
def test_a_variable_that_podman_refuses(ns: Run, module: Run, own: Podman, nomad: Any, home: Any, kind: str) -> None:
    where = home(nomad)
    path = where / "rt"
    if kind == "root":
        path.mkdir()
    elif kind == "file":
        path.touch()
        os.chown(path, nomad.uid, nomad.gid)
    variables = {"XDG_RUNTIME_DIR": str(path), "HOME": str(where)}
    theirs = own.run(nomad, where, **variables)
    ours = ns(nomad, as_user=nomad, env=variables)
    findings = module("rootless_host_info", as_user=nomad, env=variables)["findings"]
    codes = [finding["code"] for finding in findings]
    if theirs.returncode == 0:
        # Podman 4.3 and 4.4 pass over what is not there.
        assert kind == "missing"
        assert f"XDG_RUNTIME_DIR={path}" in ours["msg"]
        assert own.userns(nomad, where, **variables) == ours["userns"]
        return
    assert ours["failed"]
    said = theirs.stderr.rsplit('msg="', 1)[-1].strip().removesuffix('"').replace('\\"', '"')
    assert said in ours["msg"], (said, ours["msg"])
    assert "runtime-dir-unusable" in codes
    assert [finding["fix"] for finding in findings if finding["code"] == "runtime-dir-unusable"] == [
        "unset XDG_RUNTIME_DIR"
    ]
    assert nomad.processes() == []


@pytest.mark.skipif(not goes_by_its_database(), reason="needs a Podman before 4.5: later ones look for pause.pid anew")
def test_a_directory_that_podman_keeps_in_its_database(
    ns: Run, module: Run, own: Podman, nomad: Any, home: Any
) -> None:
    where = home(nomad)
    own.userns(nomad, where)
    assert "in its database" not in ns(nomad, pin=False)["msg"]
    for pid in nomad.processes():
        kill_and_wait(pid)
    # Lingering is enabled later.
    nomad.runtime_dir.mkdir(mode=0o700)
    os.chown(nomad.runtime_dir, nomad.uid, nomad.gid)
    made = ns(nomad, pin=False)
    assert made["state_dir"] == str(nomad.state_dir)
    assert own.userns(nomad, where, XDG_RUNTIME_DIR=str(nomad.runtime_dir)) == made["userns"]
    assert own.userns(nomad, where) != made["userns"]
    (entry,) = module("rootless_ns_info", users=[nomad.name])["namespaces"]
    findings = module("rootless_host_info", users=[nomad.name])["findings"]
    (found,) = [finding["found"] for finding in findings if finding["code"] == "runtime-dir-cached"]
    for told in (made["msg"], entry["msg"], found):
        assert f"keeps {nomad.temporary_dir}/libpod/tmp in its database" in told
        assert f"Set XDG_RUNTIME_DIR={nomad.runtime_dir}" in told


def link_to(user: Any, target: Path, *, owner: Any = None) -> None:
    """`libpod` in the runtime directory is a link, as batch systems make one for each job."""
    link = user.runtime_dir / "libpod"
    link.symlink_to(target)
    os.chown(link, (owner or user).uid, (owner or user).gid, follow_symlinks=False)


@pytest.mark.parametrize("first", ["podman", "ours"])
def test_a_link_of_the_users_own(
    ns: Run, module: Run, own: Podman, user: Any, home: Any, joined: Any, caller: Any, first: str
) -> None:
    where = home(user)
    job = where / "job"
    job.mkdir(mode=0o700)
    os.chown(job, user.uid, user.gid)
    link_to(user, job)
    variables = {"XDG_RUNTIME_DIR": str(user.runtime_dir)}
    made = own.userns(user, where, **variables) if first == "podman" else ns(user, pin=False)["userns"]
    assert (job / "tmp/pause.pid").exists()
    assert own.userns(user, where, **variables) == made
    assert ns(user, pin=False)["userns"] == made
    assert joined(user, caller) == made
    # What is there is judged there.
    (file, *_handles) = module("rootless_pause", users=[user.name])["users"][0]["files"]
    assert (file["path"], file["verdict"], file["action"]) == (f"{user.state_dir}/pause.pid", "live", "left")
    kill_and_wait(user.pause_pid())
    entry = module("rootless_pause", users=[user.name])["users"][0]
    assert f"{user.state_dir}/pause.pid" in entry["removed"]
    assert not (job / "tmp/pause.pid").exists()


@pytest.mark.parametrize("kind", ["dangling", "anothers directory", "anothers link"])
def test_a_link_that_is_not_followed(
    ns: Run, module: Run, own: Podman, user: Any, make_user: Any, home: Any, kind: str
) -> None:
    where, other = home(user), make_user()
    job = where / "job"
    if kind != "dangling":
        job.mkdir(mode=0o777)
        job.chmod(0o777)
        owner = other if kind == "anothers directory" else user
        os.chown(job, owner.uid, owner.gid)
    link_to(user, job, owner=other if kind == "anothers link" else None)
    failed = ns(user)
    assert failed["failed"]
    assert str(user.runtime_dir / "libpod") in failed["msg"]
    if kind != "anothers link":
        theirs = own.run(user, where, XDG_RUNTIME_DIR=str(user.runtime_dir))
        assert theirs.returncode != 0
        assert theirs.stderr.rsplit(": chmod", 1)[-1].strip().removesuffix('"') in failed["msg"]
    # The user's problem, and not one of the service that cleans for everybody.
    result = module("rootless_pause", users=[user.name, other.name])
    assert not result.get("failed")
    entry = result["users"][0]
    assert entry["action"] == "none"
    assert str(user.runtime_dir / "libpod") in entry["msg"]
    assert not job.exists() or not list(job.iterdir())


@pytest.mark.parametrize("form", ["{}\n", " {}", "+{}", "000{}", "{}abc", "{}\0", "{}\nis the PID"])
def test_a_pause_file_that_is_not_strict(
    ns: Run, module: Run, own: Podman, user: Any, home: Any, joined: Any, form: str
) -> None:
    """Podman joins by it: it stays, and is written as it should be by whoever sets up."""
    where = home(user)
    variables = {"XDG_RUNTIME_DIR": str(user.runtime_dir)}
    made = own.userns(user, where, **variables)
    pid = user.pause_pid()
    user.pause_file.write_text(form.format(pid))
    assert own.userns(user, where, **variables) == made
    assert joined(user) == made
    (entry,) = module("rootless_pause", users=[user.name], orphans=True)["users"]
    assert [(file["verdict"], file["action"], file["pid"]) for file in entry["files"]] == [("live", "left", pid)]
    assert user.processes() == [pid]
    repaired = ns(user, pin=False)
    assert (repaired["action"], repaired["userns"], user.pause_file.read_text()) == ("repaired", made, str(pid))
    assert ns(user, pin=False)["changed"] is False
    # Of a dead process nobody joins anything by it.
    kill_and_wait(pid)
    user.pause_file.write_text(form.format(pid))
    (entry,) = module("rootless_pause", users=[user.name])["users"]
    assert [(file["verdict"], file["action"]) for file in entry["files"]] == [("garbage", "removed")]


@pytest.mark.parametrize("kind", ["link", "hard link", "root's"])
def test_a_pause_file_by_another_way(ns: Run, module: Run, own: Podman, user: Any, home: Any, kind: str) -> None:
    where = home(user)
    variables = {"XDG_RUNTIME_DIR": str(user.runtime_dir)}
    made = own.userns(user, where, **variables)
    pid, other = user.pause_pid(), where / "other"
    if kind == "root's":
        os.chown(user.pause_file, 0, 0)
        user.pause_file.chmod(0o644)
    elif kind == "hard link":
        os.link(user.pause_file, user.state_dir / "other")
    else:
        other.write_text(str(pid))
        user.pause_file.unlink()
        user.pause_file.symlink_to(other)
    assert own.userns(user, where, **variables) == made
    (entry,) = module("rootless_pause", users=[user.name], orphans=True)["users"]
    assert [(file["verdict"], file["action"]) for file in entry["files"]] == [("live", "left")]
    assert ns(user, pin=False)["userns"] == made
    assert user.processes() == [pid]


def test_two_directories_in_the_temporary_directory(
    own: Podman, nomad: Any, home: Any, joined: Any, caller: str
) -> None:
    """Where another Podman was before: what is alive goes first, also for the become plugin."""
    where = home(nomad)
    made = own.userns(nomad, where)
    for name in ("storage-run", "podman-run"):
        nomad.run("mkdir", "-p", "-m", "700", f"/tmp/{name}-{nomad.uid}")
    assert joined(nomad, caller, XDG_RUNTIME_DIR="") == made


@pytest.mark.parametrize("kind", ["missing", "root"])
def test_the_become_plugin_refuses_what_podman_refuses(
    own: Podman, nomad: Any, home: Any, joined: Any, kind: str
) -> None:
    where = home(nomad)
    made = own.userns(nomad, where)
    if kind == "root":
        (where / "rt").mkdir()
    variables = {"XDG_RUNTIME_DIR": str(where / "rt"), "HOME": str(where)}
    theirs = own.run(nomad, where, **variables)
    if theirs.returncode == 0:
        assert kind == "missing"
        assert joined(nomad, "the user", **variables) == made
        return
    with pytest.raises(AssertionError, match=f"XDG_RUNTIME_DIR={where}/rt .*Podman fails there, too"):
        joined(nomad, "the user", **variables)


def test_old_places_are_cleaned(module: Run, user: Any, home: Any) -> None:
    where = home(user)
    places = [
        Path(f"/tmp/run-{user.uid}/libpod/tmp"),
        Path(f"/tmp/podman-run-{user.uid}/libpod"),
        user.runtime_dir / "libpod",
        *([where / "rundir/libpod/tmp"] if is_podman_before_5() else []),
    ]
    for place in places:
        user.run("sh", "-c", f"mkdir -p -m 700 {place} && printf 4194000 > {place}/pause.pid")
    (foretold,) = module("rootless_pause", users=[user.name], check=True)["users"]
    (entry,) = module("rootless_pause", users=[user.name])["users"]
    assert sorted(entry["removed"]) == sorted(f"{place}/pause.pid" for place in places)
    assert foretold["removed"] == entry["removed"]
    assert not any((place / "pause.pid").exists() for place in places)


@pytest.mark.skipif(not goes_by_its_database(), reason="needs a Podman before 4.5: later ones look for pause.pid anew")
@pytest.mark.parametrize("state_dir", [None, "elsewhere"])
def test_a_pause_process_that_is_named_where_the_database_says_is_no_orphan(
    own: Podman, nomad: Any, home: Any, monkeypatch: pytest.MonkeyPatch, state_dir: str | None
) -> None:
    monkeypatch.setattr(cleaning, "ORPHAN_SECONDS", 0.0)
    where = home(nomad)
    nomad.run("sh", "-c", f"mkdir -m 700 {where}/first {where}/elsewhere")
    own.userns(nomad, where, XDG_RUNTIME_DIR=f"{where}/first")
    file = where / "first/libpod/tmp/pause.pid"
    kill_and_wait(int(file.read_text()))
    file.unlink()
    # It tells its pause process of another directory than the one that it goes by.
    made = own.userns(nomad, where)
    pid = int(file.read_text())
    options = CleaningOptions(orphans=True, state_dir=state_dir and f"{where}/{state_dir}")
    cleaner = Cleaner(Syscalls(), host=Host(), options=options)
    outcome = cleaner.clean(find_account(nomad.name))
    cleaner.close()
    assert (outcome.reaped, outcome.orphans, outcome.messages) == ([], [], [])
    assert Path(f"/proc/{pid}").exists()
    assert own.userns(nomad, where) == made


@pytest.mark.skipif(not goes_by_its_database(), reason="needs a Podman before 4.5: later ones look elsewhere")
def test_a_pause_process_that_is_named_in_tmp_dir_of_containers_conf_is_no_orphan(
    own: Podman, nomad: Any, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "ORPHAN_SECONDS", 0.0)
    where = home(nomad)
    conf = f"{where}/.config/containers"
    setting = f"'[engine]\ntmp_dir = \"{where}/t\"\n'"
    nomad.run("sh", "-c", f"mkdir -m 700 {where}/t && mkdir -p {conf} && printf {setting} > {conf}/containers.conf")
    made = own.userns(nomad, where)
    assert (where / "t/pause.pid").exists()
    cleaner = Cleaner(Syscalls(), host=Host(), options=CleaningOptions(orphans=True))
    outcome = cleaner.clean(find_account(nomad.name))
    cleaner.close()
    assert (outcome.reaped, outcome.orphans, outcome.messages) == ([], [], [])
    assert own.userns(nomad, where) == made
