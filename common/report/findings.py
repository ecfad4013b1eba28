"""A finding in words: where, what, how much. And the one number of a run.

A run's number is that of its first divergence, wherever it stands: in the table, in its sentence,
on the page's tile and ladder. Any other number says what it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from framework_parity.common.reference.replay import WORST

FREE = ", carried over steps"
"""How a tensor is called that no single step shows to be off, only the run's own training."""

SCALARS = ("loss", "the next loss", "accuracy")
SCORES = ("y_hat", "logits", "probabilities")
"""What ``forward`` gives in the end; all else of its stage is of a layer."""
MUST_BE_EQUAL = "; it must be equal"
NOT_ON_RECORD = "(what was fed is not on record)"


def count(envelopes: float | None) -> str:
    """A number of envelopes, the same digits wherever it stands."""
    if envelopes is None:
        return ""
    return "∞ ×" if is_boundless(envelopes) else f"{envelopes:.3g} ×"


def is_boundless(envelopes: float) -> bool:
    """Whether this is about something that has no rounding: it must be equal, and is not."""
    return envelopes >= WORST / 10


def where(found: Mapping[str, Any]) -> str:
    """Where a finding was made."""
    tensor = found["tensor"].replace(NOT_ON_RECORD, "").strip().removesuffix(FREE)
    scores = tensor.removesuffix(" in evaluation") in SCORES
    layer = "layer " * (found["stage"] == "forward" and not scores)
    return f"step {found['step']}, stage {found['stage']}, {layer}{tensor}"


def what(found: Mapping[str, Any]) -> str:
    """What a finding is, and how large in its own unit."""
    tensor, error = found["tensor"], found["error"]
    if found["stage"] == "data":
        return _what_was_fed(tensor, error)
    if found["statistic"] == "missing":
        return "is not on record any more"
    if is_boundless(error):
        return "is missing, has another shape or is not finite"
    forms = {
        "gain": f"differs by a common factor of 1 ± {error:.2g}",
        "offset": f"differs by a common shift of ± {error:.2g}",
        "spread": f"differs by a common factor of 1 ± {error:.2g} about its mean",
        "decay": f"differs by ± {error:.2g} times the parameter itself",
    }
    if said := forms.get(found["statistic"]):
        return said
    if found["stage"] == "metric" and tensor != "val_y_hat":
        return f"differs by {error:.2g}"
    ulps = "" if found["stage"] == "metric" else f" ({found['ulps']:.3g} ulps)"
    tensor = tensor.partition(FREE)[0]
    return f"{'differs' if tensor in SCALARS else 'an entry differs'} by {error:.2g}{ulps}"


def _what_was_fed(tensor: str, error: float) -> str:
    """What is wrong with what a training was given, which must be equal."""
    if tensor in ("y", "labels", "targets"):
        return f"not the {'labels' if tensor == 'y' else tensor} of the plan"
    if tensor == "batch":
        return "training had no such batch, or its record is not whole"
    if tensor == "number of steps":
        return "not that of the plan" if is_boundless(error) else f"off by {error:g}"
    if is_boundless(error):
        return "has another shape than the plan's"
    if tensor == "X" or tensor.startswith("initial"):
        return f"an entry differs from the plan's by {error:.2g}"
    return "not what the plan says"  # the tensor says it in words


def how_far(found: Mapping[str, Any]) -> str:
    """What a finding is, and how many times rounding that is."""
    if is_boundless(found["envelopes"]):
        return f"{what(found)}{MUST_BE_EQUAL * (found['stage'] == 'data')}"
    return f"{what(found)}, {count(found['envelopes'])} rounding"


def is_free(run: Mapping[str, Any]) -> bool:
    """Whether a run's first divergence is one of its own training, not of a probed single step."""
    found = run["divergence"]
    if found["stage"] in ("data", "metric"):
        return False
    probed = (run.get("stages") or {}).get(found["stage"])
    if probed is None:  # no single step was looked at
        return True
    return FREE in found["tensor"] or found["envelopes"] > probed["envelopes"]


def divergence_line(run: Mapping[str, Any]) -> str:
    """Where a run first diverges, in what, and how far."""
    found = run["divergence"]
    words = f"first divergence at {where(found)}: {how_far(found)}"
    if found["stage"] in ("data", "metric"):
        return words
    note = f"; {found['note']}" if found.get("note") else ""
    if not is_free(run):
        return f"{words}, in a single step from the reference's weights{note}"
    words += ", in its own training"
    words += "; no probed single step shows it" * (found["stage"] in (run.get("stages") or {}))
    return words + "; what it was fed is not on record" * (NOT_ON_RECORD in found["tensor"]) + note


def farthest_line(run: Mapping[str, Any]) -> Iterator[str]:
    """Where a run is farther off than at its first divergence; nothing if it is nowhere."""
    first, far = run["divergence"]["envelopes"], run["envelopes"]
    if is_boundless(first) or count(first) == count(far):
        return
    found = single_step(run)
    if found is None:
        yield f"farthest {place_in_training(run)}: {count(far)} rounding"
        return
    alone = "" if found["stage"] in ("data", "metric") else ", in a single step"
    yield f"farthest at {where(found)}: {how_far(found)}{alone}"


def single_step(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The finding of a stage that is the farthest of all of a run; None if its training is."""
    stages = (run.get("stages") or {}).values()
    return next((found for found in stages if found["envelopes"] == run["envelopes"]), None)


def place_in_training(run: Mapping[str, Any]) -> str:
    """Where a run's own training is the farthest."""
    names = {"parameter": "a parameter", "loss": "a loss", "logits": "a validation logit"}
    named = [said for n, said in names.items() if run.get(f"{n}_envelopes") == run["envelopes"]]
    return f"in its own training, {[*named, 'where it can be compared'][0]}"


def farthest(runs: Iterable[Mapping[str, Any]]) -> str:
    """How far the farthest of runs within rounding is, and in what: no column need show it."""
    run = max(runs, key=lambda run: float(run["envelopes"]))
    found = single_step(run)
    place = place_in_training(run) if found is None else f"stage {found['stage']}"
    return f"the farthest at {count(run['envelopes'])}, {place}"


def number(run: Mapping[str, Any]) -> float:
    """The one number of a run, in envelopes: of its first divergence, else of its farthest."""
    found = run["divergence"]
    return float(found["envelopes"] if found else run["envelopes"])


def tile(run: Mapping[str, Any]) -> str:
    """The one number of a run, and what it is of."""
    found = run["divergence"]
    if not found:
        return f"{count(number(run))} rounding at most"
    if is_boundless(number(run)):
        return f"step {found['step']}, stage {found['stage']}"
    return f"{count(number(run))} rounding at step {found['step']}, stage {found['stage']}"


def cell(run: Mapping[str, Any]) -> str:
    """The first divergence in a column of a table; empty if there is none."""
    found = run["divergence"]
    if not found:
        return ""
    if is_boundless(found["envelopes"]):
        return f"step {found['step']}"
    return f"{count(found['envelopes'])} at step {found['step']}"
