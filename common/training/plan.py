"""Plan: a recipe made concrete once, in files that every worker reads."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import hash_arrays
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.machine import check_memory
from framework_parity.common.core.outside import read_json
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.recipe import Recipe

SEED_BYTES, WEIGHT_BYTES = 500, 16
"""What drawing takes beside the order of an epoch, and for each weight."""

MAX_EPOCH_SNAPSHOTS = 100
"""Parameters are kept after every epoch up to this many epochs, then evenly spread over them."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training, as bytes: no worker draws a random number.

    Args:
        recipe: the hyperparameters.
        data_folder: where the stored data set is (see :meth:`DataModule.save`).
        data_sha256: digest of that data set.
        W: initial weights, shape ``(num_inputs, num_outputs)``, of the recipe's dtype.
        b: initial biases, shape ``(num_outputs,)``.
        order: rows of the training data in the order of their use, int32, shape
            ``(max_epochs, num_train)``.
        probed: the steps to probe, if not the usual ones.
    """

    recipe: Recipe
    data_folder: Path
    data_sha256: str
    W: npt.NDArray[Any]
    b: npt.NDArray[Any]
    order: npt.NDArray[np.int32]
    probed: tuple[int, ...] = ()

    @classmethod
    def make(cls, recipe: Recipe, data: DataModule, data_folder: Path) -> Plan:
        """Draw the initial parameters and the order of the examples from the recipe's seed.

        Raises:
            ParityError: if the order does not fit in memory, or the weights or the learning rate
                not in the recipe's dtype.
        """
        said = f"an order of {data.num_train:,} examples for {recipe.max_epochs:,} epochs"
        needed = recipe.max_epochs * (4 * data.num_train + SEED_BYTES)
        check_memory("max_epochs", needed, said, "lower --max-epochs")
        said = f"{data.num_inputs:,} × {data.num_outputs:,} weights"
        needed = data.num_inputs * data.num_outputs * WEIGHT_BYTES
        check_memory(data.name, needed, said, "train on fewer features or classes")
        order = np.empty((recipe.max_epochs, data.num_train), np.int32)
        weights, *epochs = np.random.SeedSequence(recipe.seed).spawn(1 + recipe.max_epochs)
        W = np.random.default_rng(weights).standard_normal((data.num_inputs, data.num_outputs))
        for row, epoch in zip(order, epochs, strict=True):
            row[:] = np.random.default_rng(epoch).permutation(data.num_train)
        with np.errstate(over="ignore"):
            W = (recipe.sigma * W).astype(recipe.dtype)
            lr = np.dtype(recipe.dtype).type(recipe.lr)
        if not (np.isfinite(W).all() and np.isfinite(lr)):
            raise ParityError(
                "sigma, lr",
                f"initial weights and a learning rate that {recipe.dtype} holds",
                f"{recipe.sigma:g} and {recipe.lr:g}",
                "lower them",
            )
        return cls(
            recipe=recipe,
            data_folder=data_folder,
            data_sha256=data.sha256(),
            W=W,
            b=np.zeros(data.num_outputs, dtype=recipe.dtype),
            order=order,
        )

    @property
    def parameters(self) -> Parameters:
        """The initial parameters by name."""
        return {"W": self.W, "b": self.b}

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch; the short last batch counts."""
        return -(-int(self.order.shape[1]) // self.recipe.batch_size)

    @property
    def num_steps(self) -> int:
        """Updates in the whole training."""
        return self.recipe.max_epochs * self.steps_per_epoch

    @cached_property
    def snapshots(self) -> tuple[int, ...]:
        """Numbers of updates after which the parameters are recorded.

        Powers of two through the first epoch, where a fault shows before rounding has grown;
        both sides of its short last batch; and the end of every epoch.
        """
        first = self.steps_per_epoch
        early = {2**k for k in range(first.bit_length()) if 2**k < first} | {first - 1}
        epochs = np.linspace(
            1, self.recipe.max_epochs, min(self.recipe.max_epochs, MAX_EPOCH_SNAPSHOTS)
        )
        ends = {int(epoch) * first for epoch in epochs}
        return tuple(sorted((early | ends) - {0}))

    @cached_property
    def probes(self) -> tuple[int, ...]:
        """Steps, counted from 0, that every backend computes from the reference's own state.

        The first ones; the short last batch of the first epoch; the second epoch's first step,
        where a new order begins; and the very last step.
        """
        if self.probed:
            return self.probed
        first = self.steps_per_epoch
        early = {step for step in (0, 1, 4, 16, 64) if step < first}
        late = {first - 1, first, self.num_steps - 1}
        return tuple(sorted(early | {step for step in late if step < self.num_steps}))

    @property
    def epoch_ends(self) -> dict[int, int]:
        """Which snapshot is the end of an epoch: its place by the number of epochs done by then."""
        ends = [divmod(step, self.steps_per_epoch) for step in self.snapshots]
        return {epoch: place for place, (epoch, rest) in enumerate(ends) if epoch and not rest}

    def rows(
        self, step: int, orders: Sequence[npt.NDArray[np.int32]] | None = None
    ) -> npt.NDArray[np.int32]:
        """The rows of a step's batch, counted from 0; in other ``orders`` than the plan's."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self.recipe.batch_size
        order = self.order[epoch] if orders is None else orders[epoch]
        return np.asarray(order[place * size : (place + 1) * size])

    def batches(self, epoch: int) -> Iterator[npt.NDArray[np.int32]]:
        """The rows of each batch of an epoch (counted from 0)."""
        order, size = self.order[epoch], self.recipe.batch_size
        for start in range(0, len(order), size):
            yield order[start : start + size]

    @cached_property
    def sha256(self) -> str:
        """Digest of all that decides the training: hyperparameters, data, parameters, order."""
        deciding = self.recipe.to_json()
        del deciding["data"], deciding["seed"], deciding["sigma"]  # spent: bytes are here instead
        digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode())
        digest.update(self.data_sha256.encode())
        digest.update(hash_arrays({"W": self.W, "b": self.b, "order": self.order}).encode())
        return digest.hexdigest()

    def data(self) -> DataModule:
        """The data set, memory-mapped."""
        return DataModule.open(self.data_folder, self.recipe.batch_size)

    @property
    def direction(self) -> npt.NDArray[Any]:
        """What the batches of a training are projected on, to see what it was fed.

        Entries of either sign, none of them small, shape ``(num_inputs,)``.
        """
        random, size = np.random.default_rng(13), len(self.W)
        v = random.uniform(0.5, 1.5, size) * random.choice((-1.0, 1.0), size)
        return np.asarray(v, self.recipe.dtype)

    def save(self, folder: Path) -> None:
        """Write the plan to a new folder."""
        folder.mkdir(parents=True)
        for name in ("W", "b", "order", "direction"):  # the last for programs that are not ours
            # By way of memory: NumPy's own writing to a file lets a full disk pass in silence.
            content = io.BytesIO()
            np.save(content, getattr(self, name), allow_pickle=False)
            (folder / f"{name}.npy").write_bytes(content.getbuffer())
        facts = {
            "recipe": self.recipe.to_json(),
            "data_folder": str(self.data_folder),
            "data_sha256": self.data_sha256,
            "sha256": self.sha256,
            "probed": self.probed,
            # What follows from the rest, for programs that are not ours:
            "snapshots": self.snapshots,
            "probes": self.probes,
        }
        (folder / "plan.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read a plan that :meth:`save` wrote.

        Raises:
            ParityError: if a file is missing or unreadable, or the content is not what the
                plan's digest says.
        """
        try:
            facts = read_json(folder / "plan.json")
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("W", "b", "order")
            }
            plan = cls(
                recipe=Recipe(**facts["recipe"]),
                data_folder=Path(facts["data_folder"]),
                data_sha256=facts["data_sha256"],
                probed=tuple(facts["probed"]),
                **arrays,
            )
            expected = facts["sha256"]
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ParityError(folder, "a plan", told(error), "run the comparison again") from None
        if plan.sha256 != expected:
            raise ParityError(
                folder, f"a plan with SHA-256 {expected}", plan.sha256, "run the comparison again"
            )
        return plan
