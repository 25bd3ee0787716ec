#!/usr/bin/python
# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: rootless_subid
short_description: Manage subordinate ID ranges in /etc/subuid and /etc/subgid
version_added: 1.0.0
description:
  - Gives owners the subordinate user and group IDs that rootless containers need, or takes them away, many owners in one call.
  - A range that is given out never shares an ID with another range, with a user or a group of the host, with its owner, or with
    a block that C(systemd-nspawn) uses (recognised by the owners of C(/var/lib/machines) and of running processes).
  - Ranges that are there are never moved or shrunk unless O(exclusive=true). Comments, order and malformed lines stay.
  - The files are changed as C(usermod) does, under the same locks, by a new file that is renamed over the old one.
  - A range that is taken away leaves a comment, and is not given to another owner as long as that stands there
    (see O(reuse_released)), since files of the old owner's containers may still exist under those IDs.
  - C(useradd) does not know of such comments. Where it gives ranges to new users, the next one may get what was taken away.
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
      - Shows the files before and after.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  owners:
    description:
      - Names or UIDs of the owners. They need not be users of the host, V(containers) for example.
      - An owner known by name and by UID is one owner.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) gives every owner at least what is asked.
      - V(absent) takes away all its ranges.
    type: str
    choices:
      - present
      - absent
    default: present
  kinds:
    description:
      - Whether to manage user IDs, group IDs, or both.
    type: list
    elements: str
    choices:
      - uid
      - gid
    default:
      - uid
      - gid
  count:
    description:
      - How many IDs every owner is to have in all. The default is C(SUB_UID_COUNT) and C(SUB_GID_COUNT) of C(login.defs), 65536.
    type: int
  allocate:
    description:
      - V(next) takes the lowest gap between C(SUB_UID_MIN) and C(SUB_UID_MAX) of C(login.defs), on a grid of ranges of that size.
      - V(uid) takes the range that follows from the owner's UID, the same on every host with the same C(login.defs),
        C(SUB_UID_MIN + (UID - UID_MIN) * count). It is what C(useradd) of shadow 4.19 and later does where C(login.defs) says
        C(SUB_UID_DETERMINISTIC yes).
    type: str
    choices:
      - next
      - uid
    default: next
  ranges:
    description:
      - These ranges and no others. Owners that are not named here get O(count) IDs by O(allocate).
    type: list
    elements: dict
    suboptions:
      owner:
        description:
          - Whose range it is. Can be left out when O(owners) names one owner.
        type: str
      kinds:
        description:
          - Whether it is a range of user IDs, group IDs, or both.
        type: list
        elements: str
        choices:
          - uid
          - gid
        default:
          - uid
          - gid
      start:
        description:
          - The first ID.
        type: int
        required: true
      count:
        description:
          - How many IDs.
        type: int
        required: true
  exclusive:
    description:
      - Whether the owners are to have no more than what is asked. Ranges beyond that are taken away, also from under a running
        container.
    type: bool
    default: false
  reuse_released:
    description:
      - Whether ranges that were taken away from one owner may be given to another. Otherwise O(allocate=next) passes over
        them, and O(allocate=uid) fails where it leads to them. What O(ranges) asks for by number is given in any case.
    type: bool
    default: false
  key:
    description:
      - Whether new lines name the owner or its UID.
    type: str
    choices:
      - name
      - uid
    default: name
  on_overlap:
    description:
      - What to do when ranges of different owners share IDs already, whoever they are. V(report) warns and lists them,
        V(fail) changes nothing.
    type: str
    choices:
      - fail
      - report
    default: report
  backup:
    description:
      - Whether to keep a copy of each file that is changed.
    type: bool
    default: false
seealso:
  - module: userns.rootless.rootless_ns
  - module: userns.rootless.rootless_ns_info
"""

EXAMPLES = r"""
- name: Give the same ranges on every host that shares their home directories
  become: true
  userns.rootless.rootless_subid:
    owners:
      - alice
      - bob
    allocate: uid

- name: Give the build users 65536 IDs each
  become: true
  userns.rootless.rootless_subid:
    owners:
      - alice
      - bob

- name: Give a certain range to an owner without an account
  become: true
  userns.rootless.rootless_subid:
    owners:
      - containers
    ranges:
      - start: 2147483648
        count: 1048576

- name: Take the ranges of a user that leaves
  become: true
  userns.rootless.rootless_subid:
    owners:
      - bob
    state: absent
"""

RETURN = r"""
owners:
  description: One entry per owner, in the order of O(owners).
  returned: always
  type: list
  elements: dict
  contains:
    owner:
      description: The owner as asked.
      type: str
    uid:
      description: Its UID. V(null) if there is no such user.
      type: int
    action:
      description: V(changed), V(none) or V(failed).
      type: str
    uid_ranges:
      description: The user ID ranges that it has in the end, sorted by start.
      type: list
      elements: dict
      contains: &range
        start:
          description: First ID.
          type: int
        count:
          description: How many IDs.
          type: int
    uid_added:
      description: Those that are new.
      type: list
      elements: dict
      contains: *range
    uid_removed:
      description: Those that were taken away.
      type: list
      elements: dict
      contains: *range
    gid_ranges:
      description: The group ID ranges that it has in the end, sorted by start.
      type: list
      elements: dict
      contains: *range
    gid_added:
      description: Those that are new.
      type: list
      elements: dict
      contains: *range
    gid_removed:
      description: Those that were taken away.
      type: list
      elements: dict
      contains: *range
    msg:
      description: Why it failed. Empty otherwise.
      type: str
overlaps:
  description:
    - Pairs of ranges of different owners that share IDs, as they were found.
    - Of many owners with the same range each is told with the first of them.
  returned: always
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
backup_files:
  description: The copies, by the file that was changed.
  returned: when O(backup=true) and something was changed
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.userns.rootless.plugins.module_utils._module.rootless_subid import ARGUMENT_SPEC, run


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True))


if __name__ == "__main__":
    main()
