"""Data sets as arrays on disk: stored once, memory-mapped by every worker, scaled once."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from framework_parity.common.core.arrays import (
    Array,
    aligned,
    drop_pages,
    empty_aligned,
    hash_arrays,
)
from framework_parity.common.core.cache import CACHE_VARIABLE, MEMORY_VARIABLE
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.files import new_folder_beside, sync_folder
from framework_parity.common.core.hyperparameters import HyperParameters
from framework_parity.common.core.outside import read_json

ARRAYS = ("X_train", "y_train", "X_val", "y_val")

BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, ParityError)
"""What wrong facts and broken arrays raise."""

LOCK_SECONDS = 300.0
"""In which another process has put its folder into place."""

FINITE_PIECE = 2**24
"""Numbers that are looked at together: data larger than memory must not come to stay in it."""

CHUNK_PIECE = 256
"""Rows gathered before their pages are dropped: each may map a huge page of 2 MB around it."""


def memory_limit() -> int:
    """Bytes that training examples may take in memory: ``$FRAMEWORK_PARITY_MEMORY``, or 4 GiB.

    Raises:
        ParityError: if the variable is no number of bytes.
    """
    named = os.environ.get(MEMORY_VARIABLE) or str(4 * 2**30)
    if not (named.isascii() and named.isdigit()):
        raise ParityError(
            MEMORY_VARIABLE,
            "a number of bytes",
            repr(named),
            "set it to for example 4294967296, or unset it",
        )
    return int(named)


class DataModule(HyperParameters):
    """Training and validation examples, as stored, and the batches that they give.

    Args:
        X_train: features as stored, uint8 or float32, shape ``(num_train, num_inputs)``.
        y_train: class of each training example, integers, shape ``(num_train,)``.
        X_val: features of the validation examples, shape ``(num_val, num_inputs)``.
        y_val: their classes, shape ``(num_val,)``.
        any_targets: whether ``y`` may be what a model of a user's own learns, of any shape behind
            the examples: integers are classes, one or a sequence of them, fractions are numbers.
        batch_size: examples per batch.
        name: how reports call the data set.
        divisor: what stored features are divided by, once, in floating point.
        num_outputs: number of classes; one more than the largest label if not given. Of numbers
            how many each example has.
        image_shape: ``(height, width)`` where an example is an image.
        labels: text of each class.
        source: where the data came from, for reports.
        seed: seed of the order of :meth:`train_dataloader`.

    Attributes:
        memory_bytes: training examples that take more than this, scaled, are read from where
            they are stored in chunks while the training goes on; ``$FRAMEWORK_PARITY_MEMORY``,
            else 4 GiB.
        chunk_bytes: size of such a chunk.
    """

    def __init__(
        self,
        X_train: Array,
        y_train: Array,
        X_val: Array,
        y_val: Array,
        *,
        batch_size: int = 256,
        name: str = "data",
        divisor: float = 1.0,
        num_outputs: int | None = None,
        image_shape: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
        source: str = "memory",
        seed: int = 0,
        any_targets: bool = False,
    ) -> None:
        if any_targets:
            y_train, y_val = map(_as_stored, (y_train, y_val))
        check_examples(X_train, y_train, X_val, y_val, any_targets)
        self.X_train, self.y_train, self.X_val, self.y_val = X_train, y_train, X_val, y_val
        self.batch_size = batch_size
        self.memory_bytes = memory_limit()
        self.chunk_bytes = self.memory_bytes // 32
        self.name = name
        self.divisor = float(divisor)
        self.image_shape = tuple(image_shape) if image_shape else None
        self.labels = tuple(labels) if labels else None
        self.source = source
        self.num_train, self.num_inputs = X_train.shape
        self.num_val = len(X_val)
        self._random = np.random.default_rng(seed)
        if not self.has_classes:
            self.num_outputs = int(y_train[0].size)
            return
        largest = int(max(y_train.max(), y_val.max()))
        if num_outputs is None and largest > int(y_train.max()):
            raise ParityError(
                "y_val",
                f"only classes that y_train holds, up to {y_train.max()}",
                largest,
                "add training examples of it or drop it",
            )
        self.num_outputs = num_outputs or largest + 1
        # A stray label would make the model as wide as itself: no guess at the number of classes
        # may exceed the number of examples.
        limit = num_outputs or y_train.size + y_val.size
        if largest >= limit:
            raise ParityError(
                name,
                f"labels from 0 to {limit - 1}",
                largest,
                "number the classes from 0 without gaps",
            )

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes, not numbers."""
        return bool(self.y_train.dtype.kind != "f")

    @property
    def targets(self) -> str:
        """What is to be learned of each example, in words."""
        if not self.has_classes:
            return f"{self.num_outputs:,} number{'s' * (self.num_outputs != 1)} as target"
        places = int(self.y_train[0].size)
        return f"{self.num_outputs} classes" + f" at each of {places} places" * (places != 1)

    # What the trainer reads

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        """All examples, scaled: the same bits for every framework.

        Division by the divisor is in float32 whatever the dtype, so that a float64 run sees the
        very numbers that a float32 run sees.

        Returns:
            ``X`` of the dtype, shape ``(n, num_inputs)``, and ``y``, shape ``(n, …)``, classes
            int32, numbers of the dtype: both new, writable and aligned, so that a framework can
            share their memory.
        """
        stored, y = self._stored(train)
        X = empty_aligned(stored.shape, "float32")
        np.divide(stored, np.float32(self.divisor), out=X, dtype=np.float32)
        return aligned(X.astype(dtype, copy=False)), aligned(self.scaled_targets(y, dtype))

    def scaled_targets(self, y: Array, dtype: str = "float32") -> Array:
        """Targets as frameworks get them: classes are int32, numbers of the dtype."""
        return np.asarray(y).astype("int32" if self.has_classes else dtype)

    def _stored(self, train: bool) -> tuple[Array, Array]:
        return (self.X_train, self.y_train) if train else (self.X_val, self.y_val)

    @property
    def is_large(self) -> bool:
        """Whether the training examples, scaled, are too many to be held in memory at once."""
        numbers = self.num_inputs + (0 if self.has_classes else self.num_outputs)
        return bool(self.num_train * numbers * 4 > self.memory_bytes)

    @property
    def chunk_rows(self) -> int:
        """Examples per chunk of :meth:`chunks`: a whole number of batches."""
        rows = self.chunk_bytes // (4 * self.num_inputs)
        return int(max(1, rows // self.batch_size) * self.batch_size)

    def chunks(self, order: Array, dtype: str = "float32") -> Iterator[tuple[Array, Array, int]]:
        """Examples in this order, chunk by chunk, read and scaled by a thread that is one ahead.

        Returns:
            ``X`` and ``y`` as of :meth:`examples`, always ``chunk_rows`` long, and how many of
            their rows count: all but in the last chunk.
        """
        size = self.chunk_rows
        pieces = (order[start : start + size] for start in range(0, len(order), size))
        with ThreadPoolExecutor(1) as reader:
            ready = reader.submit(self._chunk, next(pieces), dtype)
            for rows in pieces:
                ahead = reader.submit(self._chunk, rows, dtype)
                yield ready.result()
                ready = ahead
            yield ready.result()

    def _chunk(self, rows: Array, dtype: str) -> tuple[Array, Array, int]:
        X = empty_aligned((self.chunk_rows, self.num_inputs), dtype)
        y_dtype = "int32" if self.has_classes else dtype
        y = empty_aligned((self.chunk_rows, *self.y_train.shape[1:]), y_dtype)
        X[len(rows) :], y[len(rows) :] = 0, 0
        for start in range(0, len(rows), CHUNK_PIECE):
            some = rows[start : start + CHUNK_PIECE]
            X[start : start + len(some)] = self.scale(self.X_train[some])
            y[start : start + len(some)] = self.scaled_targets(self.y_train[some], dtype)
            drop_pages(self.X_train)
        return X, y, len(rows)

    def stored_rows(self, rows: Array) -> Array:
        """Training features of these rows, as stored; what else was read for them is not kept."""
        X: Array = np.asarray(self.X_train[rows])
        if self.is_large:
            drop_pages(self.X_train)
        return X

    def stored_pieces(self) -> Iterator[Array]:
        """The rows of the training data as they are stored: all at once, or by chunks if large."""
        rows = np.arange(self.num_train)
        size = self.chunk_rows if self.is_large else self.num_train
        yield from (rows[start : start + size] for start in range(0, self.num_train, size))

    def scale(self, X: Array) -> Array:
        """Stored features as float32, divided by the divisor."""
        return np.divide(X, np.float32(self.divisor), dtype=np.float32)

    def sha256(self) -> str:
        """Digest of the four arrays as stored, with their types and shapes."""
        return hash_arrays({name: getattr(self, name) for name in ARRAYS})

    # What the book's chapters call

    def tensors(self, X: Array, y: Array) -> tuple[Any, Any]:
        """Turn one batch into the framework's tensors; each backend's data modules define it.

        Args:
            X: images of shape ``(n, height, width)`` where the data set has images, else
                ``(n, num_inputs)``; float32.
            y: labels, int32, shape ``(n,)``.
        """
        return X, y

    def get_dataloader(self, train: bool) -> Iterator[tuple[Any, Any]]:
        """Batches of ``batch_size`` examples; the training examples in a new random order."""
        X, y = self._stored(train)
        order = self._random.permutation(len(X)) if train else np.arange(len(X))
        for start in range(0, len(X), self.batch_size):
            rows = order[start : start + self.batch_size]
            features = self.scale(X[rows])
            if self.image_shape:
                features = features.reshape(len(rows), *self.image_shape)
            yield self.tensors(features, self.scaled_targets(y[rows]))

    def train_dataloader(self) -> Iterator[tuple[Any, Any]]:
        """The training batches, shuffled."""
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Iterator[tuple[Any, Any]]:
        """The validation batches, in order."""
        return self.get_dataloader(train=False)

    def text_labels(self, indices: Any) -> list[str]:
        """The names of classes, given as integers in a list, an array or a tensor."""
        names = self.labels or tuple(str(label) for label in range(self.num_outputs))
        return [names[int(i)] for i in indices]

    def visualize(
        self, batch: Any, nrows: int = 1, ncols: int = 8, labels: Sequence[str] = ()
    ) -> Any:
        """Draw the first images of a batch, each under its label (needs matplotlib).

        Args:
            batch: ``[X, y]`` in arrays or the framework's tensors.
            nrows: rows of the grid.
            ncols: columns of the grid.
            labels: a title for each image; the names of the classes if not given.

        Returns:
            The matplotlib axes, shape ``(nrows, ncols)``.
        """
        from matplotlib import pyplot

        X, y = batch
        titles = list(labels) if len(labels) else self.text_labels(y)
        shape = self.image_shape or (1, self.num_inputs)
        images = np.asarray(X).reshape(-1, *shape)
        _, axes = pyplot.subplots(
            nrows, ncols, figsize=(1.5 * ncols, 1.8 * nrows), squeeze=False, layout="constrained"
        )
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, image, title in zip(axes.flat, images, titles, strict=False):
            axis.imshow(image, cmap="gray_r")
            axis.set_title(title, fontsize="small")
        return axes

    # On disk

    def facts(self) -> dict[str, Any]:
        """What is stored beside the arrays: their digest, and what else makes the data set."""
        return {
            "name": self.name,
            "divisor": self.divisor,
            "num_outputs": self.num_outputs,
            "image_shape": self.image_shape,
            "labels": self.labels,
            "source": self.source,
            "sha256": self.sha256(),
            **({"any_targets": True} if self.y_train.ndim > 1 or not self.has_classes else {}),
        }

    def save(self, folder: Path) -> None:
        """Write the arrays and the facts to a folder: whole or not at all.

        An existing folder is replaced, unless it holds the same already. Several processes may
        save at once.

        Raises:
            ParityError: if there is no room or no permission.
        """
        facts = self.facts()
        if _holds(folder, facts):
            return
        try:
            with new_folder_beside(folder) as made:
                for name in ARRAYS:
                    np.save(made / f"{name}.npy", getattr(self, name), allow_pickle=False)
                (made / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
                sync_folder(made, files=True)
                _put(made, folder, facts)
        except OSError as error:
            raise ParityError(
                folder,
                "room and permission to store the data set",
                error,
                f"free space there, or set {CACHE_VARIABLE} to another folder",
            ) from None

    @classmethod
    def open(cls, folder: Path, batch_size: int = 256, *, verify: bool = False) -> Self:
        """Memory-map a data set that :meth:`save` wrote.

        Args:
            folder: where it did.
            batch_size: examples per batch.
            verify: read everything once and compare it with the digest in the facts.

        Raises:
            ParityError: if a file is missing, unreadable, or not what the digest says.
        """
        with stored(folder) as (given, expected):
            data = cls(**given, batch_size=batch_size)
        if verify and (received := data.sha256()) != expected:
            raise ParityError(
                folder,
                f"content with SHA-256 {expected}",
                received,
                "delete the folder, it is made again",
            )
        return data


@contextlib.contextmanager
def stored(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """What :meth:`DataModule.save` wrote: arguments of a data module, arrays mapped; its digest.

    Raises:
        ParityError: if a file is missing or unreadable, or no data module can be made of it.
    """
    memory_limit()
    try:
        facts = read_json(folder / "facts.json")
        expected = facts.pop("sha256")
        arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in ARRAYS
        }
        yield {**arrays, **facts}, expected
    except BROKEN as error:
        raise ParityError(
            folder,
            "a stored data set",
            told(error),
            "delete the folder, it is made again",
        ) from None


def _holds(folder: Path, facts: dict[str, Any]) -> bool:
    try:
        return DataModule.open(folder, verify=True).facts() == facts
    except ParityError:
        return False


def _put(made: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Rename a new folder to its place, where something else may be or may come."""
    with _locked(folder.parent):
        for attempt in reversed(range(10)):
            try:
                os.replace(made, folder)
                return
            except OSError:
                if not attempt:
                    raise
            if _holds(folder, facts):  # another process was faster
                return
            # A rename, then the deletion: no reader finds a half of it.
            with new_folder_beside(folder) as aside, contextlib.suppress(FileNotFoundError):
                os.replace(folder, aside / "old")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Between the verdict that a copy is broken and its removal, another process may have put a
    # good one there and be about to open it. Where there are no such locks, that gap remains.
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # some network file systems have no locks
                break
        else:
            raise TimeoutError(f"another process has locked {folder} for {LOCK_SECONDS:g} s")
        yield
    finally:
        os.close(handle)


def check_examples(
    X_train: Array, y_train: Array, X_val: Array, y_val: Array, any_targets: bool = False
) -> None:
    """Raise ParityError unless the four arrays are examples of one problem.

    It is one of classification, unless there may be ``any_targets``.
    """
    for split, X, y in (("train", X_train, y_train), ("val", X_val, y_val)):
        if X.ndim != 2 or not X.size:
            raise ParityError(f"X_{split}", "examples × features", f"shape {X.shape}", "reshape it")
        if X.dtype.kind not in "fiu":
            raise ParityError(
                f"X_{split}", "numbers", f"dtype {X.dtype}", "convert to float32 or uint8"
            )
        if any_targets and (y.dtype.kind not in "fiu" or not y.ndim or not y.size):
            raise ParityError(
                f"y_{split}",
                "classes or numbers, of one shape for each example",
                f"dtype {y.dtype}, shape {y.shape}",
                "convert them to integers or to float32",
            )
        if not any_targets and (y.ndim != 1 or y.dtype.kind not in "iu"):
            raise ParityError(
                f"y_{split}",
                "one integer label per example",
                f"dtype {y.dtype}, shape {y.shape}",
                "convert the labels to integers",
            )
        if len(X) != len(y):
            raise ParityError(
                f"X_{split}, y_{split}",
                "equal lengths",
                f"{len(X)} and {len(y)}",
                "drop what has no partner",
            )
        if y.dtype.kind != "f" and int(y.min()) < 0:
            raise ParityError(f"y_{split}", "labels from 0", y.min(), "number the classes from 0")
        if X.dtype.kind == "f" and (wrong := _count_not_finite(X)):
            raise ParityError(
                f"X_{split}",
                "finite features",
                f"{wrong} that are not finite, or overflow float32",
                "mend or drop those examples",
            )
        if y.dtype.kind == "f" and (wrong := _count_not_finite(y.reshape(len(y), -1))):
            raise ParityError(
                f"y_{split}",
                "finite targets",
                f"{wrong} that are not finite, or overflow float32",
                "mend or drop those examples",
            )
    if y_train.shape[1:] != y_val.shape[1:] or (y_train.dtype.kind == "f") != (
        y_val.dtype.kind == "f"
    ):
        raise ParityError(
            "y_train, y_val",
            "targets of one shape and kind",
            f"{y_train.shape[1:]} {y_train.dtype} and {y_val.shape[1:]} {y_val.dtype}",
            "build both the same way",
        )
    if X_train.shape[1] != X_val.shape[1]:
        raise ParityError(
            "X_train, X_val",
            "the same number of features",
            f"{X_train.shape[1]} and {X_val.shape[1]}",
            "build both the same way",
        )


def _as_stored(y: Array) -> Array:
    """Targets, numbers as float32, whatever the training's dtype: as features are."""
    with np.errstate(over="ignore"):  # an overflow becomes inf, which the check names
        return y.astype("float32", copy=False) if y.dtype.kind == "f" else y


def _count_not_finite(X: Array) -> int:
    count, rows = 0, max(1, FINITE_PIECE // X.shape[1])
    for start in range(0, len(X), rows):
        count += int(np.count_nonzero(~np.isfinite(X[start : start + rows])))
        if len(X) > rows:
            drop_pages(X)
    return count
