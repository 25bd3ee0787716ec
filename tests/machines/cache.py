# Copyright (c) 2026, the userns.rootless authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where images are kept, outside the checkout, and how one is made: once, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path


class MissingError(Exception):
    """Something that this machine lacks; the text names it and what to do."""


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def root() -> Path:
    """The directory of images and of what runs; root's own."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "userns-rootless-tests"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def made(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """The image of a recipe; made if it is not there. Older ones of the same name go.

    `make` gets a path to make a file or directory at. A crash in it leaves nothing that would be taken for an image.
    """
    images = root() / "images"
    images.mkdir(exist_ok=True)
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
    image = images / f"{name}-{digest}"
    with open(images / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            for old in images.glob(f"{name}-*"):
                remove(old)
            part = images / f"{name}-part"
            make(part)
            part.rename(image)
    return image


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
