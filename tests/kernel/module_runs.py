# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run as on a target: in a process of their own, from a copy of the collection that everybody may read."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import pytest
from throwaway_users import User

CHECKOUT = Path(__file__).parents[2]
NO_PYTHON = "needs a Python 3.9 or later in /usr/bin, which ordinary users can run"
RUNNER = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.userns.rootless.plugins.modules." + sys.argv[2])
with patch_module_args(json.loads(sys.argv[3])):
    module.main()
"""


def lay_out(root: Path) -> None:
    """Put the collection and Ansible's module_utils where every user may read them."""
    shutil.copytree(Path(ansible.__file__).parent / "module_utils", root / "ansible/module_utils")
    (root / "ansible/__init__.py").touch()
    collection = root / "ansible_collections/userns/rootless"
    shutil.copytree(CHECKOUT / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.geteuid() and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)


@functools.cache
def python_for_everyone() -> str | None:
    """A Python that ordinary users can run; None where there is none."""
    for path in ("/usr/bin/python3.13", "/usr/bin/python3.12", "/usr/bin/python3.11", "/usr/bin/python3"):
        probe = [path, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]
        if os.path.exists(path) and subprocess.run(probe, check=False).returncode == 0:
            return path
    return None


@contextlib.contextmanager
def server(payload: Path, path: Path) -> Iterator[None]:
    """A process that runs modules as we are (see `module_server.py`); its socket is at `path`."""
    modules = sorted(file.stem for file in (CHECKOUT / "plugins/modules").glob("*.py"))
    command = [sys.executable, str(Path(__file__).with_name("module_server.py")), str(payload), str(path), *modules]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()


def ask(path: Path, module: str, args: dict[str, Any], env: dict[str, str]) -> tuple[str, str]:
    """Have the server run a module; what it prints on stdout and stderr."""
    request = json.dumps({"module": module, "args": args, "env": env}).encode()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        connection.settimeout(120)
        connection.connect(str(path))
        socket.send_fds(connection, [request], [out.fileno(), err.fileno()])
        assert connection.recv(1) == b""
        out.seek(0)
        err.seek(0)
        return out.read(), err.read()


def run(
    payload: Path, module: str, args: dict[str, Any], *, prefix: tuple[str, ...], user: User | None, env: dict[str, str]
) -> tuple[str, str]:
    """Run a module with a Python of its own, for a user or behind a command; what it prints on stdout and stderr."""
    python = python_for_everyone()
    if python is None:
        pytest.skip(NO_PYTHON)
    command = [*prefix, python, "-c", RUNNER, str(payload), module, json.dumps(args)]
    if user:
        command = user.command(*command, env=env)
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **env}, cwd="/", timeout=120
    )
    return result.stdout, result.stderr
