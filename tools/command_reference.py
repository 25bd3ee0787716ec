# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/rootless-ns.md from the command's own parser: `python3 tools/command_reference.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = CHECKOUT / "docs/rootless-ns.md"

HEADER = (
    "<!-- Made by tools/command_reference.py: change plugins/module_utils/_rootless/command/arguments.py instead. -->\n"
)


def reference(parser: argparse.ArgumentParser, *, output: str, exit_codes: dict[str, str]) -> str:
    """The page. Not made of `format_help`, which differs between Pythons."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    lines = [HEADER, f"# {parser.prog}", "", parser.description or ""]
    lines += ["", "```console", f"$ {parser.prog} COMMAND [OPTION...]", f"$ {parser.prog} --version", "```", ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {one.description} |" for name, one in commands.choices.items()]
    lines += ["", output, "", "`--help` says the same on the host, for each command too.", ""]
    for name, one in commands.choices.items():
        lines += [f"## {name}", "", one.description or "", "", "```console", f"$ {one.usage}", "```", ""]
        lines += ["| option | what it does |", "|---|---|", *options(one), ""]
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in exit_codes.items()]
    return "\n".join(lines) + "\n"


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if "--help" in action.option_strings:
            continue
        value = action.metavar or ("\\|".join(action.choices) if action.choices else "")
        default = f" (default: `{action.default}`)" if action.choices else ""
        yield f"| `{' '.join([*action.option_strings, *([value] if value else [])])}` | {action.help}{default} |"


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "plugins/module_utils"))
    from _rootless.command.arguments import EXIT_CODES, OUTPUT, make_parser

    REFERENCE.write_text(reference(make_parser(), output=OUTPUT, exit_codes=EXIT_CODES), encoding="utf-8")
