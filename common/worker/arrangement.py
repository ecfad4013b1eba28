"""A plan's training with its numbers in another order, as members of the ensemble have them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from framework_parity.common.core.arrays import Array, aligned
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.recording_data import RecordingData
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.plan import Plan

ORDERS = ("examples", "features", "classes")
"""What members of the ensemble may have in another order than the plan."""


@dataclass(frozen=True)
class Arrangement:
    """The plan's training with its numbers in another order: the same, added up otherwise.

    Args:
        orders: rows for each epoch, the examples of a batch among themselves in any order.
        features: their order; a feature is where it was where parameters name no inputs.
        classes: their order.
    """

    orders: Sequence[Rows]
    features: Array
    classes: Array

    @classmethod
    def of(cls, plan: Plan, data: DataModule, member: int, changed: Container[str]) -> Arrangement:
        """That of a member of the ensemble, with ``changed`` ones of :data:`ORDERS`.

        The first one's is the plan's.
        """
        generator = np.random.default_rng([plan.recipe.seed, member])
        orders = [np.array(order) for order in plan.order]
        sizes = {"features": data.num_inputs, "classes": data.num_outputs}
        other = {name: generator.permutation(size) for name, size in sizes.items()}
        size = plan.recipe.batch_size
        for order in orders if member and "examples" in changed else []:
            for start in range(0, len(order), size):
                generator.shuffle(order[start : start + size])
        found = [
            other[name] if member and name in changed else np.arange(length)
            for name, length in sizes.items()
        ]
        return cls(orders, *found)

    def targets(self, y: Array) -> Array:
        """Numbers of the classes in their other order; of targets that are numbers, these."""
        if y.dtype.kind == "f":
            return permuted(y, self.classes)
        return np.argsort(self.classes)[y].astype(y.dtype)

    def restored_targets(self, y: Array) -> Array:
        """What :meth:`targets` was given."""
        if y.dtype.kind == "f":
            return permuted(y, np.argsort(self.classes))
        return self.classes[y]

    def restored_scores(self, y_hat: Array) -> Array:
        """What ``forward`` gave, with the classes in the plan's order if it gives one for each.

        Of numbers likewise.
        """
        order = np.argsort(self.classes)
        if y_hat[:1].size == order.size:
            return permuted(y_hat, order)
        return y_hat[..., order] if y_hat.shape[-1:] == order.shape else y_hat


def permuted(values: Array, order: Array) -> Array:
    """The numbers of each example in another order, the shape as it is."""
    return values.reshape(len(values), -1)[:, order].reshape(values.shape)


class Arranged(RecordingData):
    """Examples whose features and classes are in another order."""

    arrangement: Arrangement

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        X, y = super().examples(train, dtype)
        if self.is_large:  # in pieces, as they are stored: neither order is another one
            return X, y
        if (np.diff(self.arrangement.features) != 1).any():
            X = aligned(X[:, self.arrangement.features])
        return X, aligned(self.arrangement.targets(y))
