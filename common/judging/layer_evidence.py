"""What is on record of the first layer that is off, for the search of its cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.diagnosis import Diagnosis
from framework_parity.common.judging.ladder import IN_EVALUATION, Finding
from framework_parity.common.judging.layer_causes import LayerSearch, Step
from framework_parity.common.judging.layer_kinds import MOMENTS as OF_AXIS
from framework_parity.common.judging.layers import far, turned
from framework_parity.common.judging.model_ladder import ModelLadder
from framework_parity.common.reference.layer_formulas import Floats
from framework_parity.common.training.forward_checks import MOMENTS
from framework_parity.common.training.optimizer_state import probed_steps
from framework_parity.common.training.record import Record

MOST_AXES = 6
ITS_INPUT = "its input"
THE_EXAMPLES = "the examples"
Examples = Callable[[int], Array | None]
Side = dict[int, Floats]
"""An array of each probed step."""


def layer_cause(
    ladder: ModelLadder, record: Record, first: Finding, limit: float, examples: Examples
) -> Diagnosis | None:
    """Why the first layer that is off is off; None if no classic difference says it.

    Args:
        ladder: the reference, its ensemble and the stages.
        record: the run.
        first: its first divergence.
        limit: how many envelopes are rounding.
        examples: the features of a step's batch, in float64.
    """
    if first.stage not in ("forward", "example loss", "loss", "gradient", "update"):
        return None
    off = (f for f in ladder.findings(record) if f.stage == "forward" and f.envelopes > limit)
    off = (
        f for f in off if not f.tensor.endswith(IN_EVALUATION)
    )  # what those are given is unknown
    if (found := min(off, key=lambda f: f.step, default=None)) is None:
        return None
    if first.stage == "forward" and found.tensor != first.tensor:
        return None
    evidence = Evidence(ladder, record, found.tensor, examples)
    for search, place in evidence.searches(limit):
        if cause := search.cause(place):
            own = search.identified[2].values() if search.identified else ()
            if first.stage == "forward" or first.tensor in own:
                return cause
    return None


@dataclass(frozen=True)
class Evidence:
    """What both sides have on record of a layer; arguments as of :func:`layer_cause`."""

    ladder: ModelLadder
    record: Record
    rung: str
    examples: Examples
    turned: list[tuple[int, ...]] = field(default_factory=list)

    @cached_property
    def steps(self) -> Sequence[int]:
        """The probed steps that both began with the same state."""
        return probed_steps(self.ladder.plan, self.ladder.reference, self.record)

    def searches(self, limit: float) -> Iterator[tuple[LayerSearch, str]]:
        """What to look into: the layer, and what is given to it; each with its words."""
        of = self.ladder.envelopes
        tensor = f"forward/{self.rung}"
        bounds = {s: of[tensor, s] for s in ("largest", "gain") if (tensor, s) in of}
        ours, theirs = self._given
        target = self._forward(self.ladder.reference, self.rung)
        own = self._forward(self.matched, self.rung)
        earlier, same = self._earlier()
        both = bool(ours and theirs)
        first, second = ({ITS_INPUT: side} if both else {} for side in (ours, theirs))
        words = f"layer {self.rung}" if self.rung != "y_hat" else "what forward gives"
        sides = self._sides(target, own, {**first, **earlier}, {**second, **same})
        yield LayerSearch(bounds, limit, *sides), words
        if both and far(theirs[self.steps[-1]], ours[self.steps[-1]]) > 0:
            sides = self._sides(ours, theirs, earlier, same)
            yield LayerSearch(bounds, limit, *sides), f"the input of layer {self.rung}"

    @cached_property
    def matched(self) -> Record:
        """The run with the reference's names and axes."""
        return self.ladder.matched(self.record)[0]

    def _forward(self, record: Record, name: str) -> Side:
        keys = {step: f"probe/{step}/forward/{name}" for step in self.steps}
        return {step: record.arrays[key].astype(np.float64) for step, key in keys.items()}

    @cached_property
    def _given(self) -> tuple[Side, Side]:
        """What the layer was given in the reference and in the run, axes in the same order."""
        sides: list[Side] = []
        for record, name in self._whose:
            arrays = {step: self.ladder.given_to(record, step, name) for step in self.steps}
            known = {s: a.astype(np.float64) for s, a in arrays.items() if a is not None}
            sides.append(known if len(known) == len(arrays) else {})
        ours, theirs = sides
        if ours and theirs:
            last = self.steps[-1]
            if axes := turned({"": ours[last]}, {"": theirs[last]}).get(""):
                self.turned.append(axes)
                theirs = {step: array.transpose(axes) for step, array in theirs.items()}
            if theirs[last].shape != ours[last].shape:
                theirs = {}
        return ours, theirs

    def _earlier(self) -> tuple[dict[str, Side], dict[str, Side]]:
        """The activations before the layer that both have, the last one first; the examples."""
        names = [*self.ladder.layers]
        names = names[: names.index(self.rung)] if self.rung in names else names
        pairs = self.ladder.matched(self.record)[1]
        names = [name for name in reversed(names) if name in pairs]
        ours = {name: self._forward(self.ladder.reference, name) for name in names}
        theirs = {name: self._forward(self.matched, name) for name in names}
        given = {step: self.examples(step) for step in self.steps}
        known = {s: X.astype(np.float64) for s, X in given.items() if X is not None}
        if len(known) == len(given):
            dtype = self.ladder.plan.recipe.dtype
            ours[THE_EXAMPLES] = known
            theirs[THE_EXAMPLES] = {
                step: X.astype(dtype).astype(np.float64) for step, X in known.items()
            }
        return ours, theirs

    def _sides(
        self,
        target: Side,
        own: Side,
        ours: Mapping[str, Side],
        theirs: Mapping[str, Side],
    ) -> tuple[list[Step], list[Step]]:
        """The steps of the reference and of the run, with as many rows of everything."""

        def sides(which: int, target: Side, given: Mapping[str, Side], exact: Side) -> list[Step]:
            return [
                self._step(which, s, target[s], {n: a[s] for n, a in given.items()}, exact[s])
                for s in self.steps
            ]

        return sides(0, target, ours, target), sides(1, own, theirs, target)

    @property
    def _whose(self) -> tuple[tuple[Record, str], tuple[Record, str]]:
        """The two records, each with its own name of the layer."""
        other = self.ladder.matched(self.record)[1].get(self.rung, self.rung)
        return (self.ladder.reference, self.rung), (self.record, other)

    def _moments(self, which: int, step: int) -> dict[str, Floats]:
        """Mean and variance of what the layer was given, where not all of it is on record."""
        record, name = self._whose[which]
        axes = self.turned[0] if which and self.turned else range(MOST_AXES)
        keys = {axis: f"probe/{step}/{MOMENTS}{axis}/{name}" for axis in axes}
        return {
            f"{OF_AXIS}{place}": record.arrays[key]
            for place, key in enumerate(keys.values())
            if key in record.arrays
        }

    def _step(
        self, which: int, step: int, target: Floats, given: dict[str, Floats], exact: Floats
    ) -> Step:
        n = len(self.ladder.plan.rows(step))
        lengths = [len(array) for array in (target, *given.values()) if array.ndim]
        rows = min((length for length in lengths if length <= n), default=n)

        def cut(array: Floats) -> Floats:
            return array[:rows] if array.ndim and rows < len(array) <= n else array

        state = self.ladder.reference.states()[step]
        dtype = self.ladder.plan.recipe.dtype
        return Step(
            {name: cut(array) for name, array in given.items()},
            {n: state[n].astype(dtype).astype(np.float64) for n in self.ladder.parameters}
            | self._moments(which, step),
            cut(target),
            cut(exact),
            self.roles,
        )

    @cached_property
    def roles(self) -> dict[str, str]:
        """The layer's own parameters by what they are in it, where the reference tells that."""
        known = self.ladder.reference.facts.get("parameters", ())
        return {one["role"]: one["name"] for one in known if one["layer"] == self.rung}
