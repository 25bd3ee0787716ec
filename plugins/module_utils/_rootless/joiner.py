# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Become the user, join its namespace, and become a command there: what `podman unshare` does, with nothing of Podman.

The become plugin sends the source of this file, and every task waits until it is compiled: what is needed only
sometimes stands in `joiner_detours`, and imports are late. The library is needed only where there is no namespace yet
(see `Creator`). Everything in the user's directories is looked at as the user, and every namespace is held against the
kernel before it is joined.
"""

from __future__ import annotations

import os
import sys
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from typing import NoReturn

    # Open descriptors of a user and a mount namespace.
    Pair = tuple[int, int]

    # Sets up or mends the namespace of a user (a UID), as whoever this process is; returns the inode numbers of its
    # user and its mount namespace, as text.
    Creator = Callable[[int], str]

# What `podman unshare` and env(1) say of failures of their own.
FAILURE = 125

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the caller's environment, what says nothing about the caller.
_KEPT = ("LANG", "LANGUAGE", "TERM", "TZ", "COLUMNS", "LINES", "NO_COLOR")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
# ioctl_ns(2)
_NONE = 1 << 29 if os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha")) else 0
_GET_USERNS, _GET_PARENT, _GET_NSTYPE, _GET_OWNER_UID = (_NONE | number for number in range(0xB701, 0xB705))

_EPERM = 1
# prctl(2), keyctl(2)
_PR_SET_DUMPABLE = 4
_JOIN_SESSION_KEYRING = 1
_KEYCTL = {"x86_64": 250, "aarch64": 219}
# A login UID that nothing has set: (uid_t) -1.
_UNSET = b"4294967295"

_PIPELINING = (
    "Turn on pipelining, so that no file is needed (ANSIBLE_PIPELINING=1, or pipelining = true in the section "
    "ssh_connection of ansible.cfg); or install the package acl on the host, and keep remote_tmp on a file system that "
    "was mounted when the namespace was made"
)

_PINS = "/run/rootless-ns"
# One half of the file ns_handles, in bytes.
HANDLE = 136


class JoinError(Exception):
    """Why the namespace cannot be joined; the text is for an operator."""


class OtherUserError(JoinError):
    """This process may not become that user."""


def join_and_run(
    user: str,
    command: Sequence[str],
    *,
    create: Creator | None = None,
    environment: MutableMapping[str, str],
    announce: Callable[[], None] | None = None,
    fail: Callable[[str], NoReturn],
) -> NoReturn:
    """Replace this process by `command`, run as root of the user's namespace.

    `user` is a name or a UID. Where there is no namespace `create` sets one up; without it that is an error.
    `environment` is this process's own; as root it is emptied. `announce` is called when nothing is left to do but
    to enter the namespace. From then on the user's mounts decide what every path means: `fail`, which gets the reason
    why the command cannot be run, must import and open nothing. Raises `JoinError` and `OSError` before that.
    """
    entry = find_user(user)
    uid = entry.pw_uid
    if os.geteuid() not in (0, uid):
        raise OtherUserError(f"UID {os.geteuid()} may not become {entry.pw_name}: that takes root, or sudo")
    if uid == 0:
        raise JoinError("root has no rootless namespace: name the user whose namespace is to be joined")
    is_self = os.geteuid() == uid
    own = environment if is_self else {}
    directory = _working_directory()
    # Nothing of the caller's may get into the namespace, where its owner could take it from the process.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                # The one that has listed the directory.
                pass
    # The pins are in root's own directory: root, too, may look there.
    is_there = bool(open_keys(uid, own)) if is_self else _opened(_pinned, str(uid), uid) is not None
    if not is_there and create is not None:
        from .joiner_detours import set_up_where_there_is_none

        set_up_where_there_is_none(entry, create, own)
    inherited = {name: value for name, value in environment.items() if name in _KEPT or name.startswith("LC_")}
    if not is_self:
        shed(entry, environment)
        become(entry)
    runtime_dir = find_runtime_dir(uid, own)
    keys = open_keys(uid, own)
    if not keys:
        other = made_for_another(uid)
        if other is not None:
            raise JoinError(
                f"{entry.pw_name} has no namespace to join: the pin in {_PINS}/{uid} was made for {other}, who had UID "
                f"{uid} before. Set one up as root with userns.rootless.rootless_ns, which removes that pin"
            )
        raise JoinError(
            f"{entry.pw_name} has no namespace to join: neither a pin in {_PINS}/{uid} nor a key in "
            f"{runtime_dir or 'a runtime directory'}. Set one up with userns.rootless.rootless_ns, or with podman"
        )
    if is_plain(keys):
        pair = keys[0][1]
    else:
        from .joiner_detours import choose_key

        pair = choose_key(keys, entry, create, own)
    has_files = "ansible-tmp-" in command[-1]
    if has_files:
        from .joiner_detours import unreadable_file
    variables = _environment(inherited, entry, runtime_dir)
    _default_signals()
    setns: Callable[[int, int], None] = getattr(os, "setns", None) or _setns_of_libc()
    hide = _hider()
    if announce is not None:
        announce()
    reason = "interrupted"
    try:
        enter(*pair, setns=setns, hide=hide)
        _change_directory(directory, entry.pw_dir, "/")
        path = unreadable_file(command) if has_files else None
        if path is None:
            reason = f"cannot run '{command[0]}' in the namespace of {entry.pw_name}: {_exec(command, variables)}"
        else:
            reason = f"{path} cannot be read by {entry.pw_name} inside its namespace. {_PIPELINING}"
    except OSError as error:
        reason = f"cannot join the namespace of {entry.pw_name}: {error.strerror}"
    except Exception as error:
        reason = f"internal error: {type(error).__name__}: {error}"
    finally:
        # Whatever has happened: what Python does about an exception reads files.
        fail(reason)


def find_user(user: str) -> Any:
    """The passwd entry of a name or a decimal UID; a name that is a number wins, as with chown(1)."""
    import pwd

    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    try:
        # int() alone also reads blanks, signs, underscores and the digits of other scripts.
        return pwd.getpwuid(int(user) if user.isascii() and user.isdigit() else -1)
    except (KeyError, ValueError, OverflowError):
        raise JoinError(f"user '{user}' does not exist on this host") from None


def shed(entry: Any, environment: MutableMapping[str, str]) -> None:
    """Give up what is root's and would reach what the user runs: session keyring, environment. Raises `JoinError`.

    A login UID that is not set becomes the user's: the user could set it to anybody's, and be audited as that one.
    """
    _new_keyring()
    try:
        with open("/proc/self/loginuid", "r+b", buffering=0) as file:
            if file.read() == _UNSET:
                file.seek(0)
                file.write(str(entry.pw_uid).encode())
    except OSError:
        # A kernel without audit, or a container whose login UID is the host's to set.
        pass
    environment.clear()
    _wipe_initial_environment()


def become(entry: Any) -> None:
    """Turn this process, which is root's, into the user for good; neither traced nor dumped by the user's processes.

    The kernel resets what can be dumped whenever the effective IDs change, to whatever fs.suid_dumpable is. So that
    comes first, while the real and the saved UID still keep the user out: see commit_creds() and __ptrace_may_access().
    """
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(-1, entry.pw_uid, -1)
    _hider()()
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def open_keys(uid: int, environment: Mapping[str, str]) -> list[tuple[str, Pair]]:
    """The namespaces of the user that this process is, verified, each with what opens it.

    In Podman's order, and the pin last.
    """
    runtime_dir = find_runtime_dir(uid, environment)
    found = keys_in(runtime_dir, uid) if runtime_dir else []
    pair = _opened(_pinned, str(uid), uid)
    return [*found, ("the pin", pair)] if pair else found


def keys_in(runtime_dir: str, uid: int) -> list[tuple[str, Pair]]:
    """Podman's keys below a runtime directory."""
    found = []
    for name, key in (("ns_handles", _by_handles), ("pause.pid", _of_pause_process)):
        pair = _opened(key, f"{runtime_dir}/libpod/tmp", uid)
        if pair is not None:
            found.append((name, pair))
    return found


def is_plain(keys: Sequence[tuple[str, Pair]]) -> bool:
    """Whether it is plain which namespace is meant: all keys open the same one, and Podman finds it, too.

    Where it is not, the library decides (see `choice`).
    """
    return len({os.fstat(pair[0]).st_ino for _name, pair in keys}) == 1 and keys[0][0] != "the pin"


def _opened(key: Callable[[str], Pair | None], where: str, uid: int) -> Pair | None:
    try:
        pair = key(where)
    except (OSError, ValueError, ImportError):
        # The last one where the user cannot read this Python's library.
        return None
    return pair if pair is not None and _is_theirs(pair, uid) else None


def enter(user_fd: int, mnt_fd: int, *, setns: Callable[[int, int], None], hide: Callable[[], None]) -> None:
    """Join both namespaces and become root in them, as Podman's rootless_linux.c does.

    `hide` makes the process undumpable, and is called after each step after which the kernel may have reset that.
    Raises `OSError`.
    """
    setns(user_fd, _CLONE_NEWUSER)
    if os.geteuid() != 0:
        # Its owner has mapped somebody else there: whoever may act as that one could trace this process.
        raise OSError(_EPERM, "the user is not root of it, but ID 0 there is another's")
    setns(mnt_fd, _CLONE_NEWNS)
    os.close(user_fd)
    os.close(mnt_fd)
    os.setresgid(0, 0, 0)
    hide()
    os.setresuid(0, 0, 0)
    hide()


def _change_directory(*paths: str) -> None:
    """The first of them that can be entered."""
    for path in paths:
        try:
            os.chdir(path)
            return
        except OSError:
            continue


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


def find_runtime_dir(uid: int, environment: Mapping[str, str]) -> str | None:
    """Podman's rule, as in `runtime_dir.find_runtime_directory`; None where there is no directory yet.

    Only where more than one answer is possible, Podman is asked for its version. Raises `JoinError` where Podman fails
    with XDG_RUNTIME_DIR.
    """
    chosen = environment.get("XDG_RUNTIME_DIR")
    if chosen and is_runtime_dir(chosen, uid, mask=0, follow=True):
        return chosen
    default, tmp = f"/run/user/{uid}", environment.get("TMPDIR") or "/tmp"
    if not chosen and is_runtime_dir(default, uid):
        return default
    found = [path for path in (f"{tmp}/storage-run-{uid}", f"{tmp}/podman-run-{uid}") if is_runtime_dir(path, uid)]
    if not chosen and len(found) < 2 and not os.path.lexists(default):
        return found[0] if found else None
    from .joiner_detours import runtime_dir_by_version

    return runtime_dir_by_version(uid, chosen, default, tmp)


def is_runtime_dir(path: str, uid: int, *, mask: int = 0o722, follow: bool = False) -> bool:
    """Whether it is a directory (S_IFDIR) of the user's with a mode that Podman takes."""
    try:
        status = os.stat(path) if follow else os.lstat(path)
    except OSError:
        return False
    return status.st_uid == uid and status.st_mode & (0o170000 | mask) == 0o040000 | 0o700 & mask


def read_small(path: str, limit: int) -> bytes:
    """The start of a regular file, links followed as Podman does."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_mode & 0o170000 != 0o100000:
            raise ValueError(f"{path} is not a regular file")
        return os.read(fd, limit)
    finally:
        os.close(fd)


def _open_pair(user: str, mnt: str) -> Pair:
    return os.open(user, os.O_RDONLY | os.O_CLOEXEC), os.open(mnt, os.O_RDONLY | os.O_CLOEXEC)


def _pinned(uid: str) -> Pair | None:
    return _open_pair(f"{_PINS}/{uid}/user", f"{_PINS}/{uid}/mnt")


def _by_handles(state_dir: str) -> Pair | None:
    path = f"{state_dir}/ns_handles"
    if not os.path.lexists(path):
        return None
    from .joiner_detours import open_handles

    return open_handles(read_small(path, 2 * HANDLE))


def _of_pause_process(state_dir: str) -> Pair | None:
    # As strtol(3) does for Podman.
    content = read_small(f"{state_dir}/pause.pid", 11).lstrip(b" \t\n\v\f\r")
    digits = content[content.startswith(b"+") :]
    pid = int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))])
    with open(f"/proc/{pid}/environ", "rb") as file:
        variables = file.read(1 << 22).split(b"\0")
    if not any(variable.startswith(b"_PODMAN_PAUSE=") and len(variable) > 14 for variable in variables):
        return None
    with open(f"/proc/{pid}/status", "rb") as file:
        # In a PID namespace below, as in a container, a user of the same UID is another one.
        if len(file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()) > 1:
            return None
    return _open_pair(f"/proc/{pid}/ns/user", f"/proc/{pid}/ns/mnt")


def _is_theirs(pair: Pair, uid: int) -> bool:
    """A user namespace of the user's, a direct child of ours, and a mount namespace that belongs to it."""
    user_fd, mnt_fd = pair
    try:
        if (ioctl(user_fd, _GET_NSTYPE), ioctl(mnt_fd, _GET_NSTYPE)) != (_CLONE_NEWUSER, _CLONE_NEWNS):
            return False
        owner = int.from_bytes(ioctl(user_fd, _GET_OWNER_UID, b"\0\0\0\0"), sys.byteorder)
        parent = os.fstat(ioctl(user_fd, _GET_PARENT)).st_ino
        of_mnt = os.fstat(ioctl(mnt_fd, _GET_USERNS)).st_ino
    except OSError:
        return False
    own = os.stat("/proc/self/ns/user").st_ino
    ino = os.fstat(user_fd).st_ino
    return owner == uid and parent == own and of_mnt == ino and not made_for_another(uid, ino)


def made_for_another(uid: int, ino: int | None = None) -> str | None:
    """For whom the pin was made, if that account has the UID no more; with `ino`, only if it opens that user namespace.

    The rule of `accounts.is_still_the_account`.
    """
    import pwd

    try:
        if ino not in (None, os.stat(f"{_PINS}/{uid}/user").st_ino):
            return None
        name, home = os.fsdecode(read_small(f"{_PINS}/{uid}/for", 8192)).split("\n")[:2]
    except (OSError, ValueError):
        # No pin, or one that an older version has made.
        return None
    try:
        if pwd.getpwnam(name).pw_uid == uid:
            return None
    except (KeyError, ValueError):
        pass
    is_own = home.count("/") > 1 and home not in ("/var/empty", "/dev/null")
    return None if is_own and pwd.getpwuid(uid).pw_dir == home else name or None


def _of_libc(name: str) -> Callable[..., int]:
    """A function of the C library that takes small integers and NULL, and returns an int."""
    # To import ctypes itself would take as long as all the rest.
    import _ctypes

    itself: Any = None
    address = _ctypes.dlsym(_ctypes.dlopen(itself, 0), name)
    return lambda *arguments: int(_ctypes.call_function(address, arguments))


def _hider() -> Callable[[], None]:
    """Makes this process undumpable; all that it needs is loaded before it is called. Raises `OSError`."""
    prctl = _of_libc("prctl")

    def hide() -> None:
        if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            raise OSError(_EPERM, "prctl(PR_SET_DUMPABLE) fails, so that the user could read this process")

    return hide


def _setns_of_libc() -> Callable[[int, int], None]:
    """For Python before 3.12; all that it needs is loaded before it is called."""
    function = _of_libc("setns")

    def setns(fd: int, kind: int) -> None:
        if function(fd, kind):
            # While setns fails, this process is where it was: what is imported now is the host's.
            from .joiner_detours import why_setns_fails

            raise why_setns_fails(fd, kind)

    return setns


def _new_keyring() -> None:
    """A session keyring of its own, empty: keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`. Raises `JoinError`.

    Where the kernel has no keys, or a filter forbids the call, the user's programs cannot read root's either.
    """
    # A Python of 32 bits has other numbers than the kernel that it runs on.
    number = _KEYCTL.get(os.uname().machine) if sys.maxsize > 1 << 32 else None
    if number is None:
        from .joiner_detours import keyctl_number

        number = keyctl_number()
    if _of_libc("syscall")(number, _JOIN_SESSION_KEYRING, None) < 0:
        from .joiner_detours import why_no_keyring

        reason = why_no_keyring(number)
        if reason:
            raise JoinError(f"cannot leave root's session keyring: {reason}")


def _wipe_initial_environment() -> None:
    """Overwrite what execve(2) left on the stack; copies that Python has made may remain until they are reused."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # proc_pid_stat(5): env_start and env_end; the first field here is the third there.
        start, end = int(fields[47]), int(fields[48])
        fd = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, bytes(end - start), start)
        finally:
            os.close(fd)
    except (OSError, ValueError, IndexError):
        # Nobody but root can read this process anyway.
        pass


def _default_signals() -> None:
    """What Python ignores for itself, the command would inherit."""
    # signal itself would import much.
    import _signal  # type: ignore[import-not-found,unused-ignore]

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _exec(command: Sequence[str], variables: dict[str, str]) -> str:
    """As execvpe(3), without the imports of os.execvpe; returns why the command cannot be run."""
    name, why = command[0], "no such command there"
    for directory in [""] if "/" in name else _PATH.split(":"):
        try:
            os.execve(os.path.join(directory, name), list(command), variables)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            # A later directory may have one that can be run.
            why = str(error.strerror)
        except OSError as error:
            why = str(error.strerror)
            break
    return why


def _environment(inherited: Mapping[str, str], entry: Any, runtime_dir: str | None) -> dict[str, str]:
    variables = dict(
        inherited,
        HOME=entry.pw_dir,
        USER=entry.pw_name,
        LOGNAME=entry.pw_name,
        SHELL="/bin/sh",
        PATH=_PATH,
        _CONTAINERS_USERNS_CONFIGURED="done",
        _CONTAINERS_ROOTLESS_UID=str(entry.pw_uid),
        _CONTAINERS_ROOTLESS_GID=str(entry.pw_gid),
    )
    if runtime_dir:
        variables["XDG_RUNTIME_DIR"] = runtime_dir
    return variables
