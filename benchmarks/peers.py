"""Keras 3 for a backend's interpreter, without a change to its environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from framework_parity.benchmarks.measure import say
from framework_parity.common.core.cache import cache_directory

KERAS = "keras==3.15.1"
KERAS_BACKENDS = ("jax", "tensorflow", "torch")
"""What Keras 3 runs on."""


def peers_folder(python: Path) -> str | None:
    """A folder with Keras for an interpreter that has none; None where it cannot be had.

    Kept in the cache, and put behind the environment's own packages, which thus stay as pinned.
    """
    has = subprocess.run(
        [str(python), "-c", "import keras"], capture_output=True, check=False, cwd="/"
    )
    if not has.returncode:
        return ""
    found = subprocess.run(
        [str(python), "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
        capture_output=True,
        text=True,
        check=True,
    )
    folder = cache_directory() / "environments" / f"{KERAS}-py{found.stdout.strip()}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        say(f"installing {KERAS} for {python}")
        done = subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--target", str(partial), KERAS),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            say(f"{KERAS}: not installed: {(done.stderr or 'pip failed').strip().splitlines()[-1]}")
            return None
        os.replace(partial, folder)
    return str(folder)
