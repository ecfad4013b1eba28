"""Golden records: what a later run is compared with, kept in a file.

examples:
  compare.py baseline save golden.npz --because "torch 2.13 in production"
  compare.py baseline save golden.npz torch jax --data digits
  compare.py baseline show golden.npz
  compare.py --baseline golden.npz          what moved since then, and where

Saved again, the file keeps the records of what was not trained, and a history.
Nothing is saved if something that was asked for did not run.
"""

from __future__ import annotations

from pathlib import Path

from framework_parity.common.commands.chosen import chosen_by
from framework_parity.common.commands.compare import run_comparison
from framework_parity.common.commands.golden_records import Baseline
from framework_parity.common.commands.options import GoldenFile, SaveOptions, takes
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.files import check_place
from framework_parity.common.core.standard_output import say
from framework_parity.common.environments.discovery import discover
from framework_parity.common.report.facts import EXIT_AGREE
from framework_parity.common.report.report import Report


@takes(SaveOptions)
def save_baseline(options: SaveOptions) -> Report:
    """Compare, and save golden records."""
    file = Path(options.file)
    check_place(file, "baseline save")
    if file.suffix != ".npz":
        anew = f"name {file.with_suffix('.npz')}"
        if str(file).partition("==")[0] in discover():
            anew = f"name the file first: compare.py baseline save FILE.npz {file}"
        raise ParityError("baseline save", "a file whose name ends in .npz", file, anew)
    return run_comparison(options, chosen_by(options), save=(file, options.because))


@takes(GoldenFile)
def show_baseline(options: GoldenFile) -> int:
    """Print what a file of golden records holds."""
    baseline = Baseline.load(Path(options.file))
    recipe = baseline.facts["recipe"]
    say(", ".join(f"{name} {value}" for name, value in recipe.items()))
    for run in baseline.runs:
        facts = run.facts
        versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
        say(f"{facts['backend']} {facts['implementation']}: {facts['grade']}; {versions}")
    for entry in baseline.facts["history"]:
        say(f"saved {entry['saved']}: {entry['because'] or 'no reason given'}")
    return EXIT_AGREE
