"""The report as Markdown that fits the summary of a CI job."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from framework_parity.common.judging.grades import FAIL_ON
from framework_parity.common.report.columns import COMPARED, WHO, cells, chosen, since
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.findings import cell
from framework_parity.common.report.wording import (
    comparable_lines,
    lines_of_runs,
    lines_over_time,
    seed_lines,
)

NUMBERS = (*COMPARED, "fit_seconds")

MOST_BYTES = 1_000_000
"""GitHub takes a mebibyte for a step's summary, and drops what is larger as a whole."""

LONGEST_LINE = 2000
SIGNS = {
    "agree": "✅",
    "chaotic": "🌀",
    "drift": "🟡",
    "not shown": "❌",
    "disagree": "❌",
    "incomplete": "🟣",
}
INLINE = re.compile(r"([\\`*_\[\]|~$#@])")
BLOCK = re.compile(r"^(\d*)([+\-=.)])(?=\s|[+\-=])")


def markdown(report: ReportFacts) -> str:
    """The verdict, the table and what there is to say of each run."""
    lines = list(_lines(report))
    size = 0
    kept: list[str] = []
    for line in lines:
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            kept.append(f"\n… {len(lines) - len(kept)} more lines: `compare.py show` prints them.")
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def escaped(value: object) -> str:
    """Text in which nothing is markup, on one line."""
    text = " ".join(str(value).split())
    if len(text) > LONGEST_LINE:
        text = f"{text[:LONGEST_LINE]} …"
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    return BLOCK.sub(r"\1\\\2", INLINE.sub(r"\\\1", html.escape(text, quote=False)))


def _lines(report: ReportFacts) -> Iterator[str]:
    facts = report.facts
    sign = SIGNS["disagree" if report.failures else report.deciding_verdict]
    yield f"## {sign} framework-parity: {report.verdict}"
    yield f"\n{escaped(report.sentence)}\n"
    for notice in facts["notices"]:
        yield f"> {escaped(notice)}\n"
    with_baseline = bool(facts.get("baseline"))
    numbers = chosen(NUMBERS, facts["reference"])
    columns = [*chosen(WHO), *numbers, *chosen(["grade"])]
    heads = [column.head.replace("\n", " ") for column in columns]
    heads += ["first divergence", *(["baseline"] * with_baseline)]
    yield f"| {' | '.join(heads)} |"
    others = len(heads) - 3 - len(numbers)
    yield f"|{'|'.join(['---'] * 3 + ['--:'] * len(numbers) + ['---'] * others)}|"
    for run in report.runs:
        done, accepted = run["status"] == "done", run.get("accepted")
        who = (escaped(column.value(run) or "?") for column in chosen(WHO))
        grade = _grade(run["grade"]) if done else f"**{escaped(run['status'])}**"
        grade += f" (accepted until {accepted['until']})" if accepted else ""
        over_time = [since(run, _grade)] if with_baseline else []
        yield f"| {' | '.join([*who, *cells(run, numbers), grade, cell(run), *over_time])} |"
    yield ""
    yield from (f"{escaped(line)}\n" for line in comparable_lines(facts))
    for line in (*lines_of_runs(facts), *lines_over_time(facts), *seed_lines(facts)):
        yield f"- {escaped(line)}"
    recipe, data = facts["recipe"], facts["data"]
    yield (
        f"\n{escaped(data['name'])}: {data['num_train']:,} training and {data['num_val']:,} "
        f"validation examples; {recipe['max_epochs']} epochs, batch {recipe['batch_size']}, lr "
        f"{recipe['lr']:g}, sigma {recipe['sigma']:g}, seed {recipe['seed']}, {recipe['dtype']}; "
        f"plan `{facts['plan_sha256'][:12]}`"
    )


def _grade(grade: str) -> str:
    return f"**{grade}**" if grade in FAIL_ON else grade
