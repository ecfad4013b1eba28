"""The suite's test of itself: ``python -m benchmarks.detection``.

Every fault of :mod:`benchmarks.faults` is planted into every backend's worker, at every size, and
judged by the suite and by the usual fixed tolerances; many runs without a fault show how often it
cries wolf. Results go to ``detection.json``, every run, and ``detection.md`` and
``detection.png``, which :mod:`benchmarks.detection_report` makes from it.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import compress, product
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks.detection_report import write_report
from framework_parity.benchmarks.drawn_plans import Drawn, draw, draw_one
from framework_parity.benchmarks.faults import CATALOGUE
from framework_parity.benchmarks.faulty_training import UNKNOWN
from framework_parity.benchmarks.measure import told
from framework_parity.benchmarks.planting import KNOWN, Fault
from framework_parity.common.commands.reprobe import judge_of_steps, steps_to_probe
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.environments.program import THREAD_VARIABLES
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.execution.processes import Contender
from framework_parity.common.judging.causes import find_cause
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.judging.judge import Judgement
from framework_parity.common.judging.ladder import WORST
from framework_parity.common.judging.record_difference import moves
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.ensemble import (
    ENSEMBLE_MEMBERS,
    member,
    reference,
)
from framework_parity.common.reference.replay import Trajectory
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.request import Request

RESULTS = Path(__file__).parent / "results"
JOB_RUNS = 40
"""Runs of one worker process: it imports its framework once."""
RUN_SECONDS = 600.0
"""Of one run, the import before it included."""

FAULTY = {
    "digits": Recipe("digits", 64, 0.1, 5),
    # From weights so large, examples are wrong with near certainty, and gradients are large.
    "steep-digits": Recipe("digits", 64, 0.1, 5, sigma=1.0),
    # With steps so long, examples are wrong with high certainty now and then.
    "fast-digits": Recipe("digits", 64, 2.0, 5),
    # So slow that features sixteen times as large still train in finite numbers.
    "slow-digits": Recipe("digits", 64, 0.0005, 5),
    "fashion-mnist": Recipe("fashion-mnist", 256, 0.1, 2),
}
"""The plans that faults are planted into."""

CLEAN_DATA = (
    "digits",
    "synthetic:2000x20x5",
    "synthetic:500x100x3",
    "synthetic:1500x8x10",
    "synthetic:600x300x2",
)
CLEAN_BATCH_SIZES = (16, 64, 250)
CLEAN_LR = (0.02, 0.1, 0.5)
CLEAN_SEEDS = 3
LARGE_CLEAN = tuple(
    Recipe("fashion-mnist", size, lr, 2, seed=1)
    for size, lr in ((64, 0.02), (256, 0.1), (256, 0.5))
)
"""The last one is chaotic: rounding grows to a seventh of the weights."""
DRAWN = "drawn-"
"""What the names of drawn plans start with."""
FEW = (
    *("learning rate", "momentum", "label smoothing", "TF32 products", "wrong labels"),
    *("two rows swapped", "predictions shifted", "velocity cleared each epoch"),
)
"""The faults of ``--quick``."""


@dataclass(frozen=True)
class Run:
    """One training to judge.

    Args:
        plan: name of the plan's folder.
        backend, implementation: who trains.
        fault, size: what is planted; None for a clean run.
        version: the release that trains; None if unknown.
    """

    plan: str
    backend: str
    implementation: str
    fault: str | None = None
    size: float | str | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        """A name for its record."""
        words = (self.plan, self.backend, self.implementation, self.fault or "clean", self.size)
        return " ".join(str(word) for word in words if word is not None).replace("/", "-")

    @property
    def clean(self) -> Run:
        """The same run without the fault."""
        return replace(self, fault=None, size=None)

    def read(self, folder: Path, plan: Plan) -> Record:
        """Its record in a folder of those of all runs.

        Raises:
            RecordError: if it cannot be judged, or is another run's.
        """
        trained_by = Environment(self.backend, None, self.version)
        return Contender(trained_by, self.implementation).read(folder / self.name, plan.sha256)


# What is run


def plan_name(recipe: Recipe) -> str:
    """A name for a plan's folder."""
    settings = (recipe.data, recipe.batch_size, recipe.lr, recipe.max_epochs, recipe.seed)
    return "-".join(str(setting) for setting in settings).replace(":", "-")


def faulty_runs(environments: Iterable[Environment], faults: Sequence[Fault]) -> list[Run]:
    """Every fault in the plans that it names; of the families taking turns with implementations."""
    found = []
    for (i, environment), (j, fault) in product(enumerate(environments), enumerate(faults)):
        implementations = discover(external=False)[environment.backend].implementations
        if fault.family != KNOWN:
            implementations = implementations[(i + j) % len(implementations) :][:1]
        for plan in fault.plans:
            most = None if plan == fault.plans[0] else 1
            for implementation, size in product(implementations[:most], fault.sizes[:most]):
                who = (environment.backend, implementation)
                found.append(Run(plan, *who, fault.name, size, environment.version))
    return found


def clean_recipes(quick: bool) -> dict[str, Recipe]:
    """The plans of clean runs, by their names."""
    settings = product(range(CLEAN_SEEDS), CLEAN_DATA, CLEAN_BATCH_SIZES, CLEAN_LR)
    recipes = [Recipe(data, size, lr, 3, seed=seed) for seed, data, size, lr in settings]
    recipes = recipes[:: 20 if quick else 1] + ([] if quick else list(LARGE_CLEAN))
    return {plan_name(recipe): recipe for recipe in recipes}


def clean_runs(environments: Iterable[Environment], recipes: dict[str, Recipe]) -> list[Run]:
    """Runs without a fault: frameworks over the first seed, the others over all."""
    found = discover(external=False)
    return [
        Run(name, environment.backend, implementation, version=environment.version)
        for environment in environments
        for name, recipe in recipes.items()
        if recipe.seed == 0 or recipe in LARGE_CLEAN or not found[environment.backend].is_framework
        for implementation in found[environment.backend].implementations
    ]


def drawn_runs(environments: Iterable[Environment], plans: Sequence[Drawn]) -> list[Run]:
    """Runs without a fault on drawn plans: NumPy in both implementations on all.

    The frameworks take turns, each with one implementation after the other.
    """
    backends, runs = discover(external=False), []
    versions = {environment.backend: environment.version for environment in environments}
    names = list(versions)
    turns = [
        (name, implementation)
        for implementations in zip(*(backends[name].implementations for name in names), strict=True)
        for name, implementation in zip(names, implementations, strict=True)
    ]
    plain = [turn for turn in turns if not backends[turn[0]].is_framework]
    turns = [turn for turn in turns if turn not in plain]
    for drawn in plans:
        chosen = [turns[drawn.index % len(turns)]] if turns else []
        runs += [
            Run(drawn.recipe.data, *turn, version=versions[turn[0]]) for turn in (*plain, *chosen)
        ]
    return runs


# Reference, workers, judgement


def is_drawn(recipe: Recipe) -> bool:
    """Whether a recipe is of a drawn plan."""
    return recipe.data.startswith(DRAWN)


def prepare(folder: Path, recipe: Recipe) -> None:
    """Write a plan, its reference and its ensemble; of a drawn plan its data, but no ensemble."""
    if is_drawn(recipe):
        data_folder = folder / "data"
        seed, index = recipe.data.removeprefix(DRAWN).split("-")
        data = draw_one(int(seed), int(index)).data()
        data.save(data_folder)
    else:
        data_folder, data, _ = open_data(recipe.data, recipe.batch_size)
    plan = Plan.make(recipe, data, data_folder)
    plan.save(folder / "plan")
    with np.errstate(all="ignore"):
        reference(plan, data).run().record().save(folder / "reference")
        # A thousand of those would fill a disk: they are trained again when they are needed.
        for i in range(0 if is_drawn(recipe) else ENSEMBLE_MEMBERS):
            member(plan, data, i).run().record().save(folder / f"rounding-{i}")


@functools.lru_cache(maxsize=4)
def open_judge(folder: Path) -> SoftmaxJudge:
    """The judge of a prepared plan."""
    plan = Plan.load(folder / "plan")
    data = plan.data()
    oracle = Trajectory.load(folder / "reference")
    count = 0 if is_drawn(plan.recipe) else ENSEMBLE_MEMBERS
    members = [Trajectory.load(folder / f"rounding-{i}") for i in range(count)]
    return SoftmaxJudge.measure(plan, data, oracle, members)


def train(
    work: Path, runs: Sequence[Run], environments: dict[str, Environment], second: bool = False
) -> dict[str, str]:
    """Run everything, several runs a process; the status of each by its name."""
    statuses: dict[str, str] = {}
    groups = []
    for backend, environment in environments.items():
        own = [run for run in runs if run.backend == backend]
        jobs = [Job(run.name, environment, request(work, run, second)) for run in own]
        groups += [jobs[i : i + JOB_RUNS] for i in range(0, len(jobs), JOB_RUNS)]

    def tell(name: str, facts: dict[str, Any]) -> None:
        if facts["event"] in (UNKNOWN, "done", "failed", "timeout"):
            statuses.setdefault(name, facts["event"])
            show(f"{'probed' if second else 'trained'} {len(statuses)} of {len(runs)}", name)

    outcomes = run_jobs(
        groups, slots=len(available_cpus()), threads=1, timeout=RUN_SECONDS, tell=tell
    )
    for name, outcome in outcomes.items():
        if outcome.status != "done":
            statuses[name] = f"failed: {outcome.reason}"
            print(f"\n{name}: {statuses[name]}", file=sys.stderr)
    return statuses


def request(work: Path, run: Run, second: bool) -> Request:
    """What a run is asked for."""
    place = work / "second" / run.name if second else work / run.plan
    fields = {
        "plan": place / "plan",
        "reference": place / "reference",
        "backend": run.backend,
        "implementation": run.implementation,
        "fault": run.fault,
        "size": run.size,
        "probe_only": second,
    }
    record = work / ("probes" if second else "records") / run.name
    log = work / "logs" / f"{'second ' * second}{run.name}.log"
    return Request("benchmarks.faulty_training:train", record, log, fields)


def needs_second_look(work: Path, run: Run, status: str) -> bool:
    """Whether other steps must be probed to place a run's divergence; writes their plan."""
    if status != "done" or run.fault is None:
        return False
    judge = open_judge(work / run.plan)
    try:
        record = run.read(work / "records", judge.plan)
        steps = steps_to_probe(judge, record, judge.judge(record))
    except RecordError:
        return False
    if steps:
        place = work / "second" / run.name
        other = judge_of_steps(judge, steps)
        other.plan.save(place / "plan")
        other.oracle.record().save(place / "reference")
    return bool(steps)


def open_record(work: Path, run: Run) -> tuple[SoftmaxJudge, Record]:
    """A run's record and the judge of its probes, those of the second look included."""
    judge = open_judge(work / run.plan)
    record = run.read(work / "records", judge.plan)
    place = work / "second" / run.name
    if (work / "probes" / run.name).exists():
        probes = run.read(work / "probes", judge.plan)
        record = replace(record, arrays={**record.arrays, **probes.arrays})
        plan, oracle = Plan.load(place / "plan"), Trajectory.load(place / "reference")
        judge = judge.reprobed(plan, oracle)
    return judge, record


def judge_run(work: Path, run: Run, status: str) -> dict[str, Any]:
    """All that is said of one run."""
    row: dict[str, Any] = {**vars(run), "status": status}
    if status != "done":
        return row
    try:
        judge, record = open_record(work, run)
        found = judge.judge(record)
    except RecordError as error:
        return row | {"status": f"bad record: {error}"}
    row |= judged(judge, found) | by_fixed_tolerances(judge, record)
    if run.fault is not None or found.grade not in SOUND:
        row |= diagnosed(judge, record, found)
    if run.fault is not None:
        row["change_envelopes"] = change(judge, record, work, run.clean)
    return row


def judged(judge: SoftmaxJudge, found: Judgement) -> dict[str, Any]:
    """The suite's verdict, and every ratio that went into it."""
    where = found.divergence
    score = max(judge.worst(found), where.envelopes if where else 0.0)
    return {
        "grade": found.grade,
        "reason": found.reason,
        "informative": judge.free_running.informative,
        "divergence": where and asdict(where),
        "score": WORST if found.unexplained_flips else score,
        "ratios": {
            "loss": found.loss_envelopes,
            "parameters": found.parameter_envelopes,
            "logits": found.logits_envelopes,
            **{stage: finding.envelopes for stage, finding in found.stages.items()},
        },
        "worst_of_stage": {
            stage: f"{finding.tensor} {finding.statistic}"
            for stage, finding in found.stages.items()
        },
        "flips": [len(found.flips), found.unexplained_flips],
    }


def diagnosed(judge: SoftmaxJudge, record: Record, found: Judgement) -> dict[str, Any]:
    """The cause that the suite names, and how long it took to find."""
    started = time.perf_counter()
    cause = find_cause(judge, record, found)
    facts = None if cause is None else asdict(cause)
    return {"cause": facts, "cause_seconds": time.perf_counter() - started}


def by_fixed_tolerances(judge: SoftmaxJudge, record: Record) -> dict[str, bool]:
    """What the usual fixed tolerances say: whether each of them is exceeded."""
    oracle, history = judge.oracle, record.facts["history"]
    weights = all(
        np.allclose(record.arrays[f"parameters/{name}"][-1], exact[-1], rtol=1e-3, atol=1e-3)
        for name, exact in oracle.parameters.items()
    )
    losses = np.allclose(history["val_loss"], oracle.val_loss, rtol=1e-5, atol=1e-5)
    # Not by rounding each: a half of the last digit, in float32, would go either way.
    accuracy = abs(history["val_accuracy"][-1] - float(oracle.val_accuracy[-1])) < 5e-4
    return {
        "fixed_weights": not weights,
        "fixed_losses": not losses,
        "fixed_accuracy": not accuracy,
    }


def change(judge: SoftmaxJudge, record: Record, work: Path, clean: Run) -> float | None:
    """The largest change by the fault, in envelopes; None without a clean run.

    Of a parameter, of a loss of a step or an epoch, of an accuracy (whose envelope is half an
    example) or of a value of ``predict``.
    """
    try:
        other = clean.read(work / "records", judge.plan)
    except RecordError:
        return None
    envelope, data = judge.envelope, judge.data
    bounds = {
        **{f"parameters/{name}": bound for name, bound in envelope.parameters.items()},
        **{name: getattr(envelope, name) for name in ("train_loss", "val_loss")},
        "step_loss": envelope.loss,
        "val_y_hat": envelope.logits,
        "train_accuracy": 0.5 / data.num_train,
        "val_accuracy": 0.5 / data.num_val,
    }
    ours, theirs = (
        {**r.arrays, **{name: np.array(v, np.float64) for name, v in r.facts["history"].items()}}
        for r in (record, other)
    )
    return max(float(move.envelopes.max()) for move in moves(ours, theirs, bounds).values())


def run_all(
    work: Path,
    recipes: dict[str, Recipe],
    runs: Sequence[Run],
    environments: dict[str, Environment],
) -> list[dict[str, Any]]:
    """Prepare the plans, train, judge."""
    used = {run.plan for run in runs}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        wanted = {name: recipe for name, recipe in recipes.items() if name in used}
        folders = [work / name for name in wanted]
        for done, _ in enumerate(pool.map(prepare, folders, wanted.values()), 1):
            show(f"prepared {done} of {len(folders)}", "")
        statuses = train(work, runs, environments)
        # One plan after the other: its judge is kept.
        runs = sorted(runs, key=lambda run: run.plan)
        states = [statuses.get(run.name, "failed: did not run") for run in runs]
        given = ([work] * len(runs), runs, states)
        unplaced = list(compress(runs, pool.map(needs_second_look, *given, chunksize=4)))
        train(work, unplaced, environments, second=True)
        rows = []
        for row in pool.map(judge_run, *given, chunksize=4):
            rows.append(row)
            show(f"judged {len(rows)} of {len(runs)}", "")
    show("", "")
    return rows


def show(what: str, detail: str) -> None:
    """One line of progress, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what} {detail}", end="", file=sys.stderr, flush=True)


# The command line


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection",
        description="The suite's test of itself: plant known faults into every backend's workers, "
        "and count what the suite and the usual fixed tolerances find; train many faultless plans, "
        "and count false alarms. Writes detection.json (every run), detection.md and .png.",
        epilog="example: python -m benchmarks.detection --quick --faults momentum --out results",
    )
    parser.add_argument("--quick", action="store_true", help="a few faults, a few clean runs")
    parser.add_argument("--backends", nargs="+", metavar="BACKEND", help="default: all")
    parser.add_argument(
        "--faults", nargs="+", metavar="FAULT", help="by name, such as momentum; default: all"
    )
    parser.add_argument("--no-faults", action="store_true", help="false alarms alone")
    parser.add_argument("--no-clean", action="store_true", help="no search for false alarms")
    parser.add_argument(
        "--draw", type=int, default=0, metavar="SEED", help="of the drawn faultless plans"
    )
    parser.add_argument("--drawn", type=int, metavar="COUNT", help="so many; default: 1000")
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder of the results, which are replaced; default: benchmarks/results",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep plans and records there")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="interpreter that runs a backend; may be given more than once",
    )
    return parser.parse_args(arguments)


def find_environments(
    names: Sequence[str] | None, pythons: Iterable[str]
) -> dict[str, Environment]:
    """The environments of all backends.

    Raises:
        ParityError: if one cannot be had.
    """
    found, named = discover(external=False), dict(text.split("=", 1) for text in pythons)
    environments = {}
    for name in names or found:
        if name not in found:
            raise ParityError("--backends", f"some of {', '.join(found)}", name)
        path = Path(named[name]) if name in named else None
        environment = find_environment(found[name], path)
        if environment.python is None:
            raise ParityError(name, "an environment", environment.reason)
        environments[name] = environment
    return environments


def choose_faults(names: Sequence[str] | None, quick: bool) -> list[Fault]:
    """The faults of these names."""
    wanted = names or (FEW if quick else [fault.name for fault in CATALOGUE])
    known = [fault.name for fault in CATALOGUE]
    if unknown := set(wanted) - set(known):
        raise ParityError("--faults", f"some of {', '.join(known)}", ", ".join(unknown))
    return [fault for fault in CATALOGUE if fault.name in wanted]


def main(arguments: Sequence[str]) -> int:
    """Run, judge, write; 1 if a run failed for another reason than its fault."""
    options = parse(arguments)
    for variable in THREAD_VARIABLES:  # of the processes that judge
        os.environ[variable] = "1"
    started = time.perf_counter()
    try:
        environments = find_environments(options.backends, options.python)
        faults = choose_faults(options.faults, options.quick)
    except ParityError as error:
        print(f"detection: {error}", file=sys.stderr)
        return 2
    recipes = {} if options.no_clean else clean_recipes(options.quick)
    clean = clean_runs(environments.values(), recipes)
    count = (4 if options.quick else 1000) if options.drawn is None else options.drawn
    plans = [] if options.no_clean else draw(options.draw, count)
    recipes |= {drawn.recipe.data: drawn.recipe for drawn in plans}
    clean += drawn_runs(list(environments.values()), plans)
    faulty = [] if options.no_faults else faulty_runs(environments.values(), faults)
    if options.quick:
        faulty = [run for run in faulty if run.plan == "digits"]
    recipes |= FAULTY
    runs = list(dict.fromkeys([*clean, *(run.clean for run in faulty), *faulty]))
    work = options.keep or Path(tempfile.mkdtemp(prefix="detection-"))
    try:
        for name in ("records", "probes"):
            (work / name).mkdir(parents=True, exist_ok=True)
        rows = run_all(work, recipes, runs, environments)
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)
    facts = {
        "command": shlex.join(["python", "-m", "benchmarks.detection", *told(arguments)]),
        "seconds": time.perf_counter() - started,
        "machine": machine_facts(),
        "versions": {name: e.version for name, e in environments.items()},
        "recipes": {name: recipe.to_json() for name, recipe in recipes.items()},
        "drawn": {drawn.recipe.data: drawn.words for drawn in plans},
        "runs": rows,
    }
    write_report(facts, options.out)
    failed = [row for row in rows if row["status"].startswith("failed")]
    for row in failed:
        what = f"{row['plan']}, {row['backend']} {row['implementation']}, {row['fault']}"
        print(f"{what}: {row['status'].strip().splitlines()[-1]}", file=sys.stderr)
    print(f"{options.out / 'detection.md'} ({facts['seconds']:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
