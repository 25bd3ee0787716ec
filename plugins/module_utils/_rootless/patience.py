# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a call waits for its users: a limit for each user, and for what slow users may cost all others.

What counts is the time spent waiting for a user's children, since only that is in the user's hands. A user that has
not answered in time is given up: nothing more is asked of it in this call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import RootlessError

_NAMED_USERS = 3


class GivenUpError(RootlessError):
    """Nothing more is asked of this user in this call."""


@dataclass(frozen=True)
class Limits:
    """Seconds of waiting, for each process that works on users.

    `user`: for all questions to all children of one user together, locks included. `short`: what every user has,
    whatever others have cost. `spare`: what all users together may take beyond `short` each. `lost`: when users that
    were given up have cost so much, the users that are left fail at once.
    """

    user: float = 30.0
    short: float = 2.0
    spare: float = 60.0
    lost: float = 300.0


@dataclass
class UserTime:
    """One user's time in this call."""

    user: str
    patience: Patience = field(repr=False)
    spent: float = 0.0
    # Why nothing more is asked.
    given_up: str = ""
    # One of its processes did not end by itself: the next one is killed at once.
    unwilling: bool = False

    @property
    def allowed(self) -> float:
        """Seconds that this user has in all."""
        limits = self.patience.limits
        return min(limits.user, limits.short + max(0.0, limits.spare - self.patience.overdrawn + self.overdrawn))

    @property
    def overdrawn(self) -> float:
        """Seconds that this user has taken beyond what every user has."""
        return max(0.0, self.spent - self.patience.limits.short)

    @property
    def left(self) -> float:
        return max(0.0, self.allowed - self.spent)

    def spend(self, seconds: float) -> None:
        """Account for a wait."""
        before = self.overdrawn
        self.spent += seconds
        if self.overdrawn:
            self.patience.overdrawn += self.overdrawn - before
            self.patience.slow[self.user] = self

    def check(self) -> None:
        """Raises `GivenUpError` when nothing more is to be asked."""
        if not self.given_up and self.left <= 0:
            self.give_up(f"the questions to {self.user} have taken {self.spent:.1f} s{self.why_so_little()}")
        if self.given_up:
            raise GivenUpError(f"{self.given_up}; nothing more is asked of {self.user} in this call")

    def give_up(self, why: str) -> None:
        """Note why; the first reason stays."""
        if not self.given_up:
            self.given_up = why
            self.patience.slow[self.user] = self

    def why_so_little(self) -> str:
        """An addition to a message, where others have left this user less time than it would have had alone."""
        if self.allowed >= self.patience.limits.user:
            return ""
        return f" (others have used up the time of this call: {self.patience.slowest(self)})"


class Patience:
    """The users' times in one process; a worker starts with those of the process that it is a copy of."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # Seconds that users have taken beyond what every user has, and those users by name.
        self.overdrawn = 0.0
        self.slow: dict[str, UserTime] = {}
        self._times: dict[int, UserTime] = {}

    def of(self, uid: int, user: str) -> UserTime:
        """The time of a user; it is given up from the start where others have used up everything."""
        time = self._times.get(uid)
        if time is None:
            time = self._times[uid] = UserTime(user, self)
            cost = sum(slow.spent for slow in self.slow.values() if slow.given_up)
            if cost > self.limits.lost:
                time.given_up = (
                    f"not looked at: users that do not answer have cost this call {cost:.0f} s "
                    f"({self.slowest(time)}); run again for {user} alone"
                )
        return time

    def slowest(self, time: UserTime) -> str:
        """The other users that have cost most, with their seconds."""
        slow = sorted((slow for slow in self.slow.values() if slow is not time), key=lambda slow: -slow.spent)
        named = ", ".join(f"{slow.user} {slow.spent:.0f} s" for slow in slow[:_NAMED_USERS])
        return f"{named} and {len(slow) - _NAMED_USERS} more" if len(slow) > _NAMED_USERS else named
