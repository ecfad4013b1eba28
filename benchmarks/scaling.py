"""How cost and memory grow with examples, features, classes, batch size, threads and epochs."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks import measure
from framework_parity.benchmarks.measure import Task, say
from framework_parity.common.core.device import DEVICES
from framework_parity.common.data.data_module import ARRAYS, DataModule
from framework_parity.common.environments.backend import Environment
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

BASE = {"examples": 20_000, "features": 128, "classes": 10, "batch": 256, "threads": 1, "epochs": 3}
AXES: dict[str, tuple[int, ...]] = {
    "examples": (10_000, 100_000, 1_000_000, 10_000_000),
    "features": (16, 128, 1024, 4096),
    "classes": (10, 100, 1000, 10_000, 50_000),
    "batch": (1, 16, 256, 4096, 60_000),
    "threads": (1, 2),
    "epochs": (3, 10, 30),
}
AT: dict[str, dict[str, int]] = {
    "examples": {"features": 8, "epochs": 2},
    "classes": {"examples": 2_000, "features": 16, "epochs": 2},
    "batch": {"examples": 60_000, "features": 16, "epochs": 2},
}
"""What differs from :data:`BASE` while an axis grows, so that its far end fits."""
SHRINKING = ("batch", "threads")
"""Axes along which less is to be done; there is no straight line to leave."""
STRAIGHT = 0.25
"""How far from the straight line through the other points a point may lie."""
LARGE = (10_000_000, 784)
PIECE = 100_000


MINUTES = 15.0
"""How long it may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This benchmark's own options."""
    measure.add_runs(parser, 1, of="point")
    parser.add_argument(
        "--axes",
        nargs="+",
        choices=AXES,
        default=list(AXES),
        metavar="AXIS",
        help=f"what grows, of {', '.join(AXES)}; default: all",
    )
    parser.add_argument("--most", type=int, metavar="N", help="leave out sizes beyond this")
    parser.add_argument(
        "--large",
        nargs="?",
        const=f"{LARGE[0]}x{LARGE[1]}",
        metavar="ROWSxFEATURES",
        help="instead: one epoch on data larger than memory; default: %(const)s",
    )


def main(options: argparse.Namespace) -> int:
    """Measure and write."""
    usable = measure.environments(options.backends, options.pythons)
    pythons = {name: environment.python for name, (_, environment) in usable.items()}
    if options.large:
        from framework_parity.benchmarks.large import large

        return large(options, pythons)
    points, tasks = [], []
    for axis in options.axes:
        for value in AXES[axis]:
            if options.most is None or value <= options.most:
                measured = measure_point(axis, value, pythons, options)
                device = options.device
                points += [point(task, axis, value, size, device) for task, size in measured]
                tasks += [task for task, _ in measured]
    facts = summarize(points, tasks, options)
    return measure.finish(options, facts, write(facts), plot, (11, 7))


# Points


def make_data(folder: Path, examples: int, features: int, classes: int) -> Path:
    """Random pixels and labels, written piece by piece: a data set that no memory need hold."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, n in (("train", examples), ("val", min(1000, examples))):
        X = np.lib.format.open_memmap(
            folder / f"X_{split}.npy", mode="w+", dtype=np.uint8, shape=(n, features)
        )
        for start in range(0, n, PIECE):
            rows = min(PIECE, n - start)
            X[start : start + rows] = random.integers(0, 256, (rows, features), np.uint8)
        X.flush()
        y = random.integers(0, classes, n).astype(np.int32)
        y[0] = 0 if split == "val" else classes - 1
        np.save(folder / f"y_{split}.npy", y)
    facts = {"name": f"random:{examples}x{features}x{classes}", "divisor": 255.0}
    facts |= {"num_outputs": classes, "sha256": "not computed", "source": "generated"}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    assert all((folder / f"{name}.npy").exists() for name in ARRAYS)
    return folder


def make_plan(folder: Path, data: DataModule, data_folder: Path, batch: int, epochs: int) -> None:
    """A plan on that data; its digest is of the shapes only, since nobody else has the data."""
    recipe = Recipe(data.name, batch_size=batch, max_epochs=epochs, lr=0.01)
    data.sha256 = lambda: data.name  # type: ignore[method-assign]
    Plan.make(recipe, data, data_folder).save(folder / "plan")


def measure_point(
    axis: str, value: int, pythons: Mapping[str, Path | None], options: argparse.Namespace
) -> list[tuple[Task, dict[str, int]]]:
    """One size of one axis in every backend: what ran, and its size."""
    size = BASE | AT.get(axis, {}) | {axis: value}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tasks = [fit_task(name, python, folder) for name, python in pythons.items()]
        if options.budget.seconds > 0:
            say(f"{axis} = {value:,}")
            shape = size["examples"], size["features"], size["classes"]
            data_folder = make_data(folder / "data", *shape)
            data = DataModule.open(data_folder, size["batch"])
            make_plan(folder, data, data_folder, size["batch"], size["epochs"])
        for task in tasks:
            task.labels |= {"axis": axis, "value": value}
        measure.run(tasks, options.runs, options.budget, size["threads"], options.device)
    return [(task, size) for task in tasks]


def fit_task(name: str, python: Path | None, folder: Path) -> Task:
    """A fit of a backend's concise implementation."""
    assert python is not None
    settings = {"kind": "fit", "backend": name, "implementation": "concise"}
    return Task(name, Environment(name, python), settings | {"plan": str(folder / "plan")})


def point(
    task: Task, axis: str, value: int, size: Mapping[str, int], device: str
) -> dict[str, Any]:
    """What one size cost in one backend."""
    good = [facts for facts in task.samples if "failed" not in facts]
    residents = [facts["resident_bytes"] for facts in good if facts["resident_bytes"]]
    epochs = [sum(facts["epoch_cpu_seconds"]) for facts in good]
    spread = [sum(facts[measure.epoch_fact(device)]) for facts in good]
    walls = [sum(facts["epoch_seconds"]) for facts in good]
    later = 1 if axis != "epochs" else 0
    count = 1 if not later else max(1, size["epochs"] - 1)
    grown = [facts["peak_rss_bytes"] - facts["import_rss_bytes"] for facts in good]
    return {
        "backend": task.name,
        "axis": axis,
        "value": value,
        "size": dict(size),
        "cpu_seconds": float(np.median(epochs)) / count if good else None,
        "wall_seconds": float(np.median(walls)) / count if good else None,
        "spread": measure.quartiles([seconds / count for seconds in spread]),
        "grown_bytes": float(np.median(grown)) if good else None,
        "resident_bytes": residents[0] if residents else None,
        "other_cpus": float(np.median([f.get("other_cpus", 0) for f in good])) if good else None,
        "failed": task.missing,
    }


# Judging


def exponent(values: Sequence[float], costs: Sequence[float]) -> float | None:
    """The p of cost = c × valueᵖ, by least squares of the logarithms; None below two points."""
    if len(values) < 2:
        return None
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def bends(values: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Where cost leaves the straight line a + b × value, a and b fitted by relative error."""
    if len(values) < 3:
        return []
    x, t = np.array(values, float), np.array(costs, float)
    lines = np.stack([1 / t, x / t], axis=1)
    line, *_ = np.linalg.lstsq(lines, np.ones_like(t), rcond=None)
    off = np.abs(lines @ line - 1)
    return [float(value) for value, far in zip(values, off, strict=True) if far > STRAIGHT]


def cost(axis: str, device: str) -> str:
    """The fact of a point that is judged along an axis."""
    return "wall_seconds" if axis == "threads" or device != DEVICES[0] else "cpu_seconds"


def fit_all(points: Sequence[Mapping[str, Any]], device: str) -> list[dict[str, Any]]:
    """Exponents of time and memory, and bends, for every axis and backend."""
    fits = []
    for axis in dict.fromkeys(p["axis"] for p in points):
        for backend in dict.fromkeys(p["backend"] for p in points):
            own = [p for p in points if (p["axis"], p["backend"]) == (axis, backend)]
            good = [p for p in own if not p["failed"]]
            values = [_amount(p) for p in good]
            costs = [p[cost(axis, device)] for p in good]
            memory = [max(1.0, p["grown_bytes"]) for p in good]
            fit = {
                "axis": axis,
                "backend": backend,
                "exponent": exponent(values, costs),
                "memory_exponent": exponent(values, memory),
                "bends": [] if axis in SHRINKING else bends(values, costs),
                "failed": {str(p["value"]): p["failed"] for p in own if p["failed"]},
            }
            fits.append(fit)
    return fits


def _amount(point: Mapping[str, Any]) -> int:
    """How much was measured: the first epoch is the warm-up, so one less of those than trained."""
    value: int = point["value"]
    return value - 1 if point["axis"] == "epochs" else value


def summarize(
    points: list[dict[str, Any]], tasks: list[Task], options: argparse.Namespace
) -> dict[str, Any]:
    """All points, with what was fitted to them."""
    fits = fit_all(points, options.device)
    settings = {"base": BASE, "at": AT}
    series = {
        f"{task.name} {task.labels['axis']}={task.labels['value']}": task.values(
            measure.epoch_fact(options.device)
        )
        for task in tasks
    }
    return measure.document(
        "scaling", options, tasks, settings, points=points, fits=fits, series=series
    )


def write(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    text, device = measure.heading(facts, "Scaling"), facts["settings"]["device"]
    text += "Processor" if device == DEVICES[0] else "Wall"
    text += (
        " seconds per epoch after the first of the concise implementation (axis `epochs`: "
        "of all epochs after the first, and fitted to their number; axis `threads`: wall seconds), "
        "and resident memory over what the import takes. `time ~`, `memory ~`: exponents fitted to "
        f"all points. `bends`: points over {STRAIGHT:.0%} off the straight line a + b × size.\n\n"
    )
    for axis in dict.fromkeys(point["axis"] for point in facts["points"]):
        own = [point for point in facts["points"] if point["axis"] == axis]
        values = list(dict.fromkeys(point["value"] for point in own))
        at = {name: size for name, size in own[0]["size"].items() if name != axis}
        text += f"## {axis}\n\n{', '.join(f'{name} {size:,}' for name, size in at.items())}\n\n"
        lines = []
        for fit in (fit for fit in facts["fits"] if fit["axis"] == axis):
            cells = [p for p in own if p["backend"] == fit["backend"]]
            bent = ", ".join(f"{value:,.0f}" for value in fit["bends"])
            ends = [_power(fit[name]) for name in ("exponent", "memory_exponent")]
            shown = [_cell(point, device) for point in cells]
            lines.append([fit["backend"], *shown, *ends, bent])
        header = ["backend", *(f"{value:,}" for value in values), "time ~", "memory ~", "bends"]
        text += measure.table(header, lines) + "\n"
    return text


def _power(value: float | None) -> str | None:
    return None if value is None else f"n^{value:.2f}"


def _cell(point: Mapping[str, Any], device: str) -> str:
    if point["failed"]:
        return f"failed: {point['failed'][:80]}"
    seconds = point[cost(point["axis"], device)]
    return f"{1000 * seconds:,.1f} ms, {point['grown_bytes'] / 1e6:,.0f} MB"


def plot(figure: Any, facts: Mapping[str, Any]) -> None:
    """One logarithmic panel per axis, one line per backend."""
    axes = list(dict.fromkeys(point["axis"] for point in facts["points"]))
    panels = figure.subplots(2, -(-len(axes) // 2), squeeze=False).flat
    for panel, axis in zip(panels, axes, strict=False):
        for fit in (fit for fit in facts["fits"] if fit["axis"] == axis):
            own = [
                p
                for p in facts["points"]
                if (p["axis"], p["backend"]) == (axis, fit["backend"]) and not p["failed"]
            ]
            key = cost(axis, facts["settings"]["device"])
            label = f"{fit['backend']} {_power(fit['exponent'])}"
            panel.loglog([_amount(p) for p in own], [p[key] for p in own], "o-", label=label)
        values = list(dict.fromkeys(_amount(p) for p in facts["points"] if p["axis"] == axis))
        panel.set_xticks(values, [f"{value:,}" for value in values], fontsize="small")
        panel.minorticks_off()
        panel.set_xlabel(f"{axis} after the first" if axis == "epochs" else axis)
        panel.set_ylabel("seconds")
        panel.legend(fontsize="x-small")
