"""Train a user's own model in one backend: ``python -m common.model_worker --help``.

The reference (in float64), the members of its ensemble and every contender run this. Needs NumPy
and the standard library only, besides the backend.
"""

from __future__ import annotations

import argparse
import importlib
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays import Array
from common.child import NEXT, begin_anew, claim_stdout, end_with_parent, leave
from common.classifier import Parameters
from common.device import asked_device
from common.errors import ParityError
from common.own_model import OwnModel
from common.plan import Plan
from common.record import Record
from common.recorder import Recorder, peak_rss_bytes
from common.trainer import EVALUATION_EXAMPLES, Progress, Trainer
from common.witness import Witness, fed_sha256
from common.worker import versions

INITIAL_FILE = "model.npz"


def points(plan: Plan) -> tuple[int, ...]:
    """Numbers of updates after which parameters are kept: before each probe, and snapshots."""
    return tuple(sorted({0, *plan.probes, *plan.snapshots}))


class Permuted(Witness):
    """Examples whose features are in another order: the same numbers, added up otherwise."""

    features: Any = slice(None)

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        X, y = super().examples(train, dtype)
        return np.ascontiguousarray(X[:, self.features]), y


class States(Recorder):
    """The trainer's callback: reports progress and keeps the parameters at the plan's points."""

    def __init__(self, model: OwnModel, plan: Plan, out: Any) -> None:
        super().__init__(plan, "concise", out)
        self.model, self.states = model, dict[int, Parameters]()

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        if progress.kind == "compiling":
            self.check(trainer.model.get_parameters())
            self.fed_sha256 = fed_sha256(trainer.data, trainer.model.get_parameters(), self.orders)
            self.say("compiling")
        if progress.step in points(self.plan) and progress.step not in self.states:
            self.states[progress.step] = trainer.model.get_parameters()
        self.tell_epoch(trainer, progress)

    def check(self, received: Parameters) -> None:
        """Raise ParityError unless the model has the parameters that the file says."""
        shapes = self.model.shapes
        odd = sorted(set(shapes) ^ set(received))
        odd += [n for n in shapes if n in received and len(shapes[n]) != received[n].ndim]
        if odd:
            raise ParityError(
                f"{self.model.path}: expected the parameters {', '.join(shapes)}; received "
                f"{', '.join(received)}; name them alike, with the shapes of PARAMETERS"
            )


class Run:
    """One training of a user's own model.

    Args:
        model: the file.
        plan: what to train.
        folder: of the plan; holds the initial parameters, too.
        dtype: floating-point type of this training.
        member: which member of the ensemble; None trains as the plan says.
    """

    def __init__(
        self, model: OwnModel, plan: Plan, folder: Path, dtype: str, member: int | None
    ) -> None:
        self.model, self.plan, self.dtype = model, plan, dtype
        with np.load(folder / INITIAL_FILE, allow_pickle=False) as archive:
            self.initial = {name: archive[name].astype(dtype) for name in archive}
        self.data = Permuted.open(plan.data_folder, plan.recipe.batch_size)
        assert isinstance(self.data, Permuted)
        self.features = np.arange(self.data.num_inputs)
        self.orders = [np.asarray(order) for order in plan.order]
        if member is not None:
            generator = np.random.default_rng([plan.recipe.seed, member])
            if not self.data.is_large:
                self.features = generator.permutation(self.features)
                self.data.features = self.features
            size = plan.recipe.batch_size
            self.orders = [order.copy() for order in self.orders]
            for order in self.orders:
                for start in range(0, len(order), size):
                    generator.shuffle(order[start : start + size])

    def train(self, name: str, recorder: States, reference: Path | None) -> Record:
        """Train, probe from the reference's states (its own if there is none), and record."""
        started = time.perf_counter()
        recorder.say("importing")
        face: Any = importlib.import_module(f"backends.{name}")
        face.Trainer.use_device(asked_device())
        recorder.import_seconds = time.perf_counter() - started
        data, recipe = self.data, self.plan.recipe
        built = self.model.build(name, face, data.num_inputs, data.num_outputs, recipe.lr)
        trainer: Trainer = face.Trainer(
            recipe.max_epochs, callbacks=[recorder], pauses=points(self.plan)
        )
        recorder.orders = self.orders
        start = self.model.permute(self.initial, self.features)
        trainer.fit(built, data, orders=self.orders, parameters=start, dtype=self.dtype)
        y_hat = [trainer.predict(X) for X, _ in trainer.validation_batches(EVALUATION_EXAMPLES)]
        states = {step: self.restored(state) for step, state in recorder.states.items()}
        arrays = {
            "step_loss": trainer.step_loss,
            "step_accuracy": trainer.step_accuracy,
            "points": np.array(list(states)),
            "val_y_hat": np.concatenate(y_hat),
            **{
                f"parameters/{name}": np.stack([state[name] for state in states.values()])
                for name in self.model.shapes
            },
        }
        recorder.say("probing")
        arrays |= self.probes(trainer, states if reference is None else load_states(reference))
        facts = {
            "backend": name,
            "implementation": self.model.path.stem,
            "versions": versions(face),
            "plan_sha256": self.plan.sha256,
            "fed_sha256": recorder.fed_sha256,
            "history": trainer.history,
            "seconds": {"import": recorder.import_seconds, **trainer.seconds},
            "peak_rss_bytes": peak_rss_bytes(),
        }
        return Record(facts, arrays)

    def restored(self, parameters: Parameters) -> Parameters:
        """Parameters with the features in the order of the data."""
        return self.model.permute(parameters, np.argsort(self.features))

    def probes(self, trainer: Trainer, states: dict[int, Parameters]) -> dict[str, Array]:
        """The stages of the probed steps, examples and features in the order of the plan."""
        found: dict[str, Array] = {}
        size = self.plan.recipe.batch_size
        for step in self.plan.probes:
            epoch, place = divmod(step, self.plan.steps_per_epoch)
            batch = slice(place * size, (place + 1) * size)
            rows, planned = self.orders[epoch][batch], np.asarray(self.plan.order[epoch][batch])
            # In the plan's dtype first, whatever the dtype here: all begin with the same numbers.
            state = {
                name: value.astype(self.plan.recipe.dtype).astype(self.dtype)
                for name, value in states[step].items()
            }
            X, y = trainer.batch(rows)
            arrays = trainer.probe(self.model.permute(state, self.features), X, y)
            sorter = np.argsort(rows)
            back = sorter[np.searchsorted(rows, planned, sorter=sorter)]
            for kind in ("gradient", "update"):
                named = {name: arrays[f"{kind}/{name}"] for name in self.model.shapes}
                for name, value in self.restored(named).items():
                    arrays[f"{kind}/{name}"] = value
            for name in ("forward/y_hat", "example_loss", "data/y"):
                arrays[name] = arrays[name][back]
            arrays.pop("data/X")
            found |= {f"probe/{step}/{name}": array for name, array in arrays.items()}
        return found


def load_states(record: Path) -> dict[int, Parameters]:
    """The parameters that a record holds, by the number of updates before them."""
    arrays = Record.load(record).arrays
    prefix = "parameters/"
    names = [name for name in arrays if name.startswith(prefix)]
    return {
        int(step): {name.removeprefix(prefix): arrays[name][i] for name in names}
        for i, step in enumerate(arrays["points"])
    }


def main() -> None:
    """The command line: one training, or several members of the ensemble one after the other."""
    parser = argparse.ArgumentParser(prog="python -m common.model_worker", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's file")
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan")
    parser.add_argument("--backend", required=True, help="a folder of backends/")
    parser.add_argument("--dtype", required=True, help="floating-point type of this training")
    parser.add_argument("--reference", type=Path, help="the reference's record, for the probes")
    run_of = parser.add_argument_group("each training, one after the other")
    for name, meaning, kind in (
        ("out", "folder of the record to write", Path),
        ("log", "takes what the training prints", Path),
        ("member", "which member of the ensemble; none trains as the plan says", int),
    ):
        run_of.add_argument(f"--{name}", action="append", default=[], type=kind, help=meaning)
    arguments = parser.parse_args()
    end_with_parent()
    model = OwnModel.load(arguments.model, [arguments.backend])
    plan = Plan.load(arguments.plan)
    runs = zip_longest(arguments.out, arguments.log, arguments.member)
    with claim_stdout() as out:
        for index, (folder, log, member) in enumerate(runs):
            recorder = States(model, plan, out)
            if index:
                recorder.say(NEXT)
            begin_anew(log)
            run = Run(model, plan, arguments.plan, arguments.dtype, member)
            run.train(arguments.backend, recorder, arguments.reference).save(folder)


if __name__ == "__main__":
    main()
    leave()
