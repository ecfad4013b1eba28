"""How fast each backend trains, beside loops by hand, Keras 3, a data loader and the machine."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks import measure
from framework_parity.benchmarks.measure import Task, make_plan, quartiles, ratio, say
from framework_parity.benchmarks.peers import KERAS_BACKENDS, peers_folder
from framework_parity.benchmarks.programs import Program
from framework_parity.common.environments.backend import Backend, Environment
from framework_parity.common.environments.external import ExternalEnvironment
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.reference.replay import Training, epoch_means
from framework_parity.common.training.plan import Plan

MINUTES = 13.0
"""How long measuring may take; the comparison that grades takes another."""
GOALS = {"idiomatic": 1.10, "keras": 1 / 2, "loader": 1 / 15}
"""At most so many times the seconds of each peer."""
PEERS = (*GOALS, "tuned", "limit")
"""The last two have no goal: what they do no trainer of any classifier may."""
SLOW_EPOCHS = 3
"""Epochs of a data loader's loop, each of which takes seconds."""
HEADER = (
    *("what", "grade", "import s", "first step s", "epoch ms", "processor ms", "examples/s"),
    *("peak MB", "÷ idiomatic", "÷ Keras", "÷ loader", "÷ tuned", "÷ limit"),
)
RIGHT = 1e-3
"""How far a peer's last training loss may be from the reference's, as a part of it."""
DRAWN = ("keras", "own", "program")
"""What draws an order, or initial parameters, of its own."""
DRAWN_RIGHT = 0.05
"""The same for those."""
FITS = ("fit", "own")
"""``Trainer.fit``: of the shipped models, and of one that a user defines."""
SHIPPED = ("fit", "program")
"""What the comparison trains, too, and grades."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    measure.add_runs(parser, 3)
    parser.add_argument("--no-keras", action="store_true", help="leave Keras 3 out")
    parser.add_argument("--no-loader", action="store_true", help="leave the data loader out")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="a finished comparison that has the grades; default: one is run",
    )


def main(options: argparse.Namespace) -> int:
    """Measure, judge, write; 1 if ``--compare`` found something slower."""
    usable = measure.environments(options.backends, options.pythons, external=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = {"batch_size": options.batch_size, "max_epochs": options.max_epochs}
        plan = make_plan(options.data, folder, **recipe)
        tasks = make_tasks(usable, folder, options)
        measure.run(
            list(tasks.values()), options.runs, options.budget, options.threads, options.device
        )
        grades = find_grades(options, usable)
        judge_peers(plan, tasks.values())
    facts = summarize(plan, tasks, grades, options)
    return measure.finish(options, facts, write(facts), draw, (9, 5))


def make_tasks(
    usable: Mapping[str, tuple[Backend, Environment]], folder: Path, options: argparse.Namespace
) -> dict[str, Task]:
    """What is measured, by name: ``BACKEND KIND`` or ``BACKEND IMPLEMENTATION``."""
    plan = {"plan": str(folder / "plan")}
    limit = {"kind": "limit", "backend": "", **plan}
    tasks = {"limit": Task("limit", Environment("", Path(sys.executable)), limit)}
    for name, (backend, environment) in usable.items():
        shared = {"backend": name, **plan}
        assert environment.python is not None
        if isinstance(environment, ExternalEnvironment):
            for implementation in backend.implementations:
                row = f"{name} {implementation}"
                settings = {"kind": "program", "implementation": implementation, **shared}
                tasks[row] = Program(row, environment, settings)
            continue

        def add(row: str, environment: Environment = environment, **settings: Any) -> None:
            tasks[row] = Task(row, environment, settings)

        for implementation in backend.implementations:
            add(f"{name} {implementation}", kind="fit", implementation=implementation, **shared)
        if (Path(__file__).parent / "chapters" / f"{name}.py").exists():
            add(f"{name} own concise", kind="own", implementation="concise", **shared)
        else:
            say(f"{name} own concise: not offered: there is no benchmarks/chapters/{name}.py")
        for loop in loops(name):
            if not loop.endswith("loader"):
                add(f"{name} {loop}", kind="loop", loop=loop, **shared)
            elif not options.no_loader:
                add(f"{name} {loop}", kind="loop", loop=loop, epochs=SLOW_EPOCHS, **shared)
        wanted = name in KERAS_BACKENDS and not options.no_keras
        if wanted and (peers := peers_folder(environment.python)) is not None:
            add(f"{name} keras", kind="keras", peers=peers, **shared)
    return tasks


def loops(backend: str) -> list[str]:
    """The names in a backend's ``LOOPS``, read without importing its framework."""
    path = Path(__file__).parent / "raw_loops" / f"{backend}.py"
    if not path.exists():
        return []
    listed = path.read_text(encoding="utf-8").partition("LOOPS = {")[2]
    return [part for part in listed.split('"')[1::2] if part]


def find_grades(
    options: argparse.Namespace, usable: Mapping[str, tuple[Backend, Environment]]
) -> dict[str, str]:
    """The grade of every implementation, from a comparison on the same recipe."""
    if options.report:
        path = options.report / "report.json" if options.report.is_dir() else options.report
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    else:
        from framework_parity.compare import compare

        say("grades: a comparison on the same recipe")
        with tempfile.TemporaryDirectory() as folder:
            runs = compare(
                list(usable),
                data=options.data,
                batch_size=options.batch_size,
                max_epochs=options.max_epochs,
                pythons={name: str(env.python) for name, (_, env) in usable.items()},
                device=options.device,
                out=folder,
            ).facts["runs"]
    return {
        f"{run['backend']} {run['implementation']}": run["grade"] or run["status"] for run in runs
    }


def judge_peers(plan: Plan, tasks: Sequence[Task] | Any) -> None:
    """Mark each run as right or wrong by its last epoch's loss in the float64 reference."""
    oracle = Training(plan, plan.data()).run()
    losses = epoch_means(oracle.step_loss, plan)
    for task in tasks:
        expected = float(losses[: task.settings.get("epochs")][-1])
        allowed = DRAWN_RIGHT if task.settings["kind"] in DRAWN else RIGHT
        for facts in task.samples:
            if "loss" in facts:
                facts["right"] = bool(abs(facts["loss"] / expected - 1) <= allowed)


def summarize(
    plan: Plan, tasks: Mapping[str, Task], grades: Mapping[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Rows, ratios and goals, with every sample behind them."""
    load = measure.load(tasks.values(), options.device)
    fact = "epoch_cpu_seconds" if load["clock"] == "cpu" else "epoch_seconds"
    num_train = int(plan.order.shape[1])
    rows = [
        row(task, tasks, grades, fact, num_train, options.max_epochs) for task in tasks.values()
    ]
    compared = measure.epoch_fact(options.device)
    series = {name: task.values(compared) for name, task in tasks.items()}
    settings = {
        "data": plan.recipe.data,
        "examples": num_train,
        "batch_size": options.batch_size,
        "max_epochs": options.max_epochs,
    }
    samples = [measure.plain(task) for task in tasks.values()]
    shown = {"rows": rows, "series": series, "goals": GOALS, "samples": samples}
    return measure.document("speed", options, tasks.values(), settings, **shown)


def tuned_loop(name: str, tasks: Mapping[str, Task], fact: str, max_epochs: int) -> Task | None:
    """The tuned loop that trains soonest, its first step included.

    None unless every one was measured: the best of some would flatter.
    """
    found = []
    for task in tasks.values():
        tuned = str(task.settings.get("loop", "")).startswith("tuned")
        if task.settings["backend"] != name or not tuned:
            continue
        first, epoch = task.values("first_step_seconds"), task.values(fact)
        if not first or not epoch:
            return None
        found.append((float(np.median(first) + max_epochs * np.median(epoch)), task.name))
    return tasks[min(found)[1]] if found else None


def row(
    task: Task,
    tasks: Mapping[str, Task],
    grades: Mapping[str, str],
    fact: str,
    num_train: int,
    max_epochs: int,
) -> dict[str, Any]:
    """One row of the table."""
    settings = task.settings
    name, implementation = settings["backend"], settings.get("implementation")
    tuned = tuned_loop(name, tasks, fact, max_epochs) if settings["kind"] in FITS else None
    peers = {
        "idiomatic": tasks.get(f"{name} idiomatic {implementation}"),
        "keras": tasks.get(f"{name} keras"),
        "loader": tasks.get(f"{name} loader"),
        "tuned": tuned,
        "limit": tasks["limit"],
    }
    wall, cpu = task.values("epoch_seconds"), task.values("epoch_cpu_seconds")
    used = cpu if fact == "epoch_cpu_seconds" else wall
    right = [facts.get("right") for facts in task.samples]
    answer = "right" if all(v is not False for v in right) else "wrong"
    return {
        "name": task.name,
        "kind": settings["kind"],
        "backend": name,
        "grade": grades.get(task.name) if settings["kind"] in SHIPPED else answer,
        "import_seconds": quartiles(task.values("import_seconds")),
        "first_step_seconds": quartiles(task.values("first_step_seconds")),
        "epoch_seconds": quartiles(wall),
        "epoch_cpu_seconds": quartiles(cpu),
        "examples_per_second": num_train / float(np.median(used)) if used else None,
        "peak_rss_bytes": quartiles(task.values("peak_rss_bytes")),
        "ratios": {
            peer: ratio(task, other, fact) for peer, other in peers.items() if other is not task
        },
        "tuned_loop": tuned.name if tuned else None,
        "failed": task.missing,
    }


def ranked(row: Mapping[str, Any]) -> bool:
    """Whether a row's answer is right, so that its speed counts."""
    return not row["failed"] and row["grade"] in (*SOUND, "drift", "right")


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    settings = facts["settings"]
    text = measure.heading(facts, "Speed")
    text += (
        f"{settings['data']}: {settings['examples']:,} examples, batch {settings['batch_size']}, "
        f"{settings['max_epochs']} epochs (loader: {SLOW_EPOCHS}) of which the first is the "
        f"warm-up and counts as first step; {settings['runs']} fresh processes per row, in "
        "interleaved order; medians [quartiles] over processes of the median epoch of each. An "
        "epoch's clock stops when its losses have been read back. Ratios are of the same round. "
        "Rows whose answer is wrong are not ranked.\n\n"
    )
    fact = measure.epoch_fact(settings["device"])
    rows = sorted(facts["rows"], key=lambda row: (not ranked(row), _speed(row, fact)))
    text += measure.table(HEADER, map(_cells, rows))
    return text + "\n" + goals(facts)


def _speed(row: Mapping[str, Any], fact: str) -> float:
    spread = row[fact] or row["epoch_seconds"]
    return spread["median"] if spread else float("inf")


def _cells(row: Mapping[str, Any]) -> list[Any]:
    if row["failed"]:
        return [row["name"], f"failed: {row['failed'][:200]}", *[""] * 11]
    rate = row["examples_per_second"]
    memory = row["peak_rss_bytes"]
    ratios = [row["ratios"].get(peer) for peer in PEERS]
    return [
        row["name"],
        row["grade"] if ranked(row) else f"**{row['grade']}**, not ranked",
        *(measure.spread(row[name], 1, 2) for name in ("import_seconds", "first_step_seconds")),
        *(measure.spread(row[name], 1000, 1) for name in ("epoch_seconds", "epoch_cpu_seconds")),
        f"{rate:,.0f}" if ranked(row) and rate else None,
        f"{memory['median'] / 1e6:.0f}" if memory else None,
        *(None if value is None or not ranked(row) else f"{value:.2f}" for value in ratios),
    ]


def goals(facts: Mapping[str, Any]) -> str:
    """Each ratio beside its goal; where there is none, which loop it is of."""
    lines = []
    for row in facts["rows"]:
        if row["kind"] not in FITS or not ranked(row):
            continue
        for peer, goal in facts["goals"].items():
            value = row["ratios"].get(peer)
            if value is not None:
                met = "met" if value <= goal else "missed"
                lines.append([row["name"], peer, f"{value:.3f}", f"≤ {goal:.3f}", met])
        if (value := row["ratios"].get("tuned")) is not None:
            lines.append([row["name"], row["tuned_loop"], f"{value:.3f}", "", ""])
    if not lines:
        return ""
    text = (
        "## Goals\n\n`idiomatic`: the loop by hand that makes the same public calls. `tuned`: the "
        "one that ends these epochs soonest, compilation included, by means that no trainer of any "
        "classifier may use: another layout, private functions, a gradient derived by hand for "
        "this one model. It has no goal. Why a goal is missed: docs/benchmarks.md.\n\n"
    )
    return text + measure.table(["what", "÷", "measured", "goal", ""], lines)


def draw(figure: Any, facts: Mapping[str, Any]) -> None:
    """Milliseconds per epoch of every row that is ranked, with quartiles."""
    name = "epoch_cpu_seconds" if facts["load"]["clock"] == "cpu" else "epoch_seconds"
    rows = [row for row in facts["rows"] if ranked(row) and row[name]]
    rows.sort(key=lambda row: -row[name]["median"])
    axes = figure.subplots()
    middles = [1000 * row[name]["median"] for row in rows]
    low = [m - 1000 * row[name]["q1"] for m, row in zip(middles, rows, strict=True)]
    high = [1000 * row[name]["q3"] - m for m, row in zip(middles, rows, strict=True)]
    blue = (*FITS, *SHIPPED)
    colors = ["tab:blue" if row["kind"] in blue else "lightgrey" for row in rows]
    axes.barh([row["name"] for row in rows], middles, xerr=[low, high], color=colors)
    axes.set_xscale("log")
    axes.set_xlabel(f"ms per epoch ({facts['load']['clock']} seconds; blue: the suite's training)")
    axes.tick_params(axis="y", labelsize="small")
