#!/usr/bin/python
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rootless_pause
short_description: Remove stale pause.pid and ns_handles files, and reap orphan pause processes
version_added: 1.0.0
description:
  - After a reboot, a killed job or a recycled PID, what is left in a user's state directory misleads Podman or breaks it.
    This module finds such files, says what they are, and removes those that only mislead.
  - It looks wherever a Podman of today or of long ago may have left state, C(/run/user/UID), C(storage-run-UID),
    C(podman-run-UID) and C(run-UID) in the temporary directory, C(rundir) in the home where Podman is older than 5.0, and the
    runtime directories that the user's pause processes were started with; in each of them in C(libpod/tmp), and C(pause.pid)
    also in C(libpod).
  - Files are read as Podman reads them. A C(pause.pid) with a newline or more after the number, a symbolic link, or a link
    C(libpod) of the user's own into another directory of the user's is no fault, and what it leads to is judged. A link that
    Podman cannot follow is reported in RV(users[].msg).
  - A place on a file system in user space that was mounted for a user, or behind another mount, is not looked into, since
    whoever does may have to wait for ever. It is reported in RV(users[].msg).
  - Users who do not answer cost nobody else anything. All questions to one user may take 30 seconds, and less when other users
    have used up the time of the call.
  - Whatever is alive stays, and so does what cannot be judged. A file is judged a second time under Podman's own lock, right
    before it goes; if the file or the verdict is another one by then, it stays.
  - A stale file stays, too, where it is all that keeps Podman from making a second namespace beside one that is alive, which a
    pin may hold. O(repair) puts the right file in its place instead.
  - No namespace is set up. That is what M(userns.rootless.rootless_ns) does.
author:
  - The userns.rootless authors (@userns-rootless)
extends_documentation_fragment:
  - userns.rootless.attributes
  - userns.rootless.attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the files and orphans of each changed user before and after.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  users:
    description:
      - Names or UIDs of the users to clean for.
      - The default is the user that the task runs as. As root it is every user with a runtime directory or a user namespace, also
        users of a directory that does not list its users. UIDs that have a pin or a user namespace, but no account any more,
        come last.
    type: list
    elements: str
  orphans:
    description:
      - Whether to end orphans, the user's pause processes that no C(pause.pid) names. They are reported in any case.
      - An orphan stays when other processes live in its namespace, when it alone keeps alive what C(ns_handles) opens, and in
        the first ten seconds of its life, since whoever started it may not have written its PID yet.
      - All orphans of a user stay when one of the user's places could not be looked into, whose C(pause.pid) may name them.
      - An orphan with mounts of its own, as services with C(PrivateTmp=) and batch jobs have, stays as well. Its C(pause.pid) may
        lie where only they see it.
    type: bool
    default: false
  repair:
    description:
      - Whether to make the keys open the user's namespace again where it is alive and Podman does not find it, as
        M(userns.rootless.rootless_ns) does. Where no namespace is alive, or its maps are not today's, nothing is set up.
      - With V(false) a stale file that leads Podman away from it stays, and RV(users[].files[].why) tells the reason.
    type: bool
    default: false
  state_dir:
    description:
      - The directory that holds C(pause.pid) and C(ns_handles), where Podman was given one of its own. Only this one is
        cleaned then, and O(users) must name exactly one user.
    type: path
seealso:
  - module: userns.rootless.rootless_ns
  - module: userns.rootless.rootless_ns_info
"""

EXAMPLES = r"""
- name: Remove what misleads Podman, for everybody
  become: true
  userns.rootless.rootless_pause:

- name: See what would be removed, and reap orphans too
  become: true
  userns.rootless.rootless_pause:
    orphans: true
  check_mode: true
  diff: true

- name: Clean up after one's own killed jobs
  userns.rootless.rootless_pause:
    orphans: true
"""

RETURN = r"""
removed:
  description: The paths of all files that were removed.
  returned: always
  type: list
  elements: str
  sample:
    - /run/user/1000/libpod/tmp/pause.pid
reaped:
  description: The PIDs of all orphans that were ended.
  returned: always
  type: list
  elements: int
users:
  description: One entry per user, in the order of O(users).
  returned: always
  type: list
  elements: dict
  contains:
    user:
      description: The user's name, or what was asked for if there is no such user, such as a UID that no account has any more.
      type: str
    uid:
      description: The user's UID, V(null) if there is no such user and nothing is left of one.
      type: int
    action:
      description: V(cleaned), V(repaired) when keys were mended and nothing else was removed, V(none), or V(failed).
      type: str
    files:
      description: Every file that was found.
      type: list
      elements: dict
      contains:
        path:
          description: Where it is.
          type: str
        verdict:
          description:
            - For C(pause.pid) V(garbage), V(dead), V(recycled), V(foreign), V(unknown) or V(live).
            - For C(ns_handles) V(corrupt), V(dead), V(foreign), V(unknown) or V(live).
            - V(unknown) means that it could not be judged, for want of a system call, say, or of memory. Such a file stays.
          type: str
        evidence:
          description: What the verdict rests on.
          type: str
          sample: process 4711 (sshd) of UID 0 is not a pause process
        pid:
          description: The PID in C(pause.pid). V(null) where there is none.
          type: int
        command:
          description: The name of the process with that PID. V(null) where there is none.
          type: str
        owner:
          description: The UID that process runs as. V(null) where there is none.
          type: int
        userns:
          description: Inode number of the user namespace that the file opens, if it is the user's.
          type: int
        mntns:
          description: Inode number of the mount namespace likewise.
          type: int
        action:
          description: V(removed), V(repaired) or V(left).
          type: str
        why:
          description: Why it was left.
          type: str
    orphans:
      description: The user's pause processes that no C(pause.pid) names.
      type: list
      elements: dict
      contains:
        pid:
          description: Its PID.
          type: int
        command:
          description: Its name.
          type: str
        age:
          description: Seconds since it was started.
          type: float
        userns:
          description: Inode number of its user namespace.
          type: int
        mntns:
          description: Inode number of its mount namespace.
          type: int
        action:
          description: V(reaped) or V(left).
          type: str
        why:
          description: Why it was left.
          type: str
    pin:
      description: The verdict on the pin, V(missing), V(foreign) or V(live), and the evidence. It is never removed by this module.
      type: dict
      sample:
        verdict: missing
        evidence: ""
    removed:
      description: The paths of this user's files that were removed.
      type: list
      elements: str
    reaped:
      description: The PIDs of this user's orphans that were ended.
      type: list
      elements: int
    problems:
      description: Places that were not looked into, with the reason.
      type: list
      elements: str
    msg:
      description: What an operator should know. Empty when there is nothing to say.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_pause import ARGUMENT_SPEC, run


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
