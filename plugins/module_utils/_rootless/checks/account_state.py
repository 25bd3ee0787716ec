# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why PAM refuses an account: fields 3 to 8 of shadow(5), judged as pam_unix(8) does, and what systemd met."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..host_programs import answer_of
from .shell import shell_word

# systemd.exec(5): the process could not be started because of PAM.
_EXIT_PAM = "224"
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Refusal:
    """`why` an account is refused, and `fix`, a line that lets it in again."""

    why: str
    fix: str


class Shadow:
    """`shadow` below `etc`, read once and only when it matters. Empty where it cannot be read: it is root's."""

    def __init__(self, *, etc: str) -> None:
        self._path = f"{etc}/shadow"
        self._entries: dict[str, list[str]] | None = None

    def why_refused(self, name: str, *, today: int | None = None) -> Refusal | None:
        """What it says against an account; None for nothing, or for a user who is not in it (a directory's).

        `today`: days since 1970, in UTC.
        """
        fields = self._read().get(name)
        if fields is None:
            return None
        today = int(time.time()) // _SECONDS_A_DAY if today is None else today
        password, changed, max_age, expires = fields[1], _days(fields[2]), _days(fields[4]), _days(fields[7])
        word = shell_word(name)
        if expires is not None and today >= expires:
            return Refusal(f"the account has expired ({_date(expires)}, {self._path})", f"chage --expiredate -1 {word}")
        # Also the password of who has none to type grows old.
        renew = f"passwd {word}" if password[:1] not in "!*" else f"chage --lastday {_date(today)} --maxdays -1 {word}"
        if changed == 0:
            return Refusal(f"the password has to be changed before the next login ({self._path})", renew)
        if changed is not None and max_age is not None and today - changed > max_age:
            told = f"the password has expired: it is {today - changed} days old, of at most {max_age} ({self._path})"
            return Refusal(told, renew)
        return None

    def _read(self) -> dict[str, list[str]]:
        if self._entries is None:
            try:
                with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
                    lines = [line.rstrip("\n").split(":") for line in file]
            except OSError:
                lines = []
            # The first of two counts, as for getspnam(3).
            self._entries = {fields[0]: fields for fields in reversed(lines) if len(fields) >= 8}
        return self._entries


def pam_refused(unit: str) -> bool:
    """Whether systemd's last try to start `unit` ended at PAM, whichever of its modules it was."""
    answer = answer_of(["systemctl", "show", "--property=ExecMainStatus", unit]) or b""
    return answer.strip() == f"ExecMainStatus={_EXIT_PAM}".encode()


def _days(field: str) -> int | None:
    """Empty, negative or no number: it never comes to that."""
    return int(field) if field.isascii() and field.isdigit() and len(field) < 10 else None


def _date(days: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(days * _SECONDS_A_DAY))
