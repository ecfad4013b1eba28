"""Plans drawn from all that are legitimate, and what the suite says of faultless trainings on them:
``python -m benchmarks.drawn_plans --draw SEED --count N``.

A seed and a number give a recipe and its examples, always the same ones, so that anyone can draw
the next thousand. Members of the ensemble that the suite's envelope has not seen train on each,
in NumPy; whatever the whole judge does not call rounding is a false alarm.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.program import THREAD_VARIABLES
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.ensemble import (
    member,
)
from framework_parity.common.reference.replay import (
    PLAIN_FORMS,
    Floats,
    Training,
    Trajectory,
    epoch_means,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record

FRESH = range(48, 96)
"""Every sixteen hold each form of the loss with each way of adding up, once or twice; the ensemble,
even where ``benchmarks.envelope`` makes it larger, has none of these."""

SIZES = {
    "examples": (1, 60_000),
    "features": (1, 50_000),
    "classes": (2, 1_000),
    "epochs": (1, 40),
}
"""The least and the largest of each, drawn evenly over the logarithm as far as cost allows."""

RATES = (1e-6, 50.0)
SIGMAS = (0.0, 1e-3, 0.01, 0.01, 0.01, 0.1, 1.0)
SCALES = (1.0, 1.0, 1.0, 1.0, 1e-6, 1e-3, 1e2, 1e4)
FEATURES = ("normal", "pixels", "sparse", "clusters", "far clusters")
LABELS = ("linear", "linear", "clusters", "random", "imbalanced")
DEFECTS = ("none", "none", "none", "constant", "duplicate features", "duplicate examples")
ABSENT = ("none", "none", "none", "training", "validation")
MOST_VALIDATION = 200
"""Validation examples of a small data set; of a large one a fifth as many as training ones."""


@dataclass(frozen=True)
class Drawn:
    """A plan that was drawn, and all that its examples follow from.

    Args:
        seed, index: what it was drawn by.
        recipe: the hyperparameters.
        sizes: numbers of ``examples``, ``features``, ``classes``, ``epochs``, ``validation``.
        features, labels, defect, absent, scale: what the examples are like.
    """

    seed: int
    index: int
    recipe: Recipe
    sizes: Mapping[str, int]
    features: str
    labels: str
    defect: str
    absent: str
    scale: float

    @property
    def words(self) -> str:
        """The plan in a line."""
        recipe, sizes = self.recipe, self.sizes
        words = [
            f"{sizes['examples']}+{sizes['validation']} × {sizes['features']}",
            f"{sizes['classes']} classes",
            f"batch {recipe.batch_size}",
            f"lr {recipe.lr:.3g}",
            f"{recipe.max_epochs} epochs",
            f"sigma {recipe.sigma:g}",
            recipe.dtype,
            f"{self.features} features, {self.labels} labels",
        ]
        words += [f"× {self.scale:g}"] * (self.scale != 1)
        words += [self.defect] * (self.defect != "none")
        words += [f"a class absent in {self.absent}"] * (self.absent != "none")
        return f"{recipe.data}: {', '.join(words)}"

    def data(self) -> DataModule:
        """The examples."""
        random = np.random.default_rng([self.seed, self.index, 1])
        num_train, count = self.sizes["examples"], self.sizes["examples"] + self.sizes["validation"]
        num_inputs, num_outputs = self.sizes["features"], self.sizes["classes"]
        X = random.standard_normal((count, num_inputs), dtype=np.float32)
        y = self._drawn_labels(random, X, num_outputs)
        if "clusters" in (self.features, self.labels) or self.features == "far clusters":
            far = np.float32(10 if self.features == "far clusters" else 2)
            X += far * random.standard_normal((num_outputs, num_inputs), dtype=np.float32)[y]
        if self.defect == "constant":
            X[:, random.random(num_inputs) < 0.5] = 1
        elif self.defect == "duplicate features":
            X = X[:, random.integers(0, num_inputs, num_inputs)]
        elif self.defect == "duplicate examples":
            copied = random.integers(0, max(1, num_train // 4), num_train)
            X[:num_train], y[:num_train] = X[copied], y[copied]
        for part, rows in (("training", slice(num_train)), ("validation", slice(num_train, None))):
            if self.absent == part:
                y[rows][y[rows] == num_outputs - 1] = 0
        divisor = 1.0
        if self.features == "sparse":
            X[X < 1] = 0
        if self.features == "pixels":
            X, divisor = np.clip(64 + 64 * X, 0, 255).astype(np.uint8), 255 / self.scale
        else:
            X *= np.float32(self.scale)
        return DataModule(
            X[:num_train],
            y[:num_train],
            X[num_train:],
            y[num_train:],
            batch_size=self.recipe.batch_size,
            name=self.recipe.data,
            divisor=divisor,
            num_outputs=num_outputs,
            source=f"drawn, seed {self.seed}",
        )

    def _drawn_labels(
        self, random: np.random.Generator, X: Array, num_outputs: int
    ) -> np.ndarray[Any, np.dtype[np.int32]]:
        if self.labels == "linear":
            map_ = random.standard_normal((X.shape[1], num_outputs), dtype=np.float32)
            y = (X @ map_).argmax(axis=1)
        else:
            y = random.integers(0, num_outputs, len(X))
            if self.labels == "imbalanced":
                y[random.random(len(X)) < 0.97] = 0
        return y.astype(np.int32)


def affordable(sizes: Mapping[str, int]) -> bool:
    """Whether a plan of these sizes is judged in a second or so."""
    n, f, c, epochs = (sizes[name] for name in SIZES)
    batch = sizes.get("batch", 1)
    return (
        n * f <= 4e6
        and f * c * (epochs + 12) <= 4e6
        and n * c * epochs <= 4e6
        and n * f * c * epochs <= 6e7
        and batch * f * c <= 3e6
        and ("batch" not in sizes or epochs * -(-n // batch) <= 600)
    )


def draw_one(seed: int, index: int) -> Drawn:
    """The plan of a seed and a number."""
    random = np.random.default_rng([seed, index])

    def logarithmic(least: float, most: float) -> float:
        return float(np.exp(random.uniform(np.log(least), np.log(most))))

    sizes = {name: least for name, (least, _) in SIZES.items()}
    for name in random.permutation(list(SIZES)).tolist():
        least, most = SIZES[name]
        tried = sizes | {name: most + 1}
        while not (tried[name] <= most and affordable(tried)):
            tried[name] = int(logarithmic(least, most + 1))
        sizes = tried
    tried = sizes
    while "batch" not in tried or not affordable(tried):
        tried = sizes | {"batch": int(logarithmic(1, 1 + 1.2 * sizes["examples"]))}
    most = max(MOST_VALIDATION, sizes["examples"] // 5)
    most = max(1, min(most, int(4e6 // max(sizes["features"], sizes["classes"]))))
    sizes["validation"] = int(logarithmic(1, most + 1))
    recipe = Recipe(
        f"drawn-{seed}-{index}",
        tried["batch"],
        float(f"{logarithmic(*RATES):.3g}"),
        sizes["epochs"],
        sigma=float(random.choice(SIGMAS)),
        seed=index,
        dtype="float64" if random.random() < 0.2 else "float32",
    )
    kinds = [str(random.choice(kinds)) for kinds in (FEATURES, LABELS, DEFECTS, ABSENT)]
    return Drawn(seed, index, recipe, sizes, *kinds, scale=float(random.choice(SCALES)))


def draw(seed: int, count: int, first: int = 0) -> list[Drawn]:
    """So many plans of a seed, from a number on."""
    return [draw_one(seed, index) for index in range(first, first + count)]


# Faultless trainings in NumPy, as records


def record_of(judge: SoftmaxJudge, training: Training) -> Record:
    """The record that a worker would leave that trains as a member of the ensemble does."""
    plan, data, ladder = judge.plan, judge.data, judge.ladder
    run = training.run()
    plain = training.form in PLAIN_FORMS
    y_hat = "probabilities" if plain else "logits"
    val_y_hat = training.form(run.val_logits, np.asarray(data.y_val, np.int64))[1]
    arrays: dict[str, Array] = {
        "step_loss": run.step_loss,
        "step_accuracy": run.step_accuracy,
        "snapshots": np.array(plan.snapshots),
        "val_y_hat": val_y_hat if plain else run.val_logits,
        "fed/y_train": np.asarray(data.y_train, np.int32),
        **{f"parameters/{name}": values for name, values in run.parameters.items()},
        "initial/W": np.array(plan.W),
        "initial/b": np.array(plan.b),
    }
    for i, step in enumerate(plan.probes):
        state = judge.oracle.before(i)
        stages = ladder.member_stages(training, state, step)
        stages["forward/y_hat"] = stages[f"forward/{y_hat}"]
        for name, before in state.items():
            after = before.astype(np.float64) + stages[f"update/{name}"]
            stages[f"update/{name}"] = after.astype(before.dtype)
        zero = np.array(0.0)
        stages |= {
            "data/y": training.labels[plan.rows(step)],
            "data/X_error": zero,
            "data/y_error": zero,
        }
        del stages["forward/logits"], stages["forward/probabilities"]
        arrays |= {f"probe/{step}/{name}": array for name, array in stages.items()}
    return Record({"history": history_of(run, plan), "y_hat": y_hat}, arrays)


def history_of(run: Trajectory, plan: Plan) -> dict[str, list[float]]:
    """The metrics of each epoch, as a trainer reports them."""

    def means(values: Floats) -> list[float]:
        return list(map(float, epoch_means(values, plan)))

    return {
        "train_loss": means(run.step_loss),
        "train_accuracy": means(run.step_accuracy),
        "val_loss": run.val_loss.tolist(),
        "val_accuracy": run.val_accuracy.tolist(),
    }


def is_finite(record: Record) -> bool:
    """Whether the record could be judged at all: a plain softmax may overflow."""
    values = [*record.arrays.values(), *map(np.array, record.facts["history"].values())]
    return all(bool(np.isfinite(value).all()) for value in values)


def judge_drawn(drawn: Drawn, members: int) -> list[dict[str, Any]]:
    """What the suite says of so many faultless trainings of a plan.

    Each row holds the plan in words, the member's index and ``grade``, which is ``not finite``
    where there is nothing to judge; with a grade also ``reason``, ``divergence`` and ``score``.
    """
    started = time.perf_counter()
    data = drawn.data()
    plan = Plan.make(drawn.recipe, data, Path("drawn"))
    judge = SoftmaxJudge.measure(plan, data)
    rows = []
    for turn in range(members):
        index = FRESH[(drawn.index * members + turn) % len(FRESH)]
        row: dict[str, Any] = {"plan": drawn.words, "index": drawn.index, "member": index}
        with np.errstate(all="ignore"):
            record = record_of(judge, member(plan, data, index))
            if is_finite(record):
                found = judge.judge(record)
                row |= {
                    "grade": found.grade,
                    "reason": found.reason,
                    "divergence": found.divergence and asdict(found.divergence),
                    "score": judge.worst(found),
                    "informative": judge.free_running.informative,
                }
            else:
                row |= {"grade": "not finite", "reason": None}
        rows.append(row | {"seconds": time.perf_counter() - started})
    return rows


def said(row: Mapping[str, Any]) -> str:
    """A run that is not rounding, in two lines."""
    where = row["divergence"]
    place = "no divergence"
    if where:
        place = (
            f"{where['stage']} ({where['tensor']}, {where['statistic']}), step {where['step']}, "
            f"{where['envelopes']:.3g} envelopes, {where['ulps']:.3g} ulps"
        )
    free = "" if row["informative"] else " (chaotic)"
    return (
        f"{row['plan']}\n    member {row['member']}: {row['grade']}{free}: {row['reason']}; "
        f"{place}; worst {row['score']:.3g}"
    )


def judged(
    plans: Sequence[Drawn], members: int, processes: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each plan, in their order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(partial(judge_drawn, members=members), plans)


def is_flagged(row: Mapping[str, Any]) -> bool:
    """Whether a faultless run is a false alarm."""
    return row["grade"] not in (*SOUND, "not finite")


def counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many plans and runs there are, and how they were graded."""
    grades = Counter(row["grade"] for row in rows)
    counts = ", ".join(f"{count} {grade}" for grade, count in grades.most_common())
    plans, flagged = ({row["index"] for row in some} for some in (rows, filter(is_flagged, rows)))
    return (
        f"{len(plans)} plans, {len(rows)} runs: {counts}; {len(flagged)} plans with a false alarm"
    )


def main(arguments: Sequence[str]) -> int:
    """Draw, train, judge; 1 if a faultless run is not called rounding."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drawn_plans",
        description="Draw plans by a seed, train faultless members in NumPy on them, and print "
        "every run that the suite does not call rounding.",
        epilog="example: python -m benchmarks.drawn_plans --draw 1 --count 200 --first 400",
    )
    parser.add_argument("--draw", type=int, default=0, metavar="SEED", help="default: 0")
    parser.add_argument("--count", type=int, default=1000, help="plans; default: 1000")
    parser.add_argument("--first", type=int, default=0, metavar="INDEX", help="default: 0")
    parser.add_argument("--members", type=int, default=3, help="trainings of each; default: 3")
    parser.add_argument("--processes", type=int, help="default: one a processor")
    options = parser.parse_args(arguments)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    plans, rows = draw(options.draw, options.count, options.first), []
    for some in judged(plans, options.members, options.processes):
        rows += some
        for row in filter(is_flagged, some):
            print(said(row), flush=True)
    print(counted(rows))
    print("flagged:", *sorted({row["index"] for row in rows if is_flagged(row)}))
    return 1 if any(map(is_flagged, rows)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
