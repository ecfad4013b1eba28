"""One epoch on data that no memory need hold: ``python -m benchmarks scaling --large``."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework_parity.benchmarks import measure, scaling
from framework_parity.benchmarks.measure import say
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule

LARGE_BYTES = 2 * 2**30
"""The goal: resident memory over what the import takes."""


def large(options: argparse.Namespace, pythons: Mapping[str, Path | None]) -> int:
    """One epoch of every backend on data that is read while the training goes on."""
    try:
        rows, features = map(int, options.large.split("x"))
    except ValueError:
        rows = features = 0
    if min(rows, features) < 1:
        raise ParityError("large", "ROWSxFEATURES", options.large, "give for example 1000x784")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if shutil.disk_usage(folder).free < rows * features * 1.1:
            raise ParityError(
                "large",
                f"{rows * features / 1e9:.1f} GB of free disk",
                f"less in {folder}",
                "set TMPDIR to another folder",
            )
        say(f"writing {rows:,} × {features} uint8")
        data_folder = scaling.make_data(folder / "data", rows, features, 10)
        data = DataModule.open(data_folder, options.batch_size)
        scaling.make_plan(folder, data, data_folder, options.batch_size, 1)
        tasks = [scaling.fit_task(name, python, folder) for name, python in pythons.items()]
        for task in tasks:
            task.settings["chunked"] = True
        measure.run(tasks, 1, options.budget, options.threads, options.device)
    points = [
        scaling.point(task, "examples", rows, {"epochs": 1, "features": features}, options.device)
        for task in tasks
    ]
    settings = {"rows": rows, "features": features, "batch_size": options.batch_size}
    series = {task.name: task.values(measure.epoch_fact(options.device)) for task in tasks}
    facts = measure.document(
        "scaling_large", options, tasks, settings, points=points, series=series
    )
    return measure.finish(options, facts, write_large(facts), plot_large, (8, 3))


def write_large(facts: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    settings = facts["settings"]
    size = settings["rows"] * settings["features"] / 1e9
    text = measure.heading(facts, "Data larger than memory")
    text += (
        f"{settings['rows']:,} × {settings['features']} uint8 ({size:.1f} GB on disk; scaled, "
        f"{4 * size:.1f} GB), one epoch in random order, read chunk by chunk by a thread that is "
        f"one ahead. Goal: at most {LARGE_BYTES / 2**30:.0f} GiB of resident memory over what the "
        "import takes; that is the kernel's peak (`VmHWM`), pages of the mapped file included, "
        "less the peak at the end of the import. `anonymous` and `file` are the largest of each "
        "kind that a thread saw, 50 times a second: memory asked for, and pages of mapped files "
        "(libraries and data), which the kernel can take back at any time.\n\n"
    )
    lines = []
    for found in facts["points"]:
        if found["failed"]:
            lines.append([found["backend"], f"failed: {found['failed'][:200]}", *[""] * 5])
            continue
        kinds = found["resident_bytes"] or {}
        parts = [
            f"{kinds[kind] / 2**30:.2f}" if kind in kinds else None
            for kind in ("anonymous", "file")
        ]
        met = "met" if found["grown_bytes"] <= LARGE_BYTES else "missed"
        seconds = [f"{found[name]:.1f}" for name in ("wall_seconds", "cpu_seconds")]
        grown = f"{found['grown_bytes'] / 2**30:.2f}"
        goal = f"≤ {LARGE_BYTES / 2**30:.2f}: {met}"
        lines.append([found["backend"], *seconds, grown, goal, *parts])
    header = [
        *("backend", "epoch s (wall)", "epoch s (processor)", "GiB over import", "goal"),
        *("anonymous GiB", "file GiB"),
    ]
    return text + measure.table(header, lines)


def plot_large(figure: Any, facts: Mapping[str, Any]) -> None:
    """Memory over what the import takes, beside the goal."""
    points = [found for found in facts["points"] if not found["failed"]]
    axes = figure.subplots()
    axes.barh([p["backend"] for p in points], [p["grown_bytes"] / 2**30 for p in points])
    axes.axvline(LARGE_BYTES / 2**30, color="black", linewidth=1)
    axes.set_xlabel("GiB of resident memory over what the import takes; line: goal")
