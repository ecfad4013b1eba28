"""What a report says of its runs, in sentences; every form of it says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from framework_parity.common.environments.backend import IMPLEMENTATIONS
from framework_parity.common.environments.specifier import label
from framework_parity.common.judging.grades import BEYOND
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.findings import (
    count,
    divergence_line,
    farthest_line,
    how_far,
    where,
)
from framework_parity.common.report.flips import flip_lines


def run_name(run: Mapping[str, Any]) -> str:
    """How a run is called: backend, version if one was asked for, implementation."""
    return f"{label(run['backend'], run.get('asked_version'))} {run['implementation']}"


def targets(data: Mapping[str, Any]) -> str:
    """What is to be learned of each example."""
    return str(data.get("targets", f"{data['num_outputs']} classes"))


def run_lines(run: Mapping[str, Any]) -> Iterator[str]:
    """What there is to say of a run that is not within rounding: how bad, where, why."""
    if run["reason"]:
        yield str(run["reason"])
    if run["divergence"]:
        yield divergence_line(run)
        yield from farthest_line(run)
        if cause := run["cause"]:
            yield cause["sentence"]
        elif run.get("implementation") in (None, *IMPLEMENTATIONS):  # else none is known
            yield "no known cause fits"
    elif run["cause"]:
        yield run["cause"]["sentence"]
    yield from flip_lines(run)


def lines_of_runs(facts: Mapping[str, Any]) -> Iterator[str]:
    """The same of every run, under its name."""
    for run in facts["runs"]:
        yield from (f"{run_name(run)}: {line}" for line in run_lines(run))


def lines_over_time(facts: Mapping[str, Any]) -> Iterator[str]:
    """What became of the runs since the baseline, and of the accepted differences."""
    yield from baseline_lines(facts)
    yield from accepted_lines(facts)


def runs_of_seeds(facts: Mapping[str, Any]) -> Iterator[tuple[str, int, str | None]]:
    """Name, seed and grade of every run on a further seed's plan; None if it did not run."""
    seeds = facts.get("seeds") or {}
    for run, grades in zip(facts["runs"], seeds.get("grades", {}).values(), strict=False):
        for seed, grade in list(zip(seeds["seeds"], grades, strict=True))[1:]:
            yield run_name(run), seed, grade


def comparable_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Where rounding alone decides: what is compared, and how to compare the rest."""
    free, recipe = facts["free_running"], facts["recipe"]
    if free["informative"]:
        return
    steps, length = free["steps"], -(-facts["data"]["num_train"] // recipe["batch_size"])
    computed_in = recipe.get("mixed") or recipe["dtype"]
    allowed = max(facts["thresholds"]["drift_loss"], Thresholds.drift_loss)
    yield (
        f"Rounding alone drives these trainings apart: {facts['envelope']['members']} faultless "
        f"ones in {computed_in}, equal but for how their sums are rounded, end up to "
        f"{free['last']:.1e} of the weights away from the float64 reference, and up to "
        f"{free['val_loss']:.2g} in validation loss. From step {steps} of "
        f"{recipe['max_epochs'] * length} on it moves a loss, or the weights, by more than "
        f"{allowed:g}, relative. Before, the losses and weights of each run are compared; then "
        "only single steps are, each computed from the reference's own weights. How the runs end "
        "is not."
    )
    ways = f"lower --lr ({recipe['lr']:g} here)"
    if epochs := steps // length:
        ways += f", or train --max-epochs {epochs}, which can be compared"
    wider = "float32" if recipe.get("mixed") else "float64"
    ways += f"; --dtype {wider} puts it off" * (recipe["dtype"] == "float32")
    alone = facts.get("seeds") or facts.get("model")
    more = "" if alone else " compare.py seeds compares distributions."
    yield f"To compare how the runs end, {ways}.{more}"


def seed_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Distributions over seeds, and what the equivalence tests say."""
    if not (seeds := facts.get("seeds")):
        return
    count = len(seeds["seeds"])
    how = "drawn by each framework itself" if seeds["mode"] == "independent" else "shared by all"
    yield f"Over {count} seeds, initial parameters and orders {how}:"
    if verdicts := seeds.get("verdicts"):
        shown = [f"{s} {v}" for s, v in zip(seeds["seeds"], verdicts, strict=True)]
        yield f"  verdict by seed: {', '.join(shown)}"
    for name, metric, found in seed_tests(facts):
        yield f"  {name}: {equivalence_sentence(metric, found)}"
    for name, reason in seeds.get("failed", {}).items():
        yield f"  {name}: {reason}"


def seed_tests(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every equivalence test over seeds: of which run, of which metric, and what it found."""
    for name, metrics in (facts.get("seeds") or {}).get("runs", {}).items():
        yield from ((name, metric, found) for metric, found in metrics.items())


def equivalence_sentence(metric: str, found: Mapping[str, Any]) -> str:
    """What an equivalence test says."""
    said = "equivalent" if found["equivalent"] else "equivalence not shown"
    return (
        f"{metric} {found['mean']:.4f} ± {found['deviation']:.4f}, differs from the reference's "
        f"by {found['difference']:+.1e} (confidence interval {found['low']:+.1e} to "
        f"{found['high']:+.1e}): {said} within ± {found['margin']:g} at level {found['level']:g} "
        f"(p = {found['p']:.2g})"
    )


def moved_sentence(run: Mapping[str, Any], moved: Mapping[str, Any]) -> str:
    """How far a run moved from its golden record, and what changed beside it."""
    name, grade = run_name(run), moved["grade"]
    changed = {**moved["versions"], **moved["surroundings"]}
    what = ", ".join(f"{n} {old or 'none'} → {new or 'none'}" for n, (old, new) in changed.items())
    what = what or "no package, processor or system changed"
    if grade == "exact":
        return f"{name}: bit for bit as in the baseline ({what})"
    if grade == "rounding":
        return (
            f"{name}: moved by {count(moved['envelopes'])} rounding since the baseline, which is "
            f"rounding; the first bits to differ: {moved['first_bits']}; {what}"
        )
    if grade == "chaotic":
        return (
            f"{name}: moved by {count(moved['envelopes'])} rounding since the baseline where the "
            f"two can be compared, and their outcomes cannot be; the first bits to differ: "
            f"{moved['first_bits']}; {what}"
        )
    outcome = "the same outcome" if grade == "drift" else "another outcome"
    words = f"{name}: moved since the baseline, with {outcome}"
    if found := moved["divergence"]:
        words += f"; first beyond rounding at {where(found)}: {how_far(found)}"
    if moved["gone"]:
        words += f"; gone since: {moved['gone']}"
    elif run["cause"]:
        words += f"; {run['cause']['sentence']}"
    return f"{words}; {what}"


def baseline_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What became of the runs since the baseline."""
    if not (baseline := facts.get("baseline")):
        return
    because = f", because: {baseline['because']}" if baseline["because"] else ""
    yield f"Baseline {baseline['file']}, saved {baseline['saved']}{because}"
    for run in facts["runs"]:
        moved = run.get("baseline")
        if moved and (moved["grade"] != "exact" or moved["versions"] or moved["surroundings"]):
            yield moved_sentence(run, moved)
    for name in baseline["new"]:
        yield f"{name}: not in the baseline; compare.py baseline save adds it"
    if baseline["not_trained"]:
        yield f"in the baseline, not trained now: {', '.join(baseline['not_trained'])}"


def accepted_sentence(entry: Mapping[str, Any]) -> str | None:
    """What became of an accepted difference; None if its run was not compared."""
    bound, until = f"{entry['bound']:g} × rounding at its farthest", entry["expires"]
    said = {
        "accepted": f"accepted until {until} up to {bound}: {entry['reason']}",
        "expired": f"was accepted until {until}, which is past: {entry['reason']}",
        "exceeded": f"beyond what is accepted, {bound}: {entry['reason']}",
        "unmatched": f"accepted until {until}, but matches nothing any more; remove the entry",
    }.get(entry["state"])
    return said and f"{run_name(entry)}, stage {entry['stage']}: {said}"


def accepted_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What became of the differences that are accepted."""
    for entry in (facts.get("accepted") or {}).get("entries", ()):
        if said := accepted_sentence(entry):
            yield said


def failures(facts: Mapping[str, Any]) -> list[str]:
    """What fails beside the grades: movements since the baseline, acceptances that ended.

    What is asked to be compared with a baseline and is not in it fails, too.
    """
    found = [
        f"{run_name(run)} moved since the baseline ({run['baseline']['grade']})"
        for run in facts["runs"]
        if (run.get("baseline") or {}).get("grade") in BEYOND and not run.get("accepted")
    ]
    found += [
        f"{name} is not in the baseline" for name in (facts.get("baseline") or {}).get("new", ())
    ]
    for entry in (facts.get("accepted") or {}).get("entries", ()):
        if entry["state"] in ("expired", "exceeded"):
            ended = "is past its date" if entry["state"] == "expired" else "exceeds its bound"
            found.append(f"{run_name(entry)}: its accepted difference {ended}")
    return found
