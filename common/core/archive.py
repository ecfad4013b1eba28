"""Arrays of an ``.npz`` archive: looked at before they are read, memory-mapped where they lie.

An archive is a ZIP file whose members are ``.npy`` files: a header, then the numbers. What a header
declares is compared with what is there before any memory is taken for it. A member that is stored
without compression, as ``numpy.savez`` does, can be mapped: for archives larger than memory.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.machine import available_bytes
from framework_parity.common.core.outside import open_file

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a ZIP member: its signature, and the lengths of the name and the extra field that follow.

Section 4.3.7 of APPNOTE.TXT, the format's specification.
"""

MOST_MEMBERS = 100_000

NUMBER_BYTES = {"f": 8, "c": 16}
"""The largest number of a kind: what is longer has another size on every machine."""


class Header(NamedTuple):
    """What a member says of itself.

    Args:
        shape: of the array.
        dtype: of its numbers.
        fortran: whether the first axis varies fastest.
        length: bytes before the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    length: int


class Archive:
    """An open archive whose members are arrays, but for ``besides``.

    Args:
        file: its bytes.
        besides: names of members that are something else.

    Raises:
        Exception: of a dozen types that NumPy and zipfile raise for a broken archive.
    """

    def __init__(self, file: IO[bytes], besides: Sequence[str] = ()) -> None:
        self._file, self._zip = file, zipfile.ZipFile(file)
        found = self._zip.infolist()
        if len(found) > MOST_MEMBERS:
            raise ValueError(f"{len(found):,} members, more than {MOST_MEMBERS:,}")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in found:
            if member.filename in self._members:
                raise ValueError(f"two members {member.filename}")
            if not member.filename.endswith(".npy") and member.filename not in besides:
                raise ValueError(f"{member.filename}, which is no .npy file")
            self._members[member.filename] = member
        self._taken = 0

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return [n.removesuffix(".npy") for n in self._members if n.endswith(".npy")]

    def bytes(self, name: str, most: int) -> bytes:
        """The content of a member, of at most so many bytes."""
        member = self._members[name]
        if member.file_size > most:
            raise ValueError(f"{name} of {member.file_size:,} bytes, more than {most:,}")
        return self._zip.read(member)

    def read(self, name: str) -> Array:
        """An array; its numbers are in memory."""
        member = self._members[f"{name}.npy"]
        with self._zip.open(member) as content:
            _header(content, member)
        self._taken += member.file_size
        if self._taken > (room := available_bytes()):
            raise ValueError(f"{self._taken:,} bytes of arrays, where {room:,} of memory are free")
        with self._zip.open(member) as content:
            array: Array = np.lib.format.read_array(content, allow_pickle=False)
            content.read()  # at the end its sum is checked
        return array

    def map(self, name: str, path: Path) -> Array | None:
        """An array, mapped where it lies in the file at that path; None if it is compressed."""
        member = self._members[f"{name}.npy"]
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        self._file.seek(member.header_offset)
        signature, *lengths = LOCAL_HEADER.unpack(self._file.read(LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise ValueError(f"no member of an archive where {member.filename} should begin")
        start = self._file.seek(sum(lengths), 1)
        shape, dtype, fortran, length = _header(self._file, member)
        order = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", start + length, shape, order)  # type: ignore[call-overload,no-any-return]


def _header(content: IO[bytes], member: zipfile.ZipInfo) -> Header:
    """Read a member's own header, and see that it tells the truth."""
    name, formats, begin = member.filename, np.lib.format, content.tell()
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    version = formats.read_magic(content)
    if version not in readers:
        raise ValueError(f"{name} is of version {version}; NumPy writes {[*readers]}")
    shape, fortran, dtype = readers[version](content)
    if dtype.kind in "OV" or dtype.itemsize > NUMBER_BYTES.get(dtype.kind, dtype.itemsize):
        raise ValueError(f"{name}: expected numbers of at most 64 bits; received {dtype}")
    length = content.tell() - begin
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if (received := member.file_size - length) != expected:
        raise ValueError(f"{name}: expected {expected:,} bytes of numbers; received {received:,}")
    return Header(shape, dtype, fortran, length)


@contextlib.contextmanager
def open_archive(path: Path, besides: Sequence[str] = (), links: bool = True) -> Iterator[Archive]:
    """Open an archive; arguments as of :class:`Archive` and :func:`outside.open_file`.

    Raises:
        Exception: of a dozen types that NumPy and zipfile raise for a broken archive.
    """
    with open_file(path, links) as file:
        yield Archive(file, besides)


def read_arrays(path: Path, links: bool = True) -> dict[str, Array]:
    """The arrays of an ``.npz`` file; nothing that is pickled is read.

    Raises:
        Exception: of a dozen types that NumPy and zipfile raise for a broken archive.
    """
    with open_archive(path, links=links) as archive:
        return {name: archive.read(name) for name in archive.names}
