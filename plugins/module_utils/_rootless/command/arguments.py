# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `rootless-ns`: subcommands, options, and what `--help` and the reference say of them."""

from __future__ import annotations

import argparse
import textwrap

NAME = "rootless-ns"
DESCRIPTION = (
    "Users' rootless namespaces on this host, as Podman means them: set up, rejoined, removed, looked at, used."
)
OUTPUT = (
    "One line for each user: on the standard output where all is well, on the standard error where something is not. "
    "Lines that go to the journal carry their priority. With --json: what the module of the collection returns "
    "(rootless_ns, rootless_ns_info, rootless_pause), key by key. Names and paths are escaped as in the modules: "
    "control characters and bytes that are not UTF-8 are \\xNN, other characters that cannot be seen are \\uNNNN or "
    "\\UNNNNNNNN."
)
EXIT_CODES = {
    "0": "done, also where there was nothing to do",
    "1": "some user failed, or nothing could be done at all; the others were done",
    "2": "wrong usage, or asked for others without being root; nothing was done",
    "3": "of clean, instead of 1: some users could not be cleaned for; the others were",
    "125": "of exec: it failed before the command ran, whatever the reason",
    "other": "of exec: what the command ended with",
}
EXEC_FAILURE = 125


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=NAME,
        description=DESCRIPTION,
        epilog=f"{textwrap.fill(OUTPUT)}\n\n{_exit_codes(tuple(EXIT_CODES))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="store_true", help="say which library this is, with a digest of its sources"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_present(_add(commands, "present", "Set up or rejoin namespaces, and mend what is wrong with their keys."))
    _add_absent(_add(commands, "absent", "Remove namespaces: handles, pin and pause process."))
    _add_info(_add(commands, "info", "Look at ID maps, ranges and the state of namespaces; change nothing."))
    _add_clean(
        _add(
            commands,
            "clean",
            "Remove stale pause.pid and ns_handles; what is alive stays.",
            codes=("0", "1", "2", "3"),
        )
    )
    _add_exec(
        _add(
            commands,
            "exec",
            "Run a command as root of a user's namespace. Nothing of root's environment, keyring and terminal is "
            "passed on: at a terminal, root's command gets a pseudo-terminal of its own; pipes and files are passed on "
            "as they are.",
            codes=("125", "other"),
            tail=" -- COMMAND...",
        )
    )
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    *,
    codes: tuple[str, ...] = ("0", "1", "2"),
    tail: str = "",
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        usage=f"{NAME} {name} [OPTION...]{tail}",
        epilog=_exit_codes(codes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _exit_codes(codes: tuple[str, ...]) -> str:
    return "exit codes:\n" + "\n".join(f"  {code:<7}{EXIT_CODES[code]}" for code in codes)


def _add_users(parser: argparse.ArgumentParser, everybody: str, *, gone: bool = True) -> None:
    parser.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        dest="users",
        help="a name or a UID; may be given several times. Without it: oneself. Root has to give it, or --all"
        + (". Also a UID that no account has any more" if gone else ""),
    )
    parser.add_argument("--all", action="store_true", dest="everybody", help=f"root only: {everybody}")
    parser.add_argument("--json", action="store_true", help="print what the module returns, instead of a line a user")


_WITH_STATE = "every user with a subordinate range, a runtime directory, a pin or lingering"
_WITH_ANYTHING = (
    "every user with a subordinate range, a runtime directory, a pin, lingering or a user namespace, and UIDs with a "
    "pin or a user namespace that no account has any more"
)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="say what would be done, and do nothing")


def _add_present(parser: argparse.ArgumentParser) -> None:
    _add_users(parser, _WITH_STATE, gone=False)
    _add_check(parser)
    parser.add_argument(
        "--method",
        choices=("auto", "handles", "pause"),
        default="auto",
        help="what lets Podman in: file handles, or a pause process. auto: handles where PODMAN_NO_PAUSE_PROCESS is "
        "set and the user can open them",
    )
    pin = parser.add_mutually_exclusive_group()
    pin.add_argument(
        "--pin",
        action="store_true",
        default=None,
        help="pin the namespace, so that it needs no process; default for root",
    )
    pin.add_argument("--no-pin", action="store_false", dest="pin", help="make no pin; one that is there stays")
    parser.add_argument(
        "--on-drift",
        choices=("report", "fail", "recreate"),
        default="report",
        help="what to do when a namespace's maps are not what the configured ranges would give today",
    )
    parser.add_argument(
        "--force", action="store_true", help="with --on-drift recreate: also when other processes live in the namespace"
    )


def _add_absent(parser: argparse.ArgumentParser) -> None:
    _add_users(parser, _WITH_ANYTHING)
    _add_check(parser)
    parser.add_argument("--force", action="store_true", help="also when other processes live in the namespace")


def _add_info(parser: argparse.ArgumentParser) -> None:
    _add_users(parser, _WITH_ANYTHING)


def _add_clean(parser: argparse.ArgumentParser) -> None:
    _add_users(
        parser,
        "every user with a runtime directory or a user namespace, and UIDs with a pin or a user namespace that no "
        "account has any more",
    )
    _add_check(parser)
    parser.add_argument("--orphans", action="store_true", help="also end pause processes that nothing names")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="where a namespace is alive that Podman does not find any more: make its keys open it, as present does; "
        "without it the stale file stays",
    )
    parser.add_argument(
        "--state-dir", metavar="PATH", help="clean only in this directory of the one user that is named"
    )


def _add_exec(parser: argparse.ArgumentParser) -> None:
    # A list, so that a second one can be refused: who may run `exec --user alice *` by sudo must not get another's.
    parser.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        help="a name or a UID, once. Without it: oneself. Root has to give it",
    )
    parser.add_argument(
        "--no-create",
        action="store_false",
        dest="create",
        help="fail where there is no namespace, instead of setting one up",
    )
