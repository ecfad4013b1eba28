"""What the benchmarks share: fresh processes in interleaved order, statistics, output.

Not built on pyperf: its runner times one callable, in workers of the interpreter and the script
that started it. Here a sample has phases (import, compilation, epochs), runs in a foreign
interpreter without pyperf, and takes its turn with other programs. Quartiles come from NumPy, the
test behind ``--compare`` from SciPy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks import against
from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import Backend, Environment
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.request import Request

BUSY = 0.15
"""Processors that other programs may use before a measurement calls its machine busy."""
PROCESS_SECONDS = 900.0
"""After so long a process is ended."""


@dataclass
class Task:
    """Something to measure, in a fresh process each time.

    Args:
        name: how its row is called.
        environment: the interpreter.
        settings: ``kind``, a function of :mod:`benchmarks.kinds`, and its arguments.
        samples: the facts of each run, or ``{"failed": reason}``.
        labels: what else is to be known of it.
    """

    name: str
    environment: Environment
    settings: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)

    def request(self, folder: Path) -> Request:
        """What is measured once; what it leaves, it leaves in the folder."""
        fields = {name: value for name, value in self.settings.items() if name != "kind"}
        kind = f"benchmarks.kinds:{self.settings['kind']}"
        return Request(kind, folder / "sample", folder / "sample.log", fields)

    def read(self, folder: Path) -> dict[str, Any]:
        """The facts that the process left there.

        Raises:
            RecordError: if there are none, or broken ones.
        """
        record = Record.read(folder / "sample")
        return {**record.facts, "parameters": dict(record.arrays)}

    def values(self, fact: str) -> list[float]:
        """One value per run: the median, where a run has several."""
        good = [sample for sample in self.samples if sample.get(fact) not in (None, [])]
        return [float(np.median(sample[fact])) for sample in good]

    @property
    def failure(self) -> str | None:
        """Why the last run that failed did; None if none failed."""
        return next((s["failed"] for s in reversed(self.samples) if "failed" in s), None)

    @property
    def missing(self) -> str | None:
        """Why there is nothing to show: a failure, or no run at all; None if there is."""
        return self.failure or (None if self.samples else "not measured: the time was up")


def make_plan(data: str | None, folder: Path, **recipe: Any) -> Plan:
    """A plan in ``folder / "plan"``."""
    batch_size = recipe.get("batch_size", Recipe.batch_size)
    data_folder, examples, _ = open_data(data, batch_size)
    plan = Plan.make(Recipe(examples.name, **recipe), examples, data_folder)
    plan.save(folder / "plan")
    return plan


def environments(
    names: Sequence[str], pythons: Mapping[str, str], external: bool = False
) -> dict[str, tuple[Backend, Environment]]:
    """The chosen backends that can be had, with their interpreters; the others are told of.

    Args:
        names: of backends; all if none is given.
        pythons: an interpreter for a backend, by its name.
        external: also programs of their own, of which those in the default comparison if none
            is named.
    """
    found = discover(external=external)
    choose(pythons, found)
    everything = [b for b in found.values() if b.requirements or b.is_framework]
    usable = {}
    for backend in choose(names, found) if names else everything:
        named = Path(pythons[backend.name]) if backend.name in pythons else None
        environment = find_environment(backend, named)
        if environment.python is None:
            say(f"{backend.name}: unavailable: {environment.reason}")
        else:
            usable[backend.name] = (backend, environment)
    if not usable:
        raise ParityError("backends", "one that runs", "none", "try compare.py setup")
    return usable


class Budget:
    """The time that a benchmark may take: past it no further process is started.

    Args:
        minutes: how long it may take.

    Attributes:
        left_out: what was not measured because the time was up.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.end = time.monotonic() + 60 * minutes
        self.left_out: list[str] = []

    @property
    def seconds(self) -> float:
        """What is left of it."""
        return self.end - time.monotonic()

    def spent(self, what: str) -> bool:
        """Whether the time is up; if so, what was asked about is noted as left out."""
        if self.seconds > 0:
            return False
        self.left_out.append(what)
        return True


def run(
    tasks: Sequence[Task], runs: int, budget: Budget, threads: int = 1, device: str = "cpu"
) -> None:
    """Measure every task ``runs`` times, each round in another order, one process at a time."""
    shuffled = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(runs):
            for task in shuffled.sample(list(tasks), len(tasks)):
                if task.failure is None and not budget.spent(f"{task.name}, run {turn + 1}"):
                    task.samples.append(sample(task, Path(folder), threads, device))
                    say(f"round {turn + 1}/{runs}: {task.name}: {gist(task.samples[-1])}")


def sample(task: Task, folder: Path, threads: int, device: str) -> dict[str, Any]:
    """The facts of one run in a fresh process."""
    job = Job("sample", task.environment, task.request(folder))
    busy, started = busy_seconds(), time.perf_counter()
    limits = {"slots": 1, "threads": threads, "timeout": PROCESS_SECONDS}
    outcome = run_jobs([[job]], **limits, device=device)["sample"]
    if outcome.status != "done":
        return {"failed": outcome.reason}
    try:
        facts = task.read(folder)
    except RecordError as error:
        return {"failed": f"bad record: {error}"}
    total = facts.get("total_cpu_seconds")
    if total is not None and busy is not None and (now := busy_seconds()) is not None:
        others = now - busy - total
        facts["other_cpus"] = max(0.0, others / (time.perf_counter() - started))
    return facts


def gist(facts: Mapping[str, Any]) -> str:
    """A run in a few words."""
    if "failed" in facts:
        return f"failed: {facts['failed']}"
    if facts.get("epoch_seconds"):
        return f"{1000 * float(np.median(facts['epoch_seconds'])):.0f} ms per epoch"
    return f"{facts['total_seconds']:.1f} s"


def busy_seconds() -> float | None:
    """Seconds that all processors were busy since the machine started; None where unknown."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(
                int, file.readline().split()[1:]
            )
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def load(tasks: Iterable[Task], device: str) -> dict[str, Any]:
    """How busy other programs kept the machine while the tasks ran, and what follows from it."""
    others = [s["other_cpus"] for task in tasks for s in task.samples if "other_cpus" in s]
    median = float(np.median(others)) if others else 0.0
    return {
        "other_cpus": median,
        "cpus": len(available_cpus()),
        "busy": median > BUSY,
        "clock": "cpu" if median > BUSY and device == DEVICES[0] else "wall",
    }


def epoch_fact(device: str) -> str:
    """The fact that tells what an epoch costs: processor seconds, which others' work leaves alone.

    They say nothing of a GPU, whose worker may wait for it in a busy loop.
    """
    return "epoch_cpu_seconds" if device == DEVICES[0] else "epoch_seconds"


def left_out(facts: Mapping[str, Any]) -> str:
    """What the time did not suffice for, as a paragraph; empty if it sufficed."""
    names = facts["left_out"]
    if not names:
        return ""
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    minutes = facts["settings"]["minutes"]
    return f"**Not measured**, because {minutes:g} minutes were over: {shown}.\n\n"


def load_sentence(facts: Mapping[str, Any], wall_only: bool = False) -> str:
    """The load in a sentence for the report; ``wall_only`` where no processor time is used."""
    sentence = (
        f"Other programs kept {facts['other_cpus']:.2f} of {facts['cpus']} processors busy while "
        "this ran"
    )
    if facts["busy"] and (wall_only or facts["clock"] == "wall"):
        return f"{sentence}: **all times are wall times, and too long**."
    if wall_only:
        return f"{sentence}; all times are wall times."
    if facts["busy"]:
        return f"{sentence}: ratios are of processor seconds, and wall times are too long."
    return f"{sentence}; ratios are of wall seconds."


def quartiles(values: Sequence[float]) -> dict[str, Any] | None:
    """Median, quartiles and number of values; None of nothing."""
    if not len(values):
        return None
    low, middle, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
    return {"median": middle, "q1": low, "q3": high, "runs": len(values)}


def spread(found: Mapping[str, Any] | None, scale: float, digits: int) -> str | None:
    """Median and quartiles in the cell of a table."""
    if found is None:
        return None
    low, middle, high = (f"{scale * found[name]:.{digits}f}" for name in ("q1", "median", "q3"))
    return f"{middle} [{low}–{high}]"


def ratio(task: Task, other: Task | None, fact: str) -> float | None:
    """Median over the rounds of one task's value by the other's in the same round."""
    if other is None:
        return None
    pairs = zip(task.values(fact), other.values(fact), strict=False)
    ratios = [a / b for a, b in pairs if b]
    return float(np.median(ratios)) if ratios else None


# Output


def document(
    name: str,
    options: argparse.Namespace,
    tasks: Iterable[Task],
    settings: Mapping[str, Any],
    **facts: Any,
) -> dict[str, Any]:
    """What every result states: command, machine, load, versions, settings, what is missing."""
    tasks = list(tasks)
    shared = {name: getattr(options, name) for name in ("threads", "runs", "minutes", "device")}
    versions: dict[str, Any] = {}
    for task in tasks:
        for sample in task.samples:
            if sample.get("versions"):
                versions[task.settings["backend"]] = sample["versions"]
    return {
        "schema": 2,
        "benchmark": name,
        "command": shlex.join(["python", "-m", "benchmarks", *told(sys.argv[1:])]),
        "machine": machine_facts() | {"numpy": np.__version__},
        "versions": versions,
        "settings": {**shared, **settings},
        "load": load(tasks, options.device),
        "left_out": list(options.budget.left_out),
        **facts,
    }


def add_runs(parser: argparse.ArgumentParser, runs: int, of: str = "row") -> None:
    """The option that says how often everything is measured."""
    parser.add_argument(
        "--runs", type=int, default=runs, metavar="N", help=f"processes per {of}; default: {runs}"
    )


def told(arguments: Sequence[str]) -> list[str]:
    """The options that change what is run: not where interpreters and results are."""
    kept = []
    words = iter(arguments)
    for word in words:
        if word.split("=")[0] in ("--python", "--out", "--keep"):
            if "=" not in word:
                next(words, None)
        else:
            kept.append(word)
    return kept


def plain(task: Task) -> dict[str, Any]:
    """A task for JSON."""
    return {
        "name": task.name,
        "settings": {k: v for k, v in task.settings.items() if k not in ("plan", "peers")},
        "samples": [
            {k: v for k, v in facts.items() if k != "parameters"} for facts in task.samples
        ],
    }


def save(out: Path, facts: Mapping[str, Any], text: str) -> None:
    """Write ``NAME.json`` and ``NAME.md``."""
    out.mkdir(parents=True, exist_ok=True)
    name = facts["benchmark"]
    content = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (out / f"{name}.json").write_text(content, encoding="utf-8")
    (out / f"{name}.md").write_text(text, encoding="utf-8")


def finish(
    options: argparse.Namespace,
    facts: Mapping[str, Any],
    text: str,
    plot: Callable[[Any, Mapping[str, Any]], None],
    figsize: tuple[float, float],
) -> int:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png``; 1 if ``--compare`` finds it slower."""
    save(options.out, facts, text)
    path = options.out / f"{facts['benchmark']}.png"
    draw(path, lambda figure: plot(figure, facts), figsize=figsize)
    print(text)
    return against.status(options, facts)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; None is an empty cell."""
    lines = [header, ["---"] * len(header), *rows]
    cells = (["" if cell is None else str(cell) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def heading(facts: Mapping[str, Any], title: str, wall_only: bool = False) -> str:
    """The lines above a table: what was measured, by which command, on which machine."""
    load = load_sentence(facts["load"], wall_only)
    machine = facts["machine"]
    settings, pinned = facts["settings"], "pinned to its own processor(s)"
    if settings["device"] != DEVICES[0]:
        pinned = "on a GPU, whose own memory is not counted, and on any processor"
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else "unknown"
    return (
        f"# {title}\n\n`{facts['command']}`\n\n{machine['processor']}, {machine['cpus']} "
        f"processors, {memory}; {machine['system']}; Python {machine['python']}; "
        f"{settings['threads']} thread(s) per worker, {pinned}, one worker at a time. "
        f"{load}\n\n{_versions(facts)}"
        f"{left_out(facts)}"
    )


def _versions(facts: Mapping[str, Any]) -> str:
    found = [
        f"{name} {version}"
        for versions in facts["versions"].values()
        for name, version in versions.items()
    ]
    return f"{', '.join(dict.fromkeys(found))}.\n\n" if found else ""


def draw(path: Path, plot: Callable[[Any], None], **options: Any) -> None:
    """Draw a figure with matplotlib, without a display."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", **options)
    plot(figure)
    figure.savefig(path, dpi=120)


def say(line: str) -> None:
    """Tell the user how far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)
