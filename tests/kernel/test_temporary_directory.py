# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others put into the temporary directory, where users without a runtime directory have theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

# Puts a directory of its own in place and away again, as fast as it can.
SWAPPER = """
import os, shutil, sys, time
path, kind, target, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
os.umask(0)
spare = path + ".spare"
os.mkdir(spare)
if kind == "link":
    os.symlink(target, spare + "/libpod")
else:
    os.makedirs(spare + "/libpod")
print(flush=True)
deadline, rounds = time.monotonic() + seconds, 0
while time.monotonic() < deadline:
    for source, destination in ((spare, path), (path, spare)):
        try:
            os.rename(source, destination)
            rounds += 1
        except OSError:
            pass
for directory in (spare, path):
    shutil.rmtree(directory, ignore_errors=True)
print(rounds)
"""

# Makes and opens its state directory, as fast as it can, and counts what it got.
VICTIM = """
import json, os, shutil, sys, time
sys.path.insert(0, sys.argv[1])
tmp, path, seconds = sys.argv[2], sys.argv[3], float(sys.argv[4])
package = "ansible_collections.userns.rootless.plugins.module_utils._rootless."
from importlib import import_module
accounts, errors, kernel, userside, user_paths = (
    import_module(package + name) for name in ("accounts", "errors", "kernel", "userside", "user_paths")
)
paths = user_paths.UserPaths(kernel.Syscalls(), trusted=(tmp,))
account = accounts.find_account(str(os.geteuid()))
counts = {"mine": 0, "refused": 0, "taken": 0}
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    side = userside.UserSide(
        account, syscalls=kernel.Syscalls(), proc="/proc", run="/nonexistent", tmp=tmp, environment={}, paths=paths
    )
    try:
        assert side.lock(make=True, seconds=10.0)
    except errors.RootlessError:
        counts["refused"] += 1
    else:
        above = os.stat("../..", dir_fd=side._state_dir._fd)
        counts["mine" if above.st_uid == account.uid else "taken"] += 1
        side._state_dir.close()
    # Not by its name: that may be the other's directory.
    try:
        own = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        continue
    if os.fstat(own).st_uid == account.uid:
        shutil.rmtree(path, ignore_errors=True)
    os.close(own)
print(json.dumps(counts))
"""


@pytest.fixture
def squatter(make_user: Callable[..., Any]) -> Any:
    return make_user(ranges=False)


@pytest.fixture
def victim(make_user: Callable[..., Any]) -> Iterator[Any]:
    """A user without a runtime directory."""
    user = make_user(runtime_dir=False)
    yield user
    for name in ("storage-run", "podman-run"):
        shutil.rmtree(f"/tmp/{name}-{user.uid}", ignore_errors=True)


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_directory_that_comes_and_goes(
    victim: Any, squatter: Any, payload: Path, public_python: str, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    tmp = Path(f"/tmp/rnstest-tmp-{victim.uid}")
    tmp.mkdir()
    tmp.chmod(0o1777)
    target = tmp / "target"
    target.mkdir()
    os.chown(target, victim.uid, victim.gid)
    path = tmp / f"storage-run-{victim.uid}"
    try:
        line = squatter.command(public_python, "-c", SWAPPER, str(path), kind, str(target), "6")
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd="/") as swapper:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            counts = json.loads(victim.run(public_python, "-c", VICTIM, str(payload), str(tmp), str(path), "5"))
            assert int(swapper.stdout.read()) > 100
        assert counts["mine"] > 10, counts
        assert counts["refused"] > 10, counts
        assert counts["taken"] == 0, counts
        # Nothing was made where the link of somebody else's points to.
        assert list(target.iterdir()) == []
    finally:
        shutil.rmtree(tmp)


@pytest.mark.parametrize("name", ["storage-run", "podman-run"])
def test_a_directory_that_stays(ns: Run, module: Run, victim: Any, squatter: Any, user: Any, name: str) -> None:
    """The name that this host's Podman uses is taken, and it fails; or the one that it does not look at."""
    path = Path(f"/tmp/{name}-{victim.uid}")
    squatter.run("mkdir", "-m", "777", str(path))
    whose = f"{path} is owned by UID {squatter.uid} ({squatter.name}), not {victim.uid}"
    result = module("rootless_ns", users=[victim.name, user.name])
    taken = path == victim.temporary_dir
    assert [entry["action"] for entry in result["namespaces"]] == ["failed" if taken else "created", "created"]
    if taken:
        message = result["namespaces"][0]["msg"]
        for text in (whose, f"As root remove {path} (rm -r)", f"loginctl enable-linger {victim.uid}"):
            assert text in message
        (finding,) = [
            finding
            for finding in module("rootless_host_info", users=[victim.name])["findings"]
            if finding["code"] == "runtime-dir-unusable"
        ]
        assert whose in finding["found"]
    (entry,) = module("rootless_pause", users=[victim.name])["users"]
    assert whose in entry["msg"]
    assert list(path.iterdir()) == []
    # With a runtime directory of its own the user needs no other place.
    victim.runtime_dir.mkdir(mode=0o700)
    os.chown(victim.runtime_dir, victim.uid, victim.gid)
    assert ns(victim)["state_dir"] == str(victim.state_dir)
    ns(victim, state="absent")
    shutil.rmtree(victim.runtime_dir)
    # What the message says to do.
    subprocess.run(["rm", "-r", path], check=True)
    assert ns(victim)["state_dir"] == f"{victim.temporary_dir}/libpod/tmp"
