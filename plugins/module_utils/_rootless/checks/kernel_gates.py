# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel, its security modules and limits say to user namespaces of unprivileged users."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping

from .catalogue import HostFinding
from .shell import shell_word

# A few programs' worth; the kernel's default is some ten thousand.
_FEW = 100
_MANY = 15_000

# As role rootless_host installs it, for the program that makes the namespaces here.
_APPARMOR_PROFILE = (
    "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\n"
    "profile userns-rootless %s flags=(unconfined) {{ userns, }}\\n' {python} > /etc/apparmor.d/userns-rootless && "
    "apparmor_parser -r /etc/apparmor.d/userns-rootless  # or for all programs: {switch}"
)


def _set(name: str, value: int) -> str:
    """Now, and at each boot: a file for each setting, which is read after those of the distribution."""
    return f"sysctl -w {name}={value} && echo '{name} = {value}' > /etc/sysctl.d/99-zz-{name}.conf"


def check_limits(proc: str) -> Iterator[HostFinding]:
    """The limits on namespaces, which count per user (namespaces(7)), and Debian's switch for unprivileged users."""
    for kind in ("user", "mnt"):
        name = f"user.max_{kind}_namespaces"
        limit = _sysctl(proc, name)
        if limit is not None and limit < _FEW:
            code = "userns-few" if limit else "userns-off"
            yield HostFinding(code, f"{name} = {limit}", _set(name, _MANY))
    switch = "kernel.unprivileged_userns_clone"
    if _sysctl(proc, switch) == 0:
        yield HostFinding("userns-for-root-only", f"{switch} = 0", _set(switch, 1))


def check_process(proc: str) -> Iterator[HostFinding]:
    """What lies on this process, and so on all that it starts."""
    status = _status(proc)
    if status.get("NoNewPrivs") == "1":
        yield HostFinding(
            "no-new-privileges",
            "NoNewPrivs: 1 in /proc/self/status",
            "systemctl edit UNIT  # of what started this task: NoNewPrivileges=no, and whatever implies it",
        )
    if _is_filtered(status):
        yield HostFinding(
            "seccomp-filter",
            "Seccomp: 2 in /proc/self/status",
            "grep Seccomp /proc/self/status  # in a session of the user's: is it the same there?",
        )


def why_refused(proc: str, number: int, said: str) -> HostFinding:
    """The finding for a user namespace that was tried as a user and refused with an errno.

    Limits and switches (`check_limits`) are to be looked at first.
    """
    found = f"the kernel answered: {said}"
    switch = "kernel.apparmor_restrict_unprivileged_userns"
    refused = number in (errno.EPERM, errno.EACCES)
    if refused and _sysctl(proc, switch) == 1:
        fix = _APPARMOR_PROFILE.format(python=shell_word(os.path.realpath(sys.executable)), switch=_set(switch, 0))
        return HostFinding("userns-apparmor", f"{switch} = 1, and {found}", fix)
    if refused and _is_filtered(_status(proc)):
        return HostFinding(
            "userns-seccomp",
            f"Seccomp: 2 in /proc/self/status, and {found}",
            "podman run --security-opt seccomp=unconfined ...  # or the like, where this container is started",
        )
    if number in (errno.ENOSPC, errno.EUSERS):
        # Either may be used up: containers take a mount namespace each, but few a user namespace.
        found_limits = [(name, _sysctl(proc, name)) for name in ("user.max_user_namespaces", "user.max_mnt_namespaces")]
        limits = [(name, limit) for name, limit in found_limits if limit is not None]
        told = ", ".join(f"{name} = {limit}" for name, limit in limits)
        fix = " && ".join(_set(name, max(2 * limit, _MANY)) for name, limit in limits)
        return HostFinding("userns-refused", f"{found}: the user's limit is used up; {told}", fix)
    return HostFinding(
        "userns-refused", found, "dmesg | tail  # security modules tell there, or in the audit log, what they refuse"
    )


def _sysctl(proc: str, name: str) -> int | None:
    try:
        with open(f"{proc}/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _status(proc: str) -> Mapping[str, str]:
    with open(f"{proc}/self/status", encoding="utf-8", errors="surrogateescape") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _colon, value in pairs}


def _is_filtered(status: Mapping[str, str]) -> bool:
    # SECCOMP_MODE_FILTER of proc_pid_status(5).
    return status.get("Seccomp") == "2"
