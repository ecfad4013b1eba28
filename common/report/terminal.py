"""The report on a terminal: one table, a row per run, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.bisection import bisection_lines
from framework_parity.common.report.columns import COMPARED, WHO, cells, chosen, since
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.findings import cell, count
from framework_parity.common.report.wording import (
    comparable_lines,
    lines_of_runs,
    lines_over_time,
    run_name,
    seed_lines,
    targets,
)

NUMBERS = (*COMPARED, "import_seconds", "compile_seconds", "fit_seconds", "peak_rss_bytes")

PLAIN_WIDTH = 190
"""Columns where the output is no terminal."""

STYLES = {
    "exact": "green",
    "rounding": "green",
    "chaotic": "yellow",
    "drift": "yellow",
    "not shown": "bold red",
    "disagree": "bold red",
    "agree": "bold green",
    "incomplete": "bold magenta",
}


def print_report(report: ReportFacts, console: Console | None = None) -> None:
    """Print the table and the verdict; all of it comes from the report's facts."""
    console = console or Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for notice in report.facts["notices"]:
        console.print(f"[bold]Note:[/] {escape(notice)}")
    for run in report.runs:
        if (repeats := run["repeats"]) and not repeats.get("identical"):
            said = f"{run_name(run)}: {_unrepeated(repeats)}"
            console.print(f"[bold]Note:[/] {escape(said)}")
    recipe, data = report.facts["recipe"], report.facts["data"]
    asked = (
        f"{data['name']}: {data['num_train']:,} training and {data['num_val']:,} "
        f"validation examples, {data['num_inputs']} inputs, {targets(data)}; "
        f"{recipe['max_epochs']} epochs, batch {recipe['batch_size']}, lr {recipe['lr']:g}, "
        f"sigma {recipe['sigma']:g}, seed {recipe['seed']}, {recipe['dtype']}"
        f"{', passes in ' * bool(recipe.get('mixed'))}{recipe.get('mixed', '')}"
    )
    console.print(escape(asked), highlight=False)
    grades = Thresholds(**report.facts["thresholds"]).sentence()
    console.print(grades, highlight=False, soft_wrap=True)
    console.print(_table(report))
    about_runs = [*_sharing(report), *_repeated(report), *_explanations(report)]
    for line in [*about_runs, *seed_lines(report.facts)]:
        console.print(escape(line), highlight=False, soft_wrap=True)
    style = STYLES[report.verdict]
    console.print(f"[{style}]{escape(report.sentence)}[/]", highlight=False, soft_wrap=True)
    if bisection := report.facts.get("bisection"):
        for line in bisection_lines(bisection):
            console.print(escape(line), highlight=False, soft_wrap=True)


def _table(report: ReportFacts) -> Table:
    reference = report.facts["reference"]
    numbers = chosen(NUMBERS, reference)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in chosen(WHO):
        table.add_column(column.head, no_wrap=True)
    for column in numbers:
        table.add_column(column.head, justify="right", no_wrap=True)
    for head in ("grade", "first\ndivergence"):
        table.add_column(head, no_wrap=True)
    with_baseline = bool(report.facts.get("baseline"))
    if with_baseline:
        table.add_column("baseline")
    if reference["val_loss"]:
        table.add_row(
            "reference",
            "float64",
            escape(reference.get("by", "by hand")),
            *(column.text(reference) for column in numbers[:-7]),
            *[""] * 9,
            end_section=True,
        )
    for run in report.runs:
        status = f"[bold magenta]{escape(run['status'])}[/]"
        grade = status if run["status"] != "done" else _styled(run["grade"])
        who = (escape(column.value(run) or "?") for column in chosen(WHO))
        over_time = [since(run, _styled)] if with_baseline else []
        table.add_row(*who, *cells(run, numbers), grade, escape(cell(run)), *over_time)
    return table


def _styled(grade: str) -> str:
    return f"[{STYLES[grade]}]{grade}[/]"


def _explanations(report: ReportFacts) -> Iterator[str]:
    """How far it could be compared; of every run that is not within rounding how bad, where."""
    yield from comparable_lines(report.facts)
    yield from lines_of_runs(report.facts)
    yield from lines_over_time(report.facts)
    if saved := report.facts.get("baseline_saved"):
        yield saved


def _sharing(report: ReportFacts) -> Iterator[str]:
    """What the table's seconds are, where runs shared a process."""
    if any(run["earlier_in_process"] for run in report.runs):
        yield (
            "A backend's implementations were trained in one process, one after the other: the "
            "import is shared, and the later one finds the framework warm. compare.py benchmark "
            "measures each alone."
        )


def _repeated(report: ReportFacts) -> Iterator[str]:
    """Which runs repeated themselves."""
    same = [run for run in report.runs if (run["repeats"] or {}).get("identical")]
    if same:
        yield (
            f"Trained {same[0]['repeats']['asked']} times, bit for bit the same each time: "
            f"{', '.join(map(run_name, same))}"
        )


def _unrepeated(repeats: dict[str, Any]) -> str:
    if repeats["trained"] < repeats["asked"]:
        return f"of {repeats['asked']} repetitions {repeats['trained']} trained"
    return (
        f"does not repeat itself: {repeats['asked']} trainings of the same plan differ by up to "
        f"{repeats['parameter_error']:.1e} in a parameter ({count(repeats['parameter_envelopes'])} "
        "rounding)"
    )
