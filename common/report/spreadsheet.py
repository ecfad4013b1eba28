"""The report as CSV: a line for every run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from framework_parity.common.report.facts import ReportFacts

TEXTS = ("backend", "version", "implementation", "status", "grade")
NUMBERS = (
    "envelopes",
    "loss_error",
    "loss_envelopes",
    "parameter_error",
    "parameter_envelopes",
    "logits_error",
    "logits_envelopes",
    "prediction_flips",
    "unexplained_flips",
    "peak_rss_bytes",
)
HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
SECONDS = ("import", "compile", "fit", "evaluate", "total")
DIVERGENCE = ("step", "stage", "tensor", "statistic", "error", "envelopes")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""


def csv_text(report: ReportFacts) -> str:
    """Every run's facts, the last epoch of its history, and what is wrong with it."""
    text = io.StringIO()
    rows = [_row(run) | {"plan_sha256": report.facts["plan_sha256"]} for run in report.runs]
    names = list(rows[0]) if rows else [*TEXTS, *NUMBERS]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    accepted, moved = run.get("accepted") or {}, run.get("baseline") or {}
    where, cause = run["divergence"] or {}, run["cause"] or {}
    return {
        **{name: run[name] for name in TEXTS},
        "accepted_until": accepted.get("until"),
        "baseline_grade": moved.get("grade"),
        "baseline_envelopes": moved.get("envelopes"),
        **{name: run[name] for name in NUMBERS},
        **{name: (run[name] or [None])[-1] for name in HISTORY},
        **{f"{name}_seconds": (run["seconds"] or {}).get(name) for name in SECONDS},
        **{f"divergence_{name}": where.get(name) for name in DIVERGENCE},
        "cause": cause.get("sentence"),
        "reason": run["reason"],
    }


def _cell(value: Any) -> Any:
    """A value as it may stand in a spreadsheet: text is never a formula."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
