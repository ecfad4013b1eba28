"""The faults that the suite tests itself with: what each is, and how those without a framework's
own part in them are planted. The file of a backend in here plants the others.

Needs NumPy and the standard library only: workers import this module.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from framework_parity.benchmarks import wrong_feeding, wrong_metrics, wrong_updates
from framework_parity.benchmarks.planting import (
    BATCH_SIZE,
    MODELS,
    Fault,
    Planter,
    Setup,
    recipes,
    with_changes,
)
from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.trainer import EVALUATION_EXAMPLES

BOTH = ("digits", "fashion-mnist")
STEEP = ("steep-digits", "fast-digits")
WITHIN = "only the optimizer differs; momentum has none in the first step from any state"
MASKED = "at step 0 the biases are zero: the forward pass is right, their gradient is not"
FACTORS = "both factors of the products are rounded, the first is the forward pass's"

KNOWN_FAULTS = (
    Fault("learning rate", (1 + 1e-5, 1 + 1e-4, 1.001, 1.1), ("update",), WITHIN, BOTH),
    Fault("weight decay", (1e-6, 1e-4, 1e-2), ("update",), WITHIN, BOTH),
    Fault("momentum", (0.1, 0.9), ("update",), WITHIN, BOTH),
    Fault("Nesterov momentum", (0.1, 0.9), ("update",), WITHIN),
    Fault(
        "gradient clipping",
        (0.1, 1.0),
        ("gradient", "update"),
        "some clip in place, some a copy",
        ("steep-digits", "digits"),
    ),
    Fault("bias never updated", (None,), ("update",), "its gradient is there"),
    Fault(
        "batches shuffled",
        (None,),
        ("data",),
        "other examples from the first step on",
        causes=(wrong_feeding.AS_FED,),
    ),
    Fault(
        "order reused",
        (None,),
        ("data",),
        "other examples from the second epoch on",
        causes=(wrong_feeding.AS_FED,),
    ),
    Fault("last batch dropped", (None,), ("data",), "the short batch is missing"),
    Fault("last batch over batch_size", (BATCH_SIZE,), ("loss",), "its mean differs, not its sum"),
    Fault("sum instead of mean", (None,), ("loss",), "each example's loss is right"),
    Fault("scale by", (1.0,), ("data",), "other features: divided by one more", BOTH),
    Fault("no scaling", (None,), ("data",), "other features", ("slow-digits", "digits")),
    Fault("normalisation", (None,), ("data",), "other features"),
    Fault("no bias", (None,), ("forward", "gradient"), MASKED),
    Fault(
        "label smoothing", (1e-4, 0.1, 1e-6), ("example loss",), "the forward pass is right", BOTH
    ),
    Fault("log clipped", (1e-2, 1e-3, 1e-7), ("example loss",), "the forward pass is right", STEEP),
    Fault(
        "softmax applied twice",
        (None,),
        ("example loss", "forward"),
        "planted in the loss; a forward pass that did it would be as wrong",
    ),
    Fault("permuted classes", (None,), ("data",), "other labels"),
    Fault("transposed images", (None,), ("data",), "other features"),
    Fault("wrong labels", (1, 10), ("data",), "other labels", BOTH),
    Fault("bfloat16 products", (None,), ("forward",), FACTORS),
    Fault("float16 products", (None,), ("forward",), FACTORS, BOTH),
    Fault("TF32 products", (None,), ("forward",), FACTORS),
    # Digits have whole sixteenths, which every format holds.
    Fault("bfloat16 inputs", (None,), ("data",), "other features", ("fashion-mnist",)),
    Fault("float16 inputs", (None,), ("data",), "other features", ("fashion-mnist",)),
    Fault("another initial W", (None,), ("data",), "the start is given, as examples are"),
    Fault("metric averaged over batches", (None,), ("metric",), "training is right"),
    Fault("metric on the training data", (None,), ("metric",), "training is right"),
    Fault("metric before the epoch", (None,), ("metric",), "training is right"),
)


COMPOUNDS: dict[tuple[str, ...], tuple[tuple[str, Any], ...]] = {
    # A fault of a framework's own making, and at most one: the next would take its place.
    ("update",): (
        (("learning rate", 1 + 1e-5), ("a weight corrupted at step 50", 1e-1)),
        (("momentum", 0.9), ("a weight corrupted at step 50", 1e-1)),
        (("Nesterov momentum", 0.9), ("learning rate", 1 + 1e-4)),
        (("weight decay", 1e-2), ("learning rate from step 50 on", 1.1)),
        (("momentum", 0.1), ("biases frozen from the second epoch on", None)),
        (("learning rate", 1.1), ("weight decay from the third epoch on", 1e-2)),
        (("weight decay", 1e-2), ("metric on the training data", None)),
        (("learning rate", 1.001), ("metric averaged over batches", None)),
    ),
    ("gradient", "update"): ((("gradient clipping", 0.1), ("learning rate", 1.001)),),
    ("example loss",): (
        (("label smoothing", 1e-4), ("learning rate", 1.001)),
        (("label smoothing", 0.1), ("decoupled decay", 1e-4)),
        (("label smoothing", 0.1), ("parameters through float16 once", None)),
    ),
    ("forward",): (
        (("TF32 products", None), ("learning rate", 1.1)),
        (("float16 products", None), ("decoupled decay", 1e-4)),
    ),
    ("data",): (
        (("momentum", 0.9), ("wrong labels", 10)),
        (("learning rate", 1.001), ("scale by", 1.0)),
        (("weight decay", 1e-2), ("normalisation", None)),
        (("momentum", 0.1), ("permuted classes", None)),
        (("learning rate", 1.001), ("another initial W", None)),
        (("label smoothing", 0.1), ("transposed images", None)),
    ),
    ("data", "update"): (
        (("momentum", 0.9), ("order reused", None)),
        (("learning rate", 1.1), ("two rows swapped", 60)),
        (("weight decay", 1e-4), ("labels rolled from the third epoch on", 1)),
    ),
}
"""Two faults at once, by the stages where the first of them may show."""

BY_NAME = {fault.name: fault for fault in KNOWN_FAULTS}
BY_NAME |= {
    fault.name: fault
    for module in (wrong_feeding, wrong_metrics, wrong_updates)
    for fault in module.FAULTS
}
ALIKE = tuple(
    Fault(name, sizes, ("example loss",), "the forward pass is right", family="look-alike")
    for name, sizes in (
        ("focal loss", (0.01, 2.0)),
        ("class weights", (1e-3, 0.1)),
        ("temperature", (1.001, 1.5, 1 + 1e-6)),
        ("confidence penalty", (1e-3, 0.1)),
    )
)
NOISE = Fault(
    *("random labels", (0.02, 0.1), ("data",), "other labels"),
    family="look-alike",
    causes=("wrong labels",),
)
CATALOGUE = (
    *(*BY_NAME.values(), *ALIKE, NOISE),
    *(
        Fault(
            *(" and ".join(name for name, _ in parts), (None,), stages, "the earlier of both"),
            family="compound",
            causes=tuple(cause for name, _ in parts for cause in BY_NAME[name].names),
            parts=parts,
        )
        for stages, compounds in COMPOUNDS.items()
        for parts in compounds
    ),
)
"""Every fault. A cause is known for those of the first family."""
PARTS = {fault.name: fault.parts for fault in CATALOGUE if fault.parts}


def plant(name: str, size: Any, setup: Setup, backend: str) -> Setup | None:
    """The setup with a fault in it; None if the backend cannot express the fault."""
    if name in PARTS:
        planted: Setup | None = setup
        for part, size_of_part in PARTS[name]:
            planted = planted and plant(part, size_of_part, planted, backend)
        return planted
    own: Any = None
    if importlib.util.find_spec(f"{__name__}.{backend}") is not None:
        own = importlib.import_module(f"{__name__}.{backend}")
        setup = replace(setup, put=getattr(own, "put_parameters", setup.put))
    if name in PLANTERS:
        return PLANTERS[name](setup, size)
    if own is None or name not in own.FAULTS:
        return None
    make = own.FAULTS[name]
    size = setup.plan.recipe.batch_size if size == BATCH_SIZE else size
    return with_changes(
        setup, **{model: make(getattr(setup.backend, model), size) for model in MODELS}
    )


# What training is given


def learning_rate(setup: Setup, factor: float) -> Setup:
    """A learning rate times a factor."""
    return recipes(setup, lr=setup.plan.recipe.lr * factor)


def another_start(setup: Setup, _: None) -> Setup:
    """Initial weights of the same distribution."""
    W = setup.parameters["W"]
    drawn = setup.plan.recipe.sigma * np.random.default_rng(1).standard_normal(W.shape)
    return replace(setup, parameters=setup.parameters | {"W": drawn.astype(W.dtype)})


def batches_shuffled(setup: Setup, _: None) -> Setup:
    """Batches of consecutive examples, always the same, in a new order every epoch."""
    num_train, size = setup.plan.order.shape[1], setup.plan.recipe.batch_size
    random = np.random.default_rng(1)
    rows = np.arange(num_train, dtype=np.int32)
    full = rows[: num_train - num_train % size].reshape(-1, size)
    short = rows[full.size :]
    orders = [np.concatenate([*random.permutation(full), short]) for _ in setup.orders]
    return replace(setup, orders=orders)


def order_reused(setup: Setup, _: None) -> Setup:
    """The first epoch's order in every epoch."""
    return replace(setup, orders=[setup.orders[0]] * len(setup.orders))


def last_batch_dropped(setup: Setup, _: None) -> Setup:
    """Full batches only."""
    num_train, size = setup.plan.order.shape[1], setup.plan.recipe.batch_size
    full = num_train - num_train % size
    return replace(setup, orders=[order[:full] for order in setup.orders])


def examples(change: Callable[[DataModule, Array, Array, bool, Any], None]) -> Planter:
    """A fault in the data: ``change(data, X, y, train, size)`` alters the arrays in place."""

    def planter(setup: Setup, size: Any) -> Setup:
        class Faulty(DataModule):
            def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
                X, y = super().examples(train, dtype)
                change(self, X, y, train, size)
                return X, y

        # What records is asked first, so that it sees what is given to the framework.
        return replace(setup, data_class=type("FaultyData", (setup.data_class, Faulty), {}))

    return planter


def scaled_by_more(data: DataModule, X: Array, y: Array, train: bool, more: float) -> None:
    """Divide by so much more: by 256 in place of 255."""
    X *= X.dtype.type(data.divisor / (data.divisor + more))


def unscaled(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Leave the stored numbers as they are."""
    X *= X.dtype.type(data.divisor)


def normalised(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Subtract the mean of all training features and divide by their standard deviation."""
    seen = data.scale(data.X_train)
    X -= seen.mean(dtype="float64").astype(X.dtype)
    X /= seen.std(dtype="float64").astype(X.dtype)


def permuted_classes(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Number the classes from another one on."""
    y[:] = (y + 1) % data.num_outputs


def transposed(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Take columns for rows."""
    assert data.image_shape is not None
    X[:] = X.reshape(len(X), *data.image_shape).transpose(0, 2, 1).reshape(X.shape)


def wrong_labels(data: DataModule, X: Array, y: Array, train: bool, count: int) -> None:
    """Give some training examples the label of another class."""
    if train:
        y[np.random.default_rng(1).choice(len(y), count, replace=False)] += 1
        y %= data.num_outputs


def random_labels(data: DataModule, X: Array, y: Array, train: bool, part: float) -> None:
    """Give some training examples a class at random."""
    if train:
        random = np.random.default_rng(1)
        some = random.choice(len(y), int(part * len(y)), replace=False)
        y[some] = random.integers(0, data.num_outputs, len(some))


def float16_inputs(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Round the features to half precision."""
    X[:] = X.astype(np.float16)


def bfloat16_inputs(data: DataModule, X: Array, y: Array, train: bool, _: None) -> None:
    """Round the features to the upper half of their bits, ties to even."""
    bits = X.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    bits &= np.uint32(0xFFFF0000)


# What is reported


def averaged_over_batches(trainer: Any, *_: Any) -> tuple[float, float]:
    """Validation metrics as the mean over batches, of which the last one is short."""
    batches = trainer.validation_batches(trainer.batch_size)
    loss, accuracy = np.mean([trainer.evaluate(X, y) for X, y in batches], axis=0)
    return float(loss), float(accuracy)


def of_training_data(trainer: Any, _: None) -> list[tuple[Any, Any]]:
    """The training examples in place of the validation's."""
    X, y, size = trainer.X, trainer.y, EVALUATION_EXAMPLES
    return [(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)]


def before_the_epoch(setup: Setup, _: None) -> Setup:
    """Validation metrics measured before each epoch."""

    class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
        def _fit_segments(self, order: Rows) -> None:
            self.before = super().evaluate_accuracy_and_loss()
            super()._fit_segments(order)

        def evaluate_accuracy_and_loss(self) -> tuple[float, float]:
            return self.before

    return with_changes(setup, Trainer=Faulty)


PLANTERS: dict[str, Planter] = {
    "learning rate": learning_rate,
    "another initial W": another_start,
    "batches shuffled": batches_shuffled,
    "order reused": order_reused,
    "last batch dropped": last_batch_dropped,
    "scale by": examples(scaled_by_more),
    "no scaling": examples(unscaled),
    "normalisation": examples(normalised),
    "permuted classes": examples(permuted_classes),
    "transposed images": examples(transposed),
    "wrong labels": examples(wrong_labels),
    "random labels": examples(random_labels),
    "float16 inputs": examples(float16_inputs),
    "bfloat16 inputs": examples(bfloat16_inputs),
    "metric averaged over batches": wrong_metrics.reports(averaged_over_batches),
    "metric on the training data": wrong_metrics.evaluated(of_training_data),
    "metric before the epoch": before_the_epoch,
}
PLANTERS |= {
    fault.name: planter
    for module in (wrong_feeding, wrong_metrics, wrong_updates)
    for fault, planter in module.FAULTS.items()
}
