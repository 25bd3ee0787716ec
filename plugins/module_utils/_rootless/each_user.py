# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same for many users: on all CPUs, results in the order asked, one user's failure nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from .accounts import Account
from .parallel import Lost, map_forked


class _Outcome(Protocol):
    def fail(self, message: str) -> None: ...


Outcome = TypeVar("Outcome", bound=_Outcome)


def each_user(
    act: Callable[[Account], Outcome],
    accounts: Sequence[Account | Outcome],
    *,
    blank: Callable[[Account], Outcome],
    finish: Callable[[], None],
) -> list[Outcome]:
    """`act` for every account. An outcome among the accounts stands for a user that could not be resolved, and stays.

    Whatever `act` raises is that user's failure. `blank` makes the outcome of a user about whom nothing is known: then,
    and when the process that worked on it died.
    `finish` ends, in each process that worked, what `act` has started.
    """
    real = [account for account in accounts if isinstance(account, Account)]
    done = iter(zip(real, map_forked(act, real, finish=finish)))
    outcomes: list[Outcome] = []
    for account in accounts:
        if not isinstance(account, Account):
            outcomes.append(account)
            continue
        asked, outcome = next(done)
        if isinstance(outcome, Lost):
            failed = blank(asked)
            failed.fail(outcome.why)
            outcomes.append(failed)
        else:
            outcomes.append(outcome)
    return outcomes
