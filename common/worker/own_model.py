"""Train a user's own model, as a request.

The reference (in float64), the members of its ensemble and every contender are such requests.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import Complaint, ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.training.buffers import BUFFER, INITIAL, in_order, partners, parts
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.dropout import Masks
from framework_parity.common.training.feeding import first_wrong_batch
from framework_parity.common.training.fit_display import Progress
from framework_parity.common.training.forward_checks import INPUT, MOMENTS, changing, moments
from framework_parity.common.training.layers import Converter, Entry
from framework_parity.common.training.matching import Wanted, match, said_of, table
from framework_parity.common.training.model_file import OwnModel, place_in
from framework_parity.common.training.model_targets import (
    METRICS,
    make_targets,
    measure,
    read_metrics,
)
from framework_parity.common.training.optimizer_state import (
    ARGUMENTS,
    OPTIMIZER,
    UNKNOWN,
    UnknownOptimizerError,
    probed_steps,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import Trainer, per_example, whole
from framework_parity.common.worker.arrangement import ORDERS, Arranged, Arrangement
from framework_parity.common.worker.lockstep import wait_for
from framework_parity.common.worker.recorder import Recorder, scores
from framework_parity.common.worker.train import fit, versions
from framework_parity.common.worker.worker import Worker

REFUSED = "refused"
"""The event that says why a model is not trained: it does what cannot be held equal."""

MATCHED = "matched"
"""The event that says which parameter is which of the reference's."""


class States(Recorder):
    """The trainer's callback: keeps the parameters before each probe, too, and refuses models."""

    def __init__(
        self, worker: Worker, model: OwnModel, backend: str, plan: Plan, member: int | None = None
    ) -> None:
        super().__init__(worker, plan, "concise")
        self.model, self.backend, self.member = model, backend, member
        self.unknown: str | None = None
        self.metrics: dict[str, list[float]] = {}
        self.points = sorted({0, *plan.probes, *plan.snapshots})
        self.masks = Masks(int(plan.sha256[:8], 16))

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        known = len(self.states)
        super().__call__(trainer, progress)
        if progress.kind == "epoch":
            self.measure(trainer)
        if len(self.states) == known:
            return
        held = self.states[progress.step]
        self.states[progress.step] = {name: held[name] for name in self.model.shapes}
        kept_besides = trainer.buffers().items()
        self.states[progress.step] |= {f"{BUFFER}{name}": array for name, array in kept_besides}
        try:
            kept = trainer.optimizer_state()
        except UnknownOptimizerError as error:
            kept, self.unknown = {}, str(error)
        self.states[progress.step] |= {f"{OPTIMIZER}{n}": array for n, array in kept.items()}

    def measure(self, trainer: Trainer) -> None:
        """Note the file's own metrics of the validation examples."""
        data, path = trainer.data, self.model.path
        assert self.model.module is not None
        if metrics := read_metrics(path, self.model.module):
            y_hat = data.arrangement.restored_scores(scores(trainer))
            y = data.scaled_targets(data.y_val, trainer.dtype)
            try:
                found = measure(path, metrics, y_hat.astype("float64"), y.astype("float64"))
            except ParityError as error:
                raise self.refusal(error) from None
            for name, value in found.items():
                self.metrics.setdefault(f"val_{name}", []).append(value)

    def outcome(self, trainer: Trainer) -> dict[str, Any]:
        found = super().outcome(trainer)
        kept = found["history"].items()
        if not trainer.data.has_classes:
            kept = [(name, values) for name, values in kept if not name.endswith("accuracy")]
        return found | {"history": dict(kept) | self.metrics}

    def begin(self, trainer: Trainer) -> None:
        self.check_targets(trainer)
        trainer.masks = self.masks
        self.refuse(trainer.unequal())
        self.check(trainer.model.get_parameters())
        self.note_given(trainer)
        if self.member is None:  # what others are fed is the plan's in another arrangement
            self.watch(trainer)

    def check_targets(self, trainer: Trainer) -> None:
        """Raise ParityError if a loss, or metrics, are not for the targets that there are."""
        path, base = self.model.path, self.worker.backend(self.backend).Classifier
        assert self.model.module is not None
        own = getattr(trainer.model.loss, "__func__", None) is not base.loss
        if not trainer.data.has_classes and not own:
            raise self.refusal(
                ParityError(
                    f"{self.backend}: loss",
                    "the model's own, since its targets are numbers",
                    "none, hence cross-entropy",
                    "define loss",
                )
            )
        if trainer.data.has_classes and read_metrics(path, self.model.module):
            raise self.refusal(
                ParityError(
                    METRICS,
                    "none, since targets are classes, whose metric is accuracy",
                    "some",
                    "leave it out",
                )
            )

    def refuse(self, unequal: Iterable[str]) -> None:
        """Raise ParityError if the model does what a comparison cannot hold equal."""
        if found := list(unequal):
            raise self.refusal(
                ParityError(
                    self.backend,
                    "a model that computes the same from the same parameters, buffers and batch, "
                    "and draws no random numbers but by its framework's layer of dropout",
                    "; ".join(found),
                    "leave that out of the model to compare",
                )
            )

    def refusal(self, error: ParityError) -> ParityError:
        """An error that ends the whole comparison: it is told, too."""
        self.worker.say(REFUSED, reason=str(error))
        return error.inside(self.model.path)

    def check(self, received: Parameters) -> None:
        """Raise ParityError unless the model has the parameters that the file says."""
        names = self.model.shapes
        odd = [f"no {name}" for name in names if name not in received]
        odd += [f"{name} besides" for name in received if name not in names]
        odd += self.misshapen(received)
        if odd:
            raise ParityError(
                f"{self.model.path}: PARAMETERS",
                f"the parameters {', '.join(names)}",
                ", and ".join(odd),
                "name and shape them alike",
            )

    def misshapen(self, received: Parameters) -> list[str]:
        """The parameters that have not the shape that the file says."""
        shapes = {name: self.model.shape(name, *self.plan.W.shape) for name in self.model.shapes}
        return [
            f"{name} of shape {value.shape}, not {shapes[name]}"
            for name, value in received.items()
            if value.shape != shapes.get(name, value.shape)
        ]


class Run:
    """One training of a user's own model; arguments as of :func:`own_model`."""

    def __init__(
        self,
        model: OwnModel,
        plan: Plan,
        dtype: str,
        member: int | None,
        reference: Path | None,
    ) -> None:
        self.model, self.plan, self.dtype, self.member = model, plan, dtype, member
        self.mixed = plan.recipe.mixed if dtype == plan.recipe.dtype else ""
        self.reference = None if reference is None else Record.load(reference)
        data = Arranged.open(plan.data_folder, plan.recipe.batch_size)
        changed = self.reference.facts["orders"] if member and self.reference is not None else ()
        self.arrangement = Arrangement.of(plan, data, member or 0, changed)
        self.data, data.arrangement = data, self.arrangement

    def train(self, name: str, recorder: States) -> Record:
        """Train, probe from the reference's states (its own if there is none), and record."""
        trainer, pairs, others = self.fitted(name, recorder)
        data, own = self.data, self.arrangement
        recorder.refuse(trainer.unequal())  # again: what a parameter of zero hid at first
        self.buffers = self.named_buffers(trainer)
        self.has_modes = trainer.has_modes
        if self.reference is not None:
            self.has_modes |= self.reference.facts["modes"]
        states = {step: self.restored(state, own) for step, state in recorder.states.items()}
        arrays = {
            "step_loss": trainer.step_loss,
            **({"step_accuracy": trainer.step_accuracy} if data.has_classes else {}),
            "snapshots": np.array([step for step in states if step]),
            "val_y_hat": own.restored_scores(scores(trainer)),
            **(recorder.feeding.arrays() if recorder.feeding else {}),
            **{f"initial/{name}": states[0][name] for name in self.model.shapes},
            **{f"{INITIAL}/{n}": states[0][f"{BUFFER}{own}"] for own, n in self.buffers.items()},
            **stacked_states(
                {step: self.recorded(state) for step, state in states.items() if step}
            ),
        }
        facts = {
            "backend": name,
            "implementation": self.model.path.stem,
            "versions": versions(recorder.worker.backend(name)),
            **recorder.outcome(trainer),
            "kinds": self.kinds,
            **self.parameters(pairs),
            "inputs": self.inputs,
            ARGUMENTS: trainer.optimizer_arguments(self.plan.num_steps + 1),
            "modes": self.has_modes,
        }
        recorder.worker.say("probing")
        before = {step: self.before(step, states[step], others) for step in self.plan.probes}
        if recorder.unknown:
            facts[UNKNOWN] = recorder.unknown
        self.known = not recorder.unknown
        fed = recorder.feeding and first_wrong_batch(self.plan, arrays) is None
        if self.known and fed and self.goes_on_otherwise(trainer, states):
            kind, self.known = type(trainer.optim), False
            facts[UNKNOWN] = f"{kind.__module__}.{kind.__qualname__} (its steps are not the same)"
        runs = [Record(facts, {}), *([self.reference] if self.reference else [])]
        steps = probed_steps(self.plan, *runs)
        probes = {step: self.probe(trainer, step, before[step]) for step in steps}
        first = steps[0]
        again = self.probe(trainer, first, before[first])
        trained = {}
        if fed and first == 0:
            trained["loss"] = np.asarray(trainer.step_loss[0])
            after = self.recorded(states.get(1, {})).items()
            trained |= {f"update/{n}": value for n, value in after if n in self.model.shapes}
            trained |= {name: value for name, value in after if name.startswith(BUFFER)}
        recorder.refuse(changing(trained, [probes[first], again], 2 * self.plan.recipe.unit))
        if self.reference is None:
            facts["orders"] = self.neutral_orders(trainer, before, probes)
        for step, found in probes.items():
            arrays |= {f"probe/{step}/{name}": array for name, array in found.items()}
        return Record(facts, arrays)

    def fitted(
        self, name: str, recorder: States, max_epochs: int | None = None
    ) -> tuple[Trainer, Mapping[str, Entry] | None, Mapping[int, Parameters]]:
        """Build the model and fit it; which of its parameters is which, the reference's states."""
        self.backend, d2l = name, recorder.worker.backend(name)
        self.kinds: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        data, lr = self.data, self.plan.recipe.lr
        with d2l.Trainer.layers_of(self.dtype):
            built = self.model.build(name, d2l, data.num_inputs, data.num_outputs, lr)
        made: Parameters = {}
        with contextlib.suppress(Exception):  # lazy layers have none yet
            made = built.get_parameters()
        pairs = self.matched(built, made, recorder)
        own = self.arrangement
        others = {} if self.reference is None else self.reference.states()
        drawn = self.reference.initial() if self.reference else self.draw(recorder)
        start = self.given(drawn, own)
        try:
            trainer = fit(
                *(d2l, built, data, self.plan, recorder, own.orders, start, max_epochs, self.dtype),
                compute_in=(self.mixed, self.model.loss_scale) if self.mixed else None,
            )
        except Exception as error:
            if odd := recorder.misshapen(made):
                error.add_note(f"the model makes {', and '.join(odd)} as in PARAMETERS")
            raise
        return trainer, pairs, others

    def goes_on_otherwise(self, trainer: Trainer, states: Mapping[int, Parameters]) -> bool:
        """Whether a late step, from the run's own state, is another than the one it trained.

        As that of an optimizer that counts its steps by itself for its learning rate. By the
        factor that most entries have in common: some may be rounding alone.
        """
        for step in reversed([s for s in self.plan.probes if s and s + 1 in states]):
            start, end = states[step], states[step + 1]
            found = self.probe(trainer, step, start)
            factors = []
            for name in self.model.shapes:
                old = start[name].astype(np.float64)
                moved, again = end[name] - old, found[f"update/{name}"] - old
                seen = np.abs(moved) > SEEN * np.finfo(end[name].dtype).eps * np.abs(old)
                factors.append(again[seen] / moved[seen])
            if (every := np.concatenate(factors)).size >= LEAST_ENTRIES:
                return bool(abs(float(np.median(every)) - 1) > 8 / SEEN)
        return False

    def matched(self, built: Any, made: Parameters, recorder: States) -> Mapping[str, Entry] | None:
        """Which of a model's parameters is which of the reference's; it speaks its names then.

        None: what it has is what the file says, with nothing in between.

        Args:
            built: the model, not trained.
            made: its own parameters, as far as it has any.
            recorder: hears of it.
        """
        file, data = self.model, self.data
        names, shapes = file.names_of(self.backend), file.shapes
        if shapes and not names and made.keys() == shapes.keys():
            return None
        try:
            entries = built.entries(np.zeros((2, data.num_inputs), self.dtype))
        except Exception:
            if shapes and not names:  # what is wrong will show in its place
                return None
            raise
        entries = [entry for entry in entries if entry.trainable]
        known = {entry.name for entry in entries} == shapes.keys()
        if shapes and not names and (known or not any(entry.kind for entry in entries)):
            return None
        try:
            if self.reference is not None:
                by = self.reference.facts["backend"]
                wanted = [Wanted.of(one) for one in self.reference.facts["parameters"]]
                pairs = match(wanted, entries, names, by, self.backend)
            elif shapes:
                sizes = {name: file.shape(name, *self.plan.W.shape) for name in shapes}
                wanted = [Wanted(name, "", "", shape) for name, shape in sizes.items()]
                pairs = match(wanted, entries, names, "PARAMETERS", self.backend)
            else:
                pairs = table(entries, names, self.backend)
        except ParityError as error:
            raise recorder.refusal(error) from None
        if not shapes:
            own = pairs if self.reference is None else {one.name: one for one in wanted}
            given = [Wanted.like(name, one) for name, one in own.items()]
            self.model = recorder.model = file.of(given, data.num_inputs, data.num_outputs)
        built.convert(Converter(pairs))
        if self.reference is not None and self.backend != by:
            rows = [[one.name, pairs[one.name].name, *said_of(one)] for one in wanted]
            columns = [f"reference ({by})", self.backend, "what it is", "shape"]
            recorder.worker.say(MATCHED, columns=columns, table=rows)
        return pairs

    def parameters(self, pairs: Mapping[str, Entry] | None) -> dict[str, Any]:
        """What a record says of the parameters: what each is, and what the framework calls it."""
        shapes = {n: self.model.shape(n, *self.plan.W.shape) for n in self.model.shapes}
        known = {n: Wanted(n, "", "", shape) for n, shape in shapes.items()}
        known |= {n: Wanted.like(n, entry) for n, entry in (pairs or {}).items()}
        return {
            "parameters": [known[name].facts() for name in self.model.shapes],
            "shapes": {name: list(shape) for name, shape in self.model.shapes.items()},
            "own_names": {name: entry.name for name, entry in (pairs or {}).items()},
        }

    def draw(self, recorder: States) -> Parameters:
        """The parameters that all begin with."""
        data, seed = self.data, self.plan.recipe.seed
        try:
            return self.model.draw(data.num_inputs, data.num_outputs, seed)
        except ParityError as error:
            raise recorder.refusal(error) from None

    def given(self, state: Parameters, arrangement: Arrangement) -> Parameters:
        """What a run begins with, in its own order and dtype.

        In the plan's dtype first, whatever the dtype here: all begin with the same numbers.
        """
        cast = {
            name: value.astype(self.plan.recipe.dtype).astype(self.dtype)
            for name, value in state.items()
            if value.dtype.kind == "f"
        }
        return self.model.permute(state | cast, arrangement.features, arrangement.classes)

    def before(self, step: int, own: Parameters, others: Mapping[int, Parameters]) -> Parameters:
        """What a probed step begins with: the reference's state, as far as there is the like here.

        What an optimizer or the model has that the reference's has not is its own. The first step
        begins with a new optimizer, and with the model's own buffers.
        """
        names = {f"{BUFFER}{name}": f"{BUFFER}{other}" for name, other in self.buffers.items()}
        given, found = others.get(step, {}), {}
        for name, value in own.items():
            if step or name in self.model.shapes:
                found[name] = given.get(names.get(name, name), value)
            elif name.startswith(BUFFER):
                found[name] = value
        return found

    def named_buffers(self, trainer: Trainer) -> dict[str, str]:
        """What the model's buffers are called in records: as those of the reference."""
        if not (kept := trainer.buffers()):
            return {}
        X, _ = trainer.batch(self.plan.rows(0))
        found = trainer.activations(trainer.model.get_parameters(), X)
        ordered = in_order(kept, list(found))
        common = {n[self.backend]: c for c, n in self.model.layers.items() if self.backend in n}
        own = {}
        for name in ordered:
            layer, what = parts(name)
            own[name] = ".".join(filter(None, (common.get(layer, layer), what)))
        if self.reference is None:
            return own
        exact = {
            name.removeprefix(BUFFER): array.shape[1:]
            for name, array in self.reference.arrays.items()
            if name.startswith(BUFFER)
        }
        pairs = partners({own[name]: kept[name].shape for name in ordered}, exact)
        return {name: pairs[own[name]] for name in ordered if own[name] in pairs}

    def recorded(self, state: Parameters) -> Parameters:
        """A state by the names of records, without the buffers that the reference has not."""
        names = {f"{BUFFER}{name}": f"{BUFFER}{other}" for name, other in self.buffers.items()}
        kept = {name: names.get(name, name) for name in state}
        return {
            other: state[name]
            for name, other in kept.items()
            if name in names or not name.startswith(BUFFER)
        }

    def restored(self, state: Parameters, arrangement: Arrangement) -> Parameters:
        """A state in the order of the plan's data; an optimizer's in the dtype of the run."""
        orders = map(np.argsort, (arrangement.features, arrangement.classes))
        kept = {n: v for n, v in state.items() if n.startswith(OPTIMIZER) and v.ndim}
        return self.model.permute(
            state | {name: value.astype(self.dtype) for name, value in kept.items()}, *orders
        )

    def probe(
        self, trainer: Trainer, step: int, state: Parameters, other: Arrangement | None = None
    ) -> dict[str, Array]:
        """The stages of a step, examples, features and classes in the order of the plan.

        From the parameters before it, in that order, too; computed in another arrangement than
        that of the run, if one is given.
        """
        arrangement = other or self.arrangement
        rows, planned = self.plan.rows(step, arrangement.orders), self.plan.rows(step)
        X, y = trainer.batch(rows)
        if other is not None:
            X, y = np.ascontiguousarray(X[:, other.features]), other.targets(y)
        start = self.given(state, arrangement)
        kept, buffers = (
            {n.removeprefix(kind): start.pop(n) for n in state if n.startswith(kind)}
            for kind in (OPTIMIZER, BUFFER)
        )
        arrays = trainer.probe(start, X, y, kept if self.known else None, step, buffers, rows)
        arrays = self.recorded(arrays)
        passes = {}
        for mode in ("forward", "evaluation") if other is None else ():
            passes[mode] = trainer.activations(start, X, step, buffers, rows, mode == "forward")
        if passes:
            arrays["evaluation/y_hat"] = passes["evaluation"].pop("y_hat").values
        sorter = np.argsort(rows)
        back = sorter[np.searchsorted(rows, planned, sorter=sorter)]
        kinds = ("gradient/", "update/", OPTIMIZER)
        found = {name: array for name, array in arrays.items() if name.startswith(kinds)}
        arrays |= self.restored(found, arrangement)
        arrays["example_loss"] = per_example(arrays["example_loss"], len(rows))
        for name in ("example_loss", "data/y"):
            arrays[name] = arrays[name][back]
        arrays["data/y"] = arrangement.restored_targets(whole(arrays["data/y"]))
        for name in {"forward/y_hat", "evaluation/y_hat"} & {*arrays}:
            arrays[name] = arrangement.restored_scores(arrays[name][back])
        if not self.data.has_classes:
            del arrays["metric/accuracy"]
        arrays.pop("data/X")
        if not self.has_modes:  # evaluation's are those of training
            passes.pop("evaluation", None)
        earlier: dict[tuple[object, ...], str] = {}
        for mode, activations in passes.items():
            for name, (kind, value, given) in self.model.renamed(self.backend, activations).items():
                self.kinds[name] = kind
                key = f"{mode}/{name}"
                arrays.setdefault(key, self.restored_activation(key, value, step, back))
                # Of members it is not asked.
                if given is not None and self.member is None and mode == "forward":
                    if (source := earlier.get(_bits(given))) is None:
                        arrays[f"{INPUT}{name}"] = cut(given)
                    else:
                        self.inputs[name] = source
                    for axis in (
                        {1, given.ndim - 1}
                        if given.ndim > 1 and len(cut(given)) < len(given)
                        else ()
                    ):
                        arrays[f"{MOMENTS}{axis}/{name}"] = moments(given, axis)
                earlier[_bits(value)] = name
        return arrays

    def restored_activation(self, key: str, value: Array, step: int, back: Array) -> Array:
        """What a layer gave, with examples, features and classes in the plan's order; cut.

        Which of these an axis holds is not known. A member of the ensemble is without fault: of
        all that its axes may be, they are what brings it nearest to the reference.
        """
        key, tried, n = f"probe/{step}/{key}", [value], len(back)
        if not self.member or self.reference is None or key not in self.reference.arrays:
            return cut(value)
        exact = self.reference.arrays[key]
        features, classes = map(np.argsort, (self.arrangement.features, self.arrangement.classes))
        for axis, size in enumerate(value.shape):
            if axis == 0 and size % n == 0:  # with several rows of each example, perhaps
                tried += [v.reshape(n, -1)[back].reshape(v.shape) for v in tried]
            for order in (features, classes, back)[: 3 if axis else 2]:
                tried += [v.take(order, axis) for v in tried if size == len(order)]
        near = [cut(v) for v in tried if cut(v).shape == exact.shape]
        return min(near, key=lambda v: float(np.abs(v - exact).max()), default=cut(value))

    def neutral_orders(
        self,
        trainer: Trainer,
        states: Mapping[int, Parameters],
        probes: Mapping[int, Mapping[str, Array]],
    ) -> list[str]:
        """Which of :data:`ORDERS` leave the float64 function as it is: of these are members made.

        That is tried: the first step as each member computes it, every other probed step as one
        of them does. Forward pass, losses, gradients and update are to be the same, to rounding.
        """
        named = {"features": self.model.has("inputs"), "classes": self.model.has("outputs")}
        if self.data.is_large:
            named = {}
        candidates = [name for name in ORDERS if named.get(name, name == "examples")]
        first, *others = probes
        tried = [(first, member) for member in range(1, ENSEMBLE_MEMBERS)]
        later = enumerate(others)
        tried += [(step, 1 + place % (ENSEMBLE_MEMBERS - 1)) for place, step in later]

        def is_neutral(changed: Container[str]) -> bool:
            for step, member in tried:
                other = Arrangement.of(self.plan, self.data, member, changed)
                received = self.probe(trainer, step, states[step], other)
                if not same(received, probes[step], states[step]):
                    return False
            return True

        if is_neutral(candidates):
            return candidates
        return [name for name in candidates if is_neutral([name])]


SEEN = 2.0**12
"""By how many units an entry must move for its change to tell a factor of a few thousandths."""
LEAST_ENTRIES = 8

FLOAT64_ROUNDING = 1024 * float(np.finfo("float64").eps)
"""What two float64 results of one step may differ by, relative: a millionth of float32's rounding
is lost in an envelope; of a function that is another one the difference is rarely as small."""
TINY = float(np.finfo("float64").tiny)


MOST_NUMBERS = 2**16
"""How many numbers of an activation are recorded, of the first examples, at the most or of one."""


def _bits(value: Array) -> tuple[object, ...]:
    """What tells an array from every other one."""
    return value.shape, value.dtype.str, value.tobytes()


def cut(value: Array) -> Array:
    """As many rows of an activation as are recorded."""
    rows = MOST_NUMBERS * len(value) // value.size if value.size and value.ndim else 1
    return value[: max(rows, 1)] if value.ndim else value


def same(received: Mapping[str, Array], expected: Mapping[str, Array], state: Parameters) -> bool:
    """Whether two probes, from one state, are of the same function, but for rounding in float64."""
    for name, array in received.items():
        exact = expected[name]
        error = np.abs(array - exact)
        # Losses and gradients are made of probabilities, whose rounding is that of one.
        scale = max(float(np.abs(exact).max()), 0.0 if name == "forward/y_hat" else 1.0)
        allowed = np.full(error.shape, FLOAT64_ROUNDING * scale)
        if name.startswith("update/"):
            # Adam divides a gradient by its size: rounding of a tiny one is as much of the change.
            parameter = name.removeprefix("update/")
            gradients = [probe[f"gradient/{parameter}"] for probe in (received, expected)]
            part = np.abs(gradients[0] - gradients[1]) / np.maximum(np.abs(gradients[1]), TINY)
            allowed += 8 * part * np.abs(exact - state[parameter]).max()
        if not (error <= allowed).all():
            return False
    return True


def stacked_states(states: Mapping[int, Parameters]) -> dict[str, Array]:
    """States after some steps as a record holds them; what was not there yet was zero."""
    last = states[max(states)]
    kept = {
        name: np.stack([state.get(name, np.zeros_like(last[name])) for state in states.values()])
        for name in last
    }
    named = OPTIMIZER, BUFFER
    return {n if n.startswith(named) else f"parameters/{n}": kept[n] for n in kept}


def own_model(
    worker: Worker,
    plan: Path,
    backend: str,
    model: Path,
    dtype: str,
    reference: Path | None = None,
    member: int | None = None,
) -> Record:
    """Train the model in a user's own file.

    Args:
        worker, backend, model, dtype: who, in what, what and how.
        plan: folder of the plan.
        reference: the reference's record, for the start and the probes; None if this is it.
        member: which member of the ensemble; None trains as the plan says.
    """
    try:
        found, made = load_once(model, backend), Plan.load(plan)
        recorder = States(worker, found, backend, made, member)
        d2l = worker.backend(backend)  # imported while the reference trains
        if reference is not None:
            wait_for(reference)
        with d2l.Trainer.dropout_from(recorder.masks):
            return Run(found, made, dtype, member, reference).train(backend, recorder)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        received = f"{error!r}, which ends its process"
        complaint = Complaint(model, "a model that trains", received, "take that out")
        raise RuntimeError(complaint) from error
    except Exception as error:
        error.add_note(place_in(model, error).strip())
        raise


def read_model(worker: Worker, model: Path, backends: list[str]) -> Record:
    """What a file says of its model, or why it is refused: it may end the process that reads it.

    Takes the names of all backends that there are.
    """
    try:
        found = OwnModel.load(model, backends)
        assert found.module is not None
        read_metrics(model, found.module)
    except ParityError as error:
        return Record({"refused": str(error).removeprefix(str(model))}, {})
    facts = ("backends", "shapes", "makes_targets", "loss_scale")
    return Record({name: getattr(found, name) for name in facts}, {})


def model_targets(worker: Worker, model: Path, data: Path, backends: list[str]) -> Record:
    """The targets that a file makes of a stored data set, once, for all: it may be any code."""
    found, given, arrays = OwnModel.load(model, backends), DataModule.open(data), {}
    try:
        for name in ("train", "val"):
            X, y = given.examples(train=name == "train")
            arrays[f"y_{name}"] = make_targets(model, found.module, X, y)
    except ParityError as error:
        return Record({"refused": f": {error}"}, {})
    return Record({}, arrays)


@functools.cache
def load_once(model: Path, backend: str) -> OwnModel:
    """A file once in a process: it may register its classes somewhere."""
    return OwnModel.load(model, [backend])
