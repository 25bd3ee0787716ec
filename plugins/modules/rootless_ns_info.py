#!/usr/bin/python
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rootless_ns_info
short_description: Gather ID maps, subordinate ranges and the state of rootless namespaces
version_added: 1.0.0
description:
  - Returns the ID maps and counts that are available to the module's own process, the subordinate ranges configured for users,
    and the state of each user's rootless namespace with a verdict on every key to it.
  - It sees this also while Podman itself is broken or not installed.
author:
  - The userns.rootless authors (@userns-rootless)
extends_documentation_fragment:
  - userns.rootless.attributes
  - userns.rootless.attributes.actiongroup
  - userns.rootless.attributes.info_module
attributes:
  platform:
    platforms: linux
    support: full
options:
  users:
    description:
      - Names or UIDs of the users to look at.
      - The default is the user that the task runs as. As root it is every user with a subordinate range, a runtime directory, a
        pin, lingering or a user namespace, also users of a directory that does not list its users, such as SSSD's. UIDs that have
        a pin or a user namespace, but no account any more, come last.
    type: list
    elements: str
seealso:
  - module: userns.rootless.rootless_ns
"""

EXAMPLES = r"""
- name: Look at all users of the host
  become: true
  userns.rootless.rootless_ns_info:
  register: rootless

- name: Mend the namespaces that need it
  become: true
  userns.rootless.rootless_ns:
    users: "{{ rootless.namespaces | selectattr('needs', 'equalto', 'repair') | map(attribute='user') }}"

- name: Name the users with fewer than 65536 subordinate IDs
  ansible.builtin.debug:
    msg: "{{ item.user }}"
  when: item.uid_ranges | sum(attribute='count') < 65536
  loop: "{{ rootless.configured }}"
  loop_control:
    label: "{{ item.user }}"
"""

RETURN = r"""
available:
  description: The ID maps of the module's own process, and how many IDs they hold.
  returned: success
  type: dict
  sample:
    uid_map:
      - id: 0
        parent_id: 0
        count: 4294967295
    gid_map:
      - id: 0
        parent_id: 0
        count: 4294967295
    uids: 4294967295
    gids: 4294967295
  contains:
    uid_map:
      description: The user ID map, as C(/proc/self/uid_map) shows it.
      type: list
      elements: dict
      contains: &map
        id:
          description: First ID inside the namespace.
          type: int
        parent_id:
          description: First ID in the parent namespace.
          type: int
        count:
          description: How many IDs.
          type: int
    gid_map:
      description: The group ID map likewise.
      type: list
      elements: dict
      contains: *map
    uids:
      description: How many user IDs are mapped.
      type: int
    gids:
      description: How many group IDs are mapped.
      type: int
configured:
  description:
    - One entry per user, in the order of O(users).
    - When root names no users, owners of ranges who have no namespaces, such as V(containers) and root, come last.
  returned: success
  type: list
  elements: dict
  contains:
    user:
      description: The user's name.
      type: str
    uid:
      description: The user's UID; null for a name that no user of the host has.
      type: int
    source:
      description: Where ranges come from, V(files), or V(nss:) and the service named for C(subid) in C(/etc/nsswitch.conf).
      type: str
    uid_ranges:
      description: The subordinate user ID ranges, by name and by UID, sorted by start.
      type: list
      elements: dict
      contains: &range
        owner:
          description: The owner as the entry names it, a name or a UID.
          type: str
        start:
          description: First ID.
          type: int
        count:
          description: How many IDs.
          type: int
        source:
          description: The file's path, or V(nss).
          type: str
        line:
          description: The line in the file, V(null) for NSS.
          type: int
    gid_ranges:
      description: The subordinate group ID ranges likewise.
      type: list
      elements: dict
      contains: *range
overlaps:
  description:
    - Pairs of ranges of different owners in C(/etc/subuid) and C(/etc/subgid) that share IDs, whoever they are. Containers of one
      can touch files and processes of the other.
    - Of many owners with the same range each is told with the first of them.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: uid
      first:
        owner: alice
        start: 100000
        count: 65536
        line: 1
      second:
        owner: bob
        start: 120000
        count: 65536
        line: 2
      msg: alice:100000:65536 (/etc/subuid line 1) and bob:120000:65536 (/etc/subuid line 2)
namespaces:
  description: One entry per user, in the order of O(users).
  returned: success
  type: list
  elements: dict
  contains:
    user:
      description:
        - The user's name, or what was asked for if there is no such user.
        - The UID where no account has it any more and something is left of one. RV(namespaces[].msg) tells for whom its pin was
          made. M(userns.rootless.rootless_ns) with O(userns.rootless.rootless_ns#module:state=absent) removes it.
      type: str
    uid:
      description: The user's UID, V(null) if there is no such user and nothing is left of one.
      type: int
    gid:
      description: The user's primary GID, V(null) if there is no such user.
      type: int
    state_dir:
      description: Where Podman keeps this user's C(pause.pid) and C(ns_handles).
      type: str
    state:
      description:
        - What Podman would meet now, by the rules of the Podman that is installed.
        - V(alive) when it would join the user's namespace.
        - V(broken) when it would fail, or make or join another namespace than the one that is alive. This is so, too, when
          processes live in more than one.
        - V(stale) when no namespace is alive, and what is left harms nothing.
        - V(none) when there is nothing.
      type: str
    needs:
      description:
        - What to do about it. V(repair) stands for M(userns.rootless.rootless_ns), V(recreate) for the same with
          O(userns.rootless.rootless_ns#module:on_drift=recreate), V(clean) for M(userns.rootless.rootless_pause) with
          O(userns.rootless.rootless_pause#module:orphans=true).
        - V(remove) stands for the same with O(userns.rootless.rootless_ns#module:state=absent), where no account has the UID any
          more.
        - V(look) when no module can know what is right, as when containers run in two namespaces of the user's, or when the user
          could not be looked at.
        - Empty when nothing is to be done.
      type: str
    verdicts:
      description: A verdict on each of C(pause_pid), C(ns_handles) and C(pin), with its evidence.
      type: dict
      sample:
        pause_pid:
          verdict: recycled
          evidence: process 1 (systemd) of UID 0 is not a pause process
        ns_handles:
          verdict: missing
          evidence: ""
        pin:
          verdict: live
          evidence: user:[4026532178] mnt:[4026532179]
      contains:
        pause_pid:
          description:
            - V(missing), V(garbage), V(dead), V(recycled), V(foreign), V(unknown) or V(live).
            - V(unknown) means that it could not be judged.
          type: dict
        ns_handles:
          description:
            - V(missing), V(corrupt), V(dead), V(unknown), V(foreign) or V(live).
            - V(unknown) means that this kernel does not let the caller look.
          type: dict
        pin:
          description: V(missing), V(foreign), for example of an account that had the UID before, or V(live).
          type: dict
    orphans:
      description: Pause processes of the user that no C(pause.pid) names.
      type: list
      elements: dict
      contains:
        pid:
          description: Its PID.
          type: int
        userns:
          description: Inode number of its user namespace.
          type: int
        mntns:
          description: Inode number of its mount namespace.
          type: int
    mounts:
      description:
        - Mounts in the namespace of file systems that are not mounted on the host, at most 100. They keep a volume or a dataset
          busy, also where only a pin keeps the namespace.
        - What the host unmounts stays mounted in a namespace that was made before, where the mount was private.
      type: list
      elements: dict
      sample:
        - point: /mnt/backup
          type: ext4
          source: /dev/loop0
          device: "7:0"
      contains:
        point:
          description: Where it is mounted in the namespace.
          type: str
        type:
          description: The type of the file system.
          type: str
        source:
          description: What is mounted, as C(/proc/PID/mountinfo) names it.
          type: str
        device:
          description: The device number, major and minor.
          type: str
    action:
      description: Always V(none), or V(failed) for a user that cannot be looked at.
      type: str
    userns:
      description: Inode number of the user namespace. V(null) when there is none.
      type: int
    mntns:
      description: Inode number of the mount namespace. V(null) when there is none.
      type: int
    method:
      description: V(pause) or V(handles), how the user's processes find the namespace. V(null) when they do not.
      type: str
    pinned:
      description: Whether a pin keeps the namespace alive.
      type: bool
    pause_pid:
      description: PID of the pause process that C(pause.pid) names. V(null) when there is none.
      type: int
    pause:
      description: Where that pause process lives.
      type: dict
      sample:
        cgroup: /user.slice/user-1000.slice/session-3.scope
        ends_with: session-3.scope
      contains:
        cgroup:
          description: Its cgroup, in the hierarchy of systemd where systemd runs. V(null) when there is no pause process.
          type: str
        ends_with:
          description:
            - The session, service or application of somebody's that it ends with. V(null) when there is none.
            - Where it can be moved, M(userns.rootless.rootless_ns) moves it out of there.
          type: str
    uid_map:
      description: The namespace's user ID map, read after really joining.
      type: list
      elements: dict
      contains: *map
    gid_map:
      description: The group ID map likewise.
      type: list
      elements: dict
      contains: *map
    drift:
      description: Whether the live maps differ from what the configured ranges would give today.
      type: bool
    processes:
      description: How many processes other than pause processes live in the namespace.
      type: int
    msg:
      description: What an operator should know. Empty when there is nothing to say.
      type: str
kernel:
  description: What the running kernel offers, probed.
  returned: success
  type: dict
  contains:
    nsfs_handles:
      description:
        - V(user) when users can open file handles of their own namespaces, V(root) when only root in the initial namespaces
          can, V(unsupported) when nobody can (before Linux 6.18, or forbidden by seccomp).
        - An ordinary user whom the kernel refuses gets V(root).
        - As root it is tried as C(nobody), then as the users of the task. V(unknown) means that it could be tried as none of
          them, for example because their user namespaces are used up. Change nothing on the strength of it.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_ns_info import ARGUMENT_SPEC, run


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
