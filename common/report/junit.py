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
            fails = moved["grade"] in BEYOND and not run.get("accepted")
            name = f"{run['implementation']} since the baseline"
            said = moved_sentence(run, moved)
            yield _case(run["backend"], name, said, moved["grade"] if fails else None)
    for entry in (report.facts.get("accepted") or {}).get("entries", ()):
        fails, name = entry["state"] in ("expired", "exceeded"), run_name(entry)
        said = accepted_sentence(entry) or "its run was not compared"
        kind = entry["state"] if fails else None
        yield _case("accepted", f"{name}, stage {entry['stage']}", said, kind)
    seeds = report.facts.get("seeds") or {}
    for name, metric, found in seed_tests(report.facts):
        said, kind = equivalence_sentence(metric, found), None if found["equivalent"] else NOT_SHOWN
        yield _case("over seeds", f"{name} {metric}", said, kind)
    for name, reason in seeds.get("failed", {}).items():
        yield _case("over seeds", name, reason, "failed", "error")
    if verdicts := seeds.get("verdicts"):
        worst = worst_verdict(verdicts)
        fails, missing = worst in failed, worst == "incomplete"
        kind = worst if fails or missing else None
        yield _case("over seeds", "verdict", kind or "", kind, "failure" if fails else "error")


def _run_case(run: Mapping[str, Any], failed: tuple[str, ...]) -> ET.Element:
    lines = list(run_lines(run))
    if accepted := run.get("accepted"):
        lines.append(f"accepted until {accepted['until']}: {accepted['reason']}")
    first = lines[0] if lines else run["grade"] or run["status"]
    who, text = (run["backend"], run["implementation"]), "\n".join(lines)
    seconds = (run["seconds"] or {}).get("total", 0.0)
    if run["status"] != "done":
        return _case(*who, text, run["status"], "error", first, seconds)
    if run["grade"] in failed and not run.get("accepted"):
        return _case(*who, text, run["grade"], "failure", first, seconds)
    said = f"grade: {run['grade']}\n{text}" if lines else ""
    return _case(*who, said, seconds=seconds)


def _case(
    classname: str,
    name: str,
    said: str,
    kind: str | None = None,
    tag: str = "failure",
    message: str | None = None,
    seconds: float = 0.0,
) -> ET.Element:
    """A case that fails, or errs, in a way; without one it only says something, or nothing."""
    facts = {"classname": clean(classname), "name": clean(name), "time": f"{seconds:.3f}"}
    case = ET.Element("testcase", facts)
    if kind is not None:
        told = {"message": clean(said if message is None else message), "type": clean(kind)}
        ET.SubElement(case, tag, told).text = clean(said)
    elif said:
        ET.SubElement(case, "system-out").text = clean(said)
    return case


def _written(report: ReportFacts) -> str:
    """When the report was written: JUnit's timestamps are of seconds, without a zone."""
    try:
        written = (report.folder / FILE).stat().st_mtime
    except OSError:
        written = datetime.now(UTC).timestamp()
    return datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%dT%H:%M:%S")
