"""The data sets: Fashion-MNIST, scikit-learn's digits, synthetic ones, and a user's own arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framework_parity.common.core.archive import open_archive
from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.machine import check_memory
from framework_parity.common.data.data_module import ARRAYS, DataModule, memory_limit, stored


class FashionMNIST(DataModule):
    """Fashion-MNIST: 60,000 and 10,000 grey images of 28 × 28 pixels in ten classes.

    Args:
        batch_size: examples per batch.
        data_dir: a folder with the publisher's four files; searched and fetched if not given.
    """

    def __init__(self, batch_size: int = 64, data_dir: str | Path | None = None) -> None:
        from framework_parity.common.data.sources import fetch_fashion_mnist

        with stored(fetch_fashion_mnist(data_dir)) as (given, _):
            super().__init__(**given, batch_size=batch_size)


class Digits(DataModule):
    """Scikit-learn's bundled digits: 1,797 images of 8 × 8 pixels; the last 360 validate.

    Scikit-learn is imported here: the class serves the runner and notebooks, not workers.

    Args:
        batch_size: examples per batch.

    Raises:
        ParityError: where there is no scikit-learn.
    """

    def __init__(self, batch_size: int = 64) -> None:
        try:
            from sklearn.datasets import load_digits  # type: ignore[import-untyped]
        except ImportError as error:
            raise ParityError(
                "digits", "scikit-learn, which holds them", error, "install scikit-learn"
            ) from None
        X, y = load_digits(return_X_y=True)
        X, y = X.astype(np.uint8), y.astype(np.uint8)
        super().__init__(
            *(X[:-360], y[:-360], X[-360:], y[-360:]),
            batch_size=batch_size,
            name="digits",
            divisor=16.0,
            image_shape=(8, 8),
            source="scikit-learn",
        )


class Synthetic(DataModule):
    """Gaussian features whose classes a random linear map decides, with noise.

    Args:
        num_examples: training examples; a fifth as many more validate.
        num_inputs: features.
        num_outputs: classes.
        batch_size: examples per batch.
        noise: standard deviation of the noise on the logits, which have standard deviation 1.
        seed: seed of everything drawn.
    """

    def __init__(
        self,
        num_examples: int = 2000,
        num_inputs: int = 20,
        num_outputs: int = 5,
        batch_size: int = 64,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        if min(num_examples, num_inputs, num_outputs) < 1:
            raise ParityError(
                "synthetic",
                "at least one example, feature and class",
                f"{num_examples}x{num_inputs}x{num_outputs}",
                "give for example synthetic:2000x20x5",
            )
        num_val = max(1, num_examples // 5)
        name = f"synthetic:{num_examples}x{num_inputs}x{num_outputs}"
        rows = num_examples + num_val
        needed = 4 * rows * num_inputs + 8 * num_outputs * (num_inputs + 2 * rows)
        said = f"{rows:,} examples of {num_inputs:,} features, {num_outputs:,} classes"
        check_memory(name, needed, said, "ask for fewer")
        random = np.random.default_rng(seed)
        X = random.standard_normal((num_examples + num_val, num_inputs), dtype=np.float32)
        map_ = random.standard_normal((num_inputs, num_outputs)) / np.sqrt(num_inputs)
        logits = X @ map_ + noise * random.standard_normal((len(X), num_outputs))
        y = logits.argmax(axis=1).astype(np.int32)
        super().__init__(
            *(X[:num_examples], y[:num_examples], X[num_examples:], y[num_examples:]),
            batch_size=batch_size,
            name=name,
            num_outputs=num_outputs,
            source=f"generated, seed {seed}",
        )


def load_npz(path: Path, any_targets: bool = False) -> DataModule:
    """A user's own data: an ``.npz`` with ``X_train``, ``y_train``, ``X_val`` and ``y_val``.

    uint8 features are pixels, and divided by 255; others are taken as they are, as float32.
    Features of more than one axis are flattened. Of a large archive, arrays that ``numpy.savez``
    stored as uint8 or float32 are memory-mapped where they lie. ``any_targets`` as of
    :class:`DataModule`.

    Raises:
        ParityError: if an array is missing or unusable.
    """
    try:
        with open_archive(path) as archive:
            large = path.stat().st_size > memory_limit() // 4
            held = sorted(archive.names)
            arrays = {}
            for name in ARRAYS:
                if name in held:
                    mapped = archive.map(name, path) if large else None
                    arrays[name] = archive.read(name) if mapped is None else mapped
    except FileNotFoundError:
        raise ParityError(path, "an .npz file", "nothing there", "check the path") from None
    except Exception as error:  # NumPy and zipfile raise a dozen types for a broken archive
        raise ParityError(
            path,
            "an .npz archive of plain arrays",
            told(error),
            "write it with numpy.savez and no objects in it",
        ) from None
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise ParityError(
            path,
            f"the arrays {', '.join(ARRAYS)}",
            ", ".join(held) or "none",
            f"add {', '.join(missing)}",
        )
    X_train, X_val = arrays["X_train"], arrays["X_val"]
    for name, X in (("X_train", X_train), ("X_val", X_val)):
        if X.ndim < 2 or not X.size:
            raise ParityError(
                f"{path}: {name}",
                "examples × features, two axes or more",
                f"shape {X.shape}",
                "reshape it",
            )
    pixels = [X.dtype == np.uint8 for X in (X_train, X_val)]
    if X_train.shape[1:] != X_val.shape[1:] or pixels[0] != pixels[1]:
        raise ParityError(
            f"{path}: X_train, X_val",
            "examples of one shape and dtype",
            f"{X_train.shape[1:]} {X_train.dtype} and {X_val.shape[1:]} {X_val.dtype}",
            "build both the same way",
        )
    try:
        return DataModule(
            *(_features(X_train), arrays["y_train"], _features(X_val), arrays["y_val"]),
            name=path.stem,
            divisor=255.0 if pixels[0] else 1.0,
            image_shape=X_train.shape[1:] if X_train.ndim == 3 else None,
            source=str(path),
            any_targets=any_targets,
        )
    except ParityError as error:
        raise error.inside(path) from None


def _features(X: Array) -> Array:
    flat = np.ascontiguousarray(X.reshape(len(X), -1))
    if X.dtype == np.uint8 or X.dtype.kind not in "fiu":
        return flat
    with np.errstate(over="ignore"):  # an overflow becomes inf, which the check names
        return flat.astype(np.float32, copy=False)
