# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups: version 2, with controllers, delegated to the user."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from ..accounts import Account
from ..mountinfo import Mount, mount_at
from .account_state import Shadow, pam_refused
from .catalogue import HostFinding
from .session import lingers
from .shell import shell_word

# What `podman run --cpus --memory --pids-limit` needs.
_WANTED = ("cpu", "memory", "pids")


def check_cgroups(mounts: Sequence[Mount], cgroup: str) -> Iterator[HostFinding]:
    """What holds for all: the file system mounted on `cgroup`, and its controllers."""
    mount = mount_at(mounts, cgroup)
    arguments = "systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory"
    grub = "/etc/default/grub.d"
    unify = (
        f"mkdir -p {grub} && echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {arguments}\"' > {grub}/cgroup2.cfg && "
        f"update-grub && reboot  # Debian, Ubuntu; elsewhere: grubby --update-kernel=ALL --args='{arguments}' && reboot"
    )
    if mount is None:
        yield HostFinding("cgroup-missing", f"nothing is mounted on {cgroup}", f"mount -t cgroup2 none {cgroup}")
    elif mount.type != "cgroup2":
        yield HostFinding("cgroup-v1", f"{cgroup} is of type {mount.type}, not cgroup2", unify)
    else:
        missing = [name for name in _WANTED if name not in _controllers(cgroup)]
        if missing:
            found = f"{cgroup}/cgroup.controllers lacks {' '.join(missing)}: disabled, or taken by cgroup version 1"
            yield HostFinding("cgroup-controllers-missing", found, unify)


def check_delegation(
    account: Account, mounts: Sequence[Mount], *, run: str, cgroup: str, var: str, shadow: Shadow
) -> Iterator[HostFinding]:
    """What the user's own systemd has of it. Asked of hosts only that systemd has booted, with cgroup version 2."""
    mount = mount_at(mounts, cgroup)
    if mount is None or mount.type != "cgroup2" or not os.path.isdir(f"{run}/systemd/system"):
        return
    unit = f"user@{account.uid}.service"
    try:
        delegated = _controllers(f"{cgroup}/user.slice/user-{account.uid}.slice/{unit}")
    except OSError:
        yield _why_no_manager(account, unit, run=run, var=var, shadow=shadow)
        return
    missing = [name for name in _WANTED if name in _controllers(cgroup) and name not in delegated]
    if missing:
        conf = "/etc/systemd/system/user@.service.d/delegate.conf"
        yield HostFinding(
            "cgroup-not-delegated",
            f"{unit} has {' '.join(delegated) or 'no controllers'}, but not {' '.join(missing)}",
            f"mkdir -p {os.path.dirname(conf)} && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' > {conf} "
            f"&& systemctl daemon-reload && systemctl restart {unit}  # which ends what the user runs",
        )


def _why_no_manager(account: Account, unit: str, *, run: str, var: str, shadow: Shadow) -> HostFinding:
    start = f"systemctl start {unit}"
    refusal = shadow.why_refused(account.name)
    if refusal is not None:
        return HostFinding("user-manager-refused", f"{unit} does not run: {refusal.why}", f"{refusal.fix} && {start}")
    # Only where systemd has tried: it is one process for each such user.
    if lingers(account, run=run, var=var) and pam_refused(unit):
        return HostFinding(
            "user-manager-refused",
            f"{unit} does not run: PAM refused {account.name} a session (pam_access, a directory, or the like)",
            f"journalctl --boot --no-pager --lines 20 --unit {unit}; "
            f"getent passwd {shell_word(account.name)}; grep -v '^#' /etc/security/access.conf",
        )
    return HostFinding("no-user-manager", f"{unit} does not run", start)


def _controllers(path: str) -> list[str]:
    with open(f"{path}/cgroup.controllers", encoding="ascii") as file:
        return file.read().split()
