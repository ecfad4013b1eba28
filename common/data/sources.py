"""Where data sets come from, and in which order Fashion-MNIST is looked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from framework_parity.common.core.cache import DATA_VARIABLE, cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.fashion_mnist import package, publishers
from framework_parity.common.data.fashion_mnist.files import (
    FILES,
    LABELS,
    Contents,
    Progress,
    SourceError,
    read_folder,
)

STORED_SHA256 = "82b832ff99836bee1c9d8d49ac782ece3100a581c11374552753136851629f29"
"""What :meth:`DataModule.sha256` says of Fashion-MNIST in stored form."""

FACTS: dict[str, Any] = {
    "name": "fashion-mnist",
    "divisor": 255.0,
    "num_outputs": 10,
    "image_shape": (28, 28),
    "labels": LABELS,
}
"""What else :class:`DataModule` is told of it."""

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class DataUnavailable(ParityError):  # noqa: N818 - a state of the world
    """Fashion-MNIST can be had from none of its sources.

    Args:
        reasons: what was tried, and why it gave nothing.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.tried = " ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
        super().__init__(
            "fashion-mnist",
            "it from one of its sources",
            self.tried,
            f"connect to the network, install the package {package.PACKAGE}, or give --data-dir a "
            "folder with the publisher's four files",
        )


def fetch_fashion_mnist(
    data_dir: str | Path | None = None, progress: Progress | None = None, *, https_only: bool = True
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
                reason.what,
                reason.expected,
                reason.received,
                f"put the publisher's file there, or {remedy} to have it fetched",
            ) from None
        if _refusal_of_stored(folder):
            _fashion_mnist(contents, str(path.absolute())).save(folder)
        return folder

    if not (broken := _refusal_of_stored(folder)):
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

    def download(base: str, hosts_left: int) -> Contents:
        now = time.monotonic()
        limit = now + (deadline - now) / hosts_left
        return publishers.download(base, got, limit, progress, https_only)

    for number, base in enumerate(publishers.PUBLISHERS):
        hosts_left = len(publishers.PUBLISHERS) - number
        yield urlsplit(base).netloc, partial(download, base, hosts_left)
    yield f"the package {package.PACKAGE}", lambda: package.fetch_package(progress)


def _fashion_mnist(contents: Mapping[str, bytes], source: str) -> DataModule:
    X_train, y_train, X_val, y_val = (
        np.frombuffer(contents[name], np.uint8, offset=file.header_bytes)
        for name, file in FILES.items()
    )
    features = X_train.reshape(-1, 784), X_val.reshape(-1, 784)
    return DataModule(features[0], y_train, features[1], y_val, **FACTS, source=source)


def _refusal_of_stored(folder: Path) -> str | None:
    """Why the cache's copy is not Fashion-MNIST, or None if it is."""
    if not folder.exists():
        return "nothing there"
    try:
        facts = DataModule.open(folder, verify=True).facts()
        for key, value in {**FACTS, "sha256": STORED_SHA256}.items():
            if facts[key] != value:
                raise ParityError(f"{folder}: {key}", str(value), facts[key])
    except ParityError as error:
        return str(error)
    return None
