"""Which files a report may be written to, beside its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.files import check_place, write_whole
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.junit import junit_xml
from framework_parity.common.report.markdown import markdown
from framework_parity.common.report.spreadsheet import csv_text

FORMATS = {
    "junit": "the report as JUnit XML, for CI",
    "markdown": "the report as Markdown, for the summary of a CI job",
    "csv": "the report as CSV, a line for every run",
}


def chosen_exports(options: object) -> dict[str, Path]:
    """The files that options name, by format, once they are seen to be writable.

    Raises:
        ParityError: if one cannot be written, or is named twice.
    """
    named = {name: getattr(options, name) for name in FORMATS}
    files = {name: Path(path) for name, path in named.items() if path is not None}
    for name, path in files.items():
        check_place(path, f"--{name}")
    if len({path.resolve() for path in files.values()}) < len(files):
        options_named = ", ".join(f"--{name}" for name in files)
        raise ParityError(options_named, "a file for each", "one for several", "name others")
    return files


def export(report: ReportFacts, files: Mapping[str, Path], fail_on: str) -> None:
    """Write a report to files.

    Raises:
        ParityError: if one cannot be written.
    """
    texts = export_texts(report, fail_on) if files else {}
    for name, path in files.items():
        try:
            write_whole(path, texts[name])
        except OSError as error:
            raise ParityError(
                f"--{name}",
                "room and permission to write",
                f"{path}, {told(error)}",
                "name another file",
            ) from None


def export_texts(report: ReportFacts, fail_on: str = "disagree") -> dict[str, str]:
    """What is written of a report in each format."""
    return {
        "junit": junit_xml(report, fail_on),
        "markdown": markdown(report),
        "csv": csv_text(report),
    }
