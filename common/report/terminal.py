"""The report on a terminal: one table, a row per run, and the verdict in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.replay import WORST
from common.report.bisection import bisection_lines
from common.report.report import Report, run_name

PLAIN_WIDTH = 170
"""Columns where the output is no terminal."""

STYLES = {
    "exact": "green",
    "rounding": "green",
    "drift": "yellow",
    "disagree": "bold red",
    "agree": "bold green",
    "incomplete": "bold magenta",
}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the table and the verdict; all of it comes from the report's facts."""
    console = console or Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for notice in report.facts["notices"]:
        console.print(f"[bold]Note:[/] {escape(notice)}")
    for run in report.runs:
        if (repeats := run["repeats"]) and not repeats.get("identical"):
            name = run_name(run)
            console.print(f"[bold]Note:[/] {escape(f'{name}: {_unrepeated(repeats)}')}")
    recipe, data = report.facts["recipe"], report.facts["data"]
    console.print(
        f"{escape(data['name'])}: {data['num_train']:,} training and {data['num_val']:,} "
        f"validation examples, {data['num_inputs']} inputs, {data['num_outputs']} classes; "
        f"{recipe['max_epochs']} epochs, batch {recipe['batch_size']}, lr {recipe['lr']:g}, "
        f"sigma {recipe['sigma']:g}, seed {recipe['seed']}, {recipe['dtype']}",
        highlight=False,
    )
    console.print(_table(report))
    for line in [*_explanations(report), *_over_seeds(report)]:
        console.print(escape(line), highlight=False, soft_wrap=True)
    style = STYLES[report.verdict]
    console.print(f"[{style}]{escape(report.sentence)}[/]", highlight=False, soft_wrap=True)
    if bisection := report.facts.get("bisection"):
        for line in bisection_lines(bisection):
            console.print(escape(line), highlight=False, soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("backend", "version", "implementation"):
        table.add_column(name, no_wrap=True)
    for name in (
        "val loss",
        "val acc",
        "loss error",
        "parameter error",
        "flips",
        "import",
        "compile",
        "fit",
        "peak MB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("grade")
    reference = report.facts["reference"]
    if reference["val_loss"]:
        table.add_row(
            "reference",
            "float64",
            reference.get("by", "by hand"),
            f"{reference['val_loss'][-1]:.6f}",
            f"{reference['val_accuracy'][-1]:.4f}",
            *[""] * 7,
            "",
            end_section=True,
        )
    for run in report.runs:
        table.add_row(*_row(run))
    return table


def _row(run: dict[str, Any]) -> list[str]:
    head = [escape(run["backend"]), escape(run["version"] or "?"), run["implementation"]]
    if run["status"] != "done":
        return [*head, *[""] * 9, f"[bold magenta]{run['status']}[/]"]
    seconds = run["seconds"]
    return [
        *head,
        f"{run['val_loss'][-1]:.6f}",
        f"{run['val_accuracy'][-1]:.4f}",
        f"{run['loss_error']:.1e} ({run['loss_envelopes']:.2g} ×)",
        f"{run['parameter_error']:.1e} ({run['parameter_envelopes']:.2g} ×)",
        str(run["prediction_flips"]),
        f"{seconds['import']:.1f} s",
        f"{seconds['compile']:.1f} s",
        f"{seconds['fit']:.2f} s",
        f"{run['peak_rss_bytes'] / 1e6:,.0f}",
        f"[{STYLES[run['grade']]}]{run['grade']}[/]",
    ]


def _explanations(report: Report) -> Iterator[str]:
    """A line or two for every run that is not within rounding: how bad, where."""
    chaos = report.facts["free_running"]
    if not chaos["informative"]:
        yield (
            f"Free running is not informative here: rounding alone grows from {chaos['first']:.1e} "
            f"to {chaos['last']:.1e} of the weights and moves an epoch's loss by "
            f"{chaos['loss']:.1e}; the lock-step comparison decides."
        )
    for run in report.runs:
        name = run_name(run)
        if run["reason"]:
            yield f"{name}: {run['reason']}"
        if where := run["divergence"]:
            yield (
                f"{name}: first divergence at step {where['step']}, stage {where['stage']}, "
                f"{where['tensor']}: {where['statistic']} error {where['error']:.2g} "
                f"({_times(where['envelopes'])}; {where['ulps']:.3g} ulps at most)"
            )
            if cause := run["cause"]:
                yield f"{name}: {cause['sentence']}"
            elif "model" not in report.facts:  # causes are known of softmax regression alone
                yield f"{name}: no known cause fits"
        elif run["cause"]:
            yield f"{name}: {run['cause']['sentence']}"
        if flips := run["flips"]:
            explained = sum(flip["explained"] for flip in flips)
            yield (
                f"{name}: {run['prediction_flips']} predictions changed, {explained} of "
                f"{len(flips)} listed explained by the error of their logits"
            )


def _over_seeds(report: Report) -> Iterator[str]:
    """Distributions over seeds, and what the equivalence tests say."""
    if not (seeds := report.facts.get("seeds")):
        return
    count = len(seeds["seeds"])
    how = "drawn by each framework itself" if seeds["mode"] == "independent" else "shared by all"
    yield f"Over {count} seeds, initial parameters and orders {how}:"
    for name, metrics in seeds["runs"].items():
        for metric, found in metrics.items():
            said = "equivalent" if found["equivalent"] else "equivalence not shown"
            yield (
                f"  {name}: {metric} {found['mean']:.4f} ± {found['deviation']:.4f}, "
                f"{found['difference']:+.1e} [{found['low']:+.1e}, {found['high']:+.1e}] to the "
                f"reference: {said} within ± {found['margin']:g} at level {found['level']:g} "
                f"(p = {found['p']:.2g})"
            )
    for name, reason in seeds.get("failed", {}).items():
        yield f"  {name}: {reason}"


def _times(envelopes: float) -> str:
    return "of what must not differ at all" if envelopes >= WORST else f"{envelopes:.3g} × rounding"


def _unrepeated(repeats: dict[str, Any]) -> str:
    if repeats["trained"] < repeats["asked"]:
        return f"of {repeats['asked']} repetitions {repeats['trained']} trained"
    return (
        f"does not repeat itself: {repeats['asked']} trainings of the same plan differ by up to "
        f"{repeats['parameter_error']:.1e} in a parameter ({repeats['parameter_envelopes']:.2g} × "
        "rounding)"
    )
