"""The publisher's four files: what they must hold, and how they are read and verified."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from framework_parity.common.core.errors import Complaint

Progress = Callable[[str, float], None]
"""A progress callback: what is being done, and the part done, 0 to 1."""


LABELS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


class File(NamedTuple):
    """One of the publisher's files, unpacked: packages recompress it, so gzip's bytes differ."""

    size_bytes: int
    sha256: str
    header_bytes: int


FILES = {
    "train-images-idx3-ubyte": File(
        47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 16
    ),
    "train-labels-idx1-ubyte": File(
        60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 8
    ),
    "t10k-images-idx3-ubyte": File(
        7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 16
    ),
    "t10k-labels-idx1-ubyte": File(
        10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 8
    ),
}
"""The four files, in the order of :data:`data_module.ARRAYS`."""

SUBFOLDERS = ("", "fashion-mnist", "FashionMNIST/raw")

Contents = dict[str, bytes]
"""The unpacked, verified files by name."""


class SourceError(Complaint):
    """Why one source gave nothing: one line for the list in :class:`DataUnavailable`."""


class TransientError(SourceError):
    """A failure that may be gone on the next try."""


def read_folder(folder: Path) -> Contents:
    """Read and verify the four files of a folder.

    Raises:
        SourceError: naming the file that is missing or wrong.
    """
    if not folder.is_dir():
        raise SourceError(folder, f"a folder with {', '.join(FILES)}", "nothing there")
    contents = {}
    for name in FILES:
        places = (folder / sub / f"{name}{end}" for sub in SUBFOLDERS for end in ("", ".gz"))
        path = next(filter(os.path.isfile, places), None)
        if path is None:
            raise SourceError(folder / name, "this file, with or without .gz", "nothing there")
        try:
            with path.open("rb") as file:
                contents[name] = unpack(name, file, packed=path.suffix == ".gz")
        except SourceError as reason:
            raise reason.inside(path) from None
        except OSError as error:
            raise SourceError(path, "a readable file", error) from None
    return contents


def unpack(name: str, file: IO[bytes], *, packed: bool = True) -> bytes:
    """Content of one of the four files, verified.

    Args:
        name: its name, without ``.gz``.
        file: its bytes.
        packed: whether they are compressed with gzip.

    Raises:
        SourceError: if the content is not the publisher's; TransientError if it is cut off.
    """
    size, sha256, _ = FILES[name]
    try:
        # One byte more than there should be shows what is too long, and makes gzip check its sum.
        content = (gzip.GzipFile(fileobj=file) if packed else file).read(size + 1)
    except EOFError:
        raise TransientError("", f"{size} bytes, unpacked", "a gzip file that is cut off") from None
    except (OSError, zlib.error) as error:
        raise SourceError("", f"a readable {'gzip ' * packed}file", error) from None
    if len(content) != size:
        received = len(content) if len(content) < size else "more"
        raise SourceError("", f"{size} bytes, unpacked", received)
    if (received := hashlib.sha256(content).hexdigest()) != sha256:
        raise SourceError("", f"content with SHA-256 {sha256}", received)
    return content
