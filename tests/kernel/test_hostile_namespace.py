# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's tasks and commands in the namespace of a user who has mounted programs and files of their own there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless import joiner
from ansible_collections.userns.rootless.plugins.plugin_utils._payload import program

Run = Callable[..., dict[str, Any]]
CHECKOUT = Path(__file__).parents[2]
SECRET = "hunter2-vault-token"
PASSWORD = "Adm1n-Sudo-Passw0rd"

# In the place of a module of Python's, whichever it is.
EVIL_MODULE = """
import posix
fd = posix.open({notes!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o666)
posix.write(fd, b"imported {name}, environment " + repr(dict(posix.environ)).encode() + b"\\n")
"""

# Looks for a key in the session keyring, as request_key(2) and keyctl(2) find it.
LOOK_FOR_KEY = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 250}.get(__import__("os").uname().machine, 219)
key = libc.syscall(ctypes.c_long(number), ctypes.c_long(10), ctypes.c_long(-3), b"user", b"rootless-test", 0)
content = ctypes.create_string_buffer(100)
read = libc.syscall(ctypes.c_long(number), ctypes.c_long(11), ctypes.c_long(key), content, 100)
print("key", key, read, content.value)
"""


@pytest.fixture
def mount(ns: Run, user: Any) -> Callable[[Path, str | Path], None]:
    """Mounts something of the user's over a path in the user's namespace, as the owner of that may."""
    ns(user)
    pin = user.pin

    def over(source: Path, target: str | Path) -> None:
        inside = ["nsenter", f"--user={pin}/user", f"--mount={pin}/mnt", "mount", "--bind", str(source), str(target)]
        subprocess.run(inside, check=True, cwd="/")

    return over


def shell_of_users(home: Path, python: str) -> Path:
    """In the place of the shell: asks for the password in all ways, and notes what it reads."""
    source = (CHECKOUT / "molecule/inside/files/asks.py").read_text()
    path = home / "sh"
    path.write_text(source.replace("/home/rnsred/notes", str(home / "notes")).replace("/usr/bin/python3", python, 1))
    path.chmod(0o755)
    return path


def ansible(
    user: Any, python: str, *task: str, pipelining: bool, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name("ansible")), "localhost", *task, "-b"]
    line += ["--become-method", "userns.rootless.rootless_ns", "--become-user", user.name]
    line += ["-e", f"ansible_python_interpreter={python}", "-e", f"ansible_become_password={PASSWORD}"]
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_PIPELINING": str(pipelining),
        **(env or {}),
    }
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=CHECKOUT, env=env, timeout=120)


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "files"])
def test_a_shell_of_the_users_is_not_given_the_password(
    mount: Any, user: Any, home: Path, public_python: str, pipelining: bool
) -> None:
    if not pipelining and not shutil.which("setfacl"):
        pytest.skip("needs setfacl (Debian: apt-get install acl), without which no file is sent")
    mount(shell_of_users(home, public_python), "/usr/bin/dash")
    env = {"ANSIBLE_REMOTE_TMP": str(home.parent / "remote")}
    ansible(user, public_python, "-m", "command", "-a", "id -u", pipelining=pipelining, env=env)
    notes = (home / "notes").read_text()
    assert "asked" in notes
    assert PASSWORD not in notes


def test_nothing_of_the_users_starts_before_success_was_read(
    ns: Run, user: Any, home: Path, public_python: str
) -> None:
    """What the user's programs write to another stream could overtake it otherwise, and pass for a prompt."""
    ns(user)
    line = [public_python, "-I", "-S", "-c", program(user.name, sudo=[], create=False, success="DONE-1", asks=True)]
    with subprocess.Popen([*line, "touch", str(home / "started")], stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        time.sleep(1)
        assert not (home / "started").exists()
        assert process.stdout.read() == b"DONE-1\n"
        assert process.wait(timeout=20) == 0
    assert (home / "started").exists()


def test_the_key_of_sudos_prompt_is_in_no_argument(make_user: Any, tmp_path: Path, public_python: str) -> None:
    user, caller = make_user(), make_user()
    sudo = tmp_path / "sudo"
    sudo.write_text(
        '#!/bin/sh\necho "prompt=$SUDO_PROMPT"; tr "\\0" " " < /proc/self/cmdline; sed "s/x/x/" /proc/$PPID/cmdline\n'
    )
    sudo.chmod(0o755)
    for directory in tmp_path, *tmp_path.parents:
        if str(directory).startswith("/tmp/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    source = program(user.name, sudo=[str(sudo)], create=False, success="DONE-1", asks=True)
    line = caller.command(public_python, "-I", "-S", "-c", source, "true")
    result = subprocess.run(line, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    announced = result.stderr.removeprefix("ROOTLESS-NS-PROMPT-").strip()
    assert len(announced) == 32
    first, rest = result.stdout.split("\n", 1)
    assert first == f"prompt=[sudo via ansible, key={announced}] password:"
    assert user.name in rest
    assert announced not in rest


def evil_library(home: Path) -> Path:
    """A directory in which every module of the standard library, and of ours, is the user's."""
    path = home / "library"
    path.mkdir()
    ours = {file.stem for file in (CHECKOUT / "plugins/module_utils/_rootless").rglob("*.py")} - {"__init__"}
    for name in sys.stdlib_module_names | ours:
        (path / name).mkdir()
        for file in (path / name / "__init__.py", path / f"{name}.py"):
            file.write_text(EVIL_MODULE.format(notes=str(home / "notes"), name=name))
    return path


@pytest.fixture
def stdlib(public_python: str) -> str:
    line = [public_python, "-I", "-c", "import os; print(os.path.dirname(os.__file__))"]
    return subprocess.check_output(line, text=True).strip()


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/sh", "-c", "true"),
        ("/bin/sh", "-c", "/usr/bin/python3 /root/.ansible/tmp/ansible-tmp-1/AnsiballZ_command.py"),
        ("no-such-command",),
        ("with\udcff",),
    ],
    ids=["not executable", "a file that cannot be read", "missing", "not text"],
)
@pytest.mark.parametrize("way", ["become", "exec"])
def test_nothing_is_imported_from_the_users_mounts(
    mount: Any,
    user: Any,
    home: Path,
    public_python: str,
    stdlib: str,
    installed: Path,
    way: str,
    command: tuple[str, ...],
) -> None:
    evil = evil_library(home)
    plain = home / "plain"
    plain.write_text("nothing to run")
    mount(evil, stdlib)
    mount(evil, installed.parents[1] / "lib/rootless-ns/_rootless")
    mount(plain, "/usr/bin/dash")
    if way == "become":
        line = [public_python, "-I", "-S", "-c", program(user.name, sudo=[], create=False, success="DONE-1"), *command]
    else:
        line = [str(installed), "exec", "--user", user.name, "--", *command]
    env = {**os.environ, "ROOT_SECRET_TOKEN": SECRET}
    result = subprocess.run(line, capture_output=True, check=False, cwd="/", env=env, timeout=60)
    assert not (home / "notes").exists(), (home / "notes").read_text()
    assert result.returncode == 125
    assert b"rootless_ns: " in result.stdout + result.stderr or b"rootless-ns: " in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.fixture
def session_key() -> list[str]:
    """What to put before a command so that it runs with a key in a session keyring of root's."""
    script = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None); n = {'x86_64': 250}.get(os.uname().machine, 219); "
        "m = {'x86_64': 248}.get(os.uname().machine, 217); w = ctypes.c_long; "
        "libc.syscall(w(n), w(1), None) >= 0 or sys.exit(77); "
        "libc.syscall(w(m), b'user', b'rootless-test', b'top secret', w(10), w(-3)) >= 0 or sys.exit(77); "
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    line = [sys.executable, "-c", script]
    if subprocess.run([*line, "true"], check=False).returncode:
        pytest.skip("needs a kernel with keyrings that may be used")
    return line


@pytest.mark.parametrize("way", ["become", "exec"])
def test_roots_session_keyring_stays_outside(
    ns: Run, user: Any, public_python: str, installed: Path, session_key: list[str], way: str
) -> None:
    ns(user)
    # The attack works where nothing guards against it.
    plain = subprocess.run(
        [*session_key, sys.executable, "-c", LOOK_FOR_KEY], capture_output=True, text=True, check=True
    )
    assert "b'top secret'" in plain.stdout
    line = [public_python, "-I", "-S", "-c", program(user.name, sudo=[], create=False)]
    if way == "exec":
        line = [str(installed), "exec", "--user", user.name, "--"]
    attack = [*session_key, *line, public_python, "-c", LOOK_FOR_KEY]
    result = subprocess.run(attack, capture_output=True, text=True, check=True, cwd="/", timeout=60)
    assert result.stdout.startswith("key -1 ")


@pytest.mark.alone
@pytest.mark.parametrize("suid_dumpable", ["0", "1", "2"])
def test_who_becomes_the_user_can_be_neither_read_nor_dumped(
    as_root: None, user: Any, monkeypatch: pytest.MonkeyPatch, suid_dumpable: str
) -> None:
    """Stopped between its steps, and at their end, whatever the kernel makes of programs that change their IDs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))
    setting = Path("/proc/sys/fs/suid_dumpable")
    before = setting.read_text()
    real = joiner._of_libc

    def stopping(name: str) -> Callable[..., int]:
        if name == "prctl":
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(name)

    monkeypatch.setattr(joiner, "_of_libc", stopping)
    setting.write_text(suid_dumpable)
    pid = os.fork()
    if pid == 0:
        try:
            environment = {"ROOT_SECRET_TOKEN": SECRET}
            entry = joiner.find_user(user.name)
            joiner.shed(entry, environment)
            joiner.become(entry)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.chdir(user.runtime_dir)
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            os.kill(os.getpid(), signal.SIGQUIT)
        finally:
            os._exit(1)
    try:
        for _stop in range(2):
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            for name in ("environ", "mem", "auxv", "maps", "ns/user"):
                looked = subprocess.run(
                    user.command("head", "-c1", f"/proc/{pid}/{name}"), capture_output=True, check=False
                )
                assert looked.returncode != 0, name
            attach = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, {pid}, None, None) == 0)"
            assert subprocess.run(user.command("/usr/bin/python3", "-c", attach), check=False).returncode == 0
            os.kill(pid, signal.SIGCONT)
        _pid, status = os.waitpid(pid, 0)
        pid = 0
        assert os.WTERMSIG(status) == signal.SIGQUIT
        assert not os.WCOREDUMP(status)
    finally:
        setting.write_text(before)
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_namespace_in_which_another_is_root_is_not_entered(user: Any, public_python: str, home: Path) -> None:
    """ID 0 there is one of the user's subordinate IDs: who becomes that one is not the user any more."""
    user.run("mkdir", "-p", "-m", "700", str(user.state_dir))
    line = ["unshare", "--user", "--mount", "sleep", "100"]
    with subprocess.Popen(user.command(*line, env={"_PODMAN_PAUSE": "1"})) as process:
        try:
            for _attempt in range(100):
                if os.stat(f"/proc/{process.pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:
                    break
                time.sleep(0.02)
            first = int(subprocess.check_output(["getsubids", user.name], text=True).split()[2])
            for tool, own in (("newuidmap", user.uid), ("newgidmap", user.gid)):
                user.run(tool, str(process.pid), "0", str(first), "100", "100", str(own), "1")
            user.run("sh", "-c", f"printf %s {process.pid} > {user.pause_file}")
            source = program(user.name, sudo=[], create=False, success="DONE-1")
            command = [public_python, "-I", "-S", "-c", source, "touch", str(home / "ran")]
            result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=60)
            assert (result.returncode, "ID 0 there is another's" in result.stderr) == (125, True), result
            assert not (home / "ran").exists()
        finally:
            process.kill()


# Waits for a directory of its own below its argument, and plants links to what only root may write.
PLANT = """
import os, sys, time
place, target, notes = sys.argv[1:]
with open(notes, "w", buffering=1) as notes:
    print("watching", file=notes)
    while True:
        for name in os.listdir(place):
            path = f"{place}/{name}"
            try:
                if os.stat(path).st_uid == os.getuid():
                    print("was given", path, file=notes)
                    os.symlink(target, f"{path}/AnsiballZ_copy.py")
            except OSError:
                pass
"""


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "files"])
def test_roots_temporary_directory_does_not_become_the_users(
    ns: Run, user: Any, home: Path, public_python: str, tmp_path: Path, pipelining: bool
) -> None:
    """Where the host has no setfacl(1), Ansible would change the owner, and go on to write there as root."""
    ns(user)
    remote, tools, secret = (tmp_path / name for name in ("remote", "tools", "of-root"))
    remote.mkdir(mode=0o755)
    tools.mkdir()
    secret.mkdir(mode=0o700)
    (tools / "setfacl").write_text("#!/bin/sh\nexit 127\n")
    (tools / "setfacl").chmod(0o755)
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(5):
        (sources / f"file{number}").write_text(f"{number}")
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_REMOTE_TMP": str(remote)}
    target, notes = secret / "overwritten", home / "notes"
    line = user.command(public_python, "-c", PLANT, str(remote), str(target), str(notes))
    with subprocess.Popen(line, cwd="/") as watcher:
        try:
            for _attempt in range(200):
                if notes.exists() and notes.read_text():
                    break
                time.sleep(0.02)
            copy = ("-m", "copy", "-a", f"src={sources}/ dest={home}/copied/")
            result = ansible(user, public_python, *copy, pipelining=pipelining, env=env)
        finally:
            watcher.kill()
    assert notes.read_text() == "watching\n"
    assert not target.exists()
    assert "Failed to change ownership of the temporary files" in result.stdout + result.stderr
