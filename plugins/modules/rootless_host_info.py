#!/usr/bin/python
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rootless_host_info
short_description: Find out what keeps a host from running rootless containers
version_added: 1.0.0
description:
  - Returns findings, each with what was found, why it matters, and a line that mends it, and for every user whether rootless
    containers can run.
  - What can be tried is tried, as the user. A namespace is made, power is used in it, and the user's ID maps are written with
    C(newuidmap). Nothing of that stays, and nothing is guessed from the version of a kernel or a program.
  - Podman need not be installed, and need not work.
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
      - The default is the user that the task runs as. As root it is every user with a subordinate range, a
        runtime directory, a pin or lingering.
    type: list
    elements: str
notes:
  - Findings never fail the task. A user that does not exist does, after all others have been looked at.
  - What is found of mounts, system call filters and privileges is what this task's own process has. A task that runs in a
    container, or in a service with restrictions, may find what logged-in users do not have.
seealso:
  - module: userns.rootless.rootless_ns_info
  - module: userns.rootless.rootless_subid
"""

EXAMPLES = r"""
- name: Look at everybody
  become: true
  userns.rootless.rootless_host_info:
  register: host

- name: Show what blocks, and what would help
  ansible.builtin.debug:
    msg: "{{ item.user or 'host' }}: {{ item.found }}. {{ item.why }} Try: {{ item.fix }}"
  loop: "{{ host.findings | selectattr('severity', 'equalto', 'blocks') }}"
  loop_control:
    label: "{{ item.code }}"

- name: Give subordinate IDs to those who have none
  become: true
  userns.rootless.rootless_subid:
    owners: "{{ host.findings | selectattr('code', 'equalto', 'ranges-missing') | map(attribute='user') | unique }}"

- name: Stop unless alice can run rootless containers
  become: true
  userns.rootless.rootless_host_info:
    users:
      - alice
  register: alice
  failed_when: not alice.ok
"""

RETURN = r"""
ok:
  description: Whether nothing blocks any of the users.
  returned: success
  type: bool
  sample: false
findings:
  description: What was found, first about the host, then user by user, the worst first. Empty on a host without fault.
  returned: success
  type: list
  elements: dict
  sample:
    - code: map-tool-powerless
      severity: blocks
      user: null
      found: "/usr/bin/newuidmap: it has neither the setuid bit nor a file capability that lets it write an ID map"
      why: Without privileges it cannot write an ID map.
      fix: setcap cap_setuid+ep /usr/bin/newuidmap
  contains:
    code:
      description:
        - A name that never changes, to select findings by.
        - "The kernel: V(userns-off), V(userns-few), V(userns-for-root-only), V(userns-apparmor), V(userns-seccomp),
          V(userns-refused), V(seccomp-filter), V(no-new-privileges), V(handles-unusable)."
        - "The map tools and ranges: V(map-tool-missing), V(map-tool-powerless), V(map-tool-nosuid), V(maps-refused),
          V(ranges-missing), V(ranges-short), V(ranges-unusable), V(ranges-unavailable), V(ranges-overlap),
          V(range-contains-own-id), V(range-contains-account), V(podman-without-libsubid)."
        - "The user's session: V(runtime-dir-missing), V(runtime-dir-cached), V(runtime-dir-unusable), V(no-lingering), V(no-user-manager),
          V(user-manager-refused) where the account or its password has expired, or PAM refuses the user for another reason."
        - "Mounts and cgroups: V(root-mount-private), V(graph-root-remote), V(cgroup-v1), V(cgroup-missing),
          V(cgroup-controllers-missing), V(cgroup-not-delegated)."
        - V(not-checked) where something could not be found out.
      type: str
    severity:
      description:
        - V(blocks) where no ordinary rootless container can run, V(limits) where some things do not work or are not safe,
          V(note) for what is worth knowing.
      type: str
    user:
      description: The user it is about. V(null) for the whole host.
      type: str
    found:
      description: What was found, and where.
      type: str
    why:
      description: Why it matters.
      type: str
    fix:
      description: A line that an operator can run, or adapt.
      type: str
users:
  description: One entry for each user, in the order asked.
  returned: success
  type: list
  elements: dict
  sample:
    - user: alice
      uid: 1000
      ok: false
      codes:
        - no-lingering
      msg: ""
  contains:
    user:
      description: The user's name, or what was asked for if there is no such user.
      type: str
    uid:
      description: The user's UID, V(null) if there is no such user.
      type: int
    ok:
      description: Whether nothing blocks this user, neither of its own nor of the host's.
      type: bool
    codes:
      description: The codes of this user's own findings.
      type: list
      elements: str
    msg:
      description: Why the user could not be looked at. Empty when there is nothing to say.
      type: str
kernel:
  description: What this kernel can do.
  returned: success
  type: dict
  sample:
    nsfs_handles: user
  contains:
    nsfs_handles:
      description:
        - Who can open namespaces by file handle. V(unsupported), V(root) or V(user). It was tried, as C(nobody) or as one of
          the users. V(unknown) means that it could be tried as none of them.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_host_info import ARGUMENT_SPEC, run


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
