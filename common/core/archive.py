"""Arrays of an ``.npz`` archive, memory-mapped where they lie: for archives larger than memory.

NumPy reads a member whole. One that is stored without compression, as ``numpy.savez`` does, is an
``.npy`` file inside the archive: a local header, the file's own header, and the numbers.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a ZIP member: its signature, and the lengths of the name and the extra field that follow.

Section 4.3.7 of APPNOTE.TXT, the format's specification.
"""


def map_arrays(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Memory-map those of the named arrays that the archive holds uncompressed.

    Others are left out: they have to be read.

    Args:
        path: the archive.
        names: of arrays.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: if it is broken.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for name in names:
            try:
                member = archive.getinfo(f"{name}.npy")
            except KeyError:
                continue
            if member.compress_type == zipfile.ZIP_STORED:
                found[name] = _map(path, file, member)
    return found


def _map(path: Path, file: Any, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    file.seek(member.header_offset)
    signature, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"no member of an archive where {member.filename} should begin")
    start = file.seek(sum(lengths), 1)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"{member.filename} is of version {version}; NumPy writes {[*readers]}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    offset = file.tell()
    size_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if offset - start + size_bytes != member.file_size:
        raise ValueError(
            f"{member.filename}: expected {size_bytes} bytes of numbers, received "
            f"{member.file_size - (offset - start)}"
        )
    order = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)  # type: ignore[call-overload,no-any-return]
