# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.userns.rootless.plugins.module_utils._rootless.containers import container_of, monitored


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/conmon --api-version 1 -c 0a1b -u 0a1b -r /usr/bin/crun -n web --exit-dir /x", "web"),
        ("conmon --name web", "web"),
        ("conmon --name=web", "web"),
        ("conmon --name=", None),
        ("conmon -n", None),
        ("conmon -c 0a1b", None),
        ("-n web", None),
        ("", None),
    ],
)
def test_monitored(command: str, name: str | None) -> None:
    assert monitored(command.encode().split(b" ")) == name


def test_a_name_need_not_be_text() -> None:
    assert monitored([b"conmon", b"-n", b"\xff"]) == "\udcff"


def process(proc: Path, pid: int, *, comm: str, parent: int, cmdline: str = "") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "comm").write_text(comm + "\n")
    (proc / str(pid) / "stat").write_text(f"{pid} ({comm}) S {parent} 1 1 0")
    (proc / str(pid) / "cmdline").write_text(cmdline.replace(" ", "\0") + "\0")


def test_a_process_belongs_to_the_container_of_the_monitor_above_it(tmp_path: Path) -> None:
    process(tmp_path, 10, comm="conmon", parent=1, cmdline="conmon -n web")
    process(tmp_path, 11, comm=") S 99 (sh", parent=10)
    process(tmp_path, 12, comm="nginx", parent=11)
    process(tmp_path, 20, comm="bash", parent=1)
    process(tmp_path, 21, comm="gone", parent=19)
    found = {pid: container_of(str(tmp_path), pid) for pid in (10, 11, 12, 20, 21, 22)}
    assert found == {10: "web", 11: "web", 12: "web", 20: None, 21: None, 22: None}


def test_a_loop_of_parents_ends(tmp_path: Path) -> None:
    process(tmp_path, 10, comm="sh", parent=11)
    process(tmp_path, 11, comm="sh", parent=10)
    assert container_of(str(tmp_path), 10) is None
