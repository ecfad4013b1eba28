"""Train and compare one process at a time, each training in its own, so that
seconds and memory are those of one training on an otherwise idle machine.

examples:
  compare.py benchmark
  compare.py benchmark torch jax --threads 2 --out results/times
"""

from __future__ import annotations

from framework_parity.common.commands.chosen import Chosen
from framework_parity.common.commands.compare import run_comparison
from framework_parity.common.commands.options import BenchmarkOptions, takes
from framework_parity.common.report.report import Report


@takes(BenchmarkOptions)
def benchmark(options: BenchmarkOptions) -> Report:
    """Compare with each training alone."""
    chosen = Chosen.of(options.backends, options.implementations, options.places)
    return run_comparison(options, chosen, alone=True)
