# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `rootless-ns`: arguments to calls of the library, and what comes of them to lines and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..text import escape
from .arguments import EXEC_FAILURE, NAME, make_parser
from .output import ERROR, WARNING, prefix_of, say

if TYPE_CHECKING:
    from typing import NoReturn

    # Late where it is needed: exec is to cost little more than the start of Python.
    from ..calls.result import CallResult

DONE, FAILED, USAGE, PARTLY = 0, 1, 2, 3


def main(argv: Sequence[str]) -> int:
    """`argv` without the command's own name. `exec` does not return."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        say(f"{NAME}: interrupted; run it again: what is half done is found and mended", ERROR)
        # As a program ends that does nothing about it: shells stop their loops then.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        return FAILED


def _main(argv: Sequence[str]) -> int:
    parser = make_parser()
    ours, command = _split(argv)
    try:
        arguments, surplus = parser.parse_known_args(ours)
        if arguments.version:
            return _tell_version()
        if arguments.command is None:
            parser.error("a command is needed: present, absent, info, clean or exec")
        if arguments.command == "exec" and not command:
            parser.error("exec needs a command, behind --: rootless-ns exec --user NAME -- COMMAND...")
        if surplus:
            parser.error(f"unknown arguments: {escape(' '.join(surplus))}")
        _check_users(parser, arguments)
    except SystemExit as end:
        # argparse has said why.
        return EXEC_FAILURE if end.code and argv[:1] == ["exec"] else int(end.code or 0)
    if arguments.command == "exec":
        return _exec(arguments, command)
    return _call(arguments)


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our arguments, and the command of `exec`: argparse's treatment of `--` differs between Pythons."""
    if argv[:1] == ["exec"] and "--" in argv:
        end = argv.index("--")
        return argv[:end], argv[end + 1 :]
    return argv, ()


def _check_users(parser: ArgumentParser, arguments: Namespace) -> None:
    is_root = os.geteuid() == 0
    if arguments.command == "exec":
        if len(arguments.user or ()) > 1:
            parser.error("exec runs a command for one user: --user was given more than once")
        if is_root and not arguments.user:
            parser.error("root has no rootless namespace: --user is needed")
    elif arguments.everybody and arguments.users:
        parser.error("--user and --all exclude each other")
    elif arguments.everybody and not is_root:
        parser.error("--all needs root")
    elif is_root and not arguments.users and not arguments.everybody:
        parser.error("root has no rootless namespace: --user or --all is needed")


def _tell_version() -> int:
    from .version import version_line

    say(version_line(NAME))
    return DONE


def _exec(arguments: Namespace, command: Sequence[str]) -> int:
    if os.geteuid() == 0:
        from .terminal import TerminalError, run_in_own_terminal, terminal_of_caller

        try:
            terminal = terminal_of_caller()
            if terminal is not None:
                return run_in_own_terminal(terminal, lambda: _join(arguments, command))
        except (OSError, TerminalError) as error:
            # The code of an uncaught exception would be taken for the command's.
            say(f"{NAME}: no terminal for the command: {error}; see sysctl kernel.pty.max, or use pipes", ERROR)
            return EXEC_FAILURE
    return _join(arguments, command)


def _join(arguments: Namespace, command: Sequence[str]) -> NoReturn:
    from ..joiner import JoinError, join_and_run

    user = arguments.user[0] if arguments.user else str(os.geteuid())

    # Looked up before the environment is emptied.
    prefix = prefix_of(ERROR)

    def fail(reason: str) -> NoReturn:
        # Imports nothing: the user's mounts may be in force.
        os.write(2, f"{prefix}{NAME}: {escape(reason)}\n".encode())
        os._exit(EXEC_FAILURE)

    try:
        join_and_run(user, command, create=_set_up if arguments.create else None, environment=os.environ, fail=fail)
    except (JoinError, OSError) as error:
        fail(str(error))
    except Exception as error:
        # The code of an uncaught exception would be taken for the command's.
        fail(f"internal error: {type(error).__name__}: {error}")


def _set_up(uid: int) -> str:
    from ..set_up import set_up

    return set_up(uid)


def _call(arguments: Namespace) -> int:
    from ..calls.result import RefusedError
    from ..errors import describe

    try:
        result = _make_call(arguments)
    except Exception as error:
        # Python's own report would show names that users chose as they are.
        text = describe(error)
        if arguments.json:
            _print_json({"failed": True, "msg": text})
        else:
            say(f"{NAME}: {text}", ERROR)
        return USAGE if isinstance(error, RefusedError) else FAILED
    _tell(arguments, result)
    if result.failure is None:
        return DONE
    # What any user can bring about is not to make the timer's service, and the host, a failure.
    return PARTLY if arguments.command == "clean" else FAILED


def _make_call(arguments: Namespace) -> CallResult:
    if arguments.command == "info":
        from ..calls.info import look

        return look(arguments.users)
    if arguments.command == "clean":
        from ..calls.clean import clean
        from ..cleaning import CleaningOptions

        options = CleaningOptions(
            orphans=arguments.orphans,
            repair=arguments.repair,
            state_dir=arguments.state_dir,
            check=arguments.check,
        )
        return clean(arguments.users, options)
    from ..calls.change import change

    if arguments.command == "absent":
        return change(arguments.users, state="absent", force=arguments.force, check=arguments.check)
    return change(
        arguments.users,
        state="present",
        method=arguments.method,
        pin=arguments.pin,
        on_drift=arguments.on_drift,
        force=arguments.force,
        check=arguments.check,
    )


def _tell(arguments: Namespace, result: CallResult) -> None:
    from .lines import changed_line, cleaned_line, is_eventful, seen_line

    # All is done: who stops reading, as head(1) does, ends this quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if arguments.json:
        failed = {"failed": True, "msg": result.failure} if result.failure is not None else {}
        warnings = [*result.warnings, *result.user_warnings]
        _print_json({**result.told, **failed, **({"warnings": warnings} if warnings else {})})
        return
    for text in result.warnings:
        say(f"{NAME}: {text}", WARNING)
    check = "check" in arguments and arguments.check
    line = {"info": seen_line, "clean": cleaned_line}.get(arguments.command, changed_line)
    entries = result.told["users" if arguments.command == "clean" else "namespaces"]
    # A timer's journal would fill with thousands of users who have nothing to clean.
    told = (
        [entry for entry in entries if is_eventful(entry)] if line is cleaned_line and arguments.everybody else entries
    )
    for entry in told:
        text, priority = line(entry)
        say(f"{text}{' (check: nothing was done)' if check else ''}", priority)
    if len(told) < len(entries):
        say(f"{len(entries) - len(told)} of {len(entries)} users: nothing to clean")


def _print_json(told: object) -> None:
    import json

    from ..text import escape_all

    sys.stdout.write(json.dumps(escape_all(told), indent=2) + "\n")
    sys.stdout.flush()
