"""The report as CSV: a line for every run."""

from __future__ import annotations

import csv
import io
from typing import Any

from framework_parity.common.report.columns import COLUMNS
from framework_parity.common.report.facts import ReportFacts

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""


def csv_text(report: ReportFacts) -> str:
    """Every run's facts, the last epoch of its history, and what is wrong with it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, "plan_sha256"])
    for run in report.runs:
        values = [column.value(run) for column in COLUMNS.values()]
        writer.writerow(map(_cell, [*values, report.facts["plan_sha256"]]))
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A value as it may stand in a spreadsheet: text is never a formula."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
