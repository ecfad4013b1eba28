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

from benchmarks import measure
from benchmarks.measure import Task, make_plan, quartiles, ratio, say
from common.environment import Backend, Environment
from common.plan import Plan
from common.replay import Training, epoch_means

GOALS = {"raw": 1.10, "keras": 1 / 2, "loader": 1 / 15, "limit": 1.3}
"""At most so many times the seconds of each peer."""
COMPILED = ("jax", "tensorflow")
"""The backends that are to come near the machine's limit: theirs is the loop, not Python's."""
HEADER = (
    *("what", "grade", "import s", "first step s", "epoch ms", "processor ms", "examples/s"),
    *("peak MB", "÷ raw", "÷ Keras", "÷ loader", "÷ limit"),
)
RIGHT = 1e-3
"""How far a peer's last training loss may be from the reference's, as a part of it."""
KERAS_RIGHT = 0.05
"""The same for Keras, which draws an order of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    parser.add_argument("--runs", type=int, default=5, help="processes per row; %(default)s")
    parser.add_argument("--no-keras", action="store_true", help="leave Keras 3 out")
    parser.add_argument("--no-loader", action="store_true", help="leave the data loader out")
    parser.add_argument("--report", type=Path, help="a comparison's folder that has the grades")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="say what got slower")


def main(options: argparse.Namespace) -> int:
    """Measure, judge, write; 1 if ``--compare`` found something slower."""
    usable = measure.environments(options.backends, options.pythons)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = {"batch_size": options.batch_size, "max_epochs": options.max_epochs}
        plan = make_plan(options.data, folder, **recipe)
        tasks = make_tasks(usable, folder, options)
        measure.run(tasks.values(), options.runs, options.threads)
        grades = find_grades(options, usable)
        judge_peers(plan, tasks.values())
    facts = summarize(plan, tasks, grades, options)
    text = write(facts)
    measure.save(options.out, facts, text)
    measure.draw(options.out / "speed.png", lambda figure: draw(figure, facts), figsize=(9, 5))
    print(text)
    if options.compare is None:
        return 0
    slower = measure.compare_old(options.compare, facts)
    print("\n".join(slower) or f"nothing is slower than in {options.compare}, beyond the noise")
    return int(bool(slower))


def make_tasks(
    usable: Mapping[str, tuple[Backend, Environment]], folder: Path, options: argparse.Namespace
) -> dict[str, Task]:
    """What is measured, by name: ``BACKEND KIND`` or ``BACKEND IMPLEMENTATION``."""
    plan = {"plan": str(folder / "plan")}
    limit = {"kind": "limit", "backend": "", **plan}
    tasks = {"limit": Task("limit", Path(sys.executable), limit)}
    for name, (backend, environment) in usable.items():
        shared = {"backend": name, **plan}
        assert environment.python is not None

        def add(row: str, python: Path = environment.python, **settings: Any) -> None:
            tasks[row] = Task(row, python, settings)

        for implementation in backend.implementations:
            add(f"{name} {implementation}", kind="fit", implementation=implementation, **shared)
        for loop in loops(name):
            if loop != "loader" or not options.no_loader:
                add(f"{name} {loop}", kind="loop", loop=loop, **shared)
        supported = backend.is_framework and not options.no_keras and keras_has(name)
        if supported and (peers := measure.peers_folder(environment.python)) is not None:
            add(f"{name} keras", kind="keras", peers=peers, **shared)
    return tasks


def keras_has(name: str) -> bool:
    """Whether Keras 3 runs on this backend."""
    return name in ("jax", "tensorflow", "torch")


def loops(backend: str) -> list[str]:
    """The names in a backend's ``LOOPS``, read without importing its framework."""
    path = Path(__file__).parent.parent / "backends" / backend / "raw_loop.py"
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
        from compare import compare

        say("grades: a comparison on the same recipe")
        with tempfile.TemporaryDirectory() as folder:
            runs = compare(
                list(usable),
                data=options.data,
                batch_size=options.batch_size,
                max_epochs=options.max_epochs,
                pythons={name: str(env.python) for name, (_, env) in usable.items()},
                out=folder,
            ).facts["runs"]
    return {
        f"{run['backend']} {run['implementation']}": run["grade"] or run["status"] for run in runs
    }


def judge_peers(plan: Plan, tasks: Sequence[Task] | Any) -> None:
    """Mark each run as right or wrong by its last epoch's loss in the float64 reference."""
    oracle = Training(plan, plan.data()).run()
    expected = float(epoch_means(oracle.step_loss, plan)[-1])
    for task in tasks:
        allowed = KERAS_RIGHT if task.settings["kind"] == "keras" else RIGHT
        for facts in task.samples:
            if "loss" in facts:
                facts["right"] = bool(abs(facts["loss"] / expected - 1) <= allowed)


def summarize(
    plan: Plan, tasks: Mapping[str, Task], grades: Mapping[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Rows, ratios and goals, with every sample behind them."""
    load = measure.load(tasks.values())
    fact = "epoch_cpu_seconds" if load["clock"] == "cpu" else "epoch_seconds"
    num_train = int(plan.order.shape[1])
    rows = [row(task, tasks, grades, fact, num_train) for task in tasks.values()]
    limit = tasks["limit"].values(fact)
    series = {
        name: [a / b for a, b in zip(task.values(fact), limit, strict=False)]
        for name, task in tasks.items()
        if name != "limit"
    }
    settings = {
        "data": plan.recipe.data,
        "examples": num_train,
        "batch_size": options.batch_size,
        "max_epochs": options.max_epochs,
        "threads": options.threads,
        "runs": options.runs,
    }
    samples = [measure.plain(task) for task in tasks.values()]
    return measure.document(
        "speed", settings, load=load, rows=rows, series=series, goals=GOALS, samples=samples
    )


def row(
    task: Task, tasks: Mapping[str, Task], grades: Mapping[str, str], fact: str, num_train: int
) -> dict[str, Any]:
    """One row of the table."""
    settings = task.settings
    name, implementation = settings["backend"], settings.get("implementation")
    peers = {
        "raw": tasks.get(f"{name} raw {implementation}"),
        "keras": tasks.get(f"{name} keras"),
        "loader": tasks.get(f"{name} loader"),
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
        "grade": grades.get(task.name) if settings["kind"] == "fit" else answer,
        "import_seconds": quartiles(task.values("import_seconds")),
        "first_step_seconds": quartiles(task.values("first_step_seconds")),
        "epoch_seconds": quartiles(wall),
        "epoch_cpu_seconds": quartiles(cpu),
        "examples_per_second": num_train / float(np.median(used)) if used else None,
        "peak_rss_bytes": quartiles(task.values("peak_rss_bytes")),
        "ratios": {
            peer: ratio(task, other, fact) for peer, other in peers.items() if other is not task
        },
        "failed": task.failure,
    }


def ranked(row: Mapping[str, Any]) -> bool:
    """Whether a row's answer is right, so that its speed counts."""
    return not row["failed"] and row["grade"] in ("exact", "rounding", "drift", "right")


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    settings = facts["settings"]
    text = measure.heading(facts, "Speed")
    text += (
        f"{settings['data']}: {settings['examples']:,} examples, batch {settings['batch_size']}, "
        f"{settings['max_epochs']} epochs of which the first is the warm-up; {settings['runs']} "
        "fresh processes per row, in interleaved order; medians [quartiles]. Rows whose answer is "
        "wrong are not ranked.\n\n"
    )
    rows = sorted(facts["rows"], key=lambda row: (not ranked(row), *_speed(row)))
    text += measure.table(HEADER, map(_cells, rows))
    return text + "\n" + goals(facts)


def _speed(row: Mapping[str, Any]) -> tuple[float]:
    spread = row["epoch_cpu_seconds"]
    return (spread["median"] if spread else float("inf"),)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    if row["failed"]:
        return [row["name"], f"failed: {row['failed'][:200]}", *[""] * 10]
    rate = row["examples_per_second"]
    memory = row["peak_rss_bytes"]
    ratios = [row["ratios"].get(peer) for peer in GOALS]
    return [
        row["name"],
        row["grade"] if ranked(row) else f"**{row['grade']}**, not ranked",
        *(_spread(row[name], 1, 2) for name in ("import_seconds", "first_step_seconds")),
        *(_spread(row[name], 1000, 1) for name in ("epoch_seconds", "epoch_cpu_seconds")),
        f"{rate:,.0f}" if ranked(row) and rate else None,
        f"{memory['median'] / 1e6:.0f}" if memory else None,
        *(None if value is None or not ranked(row) else f"{value:.2f}" for value in ratios),
    ]


def _spread(values: Mapping[str, Any] | None, scale: float, digits: int) -> str | None:
    if values is None:
        return None
    low, middle, high = (scale * values[name] for name in ("q1", "median", "q3"))
    return f"{middle:.{digits}f} [{low:.{digits}f}–{high:.{digits}f}]"


def goals(facts: Mapping[str, Any]) -> str:
    """Each ratio beside its goal."""
    lines = []
    for row in facts["rows"]:
        if row["kind"] != "fit" or not ranked(row):
            continue
        for peer, goal in facts["goals"].items():
            value = row["ratios"].get(peer)
            if value is not None and (peer != "limit" or row["backend"] in COMPILED):
                met = "met" if value <= goal else "missed"
                lines.append([row["name"], peer, f"{value:.3f}", f"≤ {goal:.3f}", met])
    if not lines:
        return ""
    return "## Goals\n\n" + measure.table(["what", "÷", "measured", "goal", ""], lines)


def draw(figure: Any, facts: Mapping[str, Any]) -> None:
    """Milliseconds per epoch of every row that is ranked, with quartiles."""
    name = "epoch_cpu_seconds" if facts["load"]["clock"] == "cpu" else "epoch_seconds"
    rows = [row for row in facts["rows"] if ranked(row) and row[name]]
    rows.sort(key=lambda row: -row[name]["median"])
    axes = figure.subplots()
    middles = [1000 * row[name]["median"] for row in rows]
    low = [m - 1000 * row[name]["q1"] for m, row in zip(middles, rows, strict=True)]
    high = [1000 * row[name]["q3"] - m for m, row in zip(middles, rows, strict=True)]
    colors = ["tab:blue" if row["kind"] == "fit" else "lightgrey" for row in rows]
    axes.barh([row["name"] for row in rows], middles, xerr=[low, high], color=colors)
    axes.set_xscale("log")
    axes.set_xlabel(f"ms per epoch ({facts['load']['clock']} seconds; blue: Trainer.fit)")
    axes.tick_params(axis="y", labelsize="small")
