"""What the page says in words: what to do next, how to repeat a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from framework_parity.common.environments.specifier import label
from framework_parity.common.judging.grades import BEYOND, NOT_SHOWN, UNCONFIRMED, over_seeds
from framework_parity.common.report.findings import where
from framework_parity.common.report.wording import (
    comparable_lines,
    failures,
    run_name,
    runs_of_seeds,
)


def next_steps(facts: dict[str, Any]) -> Iterator[str]:
    """What a reader can do about the verdict, the gravest first."""
    runs = facts["runs"]
    failed: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run["status"] not in ("done", UNCONFIRMED):
            failed.setdefault((run["status"], run["reason"] or ""), []).append(run_name(run))
    for (status, reason), names in failed.items():
        log = "" if status == "unavailable" else " Logs are in runs/."
        said = f": {reason.rstrip('.')}" if reason else ""
        yield f"Mend {' and '.join(names)}, {status}{said}.{log}"
    if any(run["status"] == UNCONFIRMED for run in runs):
        yield (
            "Mend the model where its two float64 runs part, or say which of them is right: by "
            "--reference, or by a NumPy model in its file."
        )
    for failure in failures(facts):
        yield f"Settle this: {failure}."
    beyond = [run for grade in ("disagree", "drift") for run in runs if run["grade"] == grade]
    worst = [run for run in beyond if not run.get("accepted")]
    for run in worst:
        cause = run["cause"]
        known = f" {cause['sentence']}." if cause else " No known cause fits."
        found = f": {where(run['divergence'])}" if run["divergence"] else ""
        yield f"Start with {run_name(run)}{found}.{known if found or cause else ''}"
    grades = {run["grade"] for run in runs if not run.get("accepted")}
    if "drift" in grades and "disagree" not in grades:
        yield "Drift passes unless --fail-on drift says otherwise."
    if "chaotic" in grades:
        yield (
            "What can be compared of a chaotic run is within rounding. It passes unless --fail-on "
            "chaotic says otherwise."
        )
    yield from list(comparable_lines(facts))[1:]
    if NOT_SHOWN in over_seeds(facts.get("seeds") or {}):
        yield (
            "Train on more seeds (--count): equivalence that is not shown is neither agreement nor "
            "a difference, and fails."
        )
    for seed, names in _odd_seeds(facts).items():
        yield f"Look at {' and '.join(names)} on seed {seed}: the same command with --seed {seed}."
    if runs and grades <= {"exact", "rounding"} and facts["verdict"] == "agree":
        yield (
            "Nothing is to be mended. The same command after an upgrade, or on another machine, "
            "tells whether that changes the training."
        )
    if not runs or None in grades:
        yield "Then repeat the comparison by the command at the end of this page."


def _odd_seeds(facts: dict[str, Any]) -> dict[int, list[str]]:
    """Those runs by seed that are beyond rounding on a further seed's plan, or did not run."""
    found: dict[int, list[str]] = {}
    for name, seed, grade in runs_of_seeds(facts):
        if grade is None or grade in BEYOND:
            found.setdefault(seed, []).append(name)
    return found


def command(facts: dict[str, Any]) -> str:
    """The command that repeats a comparison, but for interpreters and folders of the user's own."""
    runs, recipe, settings = facts["runs"], facts["recipe"], facts["settings"]
    name, source = recipe["data"], facts["data"]["source"]
    own = name not in ("fashion-mnist", "digits") and not name.startswith("synthetic")
    model, bisection, seeds = (facts.get(each) for each in ("model", "bisection", "seeds"))
    words = ["python", "compare.py"]
    if bisection:
        words += ["bisect", f"{bisection['backend']}{bisection['range']}", "--by", bisection["by"]]
    else:
        words += ["model", model["file"]] if model else ["seeds"] if seeds else []
        words += ["benchmark"] * bool(settings.get("benchmark"))
        labels = (label(run["backend"], run.get("asked_version")) for run in runs)
        words += dict.fromkeys(labels)
    for implementation in dict.fromkeys(run["implementation"] for run in runs if not model):
        words += ["--implementation", implementation]
    words += ["--data", source if own else name]
    options = ("max_epochs", "batch_size", "lr", *(["sigma"] * (not model)), "seed", "dtype")
    for option in options:
        words += [f"--{option.replace('_', '-')}", f"{recipe[option]}"]
    words += ["--threads", f"{settings['threads']}"]
    words += [] if settings.get("benchmark") else ["--jobs", f"{settings['jobs']}"]
    words += ["--timeout", f"{settings['timeout_seconds']:g}"]
    if settings.get("device", "cpu") != "cpu":
        words += ["--device", settings["device"]]
    thresholds = facts["thresholds"]
    words += ["--threshold", f"{thresholds['envelopes']:g}"]
    words += ["--drift-loss", f"{thresholds['drift_loss']:g}"]
    words += ["--drift-predictions", f"{thresholds['drift_predictions']:g}"]
    repeats = max((run["repeats"]["asked"] for run in runs if run["repeats"]), default=1)
    words += ["--repeat", f"{repeats}"] if repeats > 1 else []
    if seeds:
        words += ["--count", f"{len(seeds['seeds'])}"]
        words += ["--independent"] if seeds["mode"] == "independent" else []
        for metric, found in next(iter(seeds["runs"].values()), {}).items():
            words += [f"--margin-{metric.removeprefix('val_')}", f"{found['margin']:g}"]
            words += ["--level", f"{found['level']:g}"] if metric == "val_loss" else []
    for option, what in (("--baseline", "baseline"), ("--accept", "accepted")):
        words += [option, facts[what]["file"]] if facts.get(what) else []
    return shlex.join(words)
