"""The report as JUnit XML: test cases that fail where the exit status does.

One for every run, one for what became of it since the baseline, one for every accepted difference,
one for every test over seeds.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # writes, and never parses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from framework_parity.common.judging.grades import BEYOND, NOT_SHOWN, failing, worst_verdict
from framework_parity.common.report.facts import FILE, ReportFacts
from framework_parity.common.report.wording import (
    accepted_sentence,
    comparable_lines,
    equivalence_sentence,
    moved_sentence,
    run_lines,
    run_name,
    seed_tests,
)

SUITE = "framework-parity"
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def junit_xml(report: ReportFacts, fail_on: str = "disagree") -> str:
    """The report in JUnit's common schema."""
    cases = list(_cases(report, fail_on))
    count = {kind: str(sum(len(c.findall(kind)) for c in cases)) for kind in ("failure", "error")}
    seconds = sum(float(case.get("time", "0")) for case in cases)
    totals = {
        "tests": str(len(cases)),
        "failures": count["failure"],
        "errors": count["error"],
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": SUITE, **totals})
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "name": SUITE,
            "package": SUITE,
            "id": "0",
            "hostname": "localhost",
            "timestamp": _written(report),
            "skipped": "0",
            **totals,
        },
    )
    facts = {"verdict": report.verdict, "plan_sha256": report.facts["plan_sha256"]}
    properties = ET.SubElement(suite, "properties")
    for name, value in {**facts, **report.facts["recipe"]}.items():
        ET.SubElement(properties, "property", {"name": name, "value": clean(value)})
    suite.extend(cases)
    said = "\n".join([report.sentence, *comparable_lines(report.facts)])
    ET.SubElement(suite, "system-out").text = clean(said)
    ET.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(root, encoding='unicode')}\n"


def clean(value: object) -> str:
    """A value as text that XML can hold."""
    return UNPRINTABLE.sub("\ufffd", str(value))


def _cases(report: ReportFacts, fail_on: str) -> Iterator[ET.Element]:
    failed = failing(fail_on)
    for run in report.runs:
        yield _run_case(run, failed)
        if moved := run.get("baseline"):
            said = moved_sentence(run, moved)
            case = _case(run["backend"], f"{run['implementation']} since the baseline")
            if moved["grade"] in BEYOND and not run.get("accepted"):
                _say(case, "failure", said, said, moved["grade"])
            else:
                _say(case, "system-out", said)
            yield case
    for entry in (report.facts.get("accepted") or {}).get("entries", ()):
        case = _case("accepted", f"{run_name(entry)}, stage {entry['stage']}")
        ending = accepted_sentence(entry) or "its run was not compared"
        if entry["state"] in ("expired", "exceeded"):
            _say(case, "failure", ending, ending, entry["state"])
        else:
            _say(case, "system-out", ending)
        yield case
    seeds = report.facts.get("seeds") or {}
    for name, metric, found in seed_tests(report.facts):
        case, said = _case("over seeds", f"{name} {metric}"), equivalence_sentence(metric, found)
        if found["equivalent"]:
            _say(case, "system-out", said)
        else:
            _say(case, "failure", said, said, NOT_SHOWN)
        yield case
    for name, reason in seeds.get("failed", {}).items():
        case = _case("over seeds", name)
        _say(case, "error", reason, reason, "failed")
        yield case
    if verdicts := seeds.get("verdicts"):
        case = _case("over seeds", "verdict")
        worst = worst_verdict(verdicts)
        if worst in failed:
            _say(case, "failure", worst, worst, worst)
        elif worst == "incomplete":
            _say(case, "error", worst, worst, worst)
        yield case


def _run_case(run: Mapping[str, Any], failed: tuple[str, ...]) -> ET.Element:
    seconds = (run["seconds"] or {}).get("total", 0.0)
    case = _case(run["backend"], run["implementation"], seconds)
    lines = list(run_lines(run))
    if accepted := run.get("accepted"):
        lines.append(f"accepted until {accepted['until']}: {accepted['reason']}")
    first = lines[0] if lines else run["grade"] or run["status"]
    if run["status"] != "done":
        _say(case, "error", "\n".join(lines), first, run["status"])
    elif run["grade"] in failed and not run.get("accepted"):
        _say(case, "failure", "\n".join(lines), first, run["grade"])
    elif lines:
        _say(case, "system-out", "\n".join([f"grade: {run['grade']}", *lines]))
    return case


def _case(classname: str, name: str, seconds: float = 0.0) -> ET.Element:
    facts = {"classname": clean(classname), "name": clean(name), "time": f"{seconds:.3f}"}
    return ET.Element("testcase", facts)


def _say(
    case: ET.Element, tag: str, text: str, message: str | None = None, kind: str | None = None
) -> None:
    given = {"message": message, "type": kind}
    attributes = {name: clean(value) for name, value in given.items() if value is not None}
    ET.SubElement(case, tag, attributes).text = clean(text)


def _written(report: ReportFacts) -> str:
    """When the report was written: JUnit's timestamps are of seconds, without a zone."""
    try:
        written = (report.folder / FILE).stat().st_mtime
    except OSError:
        written = datetime.now(UTC).timestamp()
    return datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%dT%H:%M:%S")
