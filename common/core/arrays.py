"""Arrays as bytes in memory: where they start, whether they stay, and their digest."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ALIGNMENT_BYTES = 64
"""Where the frameworks ask an array to start if they are to share its memory."""


def empty_aligned(shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """A new array whose memory starts at a multiple of :data:`ALIGNMENT_BYTES`."""
    dtype = np.dtype(dtype)
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size_bytes].view(dtype).reshape(shape)


def aligned(array: Array) -> Array:
    """The array, or a copy of it that starts at a multiple of :data:`ALIGNMENT_BYTES`."""
    if array.ctypes.data % ALIGNMENT_BYTES == 0 and array.flags.carray:
        return array
    copy = empty_aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def hash_arrays(arrays: dict[str, Array]) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays, in the order given."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{name}:{contiguous.dtype.str}:{contiguous.shape};".encode())
        digest.update(contiguous.data)
    return digest.hexdigest()


def largest_in_each(values: Array) -> npt.NDArray[np.float64]:
    """The largest magnitude in each slice along the first axis, shape ``(n,)``."""
    return np.asarray(np.abs(values).reshape(len(values), -1).max(axis=1), dtype=np.float64)


def drop_pages(array: Array) -> None:
    """Take what was read of a memory-mapped file out of this process's resident memory."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)  # it stays in the system's cache of files
