# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command behind `tools/machines`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import cache, guest, hosts, inventory, kernels, netns, rootfs

RELEASES = ("bookworm", "trixie", "sid")
ALWAYS = ("bookworm", "trixie")
# The oldest that Debian keeps, and the newest there is.
KERNELS = ("bookworm", "sid")


def up(args: argparse.Namespace) -> None:
    """Boot fresh hosts (two a release, one of them bare, and a fleet) and write their inventory. Those before go."""
    reason = hosts.why_not()
    if reason:
        raise cache.MissingError(reason)
    swept = hosts.sweep()
    if swept:
        cache.say(f"Removed what an earlier run left: {' '.join(swept)}")
    wanted = []
    for release in RELEASES:
        try:
            for name in (release, f"bare-{release}"):
                rootfs.of(name)
                wanted.append(hosts.Host(name, name))
        except cache.MissingError as missing:
            if release in ALWAYS:
                raise
            cache.say(f"Without {release}: {missing}")
    wanted += [hosts.Host(f"fleet{number:02}", "trixie") for number in range(1, args.fleet + 1)]
    started = time.monotonic()
    try:
        hosts.up(wanted, inventory.public_key())
    except BaseException:
        hosts.sweep()
        raise
    inventory.write(args.inventory, wanted)
    cache.say(f"{len(wanted)} hosts are up after {time.monotonic() - started:.1f} s: {args.inventory}")


def down(args: argparse.Namespace) -> None:
    """Remove all hosts."""
    if hosts.why_not() is None:
        hosts.sweep()
    args.inventory.unlink(missing_ok=True)


def reboot(args: argparse.Namespace) -> None:
    """Power hosts off and boot the same file systems again."""
    for host in _named(args.name):
        host.stop(power_off=True)
        host.boot()


def status(args: argparse.Namespace) -> None:
    """List the hosts."""
    for host in hosts.known():
        print(f"{host.name:15} {host.suite:15} {len(host.processes())} processes")


def shell(args: argparse.Namespace) -> None:
    """Log in as root."""
    (host,) = _named([args.name])
    command = ["ssh", "-i", str(inventory.key()), "-o", "ProxyUseFdpass=yes"]
    command += ["-o", f"ProxyCommand={sys.executable} {netns.__file__} {host.label} 22"]
    command += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    os.execvp("ssh", [*command, f"root@{host.name}", *args.command])


# As automake's tests say it: not run, for a reason.
SKIPPED = 77


def check(args: argparse.Namespace) -> int:
    """Tell whether this machine can boot hosts; exit 77 with the reason if not."""
    reason = hosts.why_not()
    if reason:
        cache.say(reason)
        return SKIPPED
    return 0


def test_kernels(args: argparse.Namespace) -> int:
    """Run the tests that must hold on every kernel in guests with the kernels of Debian releases, old and new."""
    reason = guest.why_not()
    if reason:
        cache.say(f"SKIPPED kernels: {reason}")
        return SKIPPED
    images = {release: kernels.of(release) for release in args.release or KERNELS}
    guest.debian()
    failed = 0
    skipped: list[set[str]] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        started = time.monotonic()
        for release, (status, text) in zip(images, pool.map(guest.run, images.values())):
            print(f"--- the kernel of {release}\n{text}")
            cache.say(
                f"The kernel of {release}: {'FAILED' if status else 'passed'}, {time.monotonic() - started:.0f} s"
            )
            failed += status != 0
            skipped.append(set(re.findall(r"::(\S+) SKIPPED", text)))
    # What one kernel lacks another has: a test that none could run says nothing.
    nowhere = set.intersection(*skipped) if not args.release else set()
    if nowhere:
        cache.say(f"FAILED: no kernel could run {' '.join(sorted(nowhere))}")
    return 1 if failed or nowhere else 0


def _named(names: list[str]) -> list[hosts.Host]:
    known = {host.name: host for host in hosts.known()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise cache.MissingError(f"no such host: {' '.join(unknown)}; there are: {' '.join(known) or 'none'}")
    return [known[name] for name in names]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/machines", description=__doc__)
    parser.add_argument(
        "--inventory",
        type=Path,
        default=Path(__file__).parents[2] / ".cache/hosts.yml",
        help="the inventory file to write (default: .cache/hosts.yml in the checkout)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, reboot, status, shell, check, test_kernels):
        name = function.__name__.replace("_", "-")
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        if function is up:
            command.add_argument("--fleet", type=int, default=0, metavar="N", help="hosts beside those of the releases")
        elif function is reboot:
            command.add_argument("name", nargs="+")
        elif function is shell:
            command.add_argument("name")
            command.add_argument("command", nargs="*", help="run this instead of a shell")
        elif function is test_kernels:
            command.add_argument("release", nargs="*", help=f"default: {' '.join(KERNELS)}")
    args = parser.parse_args()
    try:
        code: int | None = args.function(args)
    except cache.MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
