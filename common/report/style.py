"""How runs look in every figure: a colour for each backend, a line for each implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from framework_parity.common.environments.backend import IMPLEMENTATIONS
from framework_parity.common.environments.specifier import label
from framework_parity.common.report.wording import run_name

# The qualitative palette of Okabe and Ito (2008), "Color universal design", told apart by people
# with any colour vision; those first that can be seen on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
NEUTRAL = "#808080"
"""Of the reference and of the envelope: seen on white and on black."""

LINES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "diamond", "square", "cross")

GLYPHS = {
    "exact": "●",
    "rounding": "✓",
    "chaotic": "~",
    "drift": "▲",
    "not shown": "?",
    "disagree": "✕",
    "failed": "!",
    "timeout": "!",
    "unavailable": "–",
    "unconfirmed": "?",
    "agree": "✓",
    "incomplete": "!",
}
"""The shape that goes with a grade, a status or a verdict: no meaning hangs on colour alone."""


@dataclass(frozen=True)
class Look:
    """How one run is drawn.

    Args:
        name: of the run.
        colour: of its backend.
        line: of its implementation: solid, dash, dot, dashdot.
        marker: likewise: circle, diamond, square, cross.
    """

    name: str
    colour: str
    line: str
    marker: str


def looks(runs: Sequence[dict[str, Any]]) -> dict[str, Look]:
    """The look of each run of a report, by its name."""
    labels = [label(run["backend"], run.get("asked_version")) for run in runs]
    backends = list(dict.fromkeys(labels))
    others = [run["implementation"] for run in runs]
    implementations = list(dict.fromkeys([*IMPLEMENTATIONS, *others]))
    found = {}
    for run, backend in zip(runs, labels, strict=True):
        colour = COLOURS[backends.index(backend) % len(COLOURS)]
        place = implementations.index(run["implementation"]) % len(LINES)
        found[run_name(run)] = Look(run_name(run), colour, LINES[place], MARKERS[place])
    return found
