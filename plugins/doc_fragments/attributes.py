# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled/queried by the module has not changed in a relevant way.
  platform:
    description: Target operating systems that the module works on.
notes:
  - Every string in the result is one line of printable characters; only the texts of C(diff) have several lines.
    An ASCII control character, and a byte that is not UTF-8, is returned as C(\xNN). Another character that cannot be seen,
    or that changes how a line is shown, is returned as C(\uNNNN) or C(\UNNNNNNNN). A backslash that would make the text after
    it look like one of these is returned as C(\x5c). Users choose the names of their processes and directories.
"""

    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/userns.rootless.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - userns.rootless.all
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""
