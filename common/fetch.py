"""Where data sets come from, and in which order Fashion-MNIST is looked for.

Standard library and NumPy only: workers and notebooks reach this module through
:class:`common.datasets.FashionMNIST`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from common.cache import DATA_VARIABLE, cache_directory
from common.data import DataModule
from common.datasets import FASHION_MNIST_LABELS, Digits, Synthetic, load_npz
from common.errors import ParityError
from common.fashion_mnist import package, publishers
from common.fashion_mnist.files import (
    FILES,
    Contents,
    Progress,
    SourceError,
    one_line,
    read_folder,
)

STORED_SHA256 = "82b832ff99836bee1c9d8d49ac782ece3100a581c11374552753136851629f29"
"""What :meth:`DataModule.sha256` says of Fashion-MNIST in stored form."""

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DATA_SETS = (
    "fashion-mnist, digits, synthetic, synthetic:EXAMPLESxFEATURESxCLASSES, or the path of an "
    ".npz file"
)


class DataUnavailable(ParityError):  # noqa: N818 - a state of the world
    """Fashion-MNIST can be had from none of its sources.

    Args:
        reasons: what was tried, and why it gave nothing.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.tried = " ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
        super().__init__(
            f"fashion-mnist: expected it from one of its sources; received {self.tried}; connect "
            f"to the network, install the package {package.PACKAGE}, or give --data-dir a folder "
            "with the publisher's four files"
        )


# What a run asks for


def open_data(
    name: str | None,
    batch_size: int,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Path, DataModule, str | None]:
    """Find or make a data set, and store it where workers can memory-map it.

    Args:
        name: ``fashion-mnist``, ``digits``, ``synthetic``,
            ``synthetic:EXAMPLESxFEATURESxCLASSES``, or a path that ends in ``.npz``; if None,
            Fashion-MNIST, or digits where it cannot be had.
        batch_size: examples per batch.
        data_dir: a folder with Fashion-MNIST's four files.
        progress: told of downloads.

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
                folder = _store(Digits())
            except ParityError as error:
                raise ParityError(f"{unavailable}; and digits instead: {error}") from None
            notice = (
                "This run used digits, because no data set was named and fashion-mnist could not "
                f"be had: {unavailable.tried}."
            )
    elif name == "fashion-mnist":
        folder = fetch_fashion_mnist(data_dir, progress)
    elif data_dir is not None:
        raise ParityError(
            f"data-dir: expected the data set fashion-mnist with it; received {name}; leave out "
            "--data-dir or name fashion-mnist"
        )
    elif name == "digits":
        folder = _store(Digits())
    elif name == "synthetic":
        folder = _store(Synthetic())
    elif sizes := re.fullmatch(r"synthetic:([0-9]+)x([0-9]+)x([0-9]+)", name):
        folder = _store(_synthetic(name, *map(_whole, sizes.groups())))
    elif name.endswith(".npz"):
        folder = _store(load_npz(Path(os.path.expanduser(name))))
    else:
        raise ParityError(f"data: expected {DATA_SETS}; received {name!r}; choose one of these")
    return folder, DataModule.open(folder, batch_size), notice


def _whole(digits: str) -> int:
    # int() refuses thousands of digits; anything so long is too large for memory all the same.
    return int(digits[:20])


def _synthetic(name: str, num_examples: int, num_inputs: int, num_outputs: int) -> DataModule:
    try:
        return Synthetic(num_examples, num_inputs, num_outputs)
    except (MemoryError, OverflowError, ValueError) as error:
        raise ParityError(
            f"{name}: expected a data set that fits in memory; received {one_line(str(error))}; "
            "ask for fewer examples or features"
        ) from None


def _store(data: DataModule) -> Path:
    # Named after all facts, of which the content's digest is one: what is there already is either
    # the same or broken, so no run ever replaces what another run reads.
    digest = hashlib.sha256(json.dumps(data.facts(), sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.name)[:60].strip(".-") or "data"
    folder = cache_directory() / "data" / f"{name}-{digest[:16]}"
    data.save(folder)
    return folder


# Fashion-MNIST


def fetch_fashion_mnist(
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
    *,
    https_only: bool = True,
) -> Path:
    """Find or fetch Fashion-MNIST, verify it, and keep it in the cache.

    In this order: ``data_dir`` or else the environment variable ``FRAMEWORK_PARITY_DATA``; the
    cache; the folder of Debian's and Ubuntu's package; the publishers; that package, fetched and
    unpacked without root.

    Args:
        data_dir: a folder with the publisher's four files, with or without ``.gz``, in it or in
            its subfolder ``fashion-mnist`` or ``FashionMNIST/raw``. If given, nothing else is
            tried.
        progress: told of downloads.
        https_only: refuse to download over anything else; tests serve plain HTTP.

    Returns:
        The folder in the cache, for :meth:`DataModule.open`.

    Raises:
        ParityError: if ``data_dir`` or the cache is unusable.
        DataUnavailable: if no source has the data set.
    """
    folder = cache_directory() / "data" / "fashion-mnist"
    named = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE) or None
    if named is not None:
        path = Path(os.path.expanduser(named))
        try:
            contents = read_folder(path)
        except SourceError as reason:
            remedy = f"unset {DATA_VARIABLE}" if data_dir is None else "leave out --data-dir"
            raise ParityError(
                f"{reason}; put the publisher's file there, or {remedy} to have it fetched"
            ) from None
        if _refusal_of_stored(folder):
            _fashion_mnist(contents, str(path.absolute())).save(folder)
        return folder

    broken = _refusal_of_stored(folder)
    if not broken:
        return folder
    reasons = [f"the cache: {broken}"]
    for place, read in _sources(progress, https_only):
        try:
            contents = read()
        except SourceError as reason:
            told = str(reason)
            reasons.append(told if told.startswith(place) else f"{place}: {told}")
        else:
            _fashion_mnist(contents, place).save(folder)
            return folder
    raise DataUnavailable(reasons)


def _sources(
    progress: Progress | None, https_only: bool
) -> Iterator[tuple[str, Callable[[], Contents]]]:
    yield str(SYSTEM_FOLDER), lambda: read_folder(SYSTEM_FOLDER)
    deadline = time.monotonic() + publishers.DOWNLOAD_SECONDS
    got: Contents = {}
    for number, base in enumerate(publishers.PUBLISHERS):

        def download(
            base: str = base, hosts_left: int = len(publishers.PUBLISHERS) - number
        ) -> Contents:
            now = time.monotonic()
            limit = now + (deadline - now) / hosts_left
            return publishers.download(base, got, limit, progress, https_only)

        yield urlsplit(base).netloc, download
    yield f"the package {package.PACKAGE}", lambda: package.fetch_package(progress)


def _fashion_mnist(contents: Mapping[str, bytes], source: str) -> DataModule:
    X_train, y_train, X_val, y_val = (
        np.frombuffer(contents[name], np.uint8, offset=file.header_bytes)
        for name, file in FILES.items()
    )
    return DataModule(
        X_train.reshape(-1, 784),
        y_train,
        X_val.reshape(-1, 784),
        y_val,
        name="fashion-mnist",
        divisor=255.0,
        num_outputs=10,
        image_shape=(28, 28),
        labels=FASHION_MNIST_LABELS,
        source=source,
    )


def _refusal_of_stored(folder: Path) -> str | None:
    """Why the cache's copy is not Fashion-MNIST, or None if it is."""
    if not folder.exists():
        return "nothing there"
    try:
        facts = DataModule.open(folder, verify=True).facts()
    except ParityError as error:
        return one_line(str(error))
    expected = {
        "name": "fashion-mnist",
        "divisor": 255.0,
        "num_outputs": 10,
        "image_shape": (28, 28),
        "labels": FASHION_MNIST_LABELS,
        "sha256": STORED_SHA256,
    }
    for key, value in expected.items():
        if facts[key] != value:
            return f"{folder}: {key}: expected {value}; received {facts[key]}"
    return None
