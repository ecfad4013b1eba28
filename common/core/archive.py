"""Arrays of an ``.npz`` archive, memory-mapped where they lie: for archives larger than memory.

NumPy reads a member whole. One that is stored without compression, as ``numpy.savez`` does, is an
``.npy`` file inside the archive: a local header, the file's own header, and the numbers.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from framework_parity.common.core.arrays import Array

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a ZIP member: its signature, and the lengths of the name and the extra field that follow.

Section 4.3.7 of APPNOTE.TXT, the format's specification.
"""


def map_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Memory-map those of the named arrays that the archive holds uncompressed.

    Others are left out: they have to be read.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: if it is broken.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {member.filename: member for member in archive.infolist()}
        return {
            name: _map(path, file, member)
            for name in names
            if (member := members.get(f"{name}.npy")) and member.compress_type == zipfile.ZIP_STORED
        }


def _map(path: Path, file: IO[bytes], member: zipfile.ZipInfo) -> Array:
    file.seek(member.header_offset)
    signature, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"no member of an archive where {member.filename} should begin")
    start = file.seek(sum(lengths), 1)
    formats = np.lib.format
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    version = formats.read_magic(file)
    if version not in readers:
        raise ValueError(f"{member.filename} is of version {version}; NumPy writes {[*readers]}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    offset = file.tell()
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if (received := member.file_size - (offset - start)) != expected:
        raise ValueError(
            f"{member.filename}: expected {expected} bytes of numbers, received {received}"
        )
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)  # type: ignore[call-overload,no-any-return]
