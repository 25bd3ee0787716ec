# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of Podman reads where, as a table; the Podman of this machine is held against its row.

Podman 6.0 is not packaged yet: its row is held by a fake that does what 6.0.0-rc1 was seen to do (`fake_podman6.py`).
The page for people is docs/interplay-with-podman.md.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_handles import handle_of
from throwaway_users import kill_and_wait

Version = tuple[int, int]
Run = Callable[..., dict[str, Any]]

FAKE = Path(__file__).with_name("fake_podman6.py").read_text()

# What becomes of a command.
JOINS = "joins the namespace that was there"
NEW = "makes a new one"
OTHER = "goes into another one that it was led to"
FAILS = "fails"
HANGS = "hangs"
OUTCOMES = (JOINS, NEW, OTHER, FAILS, HANGS)

# With XDG_RUNTIME_DIR it takes the shortcut in C first; without, only the way in Go.
WAYS = ("variable", "none")


def since(first: str, **later: str) -> dict[Version, str]:
    """An outcome from Podman 4.3 on, and others from later versions on: `v5_8=NEW`."""
    row = {(4, 3): first}
    for name, outcome in later.items():
        major, minor = name.removeprefix("v").split("_")
        row[int(major), int(minor)] = outcome
    return row


def of(row: dict[Version, str], version: Version) -> str:
    return row[max(one for one in row if one <= version)]


class Scene:
    """A user with a namespace that this Podman made, and what was left of it."""

    def __init__(self, user: Any, run: Callable[[Any, dict[str, str]], tuple[int, str]]) -> None:
        self.user = user
        self.file: Path = user.pause_file
        self._run = run
        self.children: list[int] = []
        self.others: list[int] = []
        self.userns = self.podman()[1]
        self.pid = user.pause_pid()
        # As long as it is open, no new namespace gets its number.
        self.held = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    def podman(self, **env: str) -> tuple[str | None, int]:
        """What became of `podman unshare` (None: it went somewhere), and the inode number of where it went."""
        try:
            status, output = self._run(self.user, env)
        except subprocess.TimeoutExpired:
            return HANGS, 0
        found = re.search(r"^user:\[(\d+)\]$", output, re.MULTILINE)
        return (None, int(found[1])) if status == 0 and found else (FAILS, 0)

    def outcome(self, way: str) -> str:
        failed, userns = self.podman(**({"XDG_RUNTIME_DIR": ""} if way == "none" else {}))
        if failed:
            return failed
        if userns == self.userns:
            return JOINS
        return OTHER if userns in self.others else NEW

    def write(self, content: str | bytes, path: Path | None = None) -> None:
        path = path or self.file
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.chown(path, self.user.uid, self.user.gid)

    def start(self, *command: str) -> int:
        child = subprocess.Popen(self.user.command(*command), cwd="/", stdin=subprocess.DEVNULL)
        for _attempt in range(500):
            if Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n":
                break
            time.sleep(0.01)
        self.children.append(child.pid)
        return child.pid


def text(template: str) -> Callable[[Scene], None]:
    return lambda scene: scene.write(template.format(pid=scene.pid))


def dead(scene: Scene) -> None:
    kill_and_wait(scene.pid)
    # As long as it is a zombie, there is something to send a signal to.
    for _attempt in range(2000):
        if not Path(f"/proc/{scene.pid}").exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"process {scene.pid} was never reaped")


def dead_on_the_first_run(scene: Scene) -> None:
    """As where somebody else set the namespace up: Podman itself has not run here since the boot."""
    dead(scene)
    (scene.user.state_dir / "alive").unlink()


def outside(scene: Scene) -> None:
    """A process of the user's in no namespace of its own; the PID of one that is gone, used again."""
    scene.write(str(scene.start("sleep", "600")))


def of_root(scene: Scene) -> None:
    scene.write("1")


def in_another_namespace(scene: Scene) -> None:
    pid = scene.start("unshare", "--user", "--map-root-user", "--mount", "sleep", "600")
    scene.others.append(os.stat(f"/proc/{pid}/ns/user").st_ino)
    scene.write(str(pid))


def fifo(scene: Scene) -> None:
    scene.file.unlink()
    os.mkfifo(scene.file)
    os.chown(scene.file, scene.user.uid, scene.user.gid)


def directory(scene: Scene) -> None:
    scene.file.unlink()
    scene.user.run("mkdir", str(scene.file))


def dangling_link(scene: Scene) -> None:
    scene.file.unlink()
    scene.user.run("ln", "-s", "nothing", str(scene.file))


def link_to_the_file(scene: Scene) -> None:
    other = scene.file.with_name("other")
    scene.file.rename(other)
    scene.user.run("ln", "-s", "other", str(scene.file))


def mode_000(scene: Scene) -> None:
    scene.file.chmod(0)


def owned_by_root(scene: Scene) -> None:
    scene.write(str(scene.pid))
    os.chown(scene.file, 0, 0)
    scene.file.chmod(0o644)


def dead_and_owned_by_root(scene: Scene) -> None:
    owned_by_root(scene)
    dead(scene)


def dead_and_of_mode_0400(scene: Scene) -> None:
    dead(scene)
    scene.file.chmod(0o400)


def libpod_is_a_link(scene: Scene) -> None:
    scene.user.run("mv", f"{scene.user.runtime_dir}/libpod", f"{scene.user.runtime_dir}/elsewhere")
    scene.user.run("ln", "-s", "elsewhere", f"{scene.user.runtime_dir}/libpod")


def loose_mode(scene: Scene) -> None:
    scene.user.runtime_dir.chmod(0o755)


# What is left in the place of pause.pid: what comes of it with XDG_RUNTIME_DIR, and without.
PAUSE: dict[str, tuple[Callable[[Scene], None], dict[Version, str], dict[Version, str]]] = {
    "digits": (text("{pid}"), since(JOINS), since(JOINS)),
    "newline": (text("{pid}\n"), since(JOINS), since(NEW)),
    "leading blank": (text(" {pid}"), since(JOINS), since(NEW)),
    "plus": (text("+{pid}"), since(JOINS), since(JOINS)),
    "leading zeros": (text("000{pid}"), since(JOINS), since(JOINS)),
    "text after it": (text("{pid}abc"), since(JOINS), since(NEW)),
    "NUL after it": (text("{pid}\0"), since(JOINS), since(NEW)),
    "more than 11 bytes": (text("{pid}" + 20 * " "), since(JOINS), since(NEW)),
    "eleven zeros": (text("00000000000{pid}"), since(JOINS, v6_0=NEW), since(JOINS)),
    "empty": (text(""), since(NEW), since(NEW)),
    "no number": (text("nonsense"), since(NEW), since(NEW)),
    "negative": (text("-1"), since(NEW), since(NEW)),
    "dead": (dead, since(NEW), since(NEW)),
    "dead, and the first run": (dead_on_the_first_run, since(FAILS, v6_0=NEW), since(FAILS)),
    "a process outside": (outside, since(FAILS, v6_0=NEW), since(FAILS)),
    "a process of root's": (of_root, since(NEW), since(NEW)),
    "in another namespace": (in_another_namespace, since(OTHER), since(OTHER)),
    "a link to the file": (link_to_the_file, since(JOINS), since(JOINS)),
    "a dangling link": (dangling_link, since(FAILS), since(FAILS)),
    "a directory": (directory, since(FAILS), since(FAILS)),
    "a FIFO": (fifo, since(HANGS), since(HANGS)),
    "mode 000": (mode_000, since(FAILS), since(FAILS)),
    "root's, readable": (owned_by_root, since(JOINS), since(JOINS)),
    "root's, and dead": (dead_and_owned_by_root, since(FAILS, v6_0=NEW), since(FAILS)),
    "dead, of mode 0400": (dead_and_of_mode_0400, since(FAILS, v6_0=NEW), since(FAILS)),
    "libpod is a link": (libpod_is_a_link, since(JOINS), since(JOINS)),
    "runtime directory of mode 0755": (loose_mode, since(JOINS), since(JOINS)),
}


def handles(pid: int) -> bytes:
    packed = [handle_of(f"/proc/{pid}/ns/{kind}") for kind in ("user", "mnt")]
    if packed[0] is None or packed[1] is None:
        pytest.skip("this kernel has no handles of namespaces")
    return packed[0] + packed[1]


def live(scene: Scene) -> None:
    scene.write(handles(scene.pid), scene.user.handles_file)


def live_alone(scene: Scene) -> None:
    live(scene)
    scene.file.unlink()


def live_beside_another(scene: Scene) -> None:
    live(scene)
    in_another_namespace(scene)


def dead_handles(scene: Scene) -> None:
    in_another_namespace(scene)
    pid = scene.children.pop()
    scene.write(handles(pid), scene.user.handles_file)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # A new namespace may get its number.
    scene.others.clear()
    scene.write(str(scene.pid))


def dead_handles_alone(scene: Scene) -> None:
    dead_handles(scene)
    scene.file.unlink()


def cut_off(scene: Scene) -> None:
    scene.write(handles(scene.pid)[:-1], scene.user.handles_file)


def too_long(scene: Scene) -> None:
    live_alone(scene)
    scene.write(handles(scene.pid) + b"more", scene.user.handles_file)


def impossible_type(scene: Scene) -> None:
    content = handles(scene.pid)
    scene.write(content[:4] + b"\xff" * 4 + content[8:], scene.user.handles_file)


def impossible_length(scene: Scene) -> None:
    content = handles(scene.pid)
    scene.write(b"\xff" * 4 + content[4:], scene.user.handles_file)


# What is left in the place of ns_handles. Before 6.0 nobody reads it; from then on only with XDG_RUNTIME_DIR, while a
# Podman without it replaces it, and then joins the process that pause.pid names, if there is one.
HANDLES: dict[str, tuple[Callable[[Scene], None], dict[Version, str], dict[Version, str]]] = {
    "live": (live, since(JOINS), since(JOINS)),
    "live, without pause.pid": (live_alone, since(NEW, v6_0=JOINS), since(NEW)),
    "live, pause.pid is of another": (live_beside_another, since(OTHER, v6_0=JOINS), since(OTHER)),
    "dead": (dead_handles, since(JOINS), since(JOINS)),
    "dead, without pause.pid": (dead_handles_alone, since(NEW), since(NEW)),
    "cut off": (cut_off, since(JOINS, v6_0=FAILS), since(JOINS)),
    "more behind them": (too_long, since(NEW, v6_0=JOINS), since(NEW)),
    "of an impossible type": (impossible_type, since(JOINS, v6_0=FAILS), since(JOINS)),
    "of an impossible length": (impossible_length, since(JOINS, v6_0=FAILS), since(JOINS)),
}


def ready(_user: Any, _home: Path) -> dict[str, str]:
    return {}


def without_variable(_user: Any, _home: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": ""}


def named_and_open_to_all(user: Any, _home: Path) -> dict[str, str]:
    user.runtime_dir.chmod(0o777)
    return {}


def named_by_a_link(user: Any, _home: Path) -> dict[str, str]:
    user.run("ln", "-s", ".", f"{user.runtime_dir}/link")
    return {"XDG_RUNTIME_DIR": f"{user.runtime_dir}/link"}


def named_and_missing(user: Any, _home: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": f"{user.runtime_dir}/missing"}


def named_and_of_root(user: Any, _home: Path) -> dict[str, str]:
    (user.runtime_dir / "of-root").mkdir(mode=0o755)
    return {"XDG_RUNTIME_DIR": f"{user.runtime_dir}/of-root"}


def group_may_read(user: Any, _home: Path) -> dict[str, str]:
    user.runtime_dir.chmod(0o755)
    return {"XDG_RUNTIME_DIR": ""}


def open_to_all(user: Any, _home: Path) -> dict[str, str]:
    user.runtime_dir.chmod(0o777)
    return {"XDG_RUNTIME_DIR": ""}


def is_a_link(user: Any, home: Path) -> dict[str, str]:
    there = home / "there"
    user.run("mkdir", "-m", "700", str(there))
    user.runtime_dir.rmdir()
    user.runtime_dir.symlink_to(there)
    os.chown(user.runtime_dir, user.uid, user.gid, follow_symlinks=False)
    return {"XDG_RUNTIME_DIR": ""}


def is_of_root(user: Any, _home: Path) -> dict[str, str]:
    os.chown(user.runtime_dir, 0, 0)
    return {"XDG_RUNTIME_DIR": ""}


def is_missing(user: Any, _home: Path) -> dict[str, str]:
    user.runtime_dir.rmdir()
    return {"XDG_RUNTIME_DIR": ""}


def is_missing_with_tmpdir(user: Any, home: Path) -> dict[str, str]:
    user.runtime_dir.rmdir()
    return {"XDG_RUNTIME_DIR": "", "TMPDIR": str(home)}


THERE = "/run/user/{uid}"
OLD, TODAYS = "/tmp/podman-run-{uid}", "/tmp/storage-run-{uid}"
NOWHERE = "nowhere: it fails"

# In which runtime directory a first command keeps its state.
PLACES: dict[str, tuple[Callable[[Any, Path], dict[str, str]], dict[Version, str]]] = {
    "XDG_RUNTIME_DIR": (ready, since(THERE)),
    "it is open to all": (named_and_open_to_all, since(THERE)),
    "it is a link": (named_by_a_link, since(THERE)),
    "it is missing": (named_and_missing, since(THERE, v4_5=NOWHERE)),
    "it is root's": (named_and_of_root, since(NOWHERE)),
    "no variable": (without_variable, since(THERE)),
    "no variable, and it has mode 0755": (group_may_read, since(THERE)),
    "no variable, and it has mode 0777": (open_to_all, since(OLD, v4_5=THERE, v5_0=TODAYS)),
    "no variable, and it is a link": (is_a_link, since(THERE, v5_0=TODAYS)),
    "no variable, and it is root's": (is_of_root, since(OLD, v5_0=TODAYS)),
    "no variable, and it is missing": (is_missing, since(OLD, v5_0=TODAYS)),
    "no variable, it is missing, and TMPDIR": (
        is_missing_with_tmpdir,
        since("{home}/podman-run-{uid}", v5_0="{home}/storage-run-{uid}"),
    ),
}


@pytest.fixture(params=["the one of this machine", "a fake 6.0"])
def podman_here(
    request: pytest.FixtureRequest, as_root: None, public_python: str
) -> tuple[Version, Callable[[Any, dict[str, str]], tuple[int, str]]]:
    """A Podman: its version, and `podman unshare readlink /proc/self/ns/user` run as a user: exit code and output."""
    if request.param == "a fake 6.0":
        program, version = [public_python, "-I", "-c", FAKE], (6, 0)
    else:
        if shutil.which("podman") is None:
            pytest.skip("needs podman (Debian: apt-get install podman)")
        answer = subprocess.run(["podman", "--version"], check=True, capture_output=True, text=True).stdout
        found = re.search(r"version (\d+)\.(\d+)", answer)
        assert found, answer
        program, version = ["podman"], (int(found[1]), int(found[2]))
    # cgroup 2 where old Podmans look for it.
    script = (
        "while mountpoint -q /sys/fs/cgroup; do umount -l /sys/fs/cgroup || break; done; "
        'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    )
    start = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]

    def run(user: Any, env: dict[str, str]) -> tuple[int, str]:
        env = {"HOME": str(user.runtime_dir), **env}
        line = start + user.command(*program, "unshare", "readlink", "/proc/self/ns/user", env=env)
        result = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/", timeout=PATIENCE)
        # For whoever reads why a test failed.
        print(result.stderr)
        return result.returncode, result.stdout

    return version, run


PATIENCE = 10


@pytest.fixture
def scene(user: Any, podman_here: Any) -> Iterator[Scene]:
    scene = Scene(user, podman_here[1])
    yield scene
    os.close(scene.held)
    for pid in scene.children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PAUSE)
def test_pause_pid(scene: Scene, podman_here: Any, name: str, way: str) -> None:
    leave, *rows = PAUSE[name]
    leave(scene)
    assert scene.outcome(way) == of(rows[WAYS.index(way)], podman_here[0])


@pytest.mark.parametrize("podman_here", ["the one of this machine"], indirect=True)
@pytest.mark.parametrize("name", PAUSE)
def test_the_state_is_what_podman_meets(module: Run, scene: Scene, podman_here: Any, name: str) -> None:
    """Podman fails or is led astray with XDG_RUNTIME_DIR and without: `broken`. It joins both times: `alive`."""
    leave, *rows = PAUSE[name]
    leave(scene)
    (entry,) = module("rootless_ns_info", users=[scene.user.name])["namespaces"]
    outcomes = {of(row, podman_here[0]) for row in rows}
    if outcomes <= {FAILS, OTHER, HANGS}:
        assert entry["state"] == "broken"
    elif outcomes == {JOINS} and name != "eleven zeros":
        # That file only the second way reads; ours is as short-sighted as the shortcut, and writes it anew.
        assert (entry["state"], entry["userns"]) == ("alive", scene.userns)
    elif outcomes == {NEW}:
        # A namespace that lives on beside it is lost to Podman.
        gone = not Path(f"/proc/{scene.pid}").exists()
        assert entry["state"] == ("stale" if gone else "broken")
    else:
        assert entry["state"] in ("alive", "broken")


@pytest.mark.parametrize("podman_here", ["the one of this machine"], indirect=True)
@pytest.mark.parametrize("name", PAUSE)
def test_podman_joins_what_was_repaired(ns: Run, scene: Scene, podman_here: Any, name: str) -> None:
    """After one run both ways lead to the namespace that we report; it is the old one if that lives."""
    PAUSE[name][0](scene)
    lives = Path(f"/proc/{scene.pid}").exists()
    result = ns(scene.user)
    assert result["action"] in ("rejoined", "repaired", "created"), result
    assert (result["userns"] == scene.userns) is lives
    scene.userns = result["userns"]
    assert [scene.outcome(way) for way in WAYS] == [JOINS, JOINS]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HANDLES)
def test_ns_handles(scene: Scene, podman_here: Any, name: str, way: str) -> None:
    leave, *rows = HANDLES[name]
    leave(scene)
    assert scene.outcome(way) == of(rows[WAYS.index(way)], podman_here[0])


@pytest.mark.parametrize("name", PLACES)
def test_runtime_directory(user: Any, home: Path, podman_here: Any, name: str) -> None:
    version, run = podman_here
    leave, row = PLACES[name]
    env = leave(user, home)
    places = [
        user.runtime_dir,
        *(directory / f"{kind}-run-{user.uid}" for directory in (Path("/tmp"), home) for kind in ("podman", "storage")),
    ]
    try:
        status, _output = run(user, {"HOME": str(home), **env})
        found = [str(place) for place in places if (place / "libpod/tmp/pause.pid").exists()]
    finally:
        if user.runtime_dir.is_symlink():
            user.runtime_dir.unlink()
    wanted = of(row, version).format(uid=user.uid, home=home)
    assert found == ([] if wanted == NOWHERE else [wanted])
    assert (status == 0) is (wanted != NOWHERE)


def test_the_place_of_the_first_time(user: Any, home: Path, podman_here: Any) -> None:
    """Up to 4.4 a user whose first command came without a session goes on there, whatever there is later."""
    version, run = podman_here
    user.runtime_dir.rmdir()
    quiet = {"HOME": str(home), "XDG_RUNTIME_DIR": ""}
    first = run(user, quiet)
    assert first[0] == 0
    user.runtime_dir.mkdir(mode=0o700)
    os.chown(user.runtime_dir, user.uid, user.gid)
    again = run(user, quiet)
    assert again[0] == 0
    cached = of(since("cached", v4_5="looked for"), version) == "cached"
    assert user.pause_file.exists() is not cached
    assert (first[1] == again[1]) is cached
