"""The suite's test of itself on users' models: ``python -m benchmarks detection --models``.

Every porting bug of :mod:`benchmarks.porting_bugs` is planted into one framework's copy of its
example, and judged beside the sound copies; many faultless variants of the examples show how often
a sound port is blamed. Results go to ``model_detection.json``, every run, and
``model_detection.md``, which :mod:`benchmarks.model_detection_report` makes from it.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

from framework_parity.benchmarks.measure import told
from framework_parity.benchmarks.model_detection_report import write_report
from framework_parity.benchmarks.porting_bugs import BUGS
from framework_parity.benchmarks.porting_bugs.bug import Bug, Changes, changed
from framework_parity.common.commands.chosen import read_model
from framework_parity.common.commands.judge_comparison import judge_comparison, judge_of
from framework_parity.common.commands.model_targets import with_targets
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import ROOT, Environment
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.launcher import Job, Outcome, run_jobs
from framework_parity.common.execution.processes import Contender, Execution, Subject
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.record_difference import moves
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record, RecordError

RESULTS = Path(__file__).parent / "results"
EXAMPLES = ROOT / "docs" / "examples"
RUN_SECONDS = 600.0
POOLED_PLANS = 12
"""Plans after which the workers are new ones: what a framework compiled stays in its memory."""
SEEDS = (0, 1, 2)
BATCH_SIZES = (32, 96, 300)

RECIPES = {
    "mlp": Recipe("digits", 64, 0.05, 1),
    "lenet": Recipe("digits", 64, 0.001, 1),
    "transformer": Recipe("digits", 64, 0.003, 1),
    "gru": Recipe("digits", 64, 0.005, 1),
    "autoencoder": Recipe("digits", 64, 0.003, 1),
    "tied_embedding": Recipe("digits", 64, 0.05, 1),
}
"""The examples, and what bugs are planted into."""
TO_TANH: Changes = (("ReLU()", "Tanh()"), ("nn.relu(", "nn.tanh("), ('"relu"', '"tanh"'))
VARIANTS: dict[str, dict[str, Changes]] = {
    "mlp": {
        "as it is": (),
        "one layer": (("WIDTHS = (64, 32)", "WIDTHS = (100,)"),),
        "four layers": (("WIDTHS = (64, 32)", "WIDTHS = (48, 48, 24, 24)"),),
        "tanh": TO_TANH,
        "Nesterov": (("momentum=0.9", "momentum=0.9, nesterov=True"), ('"sgd"', '"nag"')),
    },
    "lenet": {
        "as it is": (),
        "tanh": TO_TANH,
        "narrow": (("120", "30"), ("84", "20")),
    },
    "transformer": {
        "as it is": (),
        "one block": (("DEPTH = 32, 4, 2", "DEPTH = 32, 4, 1"),),
        "three blocks": (("DEPTH = 32, 4, 2", "DEPTH = 24, 2, 3"),),
    },
    "gru": {"as it is": (), "wide": (("WIDTH = 32", "WIDTH = 64"),)},
    "autoencoder": {"as it is": (), "deep": (("(32, 8, 32)", "(48, 24, 6, 24, 48)"),)},
    "tied_embedding": {"as it is": (), "wide": (("WIDTH = 17, 16", "WIDTH = 17, 40"),)},
}
"""By example the faultless variants: what is changed in every framework's copy."""
BACKENDS = ("torch", "jax", "tensorflow")
"""Whose sound copies are within rounding, or outside it for a reason with a name. MXNet's loss is
biased by itself (docs/own_model.md): it is drift in any model."""
KEPT = ("status", "reason", "grade", "divergence", "cause", "envelopes")
"""What a row has of a report's run."""
FEW = ("mlp", "transformer")
"""The examples of ``--quick``, of whose bugs every fourth is planted."""


@dataclass(frozen=True)
class Task:
    """One plan: the sound copies of an example, and those with a bug.

    Args:
        name: of its folder.
        example, variant: which file, and how it is changed.
        recipe: how it is trained.
        bugs: what is planted, each into one framework's copy.
    """

    name: str
    example: str
    variant: str
    recipe: Recipe
    bugs: tuple[tuple[Bug, str], ...] = ()

    @property
    def text(self) -> str:
        """The file of the sound copies."""
        text = (EXAMPLES / f"{self.example}.py").read_text(encoding="utf-8")
        return changed(text, VARIANTS[self.example][self.variant])


def tasks(backends: Sequence[str], quick: bool = False) -> Iterator[Task]:
    """The plans, those with bugs first."""
    examples = FEW if quick else RECIPES
    for example in examples:
        planted = [bug for bug in BUGS if bug.example == example][:: 4 if quick else 1]
        pairs = [(bug, name) for bug in planted for name in bug.changes if name in backends]
        yield Task(f"bugs-{example}", example, "as it is", RECIPES[example], tuple(pairs))
    for seed, size, example in product(SEEDS, BATCH_SIZES, examples):
        for i, variant in enumerate(VARIANTS[example]):
            dtype = "float64" if (seed, size) == (SEEDS[-1], BATCH_SIZES[-1]) else "float32"
            recipe = replace(RECIPES[example], seed=seed, batch_size=size, dtype=dtype)
            if not quick or (i == seed == 0 and size == BATCH_SIZES[0]):
                name = f"clean-{example}-{variant.replace(' ', '-')}-{size}-{seed}"
                yield Task(name, example, variant, recipe)


@dataclass(frozen=True)
class Planted(Execution):
    """Trains a model of which some copies have a bug, and files of their own.

    Each framework has one process, which does one training after the other.

    Args:
        files: those files, by the name of the run.
    """

    files: Mapping[str, Path] = field(default_factory=dict)

    def run(self, groups: Sequence[Sequence[Job]]) -> dict[str, Outcome]:
        of_each: dict[str, list[Job]] = {}
        for job in chain(*groups):
            request = job.request
            if path := self.files.get(job.name):
                request = replace(request, fields={**request.fields, "model": path})
            # The pool's workers do what is not essential.
            own = replace(job, request=request, essential=False)
            of_each.setdefault(job.environment.label, []).append(own)
        settings = {"slots": self.slots, "threads": self.threads, "timeout": self.timeout}
        return run_jobs([*of_each.values()], **settings, pool=self.pool)

    def moved(self, judge: Judge, contender: Contender, sound: Contender) -> float | None:
        """How far a bug moved the farthest parameter, in envelopes; None if it left no record."""
        folders = [self.record_folder(one.name) for one in (contender, sound)]
        try:
            records = [Record.load(folder).arrays for folder in folders]
        except RecordError:
            return None
        held = judge.envelope.parameters
        bounds = {f"parameters/{name}": held[name] for name in judge.initial}
        return max(float(move.envelopes.max()) for move in moves(*records, bounds).values())


def run_task(
    task: Task, folder: Path, environments: Mapping[str, Environment], pool: WorkerPool
) -> list[dict[str, Any]]:
    """Train and judge one plan; a row for each run.

    Raises:
        ParityError: if the reference fails.
    """
    folder.mkdir(parents=True)
    path = folder / f"{task.example}.py"
    path.write_text(task.text, encoding="utf-8")
    model = read_model(path, discover(external=False))
    found = open_data(task.recipe.data, task.recipe.batch_size)
    data_folder, data = with_targets(model, *found[:2])
    plan = Plan.make(task.recipe, data, data_folder)
    plan.save(folder / "plan")
    held = [environments[name] for name in model.backends if name in environments]
    sound = {each.backend: Contender(each, path.stem) for each in held}
    files, planted = {}, {}
    for i, (bug, backend) in enumerate(task.bugs):
        place = folder / f"{task.example}-{i}.py"
        place.write_text(changed(task.text, bug.changes[backend], backend), encoding="utf-8")
        contender = Contender(environments[backend], place.stem)
        files[contender.name], planted[contender] = place, bug
    contenders = [*sound.values(), *planted]
    subject = Subject(model, held[0], is_named=True)
    settings = {"threads": 1, "timeout": RUN_SECONDS, "pool": pool, "subject": subject}
    execution = Planted(plan, folder, len(held), files=files, **settings)
    started = time.perf_counter()
    outcomes = execution.train(contenders)
    facts = judge_comparison(execution, data, contenders, outcomes, Thresholds())
    seconds = (time.perf_counter() - started) / len(contenders)
    judge = judge_of(execution, data, outcomes)
    rows = []
    for contender, run in zip(contenders, facts["runs"], strict=True):
        row: dict[str, Any] = {"task": task.name, "example": task.example, "variant": task.variant}
        row |= {"recipe": task.recipe.to_json(), "backend": contender.backend, "bug": None}
        row |= {name: run[name] for name in KEPT} | {"seconds": seconds}
        if bug := planted.get(contender):
            change = execution.moved(judge, contender, sound[contender.backend])
            row |= {"bug": bug.name, "moved": change}
        rows.append(row)
    return rows


def run_tasks(
    wanted: Sequence[Task],
    work: Path,
    environments: Mapping[str, Environment],
    deadline: float,
    keep: Callable[[list[dict[str, Any]], dict[str, str]], object] = lambda *_: None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows of all plans that are begun before the deadline, and why others have none.

    ``keep`` is given them after every plan.
    """
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    pool = WorkerPool(work / "workers")
    for i, task in enumerate(wanted, 1):
        if time.monotonic() > deadline:
            failed[task.name] = "not begun: the time was over"
            continue
        try:
            rows += run_task(task, work / task.name, environments, pool)
        except (ParityError, RecordError) as error:
            failed[task.name] = str(error).replace(str(work), "…")
        shutil.rmtree(work / task.name, ignore_errors=True)
        keep(rows, failed)
        print(f"{i} of {len(wanted)}: {task.name}, {failed.get(task.name, 'done')}", flush=True)
        if i % POOLED_PLANS == 0:
            pool.close()
            pool = WorkerPool(work / f"workers-{i}")
    pool.close()
    return rows, failed


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks detection --models",
        description="The suite's test of itself on users' models: plant porting bugs into one "
        "framework's copy of the examples, and count what is found; train faultless variants, and "
        "count false alarms. Writes model_detection.json (every run) and model_detection.md.",
        epilog="example: python -m benchmarks detection --models --quick --out results",
    )
    parser.add_argument("--quick", action="store_true", help="a few bugs, a few faultless runs")
    parser.add_argument("--no-bugs", action="store_true", help="false alarms alone")
    parser.add_argument("--no-clean", action="store_true", help="no search for false alarms")
    parser.add_argument("--examples", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--backends", nargs="+", metavar="BACKEND", help=f"default: {', '.join(BACKENDS)}"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="after which no further plan is begun"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder of the results, which are replaced; default: benchmarks/results",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run, judge, write; 1 if a plan could not be judged."""
    options = parse(arguments)
    started = time.monotonic()
    deadline = started + 60 * (options.minutes or float("inf"))
    found = {
        n: b for n, b in discover(external=False).items() if n in (options.backends or BACKENDS)
    }
    environments = {name: find_environment(backend) for name, backend in found.items()}
    environments = {name: e for name, e in environments.items() if e.python is not None}
    wanted = [
        task
        for task in tasks([*environments], options.quick)
        if task.example in (options.examples or RECIPES)
        and not (options.no_bugs if task.bugs else options.no_clean)
    ]
    facts = {
        "command": shlex.join(
            ["python", "-m", "benchmarks", "detection", "--models", *told(arguments)]
        ),
        "machine": machine_facts(),
        "versions": {name: e.version for name, e in environments.items()},
        "plans": len(wanted),
    }

    def keep(rows: list[dict[str, Any]], failed: dict[str, str]) -> None:
        spent = {"seconds": time.monotonic() - started}
        write_report(facts | spent | {"failed": failed, "runs": rows}, options.out)

    work = Path(tempfile.mkdtemp(prefix="models-"))
    try:
        _, failed = run_tasks(wanted, work, environments, deadline, keep)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{options.out / 'model_detection.md'} ({time.monotonic() - started:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
