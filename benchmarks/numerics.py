"""What the book asks its readers: is cross-entropy faster by indexing or with one-hot labels?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Task, make_plan, quartiles

FORMS = ("indexed", "one-hot")
SHAPES = ((256, 10), (256, 1000), (10_000, 10))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    parser.add_argument("--runs", type=int, default=3, help="processes per row; %(default)s")
    parser.add_argument("--repeats", type=int, default=50, help="calls per process; %(default)s")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="say what got slower")


def main(options: argparse.Namespace) -> int:
    """Measure and write; 1 if ``--compare`` found something slower."""
    usable = measure.environments(options.backends, options.pythons)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_plan("synthetic:100x4x3", folder)
        tasks = []
        for name, (_, environment) in usable.items():
            assert environment.python is not None
            for rows, classes in SHAPES:
                settings = {"kind": "numerics", "backend": name, "plan": str(folder / "plan")}
                settings |= {"rows": rows, "classes": classes, "repeats": options.repeats}
                tasks.append(Task(f"{name} {rows}×{classes}", environment.python, settings))
        measure.run(tasks, options.runs, options.threads)
    facts = summarize(tasks, options)
    text = write(facts)
    measure.save(options.out, facts, text)
    draw = lambda figure: plot(figure, facts)  # noqa: E731
    measure.draw(options.out / "numerics.png", draw, figsize=(8, 4))
    print(text)
    if options.compare is None:
        return 0
    slower = measure.compare_old(options.compare, facts)
    print("\n".join(slower) or f"nothing is slower than in {options.compare}, beyond the noise")
    return int(bool(slower))


def summarize(tasks: list[Task], options: argparse.Namespace) -> dict[str, Any]:
    """Rows with the spread of both forms and their ratio."""
    rows, series = [], {}
    for task in tasks:
        good = [facts for facts in task.samples if "seconds" in facts]
        medians = {
            form: [float(measure.np.median(facts["seconds"][form])) for facts in good]
            for form in FORMS
        }
        spreads = {form: quartiles(medians[form]) for form in FORMS}
        ratios = [b / a for a, b in zip(*medians.values(), strict=True)]
        values = [[facts[f"{form}_value"] for form in FORMS] for facts in good]
        row = {
            "name": task.name,
            **spreads,
            "ratio": float(measure.np.median(ratios)) if ratios else None,
            "difference": max((abs(a / b - 1) for a, b in values), default=None),
            "failed": task.failure,
        }
        rows.append(row)
        series |= {f"{task.name} {form}": medians[form] for form in FORMS}
    settings = {"runs": options.runs, "repeats": options.repeats, "threads": options.threads}
    load = measure.load(tasks)
    return measure.document("numerics", settings, load=load, rows=rows, series=series)


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    text = measure.heading(facts, "Numerics: cross-entropy by indexing and with one-hot labels")
    text += (
        "The backend's own `cross_entropy` and `cross_entropy_one_hot` on probabilities, mean over "
        "examples, the result read back; microseconds, medians over processes. `Δ`: relative "
        "difference of the two results.\n\n"
    )
    lines = []
    for row in facts["rows"]:
        if row["failed"] or row["ratio"] is None:
            lines.append([row["name"], f"failed: {row['failed']}", "", "", ""])
            continue
        micro = [f"{1e6 * row[form]['median']:.0f}" for form in FORMS]
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
