"""What each part of the rounding envelope is for: ``python -m benchmarks.envelope``.

A part stays only if trainings in NumPy ask for it. Fresh members, which the ensemble does not
have, are faultless by construction: they are judged by the whole envelope, then by one that
lacks a part. A part without which none of them is flagged has no place in the suite.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks import drawn_plans, envelope_figure
from framework_parity.benchmarks.detection import LARGE_CLEAN, clean_recipes, plan_name, show
from framework_parity.benchmarks.measure import told
from framework_parity.common.core.arrays import Array
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.program import THREAD_VARIABLES
from framework_parity.common.judging.ladder import Ladder
from framework_parity.common.judging.softmax_judge import with_single_steps
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import (
    ENSEMBLE_MEMBERS,
    LOCKSTEP_MEMBERS,
    Envelope,
    centred,
    measure_envelope,
    member,
    reference,
)
from framework_parity.common.reference.replay import (
    FORMS,
    Floats,
    Training,
    Trajectory,
    losses_from_log_softmax,
    losses_from_logits,
    losses_from_quotients,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results"
FRESH = drawn_plans.FRESH
DRAWN_MEMBERS = 3
"""Fresh trainings on each drawn plan."""
LARGE_BATCHES = (
    Recipe("synthetic:6000x100x10", 2048, 0.1, 3),
    Recipe("synthetic:6000x400x10", 2048, 0.02, 3),
)
"""Long sums of many examples: a batch of the clean runs has 250 at most."""
MANY_CLASSES = (
    Recipe("synthetic:400x10x300", 4, 0.05, 2, sigma=0.0),
    Recipe("synthetic:600x5x900", 50, 0.01, 3),
)
"""Long sums of nearly equal numbers: the clean runs have ten classes at most."""
FEW_EXAMPLES = (
    Recipe("synthetic:40x2000x2", 1, 0.002, 3),
    Recipe("synthetic:60x500x3", 2, 0.02, 5),
)
"""What an example's probabilities round is in the gradients of all features."""


class Unfloored(Ladder):
    """A ladder whose updates have no least envelope but that of any other tensor."""

    def _floors_of_update(self, step: int, tensor: str) -> dict[str, float]:
        parameter = float(np.abs(self.parameters[step][tensor]).max())
        return {"largest": self.unit * parameter, "decay": 0.0}


class WithoutProbabilities(Ladder):
    """A ladder whose gradients have no least envelope from the rounding of the probabilities."""

    def _rounding_of_probabilities(self, step: int, tensor: str) -> dict[str, float]:
        return {}


def alike(training: Training, index: int) -> Training:
    """The member as the ensemble has it."""
    return training


def without_blocks(training: Training, index: int) -> Training:
    """The member, adding up as NumPy's BLAS does."""
    training.block = training.class_order = None
    return training


def without_classes(training: Training, index: int) -> Training:
    """The member, adding up the classes as NumPy does."""
    training.class_order = None
    return training


def without_log_softmax(training: Training, index: int) -> Training:
    """The member, with one of the other forms of the loss."""
    if training.form is losses_from_log_softmax:
        training.form = FORMS[index // len(FORMS) % 2]
    return training


def without_quotients(training: Training, index: int) -> Training:
    """The member, with one of the other forms of the loss."""
    if training.form is losses_from_quotients:
        training.form = FORMS[index // len(FORMS) % 3]
    return training


@dataclass(frozen=True)
class Bound:
    """An envelope, whole or with a part missing.

    Args:
        missing: what is missing.
        members: what becomes of each member of the ensemble.
        lockstep: how many members single steps have.
        ladder: the ladder's class.
        options: of :func:`ensemble.measure_envelope`.
        single_steps: whether free runs are allowed what single steps are.
    """

    missing: str
    members: Callable[[Training, int], Training] = alike
    lockstep: int = LOCKSTEP_MEMBERS
    ladder: type[Ladder] = Ladder
    options: tuple[tuple[str, int], ...] = ()
    single_steps: bool = True


BOUNDS = (
    Bound("nothing"),
    Bound("all but eight of the members of single steps", lockstep=ENSEMBLE_MEMBERS),
    Bound("all but sixteen of the members of single steps", lockstep=2 * ENSEMBLE_MEMBERS),
    Bound("the least envelopes of an update", ladder=Unfloored),
    Bound("the same, with 48 members of single steps", ladder=Unfloored, lockstep=48),
    Bound("the rounding of probabilities in a gradient", ladder=WithoutProbabilities),
    Bound("members that add up in blocks", without_blocks),
    Bound("members that add up the classes in other orders", without_classes),
    Bound("the loss by indexing log_softmax", without_log_softmax),
    Bound("the softmax differentiated one operation after the other", without_quotients),
    Bound("what the first steps' losses share", options=(("pooled_steps", 1),)),
    Bound("metric errors before the last epoch", options=(("metric_epochs", 1),)),
    Bound("the envelopes of single steps in those of free runs", single_steps=False),
)


def measure(
    bound: Bound, plan: Plan, data: DataModule, oracle: Trajectory
) -> tuple[Envelope, Ladder]:
    """The envelope of free runs and the ladder of single steps."""

    def made(count: int) -> list[Training]:
        return [bound.members(member(plan, data, index), index) for index in range(count)]

    runs = [training.run() for training in made(ENSEMBLE_MEMBERS)]
    envelope = measure_envelope(plan, data, oracle, runs, **dict(bound.options))
    ladder = bound.ladder(plan, data, oracle, made(bound.lockstep))
    return with_single_steps(envelope, ladder) if bound.single_steps else envelope, ladder


@dataclass(frozen=True)
class Faultless:
    """What a fresh member did, in a free run and in single steps from the reference's states."""

    run: Trajectory
    stages: dict[int, dict[str, Array]]

    @classmethod
    def train(cls, index: int, ladder: Ladder, oracle: Trajectory) -> Faultless:
        """Train the member of an index."""
        training = member(ladder.plan, ladder.data, index)
        probes = enumerate(ladder.plan.probes)
        stages = {s: ladder.member_stages(training, oracle.before(i), s) for i, s in probes}
        return cls(training.run(), stages)

    def ratios(
        self, oracle: Trajectory, envelope: Envelope, ladder: Ladder
    ) -> Iterator[tuple[str, float]]:
        """How many envelopes each quantity is off, as the suite judges it."""
        plan, data, run = ladder.plan, ladder.data, self.run

        def largest(error: Array, bound: Floats) -> float:
            return float((np.abs(error).reshape(len(error), -1).max(axis=1) / bound).max())

        yield "loss of a step", largest(run.step_loss - oracle.step_loss, envelope.loss)
        yield "validation loss", largest(run.val_loss - oracle.val_loss, envelope.val_loss)
        for name, exact in oracle.parameters.items():
            yield name, largest(run.parameters[name] - exact, envelope.parameters[name])
        X = data.examples(train=False, dtype="float64")[0]
        y = np.asarray(data.y_val, dtype=np.int64)
        W, b = run.parameters["W"].astype(np.float64), run.parameters["b"]
        logits = X @ W[-1] + b[-1]
        yield "logits", float(np.abs(centred(logits - oracle.val_logits)).max()) / envelope.logits
        for i, step in enumerate(plan.snapshots):
            epoch, rest = divmod(step, plan.steps_per_epoch)
            if not rest:
                mean = losses_from_logits(X @ W[i] + b[i], y)[0].mean()
                yield "metric", abs(run.val_loss[epoch - 1] - mean) / envelope.metric
        for step, stages in self.stages.items():
            for tensor, array in stages.items():
                for statistic, value in ladder.statistics(step, tensor, array).items():
                    name = f"{tensor} {statistic} of a single step"
                    yield name, value / ladder.envelopes[step, tensor, statistic]


def judge_plan(recipe: Recipe) -> list[list[tuple[str, float]]]:
    """By every bound, the worst quantity of every fresh member, and its ratio."""
    folder, data, _ = open_data(recipe.data, recipe.batch_size)
    plan = Plan.make(recipe, data, folder)
    with np.errstate(all="ignore"):
        oracle = reference(plan, data).run()
        bounds = [measure(bound, plan, data, oracle) for bound in BOUNDS]
        fresh = [Faultless.train(index, bounds[0][1], oracle) for index in FRESH]
        return [
            [max(run.ratios(oracle, *bound), key=lambda ratio: ratio[1]) for run in fresh]
            for bound in bounds
        ]


def table(rows: Sequence[Sequence[Sequence[tuple[str, float]]]], threshold: float) -> Iterator[str]:
    """The lines of the table: one for every bound."""
    yield "| missing | beyond the threshold | only without it | largest ratio | where |"
    yield "|---|---|---|---|---|"
    whole = [found for plan in rows for found in plan[0]]
    for i, bound in enumerate(BOUNDS):
        worst = [found for plan in rows for found in plan[i]]
        beyond = [found for found in worst if found[1] > threshold]
        only = sum(
            found[1] > threshold >= sound[1] for found, sound in zip(worst, whole, strict=True)
        )
        places = Counter(name for name, _ in beyond).most_common(3)
        where = ", ".join(f"{name} ({count})" for name, count in places)
        top = max(ratio for _, ratio in worst)
        yield f"| {bound.missing} | {len(beyond)} of {len(worst)} | {only} | {top:.3g} | {where} |"


def each_bound(
    recipes: Sequence[Recipe], rows: Sequence[Sequence[Sequence[tuple[str, float]]]], bound: int
) -> Iterator[dict[str, Any]]:
    """By plan, the fresh members' worst ratios by one bound, and which quantity the largest is."""
    for recipe, plan in zip(recipes, rows, strict=True):
        quantity, _ = max(plan[bound], key=lambda found: found[1])
        ratios = " ".join(f"{ratio:.3g}" for _, ratio in plan[bound])
        yield {"plan": plan_name(recipe), "largest": quantity, "ratios": ratios}


def drawn_section(rows: Sequence[Mapping[str, Any]], seed: int) -> Iterator[str]:
    """What the whole judge says of drawn plans."""
    yield "## Drawn plans\n"
    yield f"Plans drawn by the seed {seed} from all that are legitimate"
    yield f"(`benchmarks/drawn_plans.py`), {DRAWN_MEMBERS} fresh trainings on each, judged as a"
    yield f"framework's run is, with the whole envelope: {drawn_plans.counted(rows)}.\n"
    yield from (f"- {drawn_plans.said(row)}" for row in rows if drawn_plans.is_flagged(row))
    yield ""


def main(arguments: Sequence[str]) -> int:
    """Train, judge, write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.envelope",
        description="What each part of the rounding envelope is for: judge faultless trainings in "
        "NumPy by the whole envelope and by one that lacks a part, and count what is flagged. "
        "Writes envelope.json, envelope.md and envelope.png.",
    )
    parser.add_argument("--quick", action="store_true", help="a few plans")
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder of the results, which are replaced; default: benchmarks/results",
    )
    parser.add_argument(
        "--draw", type=int, default=0, metavar="SEED", help="of the drawn plans; default: 0"
    )
    parser.add_argument("--drawn", type=int, metavar="COUNT", help="so many; default: 1000")
    options = parser.parse_args(arguments)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    started = time.perf_counter()
    recipes = [r for r in clean_recipes(options.quick).values() if r not in LARGE_CLEAN]
    recipes += () if options.quick else (*LARGE_BATCHES, *MANY_CLASSES, *FEW_EXAMPLES)
    rows = []
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(judge_plan, recipes):
            rows.append(row)
            show(f"judged {len(rows)} of {len(recipes)} plans", "")
    count = (4 if options.quick else 1000) if options.drawn is None else options.drawn
    drawn = []
    plans = drawn_plans.draw(options.draw, count)
    for done, some in enumerate(drawn_plans.judged(plans, DRAWN_MEMBERS), 1):
        drawn += some
        show(f"judged {done} of {count} drawn plans", "")
    show("", "")
    threshold, machine = Thresholds().envelopes, machine_facts()
    page = [
        "# What each part of the envelope is for\n",
        f"Made by `python -m benchmarks.envelope{' --quick' * options.quick}` in "
        f"{(time.perf_counter() - started) / 60:.0f} min on "
        f"{machine['cpus']} cores ({machine['processor']}), NumPy {np.__version__}.\n",
        f"{len(FRESH)} fresh trainings in NumPy, faultless by construction, not of the ensemble,",
        f"on each of {len(recipes)} plans, judged by the envelope (threshold {threshold:g}), whole",
        "and with a part missing. No framework takes part.\n",
        *table(rows, threshold),
        "",
        *drawn_section(drawn, options.draw),
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "envelope.md").write_text("\n".join(page), encoding="utf-8")
    facts: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.envelope", *told(arguments)])
    }
    runs = [list(each_bound(recipes, rows, i)) for i in range(len(BOUNDS))]
    facts |= {bound.missing: each for bound, each in zip(BOUNDS, runs, strict=True)}
    facts["drawn"] = {"not rounding": [row for row in drawn if row["grade"] != "rounding"]}
    (options.out / "envelope.json").write_text(json.dumps(facts, indent=1) + "\n")
    envelope_figure.save(facts, options.out / "envelope.png")
    print(options.out / "envelope.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
