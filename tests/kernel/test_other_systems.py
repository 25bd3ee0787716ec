# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where there are no user namespaces at all: the reason comes first, before anything is looked up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

ELSEWHERE = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.userns.rootless.plugins.modules." + sys.argv[2])
with patch_module_args({"users": ["nobody"]}):
    sys.platform = sys.argv[3]
    module.main()
"""


@pytest.mark.parametrize("name", ["rootless_ns", "rootless_ns_info"])
@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_not_linux(payload: Path, name: str, platform: str) -> None:
    command = [sys.executable, "-c", ELSEWHERE, str(payload), name, platform]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    assert "Traceback" not in result.stderr
    answer = json.loads(result.stdout)
    assert answer["failed"]
    assert answer["msg"] == f"user namespaces are a feature of Linux; this host runs {platform}"


@pytest.mark.parametrize("name", ["rootless_ns", "rootless_ns_info"])
def test_without_proc(module: Run, user: Any, name: str) -> None:
    hide = 'mount -t tmpfs none /proc && exec "$@"'
    start = ("unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh")
    result = module(name, users=[user.name], prefix=start)
    assert result["failed"]
    assert "/proc is not mounted" in result["msg"]
    assert user.processes() == []
