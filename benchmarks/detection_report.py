"""Tables and figure of the suite's test of itself, from the runs that it judged.

``python -m benchmarks.detection_report`` makes them anew from ``results/detection.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks.faults import CATALOGUE
from framework_parity.benchmarks.planting import KNOWN, Fault
from framework_parity.common.judging.candidates import UNDERFLOW
from framework_parity.common.judging.causes import THE_PLAN
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.judging.thresholds import Thresholds

Row = dict[str, Any]
FAULTS = {fault.name: fault for fault in CATALOGUE}
FIXED = ("fixed_weights", "fixed_losses", "fixed_accuracy")
THRESHOLDS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0)
CHANGED = 5.0
"""A fault that moves a parameter, loss, metric or prediction by more must be detected."""


def write_report(facts: dict[str, Any], out: Path) -> None:
    """Write the runs, the tables and the figure to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=None, separators=(",", ":"))
    (out / "detection.json").write_text(text.replace('{"plan"', '\n{"plan"') + "\n", "utf-8")
    ran = [row for row in facts["runs"] if not row["status"].startswith("failed")]
    facts = facts | {"runs": ran}
    (out / "detection.md").write_text(
        "".join(f"{line.rstrip(' ')}\n" for line in lines(facts)), encoding="utf-8"
    )
    draw([row for row in ran if not is_drawn(row)], out / "detection.png")


# What the rows say


def is_detected(row: Row) -> bool:
    """Whether the suite does not let the run pass."""
    return row["status"] != "done" or row["grade"] not in SOUND


def stage_is_right(row: Row) -> bool:
    """Whether the first divergence is in a stage where the fault shows first."""
    where = row.get("divergence")
    return bool(where) and where["stage"] in FAULTS[row["fault"]].stages


def named(row: Row) -> list[list[str]]:
    """The causes named, one for each part of what is explained: the names that fit alike."""
    cause = row.get("cause")
    if not cause:
        return []
    after = cause.get("then")
    after = after["name"] if isinstance(after, dict) else after
    texts = [text for text in (cause["name"], after) if text and text != THE_PLAN]
    parts = [part for text in texts for part in AND.split(text)]
    return [part.split(" or ") for part in parts]


AND = re.compile(r" and | \+ ")


def cause_is_right(row: Row) -> bool:
    """Whether every cause named was planted; of what the suite has no name for, or if none is."""
    fault, found = FAULTS[row["fault"]], named(row)
    right = all(any(name.startswith(fault.names) for name in part) for part in found)
    return right and (bool(found) or fault.family != KNOWN)


def cause_is_wrong(row: Row) -> bool:
    """Whether a cause is named that was not planted."""
    return bool(named(row)) and not cause_is_right(row)


def cause_is_missing(row: Row) -> bool:
    """Whether a known fault is not named."""
    return not named(row) and not cause_is_right(row)


def underflows(row: Row) -> bool:
    """Whether a run without a fault is one that a replay of its plain softmax reproduces.

    That it computes other numbers is no false alarm: the plain softmax, as the book has it, loses
    what is too small for the number format, here a part of the gradient.
    """
    cause = row.get("cause")
    return bool(cause) and cause["name"] == UNDERFLOW and cause["then"] is None


def is_false_alarm(row: Row) -> bool:
    """Whether a run without a fault is flagged, or has a cause named that is not there."""
    return is_detected(row) and not underflows(row)


def is_large(row: Row) -> bool:
    """Whether the fault moves anything by so much that it must be detected."""
    return row["status"] != "done" or (row.get("change_envelopes") or 0) > CHANGED


def is_drawn(row: Row) -> bool:
    """Whether the run is one of a drawn plan."""
    return bool(row["plan"].startswith("drawn-"))


def by_fixed(row: Row) -> bool:
    """Whether the usual fixed tolerances do not let the run pass."""
    return row["status"] != "done" or any(row[name] for name in FIXED)


def key(row: Row) -> tuple[str, str, str]:
    """The implementation and the plan of a run."""
    return row["plan"], row["backend"], row["implementation"]


def planted(rows: Sequence[Row]) -> list[Row]:
    """The runs with a fault in them, of implementations that are sound on that plan.

    Where a clean run is flagged already, the fault's detection would prove nothing.
    """
    unsound = {key(row) for row in rows if row["fault"] is None and is_detected(row)}
    return [
        row
        for row in rows
        if row["fault"] and row["status"] != "cannot express it" and key(row) not in unsound
    ]


def unsound(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Implementations that are flagged without a fault in more than half of their runs."""
    clean = Counter((r["backend"], r["implementation"]) for r in rows if not r["fault"])
    flagged = Counter(
        (r["backend"], r["implementation"]) for r in rows if not r["fault"] and is_detected(r)
    )
    return [name for name in clean if flagged[name] > clean[name] / 2]


def clean_rows(rows: Sequence[Row]) -> list[Row]:
    """The runs without a fault of implementations whose arithmetic is sound.

    A run that ended in numbers that are not finite is no false alarm: it did.
    """
    apart = unsound(rows)
    return [
        r
        for r in rows
        if not r["fault"]
        and (r["backend"], r["implementation"]) not in apart
        and r["status"] == "done"
    ]


# The tables


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The page."""
    rows = [row for row in facts["runs"] if not is_drawn(row)]
    drawn = [row for row in facts["runs"] if is_drawn(row)]
    yield "# The suite tests itself\n"
    yield f"Made by `{facts['command']}` in {facts['seconds'] / 60:.0f} min on "
    yield f"{facts['machine']['cpus']} cores ({facts['machine']['processor']}), with "
    yield ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + "."
    yield "Every run is in `detection.json`; `python -m benchmarks.detection_report` makes this "
    yield "page and `detection.png` from it.\n"
    yield from summary(rows, drawn)
    yield from family_table(rows)
    yield from fault_table(rows)
    yield from failures(rows)
    yield from false_alarms(rows)
    yield from drawn_table(rows, drawn, facts.get("drawn", {}))


def cells_of(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def head(*titles: str) -> Iterator[str]:
    """The lines that a table begins with."""
    yield cells_of(titles)
    yield "|---" * len(titles) + "|"


def share(rows: Sequence[Row], of: Callable[[Row], bool]) -> str:
    """How many of the rows, and what part."""
    count = sum(map(of, rows))
    return f"{count} of {len(rows)}" + (f" ({count / len(rows):.1%})" if rows else "")


def summary(rows: Sequence[Row], drawn: Sequence[Row]) -> Iterator[str]:
    """The goals, and what was reached."""
    faulty, clean = planted(rows), clean_rows(rows)
    large = [row for row in faulty if is_large(row)]
    found = [row for row in faulty if is_detected(row)]
    small = [r for r in faulty if r["fault"] == "learning rate" and r["size"] < 1 + 2e-5]
    with_name = [row for row in found if named(row)]
    judged = [row for row in drawn if row["status"] == "done"]
    unsettled = [row for row in judged if not apart(row, rows)]
    yield "## Summary\n"
    yield from head("goal", "reached")
    must = f"every fault that moves anything by more than {CHANGED:g} envelopes is detected"
    yield f"| {must} | {share(large, is_detected)} |"
    yield f"| a learning rate wrong by 1e-5 is detected | {share(small, is_detected)} |"
    yield f"| stage right, of detected faults: 98 % | {share(found, stage_is_right)} |"
    yield f"| right, of named causes: 98 % | {share(with_name, cause_is_right)} |"
    yield f"| wrong causes named, of detected faults: 0.5 % | {share(found, cause_is_wrong)} |"
    known = [row for row in found if FAULTS[row["fault"]].family == KNOWN]
    yield f"| known faults that are not named | {share(known, cause_is_missing)} |"
    yield f"| no false alarm where the arithmetic is sound | {share(clean, is_false_alarm)} |"
    yield f"| … on drawn plans | {share(unsettled, is_false_alarm)} |"
    yield f"| *apart:* an underflow of the plain softmax, named | {share(unsettled, underflows)} |"
    yield f"| *for comparison:* all faults detected | {share(faulty, is_detected)} |"
    yield f"| … by fixed tolerances | {share(faulty, by_fixed)} |"
    yield f"| … false alarms of fixed tolerances | {share(clean, by_fixed)} |"
    yield f"| … on drawn plans | {share(unsettled, by_fixed)} |\n"
    yield "*Anything*: a parameter, a loss, an accuracy (whose envelope is half an example), a "
    yield "value of `predict`, against the same backend's clean run. Of a fault that has no name "
    yield "it is right to name none. Fixed tolerances are rtol = atol = 1e-3 on the final "
    yield "parameters, 1e-5 on each epoch's validation loss, and the last accuracy equal to three "
    yield "digits. A run whose numbers are not finite counts as detected, without a stage.\n"


def family_table(rows: Sequence[Row]) -> Iterator[str]:
    """Each family of faults."""
    faulty = planted(rows)
    yield "## Families of faults\n"
    heads = ("family", "runs", "found, of those that must be", "… of the others", "stage right")
    heads += ("cause named, and right", "none named", "**wrong cause named**")
    yield from head(*heads)
    for family in dict.fromkeys(fault.family for fault in CATALOGUE):
        own = [row for row in faulty if FAULTS[row["fault"]].family == family]
        found = [row for row in own if is_detected(row)]
        cells = [
            family,
            str(len(own)),
            share([row for row in own if is_large(row)], is_detected),
            share([row for row in own if not is_large(row)], is_detected),
            share(found, stage_is_right),
            share(found, lambda row: bool(named(row)) and cause_is_right(row)),
            share(found, lambda row: not named(row)),
            share(found, cause_is_wrong),
        ]
        if own:
            yield cells_of(cells)
    yield ""
    yield f"*{KNOWN.capitalize()}* faults are those that the suite has a name for. Of the others "
    yield "it has a name for a part of some; to name none of them is right, too.\n"


def fault_table(rows: Sequence[Row]) -> Iterator[str]:
    """Every fault and size, over backends, implementations and plans."""
    usable = planted(rows)
    yield "## Faults\n"
    yield "*Moved* is the largest change of anything against the same backend's clean run, in "
    yield "rounding envelopes, least to most over the runs. *Weights*, *losses*, *accuracy*: how "
    yield "many runs each fixed tolerance flags.\n"
    heads = ("fault", "size", "moved", "detected", "weights", "losses", "accuracy")
    yield from head(*heads, "first divergence", "stage right", "cause right", "fitted")
    for fault in CATALOGUE:
        for size in fault.sizes:
            own = [r for r in usable if (r["fault"], r["size"]) == (fault.name, size)]
            if own:
                yield fault_line(fault, size, own)
    yield ""
    yield "Where each fault ought to be found, and why:\n"
    for fault in CATALOGUE:
        yield f"- {fault.name}: {' or '.join(fault.stages) or 'nowhere'} ({fault.reason})"
    yield ""
    yield "Left out, because a backend cannot express the fault: " + left_out(rows) + ".\n"


def fault_line(fault: Fault, size: Any, own: Sequence[Row]) -> str:
    """One line of the table."""
    total = len(own)
    found = [row for row in own if is_detected(row)]
    where = Counter(
        f"{r['divergence']['stage']}, step {r['divergence']['step']}"
        if r.get("divergence")
        else "—"
        for r in found
    )
    fitted = [r["cause"]["value"] for r in found if named(r) and cause_is_right(r)]
    fitted = [value for value in fitted if value is not None]
    cells = [
        fault.name,
        "" if size is None else size if isinstance(size, str) else f"{size:.6g}",
        interval([r["change_envelopes"] for r in own if r.get("change_envelopes") is not None]),
        f"{len(found)}/{total}",
        *(f"{sum(bool(r.get(name)) for r in own)}/{total}" for name in FIXED),
        "; ".join(f"{place} ({count})" for place, count in where.most_common(3)),
        f"{sum(map(stage_is_right, found))}/{len(found)}",
        f"{sum(map(cause_is_right, found))}/{len(found)}",
        interval(fitted, "{:.7g}"),
    ]
    return cells_of(cells)


def interval(values: Sequence[float], form: str = "{:.2g}") -> str:
    """The least and the largest."""
    if not values:
        return ""
    ends = list(dict.fromkeys(form.format(end) for end in (min(values), max(values))))
    return " – ".join(ends)


def left_out(rows: Sequence[Row]) -> str:
    """What could not be planted."""
    missing = {(r["fault"], r["backend"]) for r in rows if r["status"] == "cannot express it"}
    return "; ".join(f"{fault} in {backend}" for fault, backend in sorted(missing)) or "none"


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """The runs in which a goal is missed, one by one."""
    faulty = planted(rows)
    missed = [r for r in faulty if not is_detected(r)]
    found = [r for r in faulty if is_detected(r)]
    misplaced = [r for r in found if not stage_is_right(r)]
    for title, listed in (
        ("Not detected", [row for row in missed if is_large(row)]),
        (
            f"Not detected, moves nothing by more than {CHANGED:g} envelopes",
            [row for row in missed if not is_large(row)],
        ),
        ("Misplaced", misplaced),
        ("Wrong cause named", [row for row in found if cause_is_wrong(row)]),
        ("Cause not named", [row for row in found if cause_is_missing(row)]),
    ):
        yield f"## {title}\n"
        counted = Counter((*identity(row), said(row)) for row in listed)
        for (fault, size, where, words), count in counted.items():
            yield f"- {fault}{size}, {where}: {words}" + (f" ({count} runs)" if count > 1 else "")
        if not listed:
            yield "None."
        yield ""


def identity(row: Row) -> tuple[str, str, str]:
    """The fault, its size, and who ran it."""
    size = "" if row["size"] is None else f" {row['size']}"
    return row["fault"], size, f"{row['backend']} {row['implementation']}, {row['plan']}"


def said(row: Row) -> str:
    """What the suite made of a run."""
    if row["status"] != "done":
        return row["status"].strip().splitlines()[-1]
    where, cause = row["divergence"], row.get("cause")
    place = f"{where['stage']} ({where['tensor']}), step {where['step']}" if where else "nowhere"
    moved = row.get("change_envelopes")
    moved = "" if moved is None else f"moved {moved:.2g} envelopes, "
    reason = f"{row['grade']}: {row['reason']}" if row.get("reason") else row["grade"]
    said_cause = f", cause: {cause['name'] if cause else 'none fits'}" if "cause" in row else ""
    return f"{moved}{reason}, score {row['score']:.3g}, {place}{said_cause}"


def false_alarms(rows: Sequence[Row]) -> Iterator[str]:
    """Clean runs: how far rounding alone goes, and what would be flagged at which threshold."""
    clean = [row for row in rows if not row["fault"]]
    names = sorted({(row["backend"], row["implementation"]) for row in clean})
    apart = unsound(rows)
    statistics = sorted({name for row in clean for name in row.get("ratios", ())}, key=rank)
    yield "## Clean runs\n"
    yield "Largest ratio to the rounding envelope, and in brackets the 99th percentile over runs.\n"
    yield from head("backend", "runs", "flagged", "by fixed tolerances", *statistics)
    for name in names:
        own = [row for row in clean if (row["backend"], row["implementation"]) == name]
        label = " ".join(name) + (" *(unsound, listed apart)*" if name in apart else "")
        cells = [label, str(len(own)), str(sum(map(is_detected, own)))]
        cells += [str(sum(map(by_fixed, own)))]
        cells += [
            extremes([ratio(r, s) for r in own if ratio(r, s) is not None]) for s in statistics
        ]
        yield cells_of(cells)
    yield ""
    yield "Loss, parameters, logits and metric count where free runs can be compared at all."
    overflowed = [row for row in clean if row["status"] != "done"]
    if overflowed:
        listed = ", ".join(f"{r['backend']} {r['implementation']}" for r in overflowed)
        plans = ", ".join(sorted({row["plan"] for row in overflowed}))
        yield "Not among them, since they end in numbers that are not finite, as they should: "
        yield f"{listed} ({plans}: the plain softmax underflows)."
    yield ""
    yield from threshold_table(rows)


def apart(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a drawn plan was trained by an implementation that is listed apart."""
    return (row["backend"], row["implementation"]) in unsound(rows)


def drawn_table(rows: Sequence[Row], drawn: Sequence[Row], words: dict[str, str]) -> Iterator[str]:
    """The drawn plans: what is flagged without a fault, run by run."""
    yield "## Drawn plans\n"
    yield f"{len({row['plan'] for row in drawn})} faultless plans, drawn by a seed from all that "
    yield "are legitimate (`benchmarks/drawn_plans.py`): NumPy trains all, each framework others.\n"
    heads = ("backend", "plans", "runs", "not finite", "chaotic", "flagged", "… for an underflow")
    yield from head(*heads, "by fixed tolerances")
    for name in sorted({(row["backend"], row["implementation"]) for row in drawn}):
        own = [row for row in drawn if (row["backend"], row["implementation"]) == name]
        done = [row for row in own if row["status"] == "done"]
        cells = [
            " ".join(name) + (" *(unsound, listed apart)*" if name in unsound(rows) else ""),
            str(len({row["plan"] for row in own})),
            str(len(own)),
            str(len(own) - len(done)),
            str(sum(not row["informative"] for row in done)),
            str(sum(map(is_detected, done))),
            str(sum(map(underflows, done))),
            str(sum(map(by_fixed, done))),
        ]
        yield cells_of(cells)
    yield ""
    for row in drawn:
        if row["status"] == "done" and is_detected(row):
            name = f"{row['backend']} {row['implementation']}"
            yield f"- {words.get(row['plan'], row['plan'])}; {name}: {said(row)}"
    yield ""


def ratio(row: Row, statistic: str) -> float | None:
    """One ratio of a run; None where it decides nothing."""
    free = statistic in ("loss", "parameters", "logits")
    found = row.get("ratios", {}).get(statistic)
    return None if free and not row.get("informative") else found


def rank(statistic: str) -> int:
    """The free run first, then the ladder."""
    order = ("parameters", "logits", "data", "forward", "example loss", "loss", "gradient")
    return (*order, "update", "metric").index(statistic)


def extremes(values: Sequence[float]) -> str:
    """Largest and 99th percentile."""
    return f"{max(values):.2f} ({np.percentile(values, 99):.2f})" if values else ""


def threshold_table(rows: Sequence[Row]) -> Iterator[str]:
    """What each threshold would detect and flag."""
    faulty, clean = planted(rows), clean_rows(rows)
    large = [row for row in faulty if is_large(row)]
    limit = Thresholds().envelopes
    yield f"## The threshold: {limit:g} envelopes\n"
    yield from head("threshold", "all faults", "those that move anything by more", "false alarms")
    for threshold in THRESHOLDS:
        cells = [
            share(group, lambda r, t=threshold: score(r) > t)  # type: ignore[misc]
            for group in (faulty, large, clean)
        ]
        yield f"| {threshold:g} | " + " | ".join(cells) + " |"
    yield ""
    worst = max((score(row) for row in clean), default=0.0)
    yield f"The largest score of a clean run is {worst:.3g}. ![trade-off](detection.png)\n"


def score(row: Row) -> float:
    """The largest ratio that decides the grade; infinite for a run that cannot be judged."""
    return float("inf") if row["status"] != "done" else float(row["score"])


# The figure


def draw(rows: Sequence[Row], path: Path) -> None:
    """Share of detected faults and of false alarms against the threshold."""
    from matplotlib.figure import Figure

    faulty, clean = planted(rows), clean_rows(rows)
    large = [row for row in faulty if is_large(row)]
    thresholds = np.geomspace(0.3, 1000, 400)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for label, group, style in (
        (f"all planted faults ({len(faulty)})", faulty, "C0-"),
        (f"those that move anything > {CHANGED:g} × rounding ({len(large)})", large, "C0--"),
        (f"clean runs: false alarms ({len(clean)})", clean, "C3-"),
    ):
        scores = np.array([score(row) for row in group])
        if len(scores):
            axis.plot(thresholds, [(scores > t).mean() for t in thresholds], style, label=label)
    limit = Thresholds().envelopes
    axis.axvline(limit, color="0.5", linewidth=0.8)
    axis.annotate(f" threshold {limit:g}", (limit, 0.9), color="0.3")
    axis.set_xscale("log")
    axis.set_xlabel("threshold, in rounding envelopes")
    axis.set_ylabel("share of runs beyond it")
    axis.set_ylim(-0.02, 1.02)
    axis.legend(loc="center right", frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Make the page and the figure from the runs."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    write_report(json.loads((out / "detection.json").read_text(encoding="utf-8")), out)


if __name__ == "__main__":
    main()
