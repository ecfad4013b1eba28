"""Debian's package of the data set, fetched and read as any user."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from framework_parity.common.core.programs import run_to_end
from framework_parity.common.data.fashion_mnist.files import (
    FILES,
    Contents,
    Progress,
    SourceError,
    unpack,
)

PACKAGE = "dataset-fashion-mnist"
APT_SECONDS = 180.0
"""Limit of everything that apt-get and dpkg-deb do."""
STALL_SECONDS = 10.0
"""A connection of apt's that is silent for so long has failed."""


def fetch_package(progress: Progress | None = None) -> Contents:
    """Fetch Debian's package with apt-get, as any user, and read the four files from it.

    Apt verifies the package's signature; nothing is installed, and the system is left as it is.

    Raises:
        SourceError: if there is no apt-get, or it cannot have the package.
    """
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise SourceError("", f"the program {program}", "nothing on the PATH")
    report = progress or (lambda what, fraction: None)
    what = f"fashion-mnist: fetching the package {PACKAGE}"
    deadline = time.monotonic() + APT_SECONDS
    try:
        with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as temporary:
            folder = Path(temporary)
            report(what, 0.0)
            package = _apt_download(folder, deadline)
            report(what, 0.9)
            archive = _output(["dpkg-deb", "--fsys-tarfile", str(package)], folder, deadline)
            contents = read_archive(archive)
            report(what, 1.0)
            return contents
    except OSError as error:
        raise SourceError("", "to run apt-get in a temporary folder", error) from None


def _apt_download(folder: Path, deadline: float) -> Path:
    """Let apt-get put the package into a folder: with the system's lists, or else with its own."""
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=2"]
    for scheme in ("http", "https"):
        apt += ["-o", f"Acquire::{scheme}::Timeout={STALL_SECONDS:.0f}"]
    private = [*apt, "-o", "Acquire::Languages=none"]
    for option, place in (
        ("Dir::State", "state"),
        ("Dir::State::Lists", "state/lists"),
        ("Dir::Cache", "cache"),
    ):
        private += ["-o", f"{option}={folder / place}"]
    download = ["download", PACKAGE]
    try:
        _output([*apt, *download], folder, deadline)
    except SourceError:  # no lists, as in a container's image, or lists that have grown old
        for place in ("state/lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True)
        # One unreachable third-party list, or a hook that needs root, fails the update though the
        # list that matters came: the download decides.
        with contextlib.suppress(SourceError):
            _output([*private, "update"], folder, deadline)
        _output([*private, *download], folder, deadline)
    packages = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise SourceError("", "a package from apt-get", "none")
    return packages[0]


def _output(command: list[str], folder: Path, deadline: float) -> bytes:
    """Standard output of a program: no shell, no input, no time beyond the deadline."""
    program, seconds = command[0], deadline - time.monotonic()
    try:
        process = run_to_end(command, seconds, cwd=folder, env={**os.environ, "LC_ALL": "C"})
    except subprocess.TimeoutExpired:
        raise SourceError(
            "", f"an end of {program} in time", f"none in {APT_SECONDS:.0f} s"
        ) from None
    if process.returncode:
        lines = process.stderr.decode(errors="replace").splitlines()
        failures = [line for line in lines if line.startswith("E:")] or lines[-1:]
        said = failures[-1] if failures else "nothing on standard error"
        raise SourceError("", f"success of {program}", f"exit status {process.returncode}: {said}")
    return process.stdout


def read_archive(archive: bytes) -> Contents:
    """The four files in the package's tar archive; whatever else it holds is left alone.

    Nothing is extracted to disk, so no member's path or link can lead anywhere.

    Raises:
        SourceError: if one is missing or not the publisher's.
    """
    prefix = "./usr/share/datasets/fashion-mnist/"
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as members:
            wanted = {f"{prefix}{name}.gz": name for name in FILES}
            for member in members:
                name = wanted.get(member.name)
                file = members.extractfile(member) if name and member.isreg() else None
                if name and file:
                    contents[name] = unpack(name, file)
    except tarfile.TarError as error:
        raise SourceError("", "a tar archive in the package", error) from None
    if missing := [name for name in FILES if name not in contents]:
        raise SourceError("", "four files in the package", f"none named {missing[0]}.gz")
    return contents
