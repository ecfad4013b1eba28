"""``--compare OLD.json``: what became slower than in an older result, beyond the noise."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

from framework_parity.common.core.errors import ParityError, told

SLOWER = 1.05
"""A row is slower if its median grew by more than this factor, and …"""
CERTAIN = 0.05
"""… Mann and Whitney's one-sided test gives chance no more than this, and the middle halves of
the two results do not overlap."""
FEWEST = 3
"""Runs on either side below which that test can say nothing."""


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="say what is slower than in that result, beyond the noise; exit status 1 if anything",
    )


def status(options: argparse.Namespace, facts: Mapping[str, Any]) -> int:
    """Print the comparison, if one was asked for: 1 if anything is slower, else 0."""
    if options.compare is None:
        return 0
    slower, notes = compare(options.compare, facts)
    print("\n".join([*notes, *slower]))
    if not slower:
        print(f"nothing is slower than in {options.compare}, beyond the noise")
    return int(bool(slower))


def load(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """An older result of the same benchmark, with the same settings.

    Raises:
        ParityError: if it is anything else.
    """
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["benchmark"] != facts["benchmark"]:
            raise ValueError(f"one of {old['benchmark']}")
        for name, values in old["series"].items():
            if not all(isinstance(value, float | int) and value > 0 for value in values):
                raise ValueError(f"{name}: values that are no durations")
        before, now = (_settings(result) for result in (old, facts))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = f"a result of {facts['benchmark']}"
        raise ParityError(path, wanted, told(error), "name another file") from None
    if other := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
        raise ParityError(
            path,
            "a result with the same settings",
            f"another {', '.join(sorted(other))}",
            "measure again with those of the old result",
        )
    return dict(old)


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those that decide what is measured, and not how often."""
    return {k: v for k, v in facts["settings"].items() if k not in ("runs", "minutes")}


def compare(path: Path, facts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Sentences for what is slower now, and notes on what could not be told."""
    old = load(path, facts)
    slower, notes, judged = [], [], 0
    if machine := _other_machine(old["machine"], facts["machine"]):
        notes.append(f"note: the old result is of another machine: {machine}")
    few = []
    for name in sorted({*old["series"], *facts["series"]}):
        then, now = (np.array(result["series"].get(name, [])) for result in (old, facts))
        if min(len(then), len(now)) < FEWEST:
            few.append(name)
            continue
        judged += 1
        factor = float(np.median(now) / np.median(then))
        chance = float(mannwhitneyu(now, then, alternative="greater").pvalue)
        apart = float(np.percentile(now, 25)) > float(np.percentile(then, 75))
        if factor > SLOWER and chance <= CERTAIN and apart:
            slower.append(f"{name}: {factor:.2f} × slower than before (p = {chance:.3f})")
    if few:
        notes.append(f"note: fewer than {FEWEST} runs now or then, not compared: {', '.join(few)}")
    notes.append(f"{judged} rows compared")
    return slower, notes


def _other_machine(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    differing = [name for name in ("processor", "cpus", "python") if old[name] != new[name]]
    return ", ".join(f"{name} {old[name]}, now {new[name]}" for name in differing)
