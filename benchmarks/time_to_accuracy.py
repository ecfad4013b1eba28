"""Seconds until a validation accuracy is reached, import and compilation included."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework_parity.benchmarks import measure
from framework_parity.benchmarks.measure import Task, make_plan, quartiles

MINUTES = 4.0
"""How long it may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    measure.add_runs(parser, 3)
    parser.add_argument(
        "--accuracies",
        type=float,
        nargs="+",
        default=[0.80, 0.82, 0.83],
        metavar="A",
        help="validation accuracies; default: %(default)s",
    )


def main(options: argparse.Namespace) -> int:
    """Measure and write; 1 if ``--compare`` found something slower."""
    usable = measure.environments(options.backends, options.pythons)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = {"batch_size": options.batch_size, "max_epochs": options.max_epochs}
        plan = make_plan(options.data, folder, **recipe)
        tasks = []
        for name, (backend, environment) in usable.items():
            assert environment.python is not None
            for implementation in backend.implementations:
                settings = {"kind": "fit", "backend": name, "implementation": implementation}
                settings |= {"plan": str(folder / "plan"), "accuracies": options.accuracies}
                tasks.append(Task(f"{name} {implementation}", environment, settings))
        measure.run(tasks, options.runs, options.budget, options.threads, options.device)
    facts = summarize(plan.recipe.data, tasks, options)
    return measure.finish(options, facts, write(facts), plot, (8, 4))


def summarize(data: str, tasks: list[Task], options: argparse.Namespace) -> dict[str, Any]:
    """For every row and accuracy the spread of the seconds, and the epoch."""
    rows = []
    for task in tasks:
        reached = {}
        for accuracy in map(str, options.accuracies):
            found = [s["reached_seconds"].get(accuracy) for s in task.samples if "failed" not in s]
            times = [value[0] for value in found if value]
            epoch = next((value[1] for value in found if value), None)
            reached[accuracy] = {"epoch": epoch, "seconds": quartiles(times)}
        best = [max(s["val_accuracy"]) for s in task.samples if s.get("val_accuracy")]
        imports = quartiles(task.values("import_seconds"))
        rows.append(
            {
                "name": task.name,
                "reached": reached,
                "import_seconds": imports,
                "best": max(best, default=None),
                "failed": task.missing,
            }
        )
    settings = {
        "data": data,
        "batch_size": options.batch_size,
        "max_epochs": options.max_epochs,
    }
    series = {
        f"{task.name} to {accuracy}": [
            s["reached_seconds"][accuracy][0]
            for s in task.samples
            if "failed" not in s and accuracy in s["reached_seconds"]
        ]
        for task in tasks
        for accuracy in map(str, options.accuracies)
    }
    samples = [measure.plain(task) for task in tasks]
    return measure.document(
        "time_to_accuracy", options, tasks, settings, rows=rows, series=series, samples=samples
    )


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    settings = facts["settings"]
    text = measure.heading(facts, "Time to accuracy", wall_only=True)
    text += (
        f"{settings['data']}, batch {settings['batch_size']}, at most {settings['max_epochs']} "
        "epochs; wall seconds from the start of the framework's import to the end of the first "
        "epoch whose validation accuracy is at least that; median [quartiles] (epoch).\n\n"
    )
    accuracies = list(facts["rows"][0]["reached"]) if facts["rows"] else []
    lines = [[row["name"], *_cells(row)] for row in facts["rows"]]
    return text + measure.table(["what", "import s", *accuracies, "best accuracy"], lines)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    if row["failed"]:
        return [f"failed: {row['failed'][:200]}", *[""] * (1 + len(row["reached"]))]
    cells = [f"{row['import_seconds']['median']:.1f}"]
    for found in row["reached"].values():
        shown = measure.spread(found["seconds"], 1, 1)
        cells.append(f"{shown} ({found['epoch']})" if shown else "not reached")
    return [*cells, f"{row['best']:.4f}"]


def plot(figure: Any, facts: Mapping[str, Any]) -> None:
    """Bars of seconds, one group per row."""
    axes = figure.subplots()
    accuracies = list(facts["rows"][0]["reached"]) if facts["rows"] else []
    height = 0.8 / max(1, len(accuracies))
    for i, accuracy in enumerate(accuracies):
        spreads = [row["reached"][accuracy]["seconds"] for row in facts["rows"]]
        seconds = [spread["median"] if spread else 0 for spread in spreads]
        places = [place + i * height for place in range(len(seconds))]
        axes.barh(places, seconds, height, label=accuracy)
    axes.set_yticks(range(len(facts["rows"])), [row["name"] for row in facts["rows"]])
    axes.set_xlabel("seconds, import and compilation included")
    if accuracies:
        axes.legend(title="validation accuracy")
