"""What it costs to watch what training is fed: ``python -m benchmarks.feeding_cost``.

Two trainers of a backend, in one process, train epochs of Fashion-MNIST in turn: one as
``compare.py`` trains it, one without the projection of each batch. Prints a Markdown table of the
ratios of their processor times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from framework_parity.benchmarks.measure import Task, sample
from framework_parity.common.core.device import DEVICES
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

RECIPE = Recipe("fashion-mnist", 256, 0.1, 1)


def main() -> None:
    """The command line: a row for every implementation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feeding_cost", description=__doc__)
    parser.add_argument("backends", nargs="*", help="default: all that are trained in Python")
    parser.add_argument("--epochs", type=int, default=20, help="of each trainer; default: 20")
    options = parser.parse_args()
    found = discover(external=False)
    print("| backend | implementation | with / without, least | median | without, least |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data_folder, data, _ = open_data(RECIPE.data, RECIPE.batch_size)
        Plan.make(RECIPE, data, data_folder).save(Path(folder) / "plan")
        for name in options.backends or found:
            environment = find_environment(found[name])
            for implementation in found[name].implementations:
                fields = {"plan": Path(folder) / "plan", "backend": name}
                fields |= {"implementation": implementation, "epochs": options.epochs}
                task = Task(name, environment, {"kind": "watching", **fields})
                facts = sample(task, Path(folder), 1, DEVICES[0])
                if "failed" in facts:
                    sys.exit(f"{name} {implementation}: {facts['failed']}")
                without, watched = (facts["parameters"][n] for n in ("without", "watched"))
                least = f"{watched.min() / without.min():.2f}"
                median = f"{np.median(watched) / np.median(without):.2f}"
                seconds = f"{1000 * without.min():.0f} ms"
                row = [name, f"`{implementation}`", least, median, seconds]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
