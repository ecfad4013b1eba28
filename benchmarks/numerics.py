"""What the book asks its readers: is cross-entropy faster by indexing or with one-hot labels?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks import measure
from framework_parity.benchmarks.measure import Task, make_plan, quartiles

FORMS = ("indexed", "one-hot")
SHAPES = ((256, 10), (256, 1000), (10_000, 10))


MINUTES = 2.0
"""How long it may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    measure.add_runs(parser, 3)
    parser.add_argument(
        "--repeats",
        type=int,
        default=50,
        metavar="N",
        help="calls per process; default: %(default)s",
    )


def main(options: argparse.Namespace) -> int:
    """Measure and write; 1 if ``--compare`` found something slower."""
    usable = measure.environments(options.backends, options.pythons)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_plan("synthetic:100x4x3", folder)
        tasks = []
        for name, (_, environment) in usable.items():
            assert environment.python is not None
            settings = {"kind": "numerics", "backend": name, "plan": str(folder / "plan")}
            settings |= {"shapes": SHAPES, "repeats": options.repeats}
            tasks.append(Task(name, environment, settings))
        measure.run(tasks, options.runs, options.budget, options.threads, options.device)
    facts = summarize(tasks, options)
    return measure.finish(options, facts, write(facts), plot, (8, 4))


def summarize(tasks: list[Task], options: argparse.Namespace) -> dict[str, Any]:
    """Rows with the spread of both forms and their ratio."""
    rows, series = [], {}
    for task in tasks:
        for i, (examples, classes) in enumerate(SHAPES):
            found = [facts["shapes"][i] for facts in task.samples if "shapes" in facts]
            row = {"name": f"{task.name} {examples}×{classes}", "failed": task.missing}
            medians = {
                form: [float(np.median(facts[form]["seconds"])) for facts in found]
                for form in FORMS
            }
            ratios = [b / a for a, b in zip(*medians.values(), strict=True)]
            values = [[facts[form]["value"] for form in FORMS] for facts in found]
            row |= {form: quartiles(medians[form]) for form in FORMS}
            row["ratio"] = float(np.median(ratios)) if ratios else None
            row["difference"] = max((abs(a / b - 1) for a, b in values), default=None)
            rows.append(row)
            series |= {f"{row['name']} {form}": medians[form] for form in FORMS}
    settings = {"repeats": options.repeats, "shapes": [list(shape) for shape in SHAPES]}
    samples = [measure.plain(task) for task in tasks]
    return measure.document(
        "numerics", options, tasks, settings, rows=rows, series=series, samples=samples
    )


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    text = measure.heading(
        facts, "Numerics: cross-entropy by indexing and with one-hot labels", wall_only=True
    )
    text += (
        "The backend's own `cross_entropy` and `cross_entropy_one_hot` on probabilities, mean over "
        "examples, the result read back; microseconds, medians [quartiles] over processes. `Δ`: "
        "relative difference of the two results.\n\n"
    )
    lines = []
    for row in facts["rows"]:
        if row["failed"] or row["ratio"] is None:
            lines.append([row["name"], f"failed: {row['failed']}", "", "", ""])
            continue
        micro = [measure.spread(row[form], 1e6, 0) for form in FORMS]
        lines.append([row["name"], *micro, f"{row['ratio']:.2f}", f"{row['difference']:.1e}"])
    header = ["backend, examples × classes", "indexed µs", "one-hot µs", "one-hot ÷ indexed", "Δ"]
    return text + measure.table(header, lines)


def plot(figure: Any, facts: Mapping[str, Any]) -> None:
    """How many times as long one-hot labels take."""
    rows = [row for row in facts["rows"] if row["ratio"] is not None]
    axes = figure.subplots()
    axes.barh([row["name"] for row in rows], [row["ratio"] for row in rows])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("seconds with one-hot labels ÷ seconds by indexing")
    axes.tick_params(axis="y", labelsize="small")
