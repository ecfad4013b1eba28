"""Tables of the suite's test of itself on users' models, from the runs that it judged.

``python -m benchmarks.model_detection_report`` makes them anew from
``results/model_detection.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from framework_parity.benchmarks.porting_bugs import BUGS
from framework_parity.common.judging.grades import SOUND

Row = dict[str, Any]
NAME = "model_detection"
MOVED = 5.0
"""A bug that moves a parameter by more envelopes must be found."""
CATALOGUE = {(bug.example, bug.name): bug for bug in BUGS}


def write_report(facts: dict[str, Any], out: Path) -> None:
    """Write the runs and the tables to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, separators=(",", ":")).replace('{"task"', '\n{"task"')
    (out / f"{NAME}.json").write_text(f"{text}\n", encoding="utf-8")
    (out / f"{NAME}.md").write_text("\n".join(lines(facts)) + "\n", encoding="utf-8")


# What the rows say


def cause_of(row: Row) -> str:
    """What is said of the cause, in lower case; empty if nothing is."""
    cause, where = row["cause"] or {}, row["divergence"] or {}
    return " ".join(str(cause.get("name") or where.get("note") or "").lower().split())


def is_known(row: Row) -> bool:
    """Whether a run that is outside rounding has a cause with a name."""
    return bool(row["cause"]) or "reproduces every" in cause_of(row)


def verdict(row: Row) -> tuple[Any, ...]:
    """What is said of a run: a bug in a port that is drift by itself must change that."""
    where = row["divergence"] or {}
    return row["grade"], where.get("stage"), where.get("tensor"), cause_of(row)


def is_found(row: Row, sound: Row) -> bool:
    """Whether a bug does not pass for the sound copy."""
    if row["status"] != "done":
        return True
    return row["grade"] not in SOUND and (sound["grade"] in SOUND or verdict(row) != verdict(sound))


def place_is_right(row: Row) -> bool:
    """Whether the first divergence is where the bug shows first."""
    bug, where = CATALOGUE[row["example"], row["bug"]], row["divergence"] or {}
    return where.get("stage") == bug.stage and (
        not bug.tensors or where.get("tensor") in bug.tensors
    )


def cause_is_right(row: Row) -> bool:
    """Whether the cause that is named is the bug's."""
    bug = CATALOGUE[row["example"], row["bug"]]
    return bool(bug.cause) and bool(re.search(bug.cause, cause_of(row)))


# The tables


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The report, line by line."""
    rows: list[Row] = facts["runs"]
    sound = {(row["task"], row["backend"]): row for row in rows if row["bug"] is None}
    bugs = [(row, sound[row["task"], row["backend"]]) for row in rows if row["bug"]]
    yield "# Porting bugs found in users' models, and false alarms"
    yield ""
    machine = facts["machine"]["processor"]
    yield f"`{facts['command']}`: {facts['seconds']:.0f} s on {machine}, with"
    yield ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + "."
    judged = len({row["task"] for row in rows})
    yield f"{judged} of {facts['plans']} plans were judged."
    yield ""
    yield from summary(bugs)
    yield ""
    first = {row["task"]: row["backend"] for row in reversed(rows) if row["bug"] is None}
    yield from false_alarms([r for r in sound.values() if r["backend"] != first[r["task"]]])
    yield ""
    yield "## Every bug"
    yield ""
    yield "| example | bug | planted in | moved, × rounding | found | first divergence | cause |"
    yield "|---|---|---|---|---|---|---|"
    for row, of in bugs:
        where = row["divergence"] or {}
        place = f"{where['stage']}, {where['tensor']}" if where else row["reason"] or ""
        change = "" if row["moved"] is None else f"{row['moved']:.3g}"
        known = cause_of(row) if is_known(row) else ""
        words = (row["example"], row["bug"], row["backend"], change)
        words += ("yes" if is_found(row, of) else "**no**", place, known)
        cells = (word.replace("|", "/").partition("\n")[0] for word in words)
        yield f"| {' | '.join(cells)} |"
    if facts["failed"]:
        yield ""
        yield "## Not judged"
        yield ""
        for name, reason in facts["failed"].items():
            yield f"- {name}: {reason.splitlines()[0]}"


def summary(bugs: list[tuple[Row, Row]]) -> Iterator[str]:
    """What was found, in numbers."""
    must = [pair for pair in bugs if pair[0]["moved"] is None or pair[0]["moved"] > MOVED]
    found = [row for row, of in bugs if is_found(row, of)]
    placed = [row for row in found if row["status"] == "done"]
    nameable = [row for row in placed if CATALOGUE[row["example"], row["bug"]].cause]
    wrong = [row for row in placed if is_known(row) and not cause_is_right(row)]
    kinds = len({row["bug"] for row, _ in bugs})
    yield "| | |"
    yield "|---|---|"
    yield f"| bugs planted, of {kinds} kinds | {len(bugs)} |"
    part = sum(is_found(*pair) for pair in must)
    yield f"| found of those that move a parameter by over {MOVED:g} envelopes | {of(part, must)} |"
    yield f"| found of all | {of(len(found), bugs)} |"
    yield f"| first divergence where the bug is | {of(sum(map(place_is_right, placed)), placed)} |"
    right = sum(map(cause_is_right, nameable))
    yield f"| cause named, where the catalogue has it | {of(right, nameable)} |"
    yield f"| wrong cause | {of(len(wrong), placed)} |"


def false_alarms(clean: list[Row]) -> Iterator[str]:
    """How often a sound copy is blamed, by example."""
    yield "## Faultless runs"
    yield ""
    yield "Without those of the reference's own framework, of which the ensemble is made."
    yield ""
    names = "runs", "rounding", "outside, a cause named", "outside, none named", "did not run"
    yield f"| example | {' | '.join(names)} |"
    yield "|---|---|---|---|---|---|"
    for example in (*dict.fromkeys(row["example"] for row in clean), "all"):
        rows = [row for row in clean if example in (row["example"], "all")]
        ran = [row for row in rows if row["status"] == "done"]
        off = [row for row in ran if row["grade"] not in SOUND]
        known = sum(map(is_known, off))
        numbers = (len(rows), len(ran) - len(off), known, len(off) - known, len(rows) - len(ran))
        yield f"| {example} | {' | '.join(map(str, numbers))} |"
    worst = max((row["envelopes"] or 0.0 for row in clean if row["grade"] in SOUND), default=0.0)
    yield ""
    yield f"The farthest within rounding: {worst:.2g} × rounding. Those outside without a name:"
    yield ""
    for row in clean:
        if row["grade"] not in (*SOUND, None) and not is_known(row):
            where = row["divergence"] or {}
            place = f"{where.get('stage')}, {where.get('tensor')}"
            far = f"{row['envelopes']:.3g} × rounding"
            yield f"- {row['task']}, {row['backend']}: {row['grade']}, {place}, {far}"


def of(part: int, whole: list[Any]) -> str:
    """A part, and its percentage."""
    return f"{part} of {len(whole)}" + (f" ({100 * part / len(whole):.1f} %)" if whole else "")


def main() -> int:
    """Make the tables anew."""
    out = Path(__file__).parent / "results"
    facts = json.loads((out / f"{NAME}.json").read_text(encoding="utf-8"))
    write_report(facts, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
