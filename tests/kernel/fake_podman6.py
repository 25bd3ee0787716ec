# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FAKE of Podman 6.0, which no Debian has yet: `unshare COMMAND...`, and what `system migrate` does to the namespace.

It does what 6.0.0-rc1 was seen to do and what its source says (pkg/rootless, pkg/domain/infra/abi/system_linux.go): the
shortcut in C, then the way in Go. It knows no containers, so it never joins one by its monitor. Runs as the user.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
FD_NSFS_ROOT = -10003
AT_EMPTY_PATH = 0x1000
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
RENAME_NOREPLACE = 1
HANDLE = 136
MARK = b"_PODMAN_PAUSE=1"


class CannotJoinError(Exception):
    pass


def call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def die(text: str) -> None:
    print(text, file=sys.stderr)
    os._exit(125)


def setns(fd: int) -> None:
    call(libc.setns(fd, 0))


def join(userns: int, mntns: int) -> None:
    """What fails after the first step ends the command."""
    cwd = os.getcwd()
    setns(userns)
    try:
        setns(mntns)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.chdir(cwd)
    except OSError as error:
        die(f"cannot set mnt namespace: {error}")


def join_handles(path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        content = file.read(2 * HANDLE)
    if len(content) != 2 * HANDLE:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fds = []
    for packed in (content[HANDLE:], content[:HANDLE]):
        if int.from_bytes(packed[:4], sys.byteorder) > HANDLE - 8:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fds.append(call(libc.open_by_handle_at(FD_NSFS_ROOT, ctypes.create_string_buffer(packed, HANDLE), os.O_RDONLY)))
    join(fds[1], fds[0])


def open_namespaces(pid: int) -> tuple[int, int]:
    fds = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
    return fds[0], fds[1]


def is_pause_process(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return MARK in file.read(4096).split(b"\0")
    except OSError:
        return False


def shortcut(state: str) -> bool:
    """The way in C, which looks at nothing but the variable. Whether it joined."""
    try:
        join_handles(f"{state}/ns_handles")
        return True
    except OSError as error:
        if error.errno == errno.ESTALE:
            return False
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
            die(f"error opening namespace handles: {error.strerror}")
    path = f"{state}/pause.pid"
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(11)
    except OSError:
        return False
    # strtol(3): 0 where there is no number.
    number = re.match(rb"\s*[+-]?\d+", text)
    pid = int(number[0]) if number else 0
    try:
        join(*open_namespaces(pid))
        return True
    except OSError:
        if not is_pause_process(pid):
            print(f"pause.pid file refers to PID {pid} which is not a pause process. Removing {path}", file=sys.stderr)
            os.unlink(path)
        return False


def runtime_directory() -> str:
    named = os.environ.get("XDG_RUNTIME_DIR")
    if named:
        resolved = os.path.realpath(named)
        if not os.path.exists(resolved):
            die(f"lstat {named}: no such file or directory")
        return resolved
    uid = os.geteuid()
    for path in (f"/run/user/{uid}", f"{os.environ.get('TMPDIR') or '/tmp'}/storage-run-{uid}"):
        try:
            os.mkdir(path, 0o700)
        except OSError:
            pass
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if status.st_uid == uid and stat.S_IMODE(status.st_mode) & 0o722 == 0o700:
            return path
    die(f'path "{path}" exists and it is not writeable only by the current user')
    raise AssertionError


def join_process(pid: int) -> None:
    """In a child, as Podman runs itself again there: whatever it cannot join is the end, with the child's exit code."""
    try:
        fds = open_namespaces(pid)
    except OSError:
        raise CannotJoinError("cannot re-exec process to join the existing user namespace") from None
    try:
        join(*fds)
    except OSError:
        print("cannot set user namespace", file=sys.stderr)
        os._exit(1)


def number_in(path: str) -> int:
    """As strconv.Atoi of Go reads it."""
    with open(path, "rb") as file:
        text = file.read()
    if not re.fullmatch(rb"[+-]?[0-9]+", text):
        raise CannotJoinError(f"cannot parse file {path}")
    return int(text)


def join_pause_file(path: str) -> None:
    try:
        pid = number_in(path)
        if pid <= 0:
            raise CannotJoinError("could not find any running process")
        os.kill(pid, 0)
    except OSError as error:
        raise CannotJoinError(str(error)) from None
    try:
        join_process(pid)
    except CannotJoinError:
        if not is_pause_process(pid):
            os.unlink(path)
        raise


def second_way(state: str) -> bool:
    """The way in Go, where Podman has run before: handles are not read, and hide pause.pid. Whether it joined."""
    if os.path.exists(f"{state}/ns_handles"):
        return False
    path = f"{state}/pause.pid"
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    try:
        join_pause_file(path)
        return True
    except CannotJoinError:
        pass
    # Locked before it is tried once more and removed; what cannot be opened for that ends the command.
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        join_pause_file(path)
        return True
    except CannotJoinError:
        if os.path.lexists(path):
            os.unlink(path)
        return False
    finally:
        os.close(lock)


def ranges(kind: str, own: int) -> list[tuple[int, int]]:
    name = pwd.getpwuid(os.geteuid()).pw_name
    found = []
    with open(f"/etc/sub{kind}", encoding="utf-8") as file:
        for line in file:
            owner, start, count = line.strip().split(":")
            if owner in (name, str(own)):
                found.append((int(start), int(count)))
    return sorted(found)


def give_maps(pid: int) -> None:
    for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        arguments, place = ["0", str(own), "1"], 1
        for start, count in ranges(kind, own):
            arguments += [str(place), str(start), str(count)]
            place += count
        subprocess.run([f"new{kind}map", str(pid), *arguments], check=True)


def save_handles(state: str) -> None:
    """Raises OSError(EOPNOTSUPP) where a pause process is to hold the namespace."""
    path = f"{state}/ns_handles"
    if os.environ.get("PODMAN_NO_PAUSE_PROCESS", "0") == "0":
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        raise OSError(errno.EOPNOTSUPP, "not wanted")
    with open(os.open(f"{state}/ns_handles.lock", os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            join_handles(path)
            return
        except OSError:
            pass
        if os.path.lexists(path):
            os.unlink(path)
        content = b""
        for kind in ("user", "mnt"):
            buffer = ctypes.create_string_buffer((HANDLE - 8).to_bytes(4, sys.byteorder), HANDLE)
            with open(f"/proc/self/ns/{kind}", "rb") as file:
                call(libc.name_to_handle_at(file.fileno(), b"", buffer, ctypes.byref(ctypes.c_int()), AT_EMPTY_PATH))
            content += buffer.raw
        publish(path, content)


def publish(path: str, content: bytes) -> None:
    fd, temporary = tempfile.mkstemp(prefix=f"{os.path.basename(path)}.", dir=os.path.dirname(path))
    os.write(fd, content)
    os.close(fd)
    try:
        call(libc.renameat2(-100, os.fsencode(temporary), -100, os.fsencode(path), RENAME_NOREPLACE))
    except OSError:
        os.unlink(temporary)
        raise


def start_pause_process(state: str) -> bool:
    """Whether the file is ours, and so the process stays."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, 256)
        os.execve("/bin/sleep", ["sleep", "infinity"], {**os.environ, "_PODMAN_PAUSE": "1"})
    try:
        publish(f"{state}/pause.pid", str(pid).encode())
        return True
    except OSError:
        os.kill(pid, signal.SIGKILL)
        return False


def make_namespace(state: str) -> None:
    """Returns in the process that is inside; the one outside waits for it and ends as it does."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        answer = os.read(told, 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if answer != b"2":
            os._exit(code)
        # A pause.pid that is there already: another one was faster, or it is old.
        join_process(number_in(f"{state}/pause.pid"))
        return
    os.close(told)
    unshare_with_maps()
    try:
        save_handles(state)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.ENOENT):
            die(f"cannot save namespace handles: {error}")
        if not start_pause_process(state):
            os.write(tell, b"2")
            os._exit(125)
    os.write(tell, b"0")
    os.close(tell)


def unshare_with_maps() -> None:
    ours, theirs = socket.socketpair()
    inside = os.getpid()
    helper = os.fork()
    if helper == 0:
        theirs.recv(1)
        give_maps(inside)
        theirs.sendall(b"0")
        os._exit(0)
    theirs.close()
    call(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    ours.sendall(b"0")
    if ours.recv(1) != b"0":
        die("cannot set up namespace using newuidmap")
    os.waitpid(helper, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def migrate() -> None:
    state = f"{runtime_directory()}/libpod/tmp"
    for name in ("ns_handles", "pause.pid"):
        path = f"{state}/{name}"
        if not os.path.lexists(path):
            continue
        pid = number_in(path) if name == "pause.pid" else 0
        os.unlink(path)
        if pid:
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    if sys.argv[1:] == ["system", "migrate"]:
        migrate()
        return
    assert sys.argv[1] == "unshare"
    command = sys.argv[2:]
    named = os.environ.get("XDG_RUNTIME_DIR")
    if not (named and shortcut(f"{named}/libpod/tmp")):
        state = f"{runtime_directory()}/libpod/tmp"
        os.makedirs(state, mode=0o700, exist_ok=True)
        alive = f"{state}/alive"
        try:
            if not (os.path.exists(alive) and second_way(state)):
                make_namespace(state)
        except (CannotJoinError, OSError) as error:
            die(str(error))
        with open(alive, "w", encoding="utf-8"):
            pass
    os.environ["_CONTAINERS_USERNS_CONFIGURED"] = "done"
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
