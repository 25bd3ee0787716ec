# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding there can be: its stable code, how bad it is, and why it matters."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKS = "blocks"
LIMITS = "limits"
NOTE = "note"

SEVERITIES = (BLOCKS, LIMITS, NOTE)

ORDINARY_COUNT = 65_536

CATALOGUE: dict[str, tuple[str, str]] = {
    "userns-off": (
        BLOCKS,
        "No user may make a user or a mount namespace, and a rootless container is made of both.",
    ),
    "userns-few": (
        LIMITS,
        "Podman, browsers and containers with a user namespace of their own use them up; the next one fails (ENOSPC).",
    ),
    "userns-for-root-only": (BLOCKS, "The kernel lets only root make user namespaces."),
    "userns-apparmor": (
        BLOCKS,
        "AppArmor refuses user namespaces, or all power in them, to every program whose profile does not allow them.",
    ),
    "userns-seccomp": (
        BLOCKS,
        "A system call filter lies on this process, as containers have one, and user namespaces are refused.",
    ),
    "userns-refused": (
        BLOCKS,
        "A user namespace was tried as this user, and refused for none of the known reasons.",
    ),
    "seccomp-filter": (
        NOTE,
        "A system call filter lies on this process, as containers have one: what works for it may differ for others.",
    ),
    "no-new-privileges": (
        BLOCKS,
        "Nothing that this process starts can gain privileges, so newuidmap and newgidmap cannot write an ID map.",
    ),
    "map-tool-missing": (BLOCKS, "Without it only the user's own ID can be mapped; images hold files of more users."),
    "map-tool-powerless": (BLOCKS, "Without privileges it cannot write an ID map."),
    "map-tool-nosuid": (
        BLOCKS,
        "There the kernel ignores setuid bits and capabilities: it cannot write an ID map.",
    ),
    "maps-refused": (BLOCKS, "The user's ID maps were tried for real and refused."),
    "ranges-missing": (BLOCKS, "Only the user's own ID can be mapped; images hold files of more users."),
    "ranges-unusable": (BLOCKS, "newuidmap, Podman or the kernel refuse the user's ranges as they are configured."),
    "ranges-unavailable": (
        BLOCKS,
        "This host lives in a user namespace that does not hold all of the range: newuidmap is refused, and so Podman.",
    ),
    "range-contains-own-id": (BLOCKS, "The own ID is mapped already, and the kernel maps none twice: Podman refuses."),
    "ranges-short": (
        LIMITS,
        f"Images use IDs up to {ORDINARY_COUNT - 1}, also nobody: files of IDs above the range cannot be unpacked.",
    ),
    "ranges-overlap": (LIMITS, "Two owners share IDs: each can read and change what the other's containers write."),
    "range-contains-account": (
        LIMITS,
        "Inside its namespace the user can become that account or group, and has a right to its files.",
    ),
    "runtime-dir-missing": (
        LIMITS,
        "Podman keeps its state in a temporary directory instead, which other sessions and services may not see.",
    ),
    "runtime-dir-cached": (
        LIMITS,
        "Podman before 4.5 goes on where it first ran: without XDG_RUNTIME_DIR it is in another namespace.",
    ),
    "runtime-dir-unusable": (BLOCKS, "There is no directory that Podman would keep its state in."),
    "no-lingering": (
        LIMITS,
        "When the user's last session ends, systemd stops what it runs and removes its runtime directory.",
    ),
    "no-user-manager": (
        LIMITS,
        "Podman asks the user's systemd for cgroups; without them it limits no containers.",
    ),
    "user-manager-refused": (
        LIMITS,
        "PAM lets this user start nothing: no login, no cron job, and no systemd of the user's, which Podman asks for "
        "cgroups.",
    ),
    "cgroup-v1": (LIMITS, "Only cgroup version 2 can be delegated: rootless containers get no resource limits."),
    "cgroup-missing": (LIMITS, "There are no cgroups for containers to be put into: no limits, no statistics."),
    "cgroup-controllers-missing": (LIMITS, "What cgroup version 2 does not control cannot be limited in containers."),
    "cgroup-not-delegated": (LIMITS, "What is not delegated to the user cannot be limited in its containers."),
    "root-mount-private": (
        LIMITS,
        "Mounts made later do not reach the users' namespaces: Podman warns of it.",
    ),
    "graph-root-remote": (
        BLOCKS,
        "The server knows nothing of user namespaces and refuses to give files to subordinate IDs: images cannot be "
        "unpacked.",
    ),
    "podman-without-libsubid": (
        BLOCKS,
        "The ranges come from an NSS service that this Podman cannot ask: it maps only the user's own ID.",
    ),
    "handles-unusable": (
        LIMITS,
        "Podman is asked to keep no pause process, but users cannot open handles here: each command of theirs may end "
        "up in another namespace.",
    ),
    "not-checked": (BLOCKS, "It could not be found out, so nothing can be promised."),
}


@dataclass(frozen=True)
class HostFinding:
    """One thing that keeps rootless containers from working, or from working well; `fix` is a line to be run."""

    code: str
    found: str
    fix: str

    @property
    def severity(self) -> str:
        return CATALOGUE[self.code][0]

    @property
    def why(self) -> str:
        return CATALOGUE[self.code][1]

    @property
    def blocks(self) -> bool:
        return self.severity == BLOCKS
