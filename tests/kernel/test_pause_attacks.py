# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rootless_pause` run by root on what hostile users have laid out: a clear verdict, and nobody comes to harm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from plants import PLANTS, hard_link, of_root, symlink
from raw_handles import handles_file

Run = Callable[..., dict[str, Any]]

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture
def treasure(as_root: None, tmp_path: Path) -> Iterator[Path]:
    """A file of root's that must stay as it is."""
    path = tmp_path / "treasure"
    path.write_bytes(b"12345")
    path.chmod(0o600)
    yield path
    status = path.stat()
    assert (path.read_bytes(), status.st_uid, status.st_mode & 0o7777, status.st_nlink) == (b"12345", 0, 0o600, 1)


def plant(user: Any, name: str, content: bytes) -> Path:
    user.run("mkdir", "-p", str(user.state_dir))
    path: Path = user.state_dir / name
    path.write_bytes(content)
    os.chown(path, user.uid, user.gid)
    return path


def clean_both(module: Run, user: Any, other: Any, **args: Any) -> dict[str, Any]:
    """Clean for a hostile user and another one, who must be served; the hostile one's entry."""
    path = plant(other, "pause.pid", b"junk")
    result = module("rootless_pause", users=[user.name, other.name], **args)
    hostile, honest = result["users"]
    assert honest["removed"] == [str(path)], honest
    return dict(hostile)


@pytest.mark.parametrize("thing", PLANTS)
@pytest.mark.parametrize(("name", "verdict"), [("pause.pid", "garbage"), ("ns_handles", "corrupt")])
def test_things_in_place_of_files(
    module: Run, make_user: Any, treasure: Path, thing: Callable[[Path, Path], None], name: str, verdict: str
) -> None:
    # A file that the user can read is judged by what it holds, whoever owns it: Podman reads it, too.
    verdicts = (verdict, *(("dead", "recycled") if name == "pause.pid" and thing in (of_root, hard_link) else ()))
    user, other = make_user(), make_user()
    user.run("mkdir", "-p", str(user.state_dir))
    path = user.state_dir / name
    thing(path, treasure)
    if thing not in (of_root, symlink):
        os.chown(path, user.uid, user.gid)
    entry = clean_both(module, user, other)
    (file,) = entry["files"]
    assert file["verdict"] in verdicts
    assert file["action"] == "removed"
    assert file["evidence"]
    assert not os.path.lexists(path)


@pytest.mark.parametrize("thing", PLANTS)
@pytest.mark.parametrize("name", ["libpod", "libpod/tmp", "libpod/tmp/ns_handles.lock"])
def test_things_in_place_of_directories_and_locks(
    module: Run, make_user: Any, treasure: Path, thing: Callable[[Path, Path], None], name: str
) -> None:
    user, other = make_user(), make_user()
    path = user.runtime_dir / name
    if name.endswith("lock"):
        plant(user, "pause.pid", b"junk")
    else:
        user.run("mkdir", "-p", str(path.parent))
    thing(path, treasure)
    if thing not in (of_root, symlink):
        os.chown(path, user.uid, user.gid)
    entry = clean_both(module, user, other)
    # Either it can be used (an odd but usable lock, an empty directory), or the reason names it.
    assert entry["action"] in ("cleaned", "none") or str(path) in entry["msg"], entry
    assert "internal error" not in entry["msg"]


RACER = """
import os, sys
directory, treasure, pid, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
import time
deadline = time.monotonic() + seconds
os.chdir(directory)
def file(name, content):
    with open(name, "w") as opened:
        opened.write(content)
makers = [
    lambda name: os.symlink(treasure, name),
    lambda name: os.mkfifo(name),
    lambda name: os.mkdir(name),
    lambda name: file(name, pid),
    lambda name: file(name, "4194304"),
    lambda name: os.link("kept", name),
]
file("kept", "1")
print(flush=True)
rounds = 0
while time.monotonic() < deadline:
    for make in makers:
        for name in ("pause.pid", "ns_handles", "ns_handles.lock"):
            rounds += 1
            new = f"new{rounds}"
            make(new)
            try:
                os.rename(new, name)
            except OSError:
                try:
                    os.rmdir(name)
                except OSError:
                    pass
                try:
                    os.rename(new, name)
                except OSError:
                    (os.rmdir if os.path.isdir(new) and not os.path.islink(new) else os.unlink)(new)
print(rounds)
"""


def test_things_that_change_between_check_and_use(
    module: Run, make_user: Any, treasure: Path, public_python: str
) -> None:
    user, other = make_user(), make_user()
    user.run("mkdir", "-p", str(user.state_dir))
    with subprocess.Popen(["sleep", "100"]) as victim:
        line = user.command(public_python, "-c", RACER, str(user.state_dir), str(treasure), str(victim.pid), "8")
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd="/") as racer:
            assert racer.stdout is not None
            racer.stdout.readline()
            runs = 0
            while racer.poll() is None:
                started = time.monotonic()
                entry = clean_both(module, user, other, orphans=True)
                assert "internal error" not in entry["msg"]
                assert time.monotonic() - started < 40
                runs += 1
            assert int(racer.stdout.read()) > 100
        assert runs >= 3
        assert victim.poll() is None
        victim.kill()


@pytest.mark.parametrize("whose", ["init", "root", "other", "parent", "kernel thread"])
def test_pids_that_are_not_the_users(module: Run, make_user: Any, whose: str) -> None:
    user, other = make_user(), make_user()
    fake = ["env", "_PODMAN_PAUSE=1", "sleep", "100"]
    with subprocess.Popen(other.command(*fake) if whose == "other" else fake, cwd="/") as victim:
        pid = {"init": 1, "parent": os.getpid(), "kernel thread": 2}.get(whose, victim.pid)
        plant(user, "pause.pid", str(pid).encode())
        entry = clean_both(module, user, other, orphans=True)
        (file,) = entry["files"]
        assert file["verdict"] in ("recycled", "foreign", "dead")
        assert (file["action"], entry["reaped"]) == ("removed", [])
        assert victim.poll() is None
        victim.kill()


def test_a_faked_pause_process_in_the_initial_namespace(module: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    command = user.command("env", "_PODMAN_PAUSE=1", "sh", "-c", "echo; exec sleep 100")
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as fake:
        assert fake.stdout is not None
        fake.stdout.readline()
        plant(user, "pause.pid", str(fake.pid).encode())
        entry = clean_both(module, user, other, orphans=True)
        (file,) = entry["files"]
        assert (file["verdict"], file["action"], file["owner"]) == ("foreign", "removed", user.uid)
        # It misleads Podman, but it harms nobody: it is the user's own affair.
        assert fake.poll() is None
        fake.kill()


def initial(user: Any, ns: Run, other: Any) -> tuple[str, str]:
    return "/proc/self/ns/user", "/proc/self/ns/mnt"


def of_another_user(user: Any, ns: Run, other: Any) -> tuple[str, str]:
    pid = ns(other)["pause_pid"]
    return f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt"


def mount_namespace_of_another(user: Any, ns: Run, other: Any) -> tuple[str, str]:
    return f"/proc/{ns(user)['pause_pid']}/ns/user", f"/proc/{ns(other)['pause_pid']}/ns/mnt"


def swapped_types(user: Any, ns: Run, other: Any) -> tuple[str, str]:
    pid = ns(user)["pause_pid"]
    return f"/proc/{pid}/ns/mnt", f"/proc/{pid}/ns/user"


@pytest.mark.parametrize("which", [initial, of_another_user, mount_namespace_of_another, swapped_types])
def test_handles_of_what_is_not_the_users(module: Run, ns: Run, make_user: Any, which: Any) -> None:
    user, other, third = make_user(), make_user(), make_user()
    content = handles_file(*which(user, ns, other))
    if content is None:
        pytest.skip("needs file handles of namespaces (Linux 6.18, no seccomp filter)")
    plant(user, "ns_handles", content)
    living = sorted(other.processes() + user.processes())
    entry = clean_both(module, user, third, orphans=True)
    file = next(file for file in entry["files"] if file["path"].endswith("ns_handles"))
    assert file["verdict"] in ("foreign", "corrupt", "dead")
    assert file["action"] == "removed"
    assert sorted(other.processes() + user.processes()) == living


def test_handles_of_a_namespace_inside_a_namespace(module: Run, make_user: Any) -> None:
    user, other = make_user(), make_user()
    command = user.command("unshare", "-Ur", "unshare", "-Urm", "sh", "-c", "echo $$; exec sleep 100")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        content = handles_file(f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt")
        if content is None:
            process.kill()
            pytest.skip("needs file handles of namespaces (Linux 6.18, no seccomp filter)")
        plant(user, "ns_handles", content)
        (file,) = clean_both(module, user, other)["files"]
        assert (file["verdict"], file["action"]) == ("foreign", "removed")
        assert "direct child" in file["evidence"]
        process.kill()


HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.readline()
if sys.argv[2] == "in place":
    file.truncate(0)
    file.write(sys.argv[3])
    file.flush()
elif sys.argv[2] == "renamed":
    with open(sys.argv[1] + ".new", "w") as new:
        new.write(sys.argv[3])
    os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.mark.parametrize("how", ["in place", "renamed", "not"])
@pytest.mark.parametrize("door", ["rootless_pause", "rootless_ns"])
def test_a_file_is_judged_again_under_podmans_lock(
    module: Run, ns: Run, user: Any, public_python: str, how: str, door: str
) -> None:
    made = ns(user, pin=False)
    user.pause_file.write_bytes(b"4194304")
    line = user.command(public_python, "-c", HOLD, str(user.pause_file), how, str(made["pause_pid"]))
    with (
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as podman,
        ThreadPoolExecutor(1) as pool,
    ):
        assert podman.stdout is not None
        podman.stdout.readline()
        run = pool.submit(module, door, users=[user.name])
        # It has judged the file dead, and waits for Podman, who is about to write the PID of a live process.
        wait_for_lock(user)
        podman.communicate("go\n", timeout=20)
        result = run.result()
    assert user.processes() == [made["pause_pid"]]
    if door == "rootless_ns":
        assert (result["namespaces"][0]["userns"], user.pause_pid()) == (made["userns"], made["pause_pid"])
    elif how == "not":
        assert result["removed"] == [str(user.pause_file)]
    else:
        assert (result["changed"], user.pause_pid()) == (False, made["pause_pid"])
        assert result["users"][0]["files"][0]["why"] == "it changed while it was looked at"


def wait_for_lock(user: Any) -> None:
    """Until somebody else than the holder has the file open."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        holders = 0
        for pid in user.processes():
            try:
                opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
            except OSError:
                continue
            holders += str(user.pause_file) in opened
        if holders >= 2:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits for the lock")


def test_a_pid_that_is_recycled_while_we_look(module: Run, make_user: Any) -> None:
    try:
        LAST_PID.write_text(LAST_PID.read_text().strip())
    except OSError as error:
        pytest.skip(f"cannot choose PIDs: {LAST_PID}: {error.strerror}")
    user, other = make_user(), make_user()
    user.run("mkdir", "-p", str(user.state_dir))
    wanted = int(Path("/proc/sys/kernel/pid_max").read_text()) - 500
    hits, killed = 0, 0
    deadline = time.monotonic() + 6
    with ThreadPoolExecutor(1) as pool:

        def cleaning() -> int:
            runs = 0
            while time.monotonic() < deadline:
                clean_both(module, user, other, orphans=True)
                runs += 1
            return runs

        runs = pool.submit(cleaning)
        fake = user.command("unshare", "-Urm", "env", "_PODMAN_PAUSE=1", "sleep", "100")
        while time.monotonic() < deadline:
            # One that was planted may be gone before it is the user's.
            with contextlib.suppress(FileNotFoundError):
                plant(user, "pause.pid", str(wanted).encode())
            for command in (fake, ["env", "_PODMAN_PAUSE=1", "sleep", "100"]):
                LAST_PID.write_text(str(wanted - 1))
                process = subprocess.Popen(command, cwd="/")
                hits += process.pid == wanted
                time.sleep(0.05)
                if command is not fake and process.poll() is not None:
                    killed += 1
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert runs.result() >= 3
    assert killed == 0
    assert hits >= 10
