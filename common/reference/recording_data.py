"""A data module that remembers what it gave to the framework: what a record says was fed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.plan import Plan


class RecordingData(DataModule):
    """A data module that remembers what it gave to the framework, and scales it once.

    Attributes:
        fed: the arrays that were given whole, by name.
        labels_fed: the label of each training example; of data larger than memory, as far as
            :meth:`watch` saw it given.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.fed: dict[str, Array] = {}
        self._watched: Any = None
        self._labels_seen: Array = np.empty(0)

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        """As :meth:`DataModule.examples`, but the same arrays to whoever asks again."""
        if f"X_{train}" not in self.fed or self.fed[f"X_{train}"].dtype != dtype:
            self.fed[f"X_{train}"], self.fed[f"y_{train}"] = super().examples(train, dtype)
        return self.fed[f"X_{train}"], self.fed[f"y_{train}"]

    @property
    def labels_fed(self) -> Array:
        """See the class."""
        return np.asarray(self.fed.get("y_True", self._labels_seen))

    def watch(self) -> None:
        """From now to :meth:`stop_watching`, take note of the chunks that are given."""
        self._watched = hashlib.sha256()
        self._labels_seen = np.full(self.num_train, -1, np.int32)

    def stop_watching(self) -> str:
        """The digest of the examples given since, in the order of their use; empty if none are."""
        watched, self._watched = self._watched, None
        return str(watched.hexdigest()) if watched else ""

    def chunks(self, order: Array, dtype: str = "float32") -> Iterator[tuple[Array, Array, int]]:
        start = 0
        for X, y, count in super().chunks(order, dtype):
            if self._watched is not None:
                self._watched.update(X[:count].data)
                self._labels_seen[order[start : start + count]] = y[:count]
            start += count
            yield X, y, count


def fed_sha256(
    fed: Mapping[str, Array], parameters: Mapping[str, Array], orders: Iterable[Rows]
) -> str:
    """Digest of what training is given: scaled examples, labels, parameters, order."""
    order = {f"order {epoch}": np.asarray(rows) for epoch, rows in enumerate(orders)}
    return hash_arrays({**dict(sorted(fed.items())), **parameters, **order})


def planned_sha256(plan: Plan, data: DataModule) -> str:
    """What :func:`fed_sha256` gives of a training that is given what the plan says."""
    given: dict[str, Array] = {}
    for train in (False, True):
        given[f"X_{train}"], given[f"y_{train}"] = data.examples(train, plan.recipe.dtype)
    return fed_sha256(given, plan.parameters, plan.order)
