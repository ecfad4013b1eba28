"""The figure of the envelope's parts: ``python -m benchmarks.envelope_figure``.

:mod:`benchmarks.envelope` leaves ``envelope.json``; this makes ``envelope.png`` beside it anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks.measure import draw
from framework_parity.common.judging.thresholds import Thresholds

RESULTS = Path(__file__).parent / "results"
WHOLE = "nothing"
"""What the envelope lacks where it lacks nothing."""


def ratios(plans: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """The worst ratio of each fresh training to its plan's envelope, over all plans, in order."""
    return np.sort([float(word) for plan in plans for word in plan["ratios"].split()])


def plot(figure: Any, facts: Mapping[str, Any]) -> None:
    """Draw how many faultless trainings lie beyond a threshold, by what the envelope lacks."""
    axis, limit = figure.subplots(), Thresholds().envelopes
    for i, (missing, plans) in enumerate(
        (name, plans) for name, plans in facts.items() if isinstance(plans, list)
    ):
        values = ratios(plans)
        beyond = np.arange(len(values), 0, -1)
        whole = missing == WHOLE
        look = {"color": "black", "linewidth": 2.5} if whole else {"color": f"C{i - 1}"}
        axis.step(values, beyond, label=missing, **look)
    axis.set(xscale="log", yscale="log", xlabel="threshold, in envelopes")
    axis.set(ylabel="faultless trainings beyond it")
    axis.set_ylim(0.9)
    axis.axvline(limit, color="0.5", linewidth=0.8)
    axis.annotate(f" threshold {limit:g}", (limit, axis.get_ylim()[1]), color="0.3", va="top")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, title="missing")


def save(facts: Mapping[str, Any], path: Path) -> None:
    """Write the figure of what ``envelope.json`` holds."""
    draw(path, lambda figure: plot(figure, facts), figsize=(10, 4))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.envelope_figure",
        description="Draw envelope.png from envelope.json, without measuring again.",
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of both files; default: %(default)s"
    )
    folder = parser.parse_args().out
    facts = json.loads((folder / "envelope.json").read_text(encoding="utf-8"))
    save(facts, folder / "envelope.png")


if __name__ == "__main__":
    main()
