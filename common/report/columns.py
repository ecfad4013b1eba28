"""The columns of the results: what each holds of a run, and how a table writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework_parity.common.report.findings import count, number
from framework_parity.common.training.record import HISTORY

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        path: where a run's facts have it.
        head: what stands above it in a table; on two lines where there is little room.
        form: how a table writes the number.
        unit: what the number is divided by.
        envelopes: the fact that says how many envelopes the number is; empty if none does.
        long_head: what stands above it where there is room.
        is_ordered: whether the page orders by the number itself, not by its text.
    """

    path: tuple[str | int, ...]
    head: str = ""
    form: str = "{}"
    unit: float = 1
    envelopes: str = ""
    long_head: str = ""
    is_ordered: bool = False

    def value(self, run: Run) -> Any:
        """What the facts of a run say; None if nothing."""
        found: Any = run
        for key in self.path:
            if not found:
                return None
            found = found.get(key) if isinstance(key, str) else found[key]
        return found

    def text(self, run: Run) -> str:
        """The number of a run that is done; a dash where it has none."""
        value = self.value(run)
        return "–" if value is None else self.form.format(value / self.unit)

    def aside(self, run: Run) -> str:
        """How many envelopes that is; empty if it is not counted in these."""
        return count(run[self.envelopes]) if self.envelopes else ""

    def order(self, run: Run) -> Any:
        """By what the page orders the column; None: by its text."""
        if self.envelopes:
            return run[self.envelopes]
        return self.value(run) if self.is_ordered else None


WHO = ("backend", "version", "implementation")
COMPARED = ("val_loss", "val_accuracy", "loss_error", "parameter_error", "prediction_flips")

COLUMNS = {
    **{name: Column((name,), name) for name in (*WHO, "status", "grade")},
    "accepted_until": Column(("accepted", "until")),
    "baseline_grade": Column(("baseline", "grade")),
    "baseline_envelopes": Column(("baseline", "envelopes")),
    "envelopes": Column(("envelopes",)),
    "loss_error": Column(("loss_error",), "loss error\nin training", "{:.1e}", 1, "loss_envelopes"),
    "loss_envelopes": Column(("loss_envelopes",)),
    "parameter_error": Column(
        ("parameter_error",), "parameter error\nin training", "{:.1e}", 1, "parameter_envelopes"
    ),
    "parameter_envelopes": Column(("parameter_envelopes",)),
    "logits_error": Column(("logits_error",)),
    "logits_envelopes": Column(("logits_envelopes",)),
    "prediction_flips": Column(
        ("prediction_flips",), "flips", "{:,.0f}", 1, "", "changed predictions", True
    ),
    "unexplained_flips": Column(("unexplained_flips",)),
    "peak_rss_bytes": Column(("peak_rss_bytes",), "peak MB", "{:,.0f}", 1e6, is_ordered=True),
    **{name: Column((name, -1)) for name in HISTORY},
    "val_loss": Column(("val_loss", -1), "val loss", "{:.6f}"),
    "val_accuracy": Column(("val_accuracy", -1), "val acc", "{:.4f}", long_head="val accuracy"),
    "import_seconds": Column(("seconds", "import"), "import", "{:.1f} s"),
    "compile_seconds": Column(("seconds", "compile"), "compile", "{:.1f} s"),
    "fit_seconds": Column(("seconds", "fit"), "fit", "{:.2f} s", is_ordered=True),
    "evaluate_seconds": Column(("seconds", "evaluate")),
    "total_seconds": Column(("seconds", "total")),
    **{
        f"divergence_{name}": Column(("divergence", name))
        for name in ("step", "stage", "tensor", "statistic", "error", "envelopes")
    },
    "cause": Column(("cause", "sentence")),
    "reason": Column(("reason",)),
}
"""All of them, in the order of the CSV file; a table takes some."""


def chosen(names: Sequence[str], reference: Run | None = None) -> list[Column]:
    """The columns of these names.

    Of a ``reference`` whose targets are numbers, the metrics that its file names stand in place
    of the accuracy.
    """
    columns = [COLUMNS[name] for name in names]
    own = [name for name in reference or () if is_own_metric(name)]
    if not own or "val_accuracy" not in names:
        return columns
    place = names.index("val_accuracy")
    columns[place : place + 1] = [
        Column((name, -1), name.replace("_", " ", 1), "{:.6g}") for name in own
    ]
    return columns


def is_own_metric(name: str) -> bool:
    """Whether a fact of the reference, or of a run, is a metric that a user's file names."""
    return name.startswith("val_") and name not in HISTORY


def cells(run: Run, columns: Sequence[Column]) -> Iterator[str]:
    """What the columns of numbers say of a run, as one text each; empty if it is not done."""
    if run["status"] != "done":
        yield from [""] * len(columns)
        return
    for column in columns:
        aside = column.aside(run)
        yield f"{column.text(run)} ({aside})" if aside else column.text(run)


def since(run: Run, styled: Callable[[str], str]) -> str:
    """The column of a comparison with a baseline, its grade as it is to be written."""
    if not (moved := run.get("baseline")):
        return "new" if run["status"] == "done" else ""
    far = "" if moved["grade"] == "exact" else f" ({count(number(moved))})"
    return f"{styled(moved['grade'])}{far}"
