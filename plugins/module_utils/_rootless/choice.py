# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a user's namespaces is meant, where more than one is alive.

The one rule, by which modules, command and become plugin choose. Pure; what is known of each comes from `state`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .nsfs import NamespaceId


def choose(
    alive: Sequence[NamespaceId],
    *,
    inhabited: Collection[NamespaceId],
    fitting: Collection[NamespaceId] | None,
    podmans: NamespaceId | None,
) -> NamespaceId | None:
    """The namespace that every key ought to open; None where none is alive.

    `alive` stands in the order that decides last: what Podman's files open, the pin, what only processes hold.
    `inhabited` are those in which others than pause processes live. `fitting` are those whose maps are what the
    configured ranges give today, None where nobody looked. `podmans` is the one that Podman would join now.

    1. One that is inhabited goes before an empty one: what runs there stays where it can be reached. Of several it is
       Podman's.
    2. Then one whose maps are today's: after `podman system migrate` the namespace that comes next is the right one.
    3. Then Podman's, and then the order of `alive`.
    """
    lived_in = [namespace for namespace in alive if namespace in inhabited]
    if len(lived_in) > 1 and podmans in lived_in:
        return podmans
    candidates = lived_in or list(alive)
    if fitting is not None:
        candidates = [namespace for namespace in candidates if namespace in fitting] or candidates
    if podmans in candidates:
        return podmans
    return next(iter(candidates), None)
