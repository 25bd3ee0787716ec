# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`rootless-ns exec` at a terminal: the command has one of its own, and root's stays root's."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_terminal import Terminal, terminal
from throwaway_users import kill_and_wait

from ansible_collections.userns.rootless.plugins.module_utils._rootless import processes

# Tries to reach the terminal of whoever has started it, and reports what worked.
ATTACK = """
import fcntl, os, signal, sys, termios, time
TIOCSTI = getattr(termios, "TIOCSTI", 0x5412)
home, root_terminal = sys.argv[1:3]
done = []
places = {}
for name in ("/dev/tty", root_terminal):
    try:
        places[name] = os.open(name, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        pass
for number in (0, 1, 2):
    places[str(number)] = number
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
for name, fd in places.items():
    try:
        for char in "touch /pwned\\n":
            fcntl.ioctl(fd, TIOCSTI, char.encode())
        settings = termios.tcgetattr(fd)
        settings[3] &= ~(termios.ECHO | termios.ICANON)
        settings[6][termios.VINTR] = b"x"
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, b"\\1\\0\\1\\0\\0\\0\\0\\0")
        os.tcsetpgrp(fd, os.getpgrp())
    except OSError:
        pass
if root_terminal in places:
    done.append("opened")
for entry in os.listdir("/proc"):
    if entry.isdigit():
        for number in range(3):
            try:
                target = os.readlink(f"/proc/{entry}/fd/{number}")
                if target == root_terminal:
                    os.open(f"/proc/{entry}/fd/{number}", os.O_RDWR | os.O_NOCTTY)
                    done.append(f"opened through {entry}")
            except OSError:
                pass
print("done", *done, flush=True)
if os.fork():
    sys.exit()
# Stays, and reads whatever is typed there afterwards.
os.setsid()
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with open(f"{home}/heard", "wb", buffering=0) as heard:
    heard.write(b"listening\\n")
    deadline = time.time() + 20
    while time.time() < deadline and not os.path.exists(f"{home}/stop"):
        for fd in places.values():
            os.set_blocking(fd, False)
            try:
                heard.write(os.read(fd, 100))
            except OSError:
                pass
        time.sleep(0.005)
"""


@pytest.fixture
def at_terminal() -> Iterator[Terminal]:
    with terminal() as made:
        yield made


def line(installed: Path, user: Any, *command: str) -> list[str]:
    return [str(installed), "exec", "--user", user.name, "--", *command]


def settings_of(at_terminal: Terminal) -> tuple[list[Any], bytes]:
    return termios.tcgetattr(at_terminal.slave), fcntl.ioctl(at_terminal.slave, termios.TIOCGWINSZ, bytes(8))


@pytest.mark.parametrize("streams", ["a terminal", "files"])
def test_a_hostile_command_does_not_reach_roots_terminal(
    installed: Path, user: Any, home: Path, public_python: str, at_terminal: Terminal, streams: str
) -> None:
    before = settings_of(at_terminal)
    (home / "attack.py").write_text(ATTACK)
    command = line(installed, user, public_python, str(home / "attack.py"), str(home), os.ttyname(at_terminal.slave))
    options: dict[str, Any] = {}
    if streams == "files":
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # A program in the place of root's shell, which waits for it as shells do.
    waits = "import os, subprocess, sys, time; subprocess.run(sys.argv[2:]); open(sys.argv[1], 'w'); time.sleep(100)"
    shell = [sys.executable, "-c", waits, str(home / "ended")]
    with at_terminal.start([*shell, *command], **options) as started:
        try:
            if streams == "files":
                assert started.stdout is not None
                seen = started.stdout.readline().decode()
            else:
                seen = at_terminal.wait_for(lambda text: "done" in text and text.endswith("\n"))
            # What it types into its own terminal, that one echoes.
            assert seen.strip().removeprefix("touch /pwned\n") == "done"
            for _attempt in range(200):
                if (home / "ended").exists() and (home / "heard").exists():
                    break
                time.sleep(0.02)
            assert os.tcgetpgrp(at_terminal.master) == started.pid
            at_terminal.type("S3cret\n")
            time.sleep(0.5)
            assert at_terminal.unread() == b"S3cret\n"
        finally:
            (home / "stop").touch()
            started.kill()
    assert b"S3cret" not in (home / "heard").read_bytes()
    assert settings_of(at_terminal) == before
    assert not Path("/pwned").exists()


def test_it_has_a_terminal_of_its_own(installed: Path, user: Any, at_terminal: Terminal) -> None:
    script = "tty; test -t 0 -a -t 1 -a -t 2; echo $?; stty size; read word; echo got $word; exit 7"
    fcntl.ioctl(at_terminal.slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 99, 0, 0))
    with at_terminal.start(line(installed, user, "sh", "-c", script)) as started:
        seen = at_terminal.wait_for("33 99\n")
        assert os.ttyname(at_terminal.slave) not in seen
        assert "/dev/pts/" in seen
        assert "\n0\n" in seen
        at_terminal.type("a word\n")
        # Echoed once, by the terminal of its own.
        assert at_terminal.rest(started) == "a word\ngot a word\n"
        assert started.returncode == 7


def test_pipes_and_files_are_passed_on_as_they_are(
    installed: Path, user: Any, at_terminal: Terminal, tmp_path: Path
) -> None:
    script = "cat; readlink /proc/self/fd/0 /proc/self/fd/1; echo to the terminal > /dev/tty"
    (tmp_path / "in").write_text("from a file\n")
    command = line(installed, user, "sh", "-c", script)
    with (
        (tmp_path / "in").open() as source,
        (tmp_path / "out").open("wb") as target,
        at_terminal.start(command, stdin=source, stdout=target) as started,
    ):
        assert at_terminal.rest(started) == "to the terminal\n"
        assert started.returncode == 0
    assert (tmp_path / "out").read_text() == f"from a file\n{tmp_path}/in\n{tmp_path}/out\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_command_that_a_signal_ends_is_told_by_the_same(
    installed: Path, user: Any, at_terminal: Terminal, number: int
) -> None:
    with at_terminal.start(line(installed, user, "sh", "-c", f"kill -{number} $$")) as started:
        at_terminal.rest(started)
    assert started.returncode == -number


def test_signals_and_keys_reach_the_command(installed: Path, user: Any, at_terminal: Terminal) -> None:
    before = settings_of(at_terminal)[0]
    script = (
        'trap "echo window" WINCH; trap "echo int" INT; trap "echo end; exit 5" TERM; echo ready; '
        "while :; do sleep 0.05; done"
    )
    with at_terminal.start(line(installed, user, "sh", "-c", script)) as started:
        at_terminal.wait_for("ready")
        at_terminal.type("\x03")
        at_terminal.wait_for("int")
        fcntl.ioctl(at_terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 20, 50, 0, 0))
        at_terminal.wait_for("window")
        started.send_signal(signal.SIGINT)
        at_terminal.wait_for("int")
        started.terminate()
        at_terminal.wait_for("end")
        assert started.wait(timeout=20) == 5
    assert termios.tcgetattr(at_terminal.slave) == before


def test_the_terminal_hangs_up_when_root_goes_away(installed: Path, user: Any, at_terminal: Terminal) -> None:
    with at_terminal.start(line(installed, user, "sh", "-c", "echo $$ is up; exec sleep 1000")) as started:
        at_terminal.wait_for("is up")
        for _attempt in range(200):
            found = [pid for pid in user.processes() if comm_of(pid) == "sleep"]
            if found:
                break
            time.sleep(0.02)
        (sleeper,) = found
        kill_and_wait(started.pid)
    for _attempt in range(200):
        if not Path(f"/proc/{sleeper}/ns/mnt").exists():
            return
        time.sleep(0.02)
    raise AssertionError("the command still runs")


def test_a_shells_job_control(installed: Path, user: Any, at_terminal: Terminal) -> None:
    """Stopped by a key and continued, started in the background, in a pipeline, with its output in a file."""
    command = " ".join(line(installed, user, "cat"))
    env = {"PS1": "root# ", "PATH": os.environ["PATH"], "TERM": "dumb"}
    with at_terminal.start(["bash", "--norc", "--noediting", "-i"], env=env) as shell:
        at_terminal.wait_for("root# ")
        at_terminal.type(f"{command}\n")
        at_terminal.wait_for(f"{command}\n")
        at_terminal.type("one\n")
        at_terminal.wait_for(lambda text: text.count("one\n") == 2)
        at_terminal.type("\x1a")
        at_terminal.wait_for(lambda text: "Stopped" in text and text.endswith("root# "))
        at_terminal.type("stty -a\n")
        settings = at_terminal.wait_for(lambda text: "isig" in text and text.endswith("root# "))
        assert "\nisig icanon " in settings
        at_terminal.type("fg\n")
        at_terminal.wait_for(f"{command}\n")
        at_terminal.type("two\n")
        at_terminal.wait_for(lambda text: text.count("two\n") == 2)
        at_terminal.type("\x04")
        at_terminal.wait_for("root# ")
        at_terminal.type(f"{command} &\n")
        at_terminal.wait_for("root# ")
        for _attempt in range(200):
            at_terminal.type("jobs\n")
            if "Stopped" in at_terminal.wait_for(lambda text: text.endswith("root# ")):
                break
            time.sleep(0.05)
        at_terminal.type("fg\n")
        at_terminal.wait_for(f"{command}\n")
        at_terminal.type("three\n")
        at_terminal.wait_for(lambda text: text.count("three\n") == 2)
        at_terminal.type("\x03")
        at_terminal.wait_for("root# ")
        at_terminal.type("echo rc=$?\n")
        at_terminal.wait_for("rc=130\n")
        at_terminal.type(f"echo piped | {command} | tr a-z A-Z; {command} < /dev/null | wc -c\n")
        seen = at_terminal.wait_for(lambda text: text.rstrip().endswith("root#") and "\n0\n" in text)
        assert "PIPED\n0\n" in seen
        at_terminal.type("exit\n")
        assert shell.wait(timeout=20) == 0


def test_nobody_to_bring_it_to_the_front_means_it_ends(
    installed: Path, user: Any, home: Path, at_terminal: Terminal
) -> None:
    """In the background, and no shell left to continue it: as a read from a real terminal would fail then."""
    command = line(installed, user, "sh", "-c", 'touch "$1"; cat', "sh", str(home / "started"))
    start = "import os, subprocess, sys; subprocess.Popen(sys.argv[1:], preexec_fn=os.setpgrp); os._exit(0)"
    wait = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', *sys.argv[1:]]); time.sleep(100)"
    with at_terminal.start([sys.executable, "-c", wait, start, *command]):
        for _attempt in range(400):
            running = "sh" in [comm_of(pid) for pid in user.processes()]
            if (home / "started").exists() and not running:
                return
            time.sleep(0.02)
    raise AssertionError(f"started: {(home / 'started').exists()}, still running: {running}")


def test_a_command_that_stops_itself_does_not_stop_roots_script(
    installed: Path, user: Any, at_terminal: Terminal
) -> None:
    """SIGSTOP would also stop a group that no shell watches, such as a script that is its session's leader."""
    command = " ".join(line(installed, user, "sh", "-c", "'kill -STOP $$; echo went on'"))
    with at_terminal.start(["sh", "-c", f"{command}; echo next user"]) as started:
        assert "went on\nnext user\n" in at_terminal.rest(started)


def test_without_a_terminal_to_give_it_says_so(installed: Path, user: Any, at_terminal: Terminal) -> None:
    # As where all have been used up.
    hide = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/ptmx && exec "$@"', "sh"]
    with at_terminal.start([*hide, *line(installed, user, "echo", "ran")]) as started:
        seen = at_terminal.rest(started)
    assert started.returncode == 125
    assert "no terminal for the command" in seen
    assert "Traceback" not in seen
    assert "ran\n" not in seen


def test_where_the_terminal_cannot_be_opened_here_it_is_not_handed_over(
    installed: Path, user: Any, at_terminal: Terminal
) -> None:
    """As in a chroot without the node: the command would find one in the namespace."""
    bare = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", bare, "sh", *line(installed, user, "sh", "-c", "echo ran > /dev/tty")]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with at_terminal.start(command, **streams) as started:
        assert started.stdout is not None
        told = started.stdout.read().decode()
        assert at_terminal.rest(started) == ""
    assert (started.returncode, "/dev/tty cannot be opened" in told) == (125, True), told


def comm_of(pid: int) -> str:
    return processes.comm("/proc", pid)
