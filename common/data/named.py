"""A data set by its name on the command line: found or made, and stored for every worker."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from framework_parity.common.core.cache import cache_directory, make_own
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.datasets import Digits, Synthetic, load_npz
from framework_parity.common.data.fashion_mnist.files import Progress
from framework_parity.common.data.sources import DataUnavailable, fetch_fashion_mnist

DATA_SETS = (
    "fashion-mnist, digits, synthetic, synthetic:EXAMPLESxFEATURESxCLASSES, or the path of an "
    ".npz file"
)


def open_data(
    name: str | None,
    batch_size: int,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
    any_targets: bool = False,
) -> tuple[Path, DataModule, str | None]:
    """Find or make a data set, and store it where workers can memory-map it.

    Args:
        name: ``fashion-mnist``, ``digits``, ``synthetic``,
            ``synthetic:EXAMPLESxFEATURESxCLASSES``, or a path that ends in ``.npz``; if None,
            Fashion-MNIST, or digits where it cannot be had.
        batch_size: examples per batch.
        data_dir: a folder with Fashion-MNIST's four files.
        progress: told of downloads.
        any_targets: whether an ``.npz`` file may hold other targets than classes.

    Returns:
        The folder for :meth:`DataModule.open`, the data set opened from there, and, where digits
        had to stand in for Fashion-MNIST, the sentence that says so on top of every report.

    Raises:
        ParityError: if the name, a file or the cache is unusable.
        DataUnavailable: if Fashion-MNIST was named and no source has it.
    """
    notice = None
    if name is None:
        try:
            folder = fetch_fashion_mnist(data_dir, progress)
        except DataUnavailable as unavailable:
            try:
                folder = store(Digits())
            except ParityError as error:
                remedy = f"{unavailable.remedy}; and digits instead: {error}"
                raise ParityError(
                    "fashion-mnist", unavailable.expected, unavailable.tried, remedy
                ) from None
            notice = (
                "This run used digits, because no data set was named and fashion-mnist could not "
                f"be had: {unavailable.tried}."
            )
    elif name == "fashion-mnist":
        folder = fetch_fashion_mnist(data_dir, progress)
    elif data_dir is not None:
        raise ParityError(
            "data-dir",
            "the data set fashion-mnist with it",
            name,
            "leave out --data-dir or name fashion-mnist",
        )
    elif name == "digits":
        folder = store(Digits())
    elif name == "synthetic":
        folder = store(Synthetic())
    elif sizes := re.fullmatch(r"synthetic:([0-9]+)x([0-9]+)x([0-9]+)", name):
        folder = store(_synthetic(name, sizes.groups()))
    elif name.endswith(".npz"):
        folder = store(load_npz(Path(os.path.expanduser(name)), any_targets))
    else:
        raise ParityError("data", DATA_SETS, repr(name), "choose one of these")
    return folder, DataModule.open(folder, batch_size), notice


def _synthetic(name: str, sizes: Iterable[str]) -> DataModule:
    try:
        # int() refuses thousands of digits; anything so long is too large for memory all the same.
        return Synthetic(*(int(digits[:20]) for digits in sizes))
    except (MemoryError, OverflowError, ValueError) as error:
        raise ParityError(
            name,
            "a data set that fits in memory",
            told(error),
            "ask for fewer examples or features",
        ) from None


def store(data: DataModule) -> Path:
    """Put a data set where workers can memory-map it: a folder of the cache."""
    # Named after all facts, of which the content's digest is one: what is there already is either
    # the same or broken, so no run ever replaces what another run reads.
    digest = hashlib.sha256(json.dumps(data.facts(), sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.name)[:60].strip(".-") or "data"
    folder = cache_directory() / "data" / f"{name}-{digest[:16]}"
    with contextlib.suppress(OSError):  # data.save says why
        make_own(folder.parent)
    data.save(folder)
    return folder
