#!/usr/bin/python
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rootless_ns
short_description: Set up, rejoin and persist users' rootless namespaces
version_added: 1.0.0
description:
  - Sets up the pair of user namespace and mount namespace in which rootless containers of a user live, or rejoins the one
    that is there, and makes every key to it open that one namespace. It speaks Podman's on-disk protocol, so Podman joins
    the very same namespace, and the module rejoins one that Podman made.
  - The keys are C(pause.pid) (names a process that only keeps the namespace alive), C(ns_handles) (two file handles, Linux
    6.18 and later) and the pin (bind mounts below C(/run/rootless-ns), made by root only, which keep the namespace alive
    when every process in it has died).
  - Wrong, stale, corrupt or missing keys are repaired. A new namespace is set up only when none is alive.
  - A pin remembers the account that it was made for, in C(/run/rootless-ns/UID/for). A namespace that was made for an account
    that had this UID before is taken away, and the user gets a new one. This fails while other processes live in the old one,
    unless O(force=true). An account that was renamed keeps its namespace if it keeps its home directory. Without a pin nothing
    tells for whom a namespace was made.
  - Many users are served in one call. One user's failure never stops the others; the task fails at the end, and every entry
    is returned.
author:
  - The userns.rootless authors (@userns-rootless)
extends_documentation_fragment:
  - userns.rootless.attributes
  - userns.rootless.attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - A live namespace is joined by a short-lived child even in check mode, to read its ID maps. Nothing is changed by that.
  diff_mode:
    support: full
    details:
      - Shows the keys of each changed user before and after.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  users:
    description:
      - Names or UIDs of the users to act for. A name that is a number wins over the UID.
      - With O(state=absent) also a UID that no account has any more, if it has a pin or owns a user namespace.
      - The default is the user that the task runs as. As root it must be given, and only root can act for others.
    type: list
    elements: str
  state:
    description:
      - V(present) rejoins the user's namespace or sets one up.
      - V(absent) removes the handles, the pin and the pause process. It refuses while other processes live in the namespace,
        unless O(force=true).
    type: str
    choices:
      - present
      - absent
    default: present
  method:
    description:
      - How processes of the user find the namespace.
      - V(pause) keeps a pause process, as every Podman knows it.
      - V(handles) writes file handles and keeps no process at all. It needs Linux 6.18 or later, a kernel that lets users
        open them (see RV(userns.rootless.rootless_ns_info#module:kernel)), a Podman that knows them (6.0 and later), and
        for a new namespace O(pin=true), since handles keep nothing alive.
      - V(auto) follows Podman's rule, V(handles) when C(PODMAN_NO_PAUSE_PROCESS) is set to anything but V(0) in the task's
        environment and a probe shows that the user can open handles, else V(pause).
    type: str
    choices:
      - auto
      - handles
      - pause
    default: auto
  pin:
    description:
      - Whether to pin the namespace, so that it survives the death of every process in it.
      - The default is V(true) as root and V(false) otherwise. V(true) needs root.
      - V(false) makes no pin and leaves one that exists alone; O(state=absent) removes it.
    type: bool
  on_drift:
    description:
      - What O(state=present) does when the maps of the live namespace are not what the configured subordinate ranges would
        give today.
      - V(report) rejoins it and returns RV(namespaces[].drift=true).
      - V(fail) fails for this user and changes nothing.
      - V(recreate) replaces the namespace, unless other processes live in it and O(force=false).
    type: str
    choices:
      - report
      - fail
      - recreate
    default: report
  force:
    description:
      - Remove or recreate a namespace even when other processes live in it.
      - Those processes are not ended. They go on in a namespace that no key opens any more.
    type: bool
    default: false
notes:
  - A user with subordinate ranges needs C(newuidmap) and C(newgidmap) (package C(uidmap) on Debian). As root the module fails
    without them. An ordinary user without them gets a namespace with a single ID and a warning.
  - The pause process is C(catatonit -P) where that is installed, else C(sleep), which costs a little more memory and
    takes its libraries from the namespace. It is always the host's program, whatever the user mounts over it.
  - A pause process that root starts gets nothing of root's - a session keyring of its own, the limits and priorities of any
    process, and the user as its login UID. On hosts that run systemd it lives in a transient scope in C(rootless_ns.slice),
    in a cgroup for that user with room for 16 processes, so that it outlives the session or service that ran the module.
    Elsewhere that cgroup is below C(rootless-ns) at the root of the hierarchy. Where no cgroup can be made, a warning says so.
  - A pause process that the user starts without root is moved into a scope C(rootless-ns-pause-*.scope) of the user's own
    manager, as Podman does. It ends with that manager, which is at logout unless the user lingers. Where no such manager runs,
    a warning says with what the pause process ends.
  - With O(state=present) a pause process that would end with a login session, a service, or an application of the user's own
    manager is moved likewise. What a batch system or a container engine keeps in a cgroup of its own is left there.
  - Before an account is deleted, remove its namespace with O(state=absent). C(userdel) refuses to delete an account whose pause
    process runs, and C(userdel -f) leaves the pause process and the pin behind.
  - Users need a runtime directory. Without C(/run/user/UID) the module falls back to where this host's Podman does, and warns -
    C(/tmp/storage-run-UID) with Podman 5.0 and later or none at all, C(/tmp/podman-run-UID), then C(rundir) in the home with
    an earlier one. Enable lingering for users that are not always logged in.
  - A user who acts for itself gets the directory of C(XDG_RUNTIME_DIR), as Podman does, whatever its mode is. With one that is
    not there, or that is another user's, the module fails where the Podman of the same shell fails. Root never takes that
    variable for another user.
  - Podman 2.2 to 4.4 keep the directory of their first run in a database. Where that is another one, a warning says so.
seealso:
  - module: userns.rootless.rootless_ns_info
  - name: user_namespaces(7)
    description: Manual page on ID maps and the rules for them.
    link: https://man7.org/linux/man-pages/man7/user_namespaces.7.html
"""

EXAMPLES = r"""
- name: Set up or rejoin the namespaces of two users, and pin them
  become: true
  userns.rootless.rootless_ns:
    users:
      - alice
      - bob

- name: Set up or rejoin one's own namespace, without root
  userns.rootless.rootless_ns:

- name: Replace namespaces whose maps no longer match /etc/subuid and /etc/subgid, unless containers run in them
  become: true
  userns.rootless.rootless_ns:
    users:
      - alice
    on_drift: recreate

- name: Keep no process at all, where the kernel lets users open handles
  become: true
  userns.rootless.rootless_ns:
    users:
      - bob
    method: handles

- name: Remove a user's namespace, even when containers run in it
  become: true
  userns.rootless.rootless_ns:
    users:
      - bob
    state: absent
    force: true
"""

RETURN = r"""
namespaces:
  description: One entry per user, in the order asked.
  returned: always
  type: list
  elements: dict
  sample:
    - user: alice
      uid: 1000
      gid: 1000
      state_dir: /run/user/1000/libpod/tmp
      action: created
      userns: 4026532178
      mntns: 4026532179
      method: pause
      pinned: true
      pause_pid: 2432
      pause:
        cgroup: /rootless_ns.slice/rootless_ns-2398-5e8a11d0.scope/1000
        ends_with: null
      uid_map:
        - id: 0
          parent_id: 1000
          count: 1
        - id: 1
          parent_id: 100000
          count: 65536
      gid_map:
        - id: 0
          parent_id: 1000
          count: 1
        - id: 1
          parent_id: 100000
          count: 65536
      drift: false
      processes: 0
      in_the_way: []
      msg: ""
  contains:
    user:
      description: The user's name, or what was asked for if there is no such user, such as a UID that no account has any more.
      type: str
    uid:
      description: The user's UID, V(null) if there is no such user and nothing is left of one.
      type: int
    gid:
      description: The user's primary GID, V(null) if there is no such user.
      type: int
    state_dir:
      description: Where Podman keeps this user's C(pause.pid) and C(ns_handles). V(null) if the user failed before it was found.
      type: str
    action:
      description:
        - What was done, or would be done in check mode.
        - V(created) for a new namespace, V(rejoined) when nothing had to be changed, V(repaired) when keys of a live namespace
          were made or mended, V(recreated), V(removed), V(none) when there was nothing to remove, V(failed).
      type: str
    userns:
      description: Inode number of the user namespace, as C(readlink /proc/PID/ns/user) shows. V(null) when there is none.
      type: int
    mntns:
      description: Inode number of the mount namespace, as C(readlink /proc/PID/ns/mnt) shows. V(null) when there is none.
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
      contains:
        cgroup:
          description: Its cgroup, in the hierarchy of systemd where systemd runs. V(null) when there is no pause process.
          type: str
        ends_with:
          description:
            - The session, service or application of somebody's that it ends with, such as V(session-3.scope). V(null) when there
              is none.
            - Where it can be moved, M(userns.rootless.rootless_ns) moves it out of there.
          type: str
    uid_map:
      description: The user ID map as the kernel shows it, read after really joining. In check mode the map that would be set up.
      type: list
      elements: dict
      contains: &map
        id:
          description: First ID inside the namespace.
          type: int
        parent_id:
          description: First ID in the module's own namespace.
          type: int
        count:
          description: How many IDs.
          type: int
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
    in_the_way:
      description:
        - The processes, at most 100, because of which the namespace was not removed or replaced without O(force=true).
        - Empty unless that is why the user failed.
      type: list
      elements: dict
      contains:
        pid:
          description: The process.
          type: int
        command:
          description: Its name, at most 15 characters.
          type: str
        container:
          description: The container it belongs to, as the command line of its monitor C(conmon) says. V(null) for others.
          type: str
    msg:
      description: Why the user failed, and warnings. Empty when there is nothing to say.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_ns import ARGUMENT_SPEC, run


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
