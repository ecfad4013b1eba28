"""What the benchmarks share: fresh processes in interleaved order, statistics, output.

Not built on pyperf: its runner times one callable, in workers of the interpreter and the script
that started it. Here a sample has phases (import, compilation, epochs), runs in a foreign
interpreter without pyperf, and takes its turn with other programs. Quartiles come from NumPy, the
test behind ``--compare`` from SciPy.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.cache import cache_directory
from common.environment import Backend, Environment, choose, discover, find_environment
from common.errors import ParityError
from common.fetch import open_data
from common.launcher import Job, available_cpus, run_jobs
from common.machine import machine_facts
from common.plan import Plan
from common.recipe import Recipe

KERAS = "keras==3.15.1"
BUSY = 0.15
"""Processors that other programs may use before a measurement calls its machine busy."""
SLOWER, CERTAIN = 1.05, 0.05
"""A row is slower if its median grew by this factor and chance explains it less often than that."""


@dataclass
class Task:
    """Something to measure, in a fresh process each time.

    Args:
        name: how its row is called.
        python: the interpreter.
        settings: for :mod:`benchmarks.worker`.
        samples: the facts of each run, or ``{"failed": reason}``.
    """

    name: str
    python: Path
    settings: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)

    def values(self, fact: str) -> list[float]:
        """One value per run: the median, where a run has several."""
        good = [sample for sample in self.samples if sample.get(fact) not in (None, [])]
        return [float(np.median(sample[fact])) for sample in good]

    @property
    def failure(self) -> str | None:
        """Why the last run that failed did; None if none failed."""
        return next((s["failed"] for s in reversed(self.samples) if "failed" in s), None)


def make_plan(data: str | None, folder: Path, **recipe: Any) -> Plan:
    """A plan in ``folder / "plan"``."""
    batch_size = recipe.get("batch_size", Recipe.batch_size)
    data_folder, examples, _ = open_data(data, batch_size)
    plan = Plan.make(Recipe(examples.name, **recipe), examples, data_folder)
    plan.save(folder / "plan")
    return plan


def environments(
    names: Sequence[str], pythons: Mapping[str, str]
) -> dict[str, tuple[Backend, Environment]]:
    """The chosen backends that can be had, with their interpreters; the others are told of."""
    found = discover(external=False)
    choose(pythons, found)
    usable = {}
    for backend in choose(names, found) if names else found.values():
        named = Path(pythons[backend.name]) if backend.name in pythons else None
        environment = find_environment(backend, named)
        if environment.python is None:
            say(f"{backend.name}: unavailable: {environment.reason}")
        else:
            usable[backend.name] = (backend, environment)
    if not usable:
        raise ParityError("backends: expected one that runs; received none; try compare.py --setup")
    return usable


def run(tasks: Sequence[Task], runs: int, threads: int = 1, timeout: float = 900.0) -> None:
    """Measure every task ``runs`` times, each round in another order, one process at a time."""
    shuffled = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(runs):
            for task in shuffled.sample(list(tasks), len(tasks)):
                if task.failure is None:
                    task.samples.append(sample(task, Path(folder), threads, timeout))
                    say(f"round {turn + 1}/{runs}: {task.name}: {gist(task.samples[-1])}")


def sample(task: Task, folder: Path, threads: int, timeout: float) -> dict[str, Any]:
    """The facts of one run in a fresh process."""
    out = folder / "sample.json"
    out.unlink(missing_ok=True)
    settings = folder / "settings.json"
    settings.write_text(json.dumps(task.settings | {"out": str(out)}), encoding="utf-8")
    command = (str(task.python), "-m", "benchmarks.worker", str(settings))
    job = Job("sample", command, folder / "sample.log")
    busy, started = busy_seconds(), time.perf_counter()
    outcome = run_jobs([job], slots=1, threads=threads, timeout=timeout)["sample"]
    if outcome.status != "done":
        return {"failed": outcome.reason}
    facts: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if busy is not None and (now := busy_seconds()) is not None:
        others = now - busy - facts["total_cpu_seconds"]
        facts["other_cpus"] = max(0.0, others / (time.perf_counter() - started))
    with np.load(out.with_suffix(".npz"), allow_pickle=False) as archive:
        facts["parameters"] = {name: archive[name] for name in archive}
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


def load(tasks: Iterable[Task]) -> dict[str, Any]:
    """How busy other programs kept the machine while the tasks ran, and what follows from it."""
    others = [s["other_cpus"] for task in tasks for s in task.samples if "other_cpus" in s]
    median = float(np.median(others)) if others else 0.0
    return {
        "other_cpus": median,
        "cpus": len(available_cpus()),
        "busy": median > BUSY,
        "clock": "cpu" if median > BUSY else "wall",
    }


def load_sentence(facts: Mapping[str, Any]) -> str:
    """The load in a sentence for the report."""
    sentence = (
        f"Other programs kept {facts['other_cpus']:.2f} of {facts['cpus']} processors busy while "
        "this ran"
    )
    if facts["busy"]:
        return f"{sentence}: ratios are of processor seconds, and wall times are too long."
    return f"{sentence}; ratios are of wall seconds."


def quartiles(values: Sequence[float]) -> dict[str, Any] | None:
    """Median, quartiles and number of values; None of nothing."""
    if not len(values):
        return None
    low, middle, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
    return {"median": middle, "q1": low, "q3": high, "runs": len(values)}


def ratio(task: Task, other: Task | None, fact: str) -> float | None:
    """Median over the rounds of one task's value by the other's in the same round."""
    if other is None:
        return None
    pairs = zip(task.values(fact), other.values(fact), strict=False)
    ratios = [a / b for a, b in pairs if b]
    return float(np.median(ratios)) if ratios else None


def peers_folder(python: Path) -> str | None:
    """A folder with Keras for an interpreter that has none; None where it cannot be had.

    Kept in the cache, and put behind the environment's own packages, which thus stay as pinned.
    """
    has = subprocess.run(
        [str(python), "-c", "import keras"], capture_output=True, check=False, cwd="/"
    )
    if not has.returncode:
        return ""
    found = subprocess.run(
        [str(python), "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
        capture_output=True,
        text=True,
        check=True,
    )
    folder = cache_directory() / "environments" / f"{KERAS}-py{found.stdout.strip()}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        say(f"installing {KERAS} for {python}")
        done = subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--target", str(partial), KERAS),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            say(f"{KERAS}: not installed: {(done.stderr or 'pip failed').strip().splitlines()[-1]}")
            return None
        os.replace(partial, folder)
    return str(folder)


def check_device(device: str) -> None:
    """Raise ParityError for a device that is not there, or that the suite cannot use yet."""
    if device == "cpu":
        return
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        raise ParityError(
            "device: expected a GPU; received a machine without one (no /dev/nvidia*, no /dev/kfd)"
            "; leave --device away"
        )
    raise ParityError(
        "device: expected cpu; received gpu: the environments pin the frameworks' CPU builds; "
        "leave --device away"
    )


# Output


def document(name: str, settings: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """What every result states: command, machine, versions, settings."""
    arguments = " ".join(sys.argv[1:])
    return {
        "schema": 1,
        "benchmark": name,
        "command": f"python -m benchmarks {arguments}",
        "machine": machine_facts() | {"numpy": np.__version__},
        "settings": dict(settings),
        **facts,
    }


def plain(task: Task) -> dict[str, Any]:
    """A task for JSON."""
    dropped = {"parameters"}
    return {
        "name": task.name,
        "settings": {k: v for k, v in task.settings.items() if k not in ("plan", "peers")},
        "samples": [{k: v for k, v in facts.items() if k not in dropped} for facts in task.samples],
    }


def save(out: Path, facts: Mapping[str, Any], text: str) -> None:
    """Write ``NAME.json`` and ``NAME.md``."""
    out.mkdir(parents=True, exist_ok=True)
    name = facts["benchmark"]
    content = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (out / f"{name}.json").write_text(content, encoding="utf-8")
    (out / f"{name}.md").write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; None is an empty cell."""
    lines = [header, ["---"] * len(header), *rows]
    cells = (["" if cell is None else str(cell) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def heading(facts: Mapping[str, Any], title: str) -> str:
    """The lines above a table: what was measured, by which command, on which machine."""
    machine = facts["machine"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else "unknown"
    return (
        f"# {title}\n\n`{facts['command']}`\n\n{machine['processor']}, {machine['cpus']} "
        f"processors, {memory}; {machine['system']}; Python {machine['python']}; "
        f"{facts['settings']['threads']} thread(s) per worker, pinned to its own processor(s), one "
        f"worker at a time. {load_sentence(facts['load'])}\n\n"
    )


def draw(path: Path, plot: Callable[[Any], None], **options: Any) -> None:
    """Draw a figure with matplotlib, without a display."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", **options)
    plot(figure)
    figure.savefig(path, dpi=120)


def compare_old(old: Path, facts: Mapping[str, Any]) -> list[str]:
    """Sentences for what became slower beyond the noise since an older result.

    Values are compared as multiples of the machine's limit of their own round where both have
    it; else as seconds. The test is Mann and Whitney's, one-sided.
    """
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

    try:
        before = json.loads(old.read_text(encoding="utf-8"))
        earlier = before["series"]
        if before["benchmark"] != facts["benchmark"]:
            raise ValueError(f"a result of {before['benchmark']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParityError(
            f"{old}: expected a result of {facts['benchmark']}; received {error}; name another file"
        ) from None
    slower = []
    for name, now in facts["series"].items():
        then = earlier.get(name)
        if not now or not then:
            continue
        factor = float(np.median(now) / np.median(then))
        chance = float(mannwhitneyu(now, then, alternative="greater").pvalue)
        if factor > SLOWER and chance < CERTAIN:
            slower.append(f"{name}: {factor:.2f} × slower than before (p = {chance:.3f})")
    return slower


def say(line: str) -> None:
    """Tell the user how far it is, on standard error."""
    print(line, file=sys.stderr, flush=True)
