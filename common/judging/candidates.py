"""Which known discrepancies a run's record suggests: the variations worth a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.judge import Judgement
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.replay import WORST, Training
from framework_parity.common.reference.variations import (
    FORMATS,
    STORED_FORMATS,
    AffineFeatures,
    BiasNeverUpdated,
    BlockOrder,
    ChangedFeatures,
    ChangedLabels,
    Clipped,
    ClippedEach,
    ClippedEntries,
    ClippedLog,
    ClippedNearly,
    ForwardOnly,
    InitialParameters,
    LabelSmoothing,
    LastBatchDropped,
    LastBatchGradientOverBatchSize,
    LastBatchOverBatchSize,
    LearningRate,
    Momentum,
    Nesterov,
    NoBias,
    OrderAsFed,
    OrderReused,
    PlainSoftmax,
    RoundedProducts,
    RoundedResults,
    ShiftedLog,
    SoftmaxTwice,
    SoftmaxTwiceInForward,
    StraightThrough,
    Sum,
    Variation,
    WeightDecay,
    WeightDecayOfWeights,
)
from framework_parity.common.training.record import Record

NO_SHIFT = 1e-6
"""A shift of the features below this part of them is rounding of the fit. At zero two of the 32
cases of ``tests/test_causes.py`` (scale by 17, no scaling) are misnamed; up to 1e-4 none."""

LEAST_MOMENTUM = 0.01
"""Below it Nesterov's momentum m cannot be told from a learning rate × (1 + m). At zero one of the
32 cases of ``tests/test_causes.py`` (learning rate × 1.00001) is misnamed; at 0.2 momentum 0.1."""

UNDERFLOW = "underflow of the plain softmax"
REMEDY = "(subtract the largest logit first)"


@dataclass
class Candidate:
    """A variation of the plan that may explain a run.

    Args:
        name: of the cause.
        make: the replay, from a value and the options of :class:`Training`.
        value: the size of the change, or where its fit starts; None if it has no size.
        unchanged: the value that changes nothing.
        uncertainty: how far the value may be off: nothing it was fitted to moves by more than an
            envelope then.
        fitted: whether the value is to be fitted; else the record gave it.
        scale: the derivative's step in a fit, at least.
        least: the smallest value that deserves the cause's name.
        most: the largest.
        text: the cause in words, with ``{}`` for the value; its name if empty.
        envelopes: how well it fits.
        metric_envelopes: how well the validation metrics fit.
        through: how many steps it explains.
        compared: how many could be compared.
        is_whole: whether it explains all of those.
        ends_with_loss: whether the first thing that it does not explain is a step's loss.
        unchanged_envelopes: how well what it was changed from fits, by the bounds of its replay.
    """

    name: str
    make: partial[Variation]
    value: float | None = None
    scale: float = 1e-4
    unchanged: float = 0.0
    uncertainty: float = 0.0
    fitted: bool = True
    least: float = -np.inf
    most: float = np.inf
    text: str = ""
    envelopes: float = WORST
    metric_envelopes: float = 0.0
    through: int = 0
    compared: int = 0
    is_whole: bool = False
    ends_with_loss: bool = False
    unchanged_envelopes: float = 0.0

    def replay(self, **options: Any) -> Training:
        """The replay at the value found so far."""
        return self.make(self.value or 0.0, **options)

    @property
    def words(self) -> str:
        """The cause in words."""
        shown = digits(self.value or 0.0, self.unchanged, self.uncertainty)
        return self.text.format(shown) or self.name


def digits(value: float, unchanged: float, uncertainty: float) -> str:
    """A value with the digits that tell it from no change, and no more than its fit supports."""
    change = abs(value - unchanged)
    if not (change and value):
        return f"{value:g}"
    first = -int(np.floor(np.log10(change)))
    known = -int(np.floor(np.log10(uncertainty))) if uncertainty else first + 3
    decimals = max(first, min(known, first + 3))
    return f"{value:.{max(1, int(np.floor(np.log10(abs(value)))) + decimals + 1)}g}"


class Clues:
    """What a run's record and its first divergence say of its cause.

    Args:
        judge: of the run's plan.
        record: the run.
        judgement: what the judge said of it.
        probes: what the record holds of each probed step.
    """

    def __init__(
        self,
        judge: SoftmaxJudge,
        record: Record,
        judgement: Judgement,
        probes: Mapping[int, Mapping[str, Array]],
    ) -> None:
        self.judge, self.record, self.judgement, self.probes = judge, record, judgement, probes
        self.plan, self.data, self.ladder = judge.plan, judge.data, judge.ladder

    def candidates(self) -> Iterator[Candidate]:
        """The causes that the stage of the first divergence allows.

        In lock-step every stage below it is sound, so that what would show there is ruled out.
        What only the free run shows may be anything.
        """
        divergence = self.judgement.divergence
        assert divergence is not None
        if divergence.stage == "data":
            yield from self.data_candidates()
            yield from self.order_candidates()
            return
        anything = self.judgement.lockstep_envelopes <= self.judge.thresholds.envelopes
        if anything or divergence.stage in ("forward", "gradient"):
            yield from self.forward_candidates()
        if anything or divergence.stage in ("forward", "example loss", "loss", "gradient"):
            yield from self.loss_candidates()
        if anything or divergence.stage in ("gradient", "update"):
            yield from self.update_candidates()

    def anything(self) -> Iterator[Candidate]:
        """The causes that may begin at any step."""
        yield from self.forward_candidates()
        yield from self.loss_candidates()
        yield from self.update_candidates()
        yield from self.general_orders()

    def simple(self, name: str, kind: type[Variation]) -> Candidate:
        """A candidate with nothing to fit."""
        return Candidate(name, self.of(kind))

    def sized(
        self, name: str, make: partial[Variation], value: float, scale: float, text: str
    ) -> Candidate:
        """A candidate whose size is fitted, and is none below zero."""
        return Candidate(name, make, value, scale, least=0.0, text=text)

    def of(self, kind: type[Variation], **attributes: Any) -> partial[Variation]:
        """What makes a replay of this kind; attributes stand for what the record showed."""
        cls = type(kind.__name__, (kind,), attributes) if attributes else kind
        return partial(cls, self.plan, self.data)

    def update_candidates(self) -> Iterator[Candidate]:
        """What may be wrong with the update: learning rate, decay, momentum, clipping."""
        rate = self.of(LearningRate)
        yield Candidate(
            "learning rate", rate, self.gain(), 1e-6, unchanged=1.0, text="learning rate × {}"
        )
        for decay in (WeightDecay, WeightDecayOfWeights):
            yield self.sized("weight decay", self.of(decay), 0.0, 1e-7, "weight decay {}")
        for name, kind in (("momentum", Momentum), ("Nesterov momentum", Nesterov)):
            make, text = self.of(kind), f"{name} {{}}"
            yield Candidate(name, make, 0.5, least=LEAST_MOMENTUM, most=1.0, text=text)
        yield self.simple("bias never updated", BiasNeverUpdated)
        clippings: tuple[tuple[type[Variation], float], ...] = (
            (Clipped, self.largest_update(joint=True)),
            (ClippedNearly, self.largest_update(joint=True)),
            (ClippedEach, self.largest_update(joint=False)),
            (ClippedEntries, self.largest_entry()),
        )
        # Where gradients are clipped in place, they show clipped.
        in_place = self.judgement.divergence is not None and (
            self.judgement.divergence.stage == "gradient"
        )
        for clipping, bound in clippings:
            make = self.of(clipping, in_place=in_place)
            yield self.sized("gradient clipping", make, bound, 1e-6, "gradient clipping at {}")

    def loss_candidates(self) -> Iterator[Candidate]:
        """What may be wrong with the loss: its reduction, its form."""
        yield self.simple("sum instead of mean", Sum)
        yield self.simple("last batch over batch_size", LastBatchOverBatchSize)
        yield self.simple("last batch over batch_size", LastBatchGradientOverBatchSize)
        smoothed, clipped, shifted = map(self.of, (LabelSmoothing, ClippedLog, ShiftedLog))
        bound = float(np.exp(-self.largest_loss()))
        yield self.sized("label smoothing", smoothed, 0.0, 1e-6, "label smoothing {}")
        yield self.sized("log clipped", clipped, bound, 1e-9, "logarithm clipped at {}")
        yield self.sized("log clipped", shifted, 0.0, 1e-9, "logarithm of p + {}")
        if self.record.facts["y_hat"] == "probabilities":
            ways = ("derived", "quotients", "factor")
            for flushed, backward in product((False, True), ways):
                make = self.of(PlainSoftmax, flushed=flushed, backward=backward)
                yield Candidate(UNDERFLOW, make, text=f"{UNDERFLOW} {REMEDY}")
        yield self.simple("softmax applied twice", SoftmaxTwice)
        yield self.simple("softmax applied twice", SoftmaxTwiceInForward)

    def forward_candidates(self) -> Iterator[Candidate]:
        """What may be wrong with the forward pass: a missing bias, narrow formats."""
        yield self.simple("no bias", NoBias)
        for name, narrow in FORMATS.items():
            for kind in (RoundedProducts, ForwardOnly, StraightThrough, RoundedResults):
                make = self.of(kind, narrow=staticmethod(narrow))
                yield Candidate(f"{name} products", make)

    def order_candidates(self) -> Iterator[Candidate]:
        """What may be wrong with the order of the examples: repeated, cut short."""
        yield from self.general_orders()
        if batches := fed_batches(self.record):
            yield Candidate("order as it was fed", self.of(OrderAsFed, fed_batches=batches))
        elif blocks := self.blocks():
            yield Candidate(
                "batches shuffled",
                self.of(BlockOrder, blocks=blocks, step_loss=self.record.arrays["step_loss"]),
            )

    def general_orders(self) -> Iterator[Candidate]:
        """Orders that follow from the plan alone."""
        yield self.simple("order reused", OrderReused)
        yield self.simple("last batch dropped", LastBatchDropped)

    def data_candidates(self) -> Iterator[Candidate]:
        """What may be wrong with what was fed: initial parameters, features, labels."""
        initial = tuple(self.record.arrays[f"initial/{name}"] for name in "Wb")
        if not np.array_equal(initial[0], self.plan.W):
            make = self.of(InitialParameters, given=initial)
            yield Candidate("another initial W", make)
        planned = np.asarray(self.data.y_train)
        fed = self.record.arrays["fed/y_train"]
        if fed.shape == planned.shape and (wrong := int(np.count_nonzero(fed != planned))):
            name = "permuted classes" if is_permutation(planned, fed) else "wrong labels"
            make = self.of(ChangedLabels, fed=fed)
            yield Candidate(name, make, text=f"{name} ({wrong} differ)")
        yield from self.feature_candidates()

    def feature_candidates(self) -> Iterator[Candidate]:
        """From the first batch as the framework held it: a scale, a shift, a format, an order."""
        received = self.probes.get(0, {}).get("data/X")
        stored = self.data.stored_rows(self.plan.rows(0)).astype(np.float64)
        planned = stored / self.data.divisor
        if received is None or received.shape != planned.shape:
            return
        if self.data.image_shape:
            shape = self.data.image_shape

            def transposed(X: Array) -> Array:
                return X.reshape(-1, *shape).transpose(0, 2, 1).reshape(len(X), -1)

            make = self.of(ChangedFeatures, change=staticmethod(transposed))
            yield Candidate("transposed images", make)
        for name in STORED_FORMATS:
            make = self.of(ChangedFeatures, change=staticmethod(FORMATS[name]))
            yield Candidate(f"{name} inputs", make)
        if np.ptp(planned) == 0:  # no line goes through one point
            return
        factor, shift = np.polyfit(planned.ravel(), received.astype(np.float64).ravel(), 1)
        if abs(shift) <= NO_SHIFT * max(abs(factor), 1.0):
            shift = 0.0
        name = self.scaling_name(factor, shift)
        shifted = f" {shift:+.7g}" if shift else ""
        yield Candidate(
            name,
            self.of(AffineFeatures, shift=float(shift)),
            float(factor),
            unchanged=1.0,
            fitted=False,
            text=f"{name} (features × {{}}{shifted})",
        )

    def scaling_name(self, factor: float, shift: float) -> str:
        """What a factor and a shift of the features are usually called."""
        divisor = self.data.divisor
        if shift:
            return "normalisation"
        if np.isclose(factor, divisor / (divisor + 1), rtol=1e-6):
            return f"scale by {divisor + 1:g}"
        return "no scaling" if np.isclose(factor, divisor, rtol=1e-6) else "scale"

    def blocks(self) -> dict[int, int]:
        """The stored blocks that the probed batches are, by the plan's first row there."""
        size, labels = self.plan.recipe.batch_size, np.asarray(self.data.y_train)
        found = {}
        for step, probe in self.probes.items():
            if not {"data/y", "example_loss"} <= set(probe):
                return {}
            y = probe["data/y"]
            starts = range(0, len(labels) - len(y) + 1, size)
            fitting = [s for s in starts if np.array_equal(labels[s : s + len(y)], y)]
            if not fitting:
                return {}
            losses = [self.losses_of_block(step, s, len(y)) for s in fitting]
            errors = [float(np.abs(loss - probe["example_loss"]).max()) for loss in losses]
            found[int(self.plan.rows(step)[0])] = fitting[int(np.argmin(errors))] // size
        return found

    def losses_of_block(self, step: int, start: int, length: int) -> Array:
        """The reference's loss of each example of a stored block, at a probed step."""
        i, training = self.plan.probes.index(step), Training(self.plan, self.data)
        rows = np.arange(start, start + length, dtype=np.int32)
        state = self.judge.oracle.before(i)
        W, b = (np.asarray(state[name], np.float64) for name in "Wb")
        return training.step_of(W, b, *training.examples(rows)).losses

    # First guesses

    def gain(self) -> float:
        """The update as a multiple of the one that is due, at the first probed step."""
        received = self.probes.get(0, {}).get("update/W")
        exact = self.ladder.exact[0]["update/W"]
        if received is None or received.shape != exact.shape or not exact.any():
            return 1.0
        return float((received * exact).sum() / (exact * exact).sum())

    def largest_update(self, joint: bool) -> float:
        """The largest norm of a probed update, as a gradient's."""
        of_all = sum if joint else max
        norms = [
            np.sqrt(of_all([float((probe[f"update/{name}"] ** 2).sum()) for name in "Wb"]))
            for probe in self.probes.values()
            if {"update/W", "update/b"} <= set(probe)
        ]
        return float(max(norms, default=1.0)) / max(self.plan.recipe.lr, 1e-30)

    def largest_entry(self) -> float:
        """The largest entry of a probed update, as a gradient's."""
        entries = [
            float(np.abs(p["update/W"]).max()) for p in self.probes.values() if "update/W" in p
        ]
        return max(entries, default=1.0) / max(self.plan.recipe.lr, 1e-30)

    def largest_loss(self) -> float:
        """The largest loss of a probed example."""
        found = [
            float(p["example_loss"].max()) for p in self.probes.values() if "example_loss" in p
        ]
        return max(found, default=1.0)


def is_permutation(planned: Array, fed: Array) -> bool:
    """Whether each class was fed as one other, and no two as the same."""
    pairs = set(zip(planned.tolist(), fed.tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def fed_batches(record: Record) -> list[Array]:
    """The rows of each step as they were fed; none where the plan's were, or none are recorded."""
    rows = record.arrays.get("fed/rows")
    if rows is None:
        return []
    return np.split(rows, np.cumsum(record.arrays["fed/examples"])[:-1])
