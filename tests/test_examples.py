"""The examples of ``docs/examples`` as users write them: sound ports agree, bugs are found."""

import time
from dataclasses import replace

import pytest

from framework_parity.benchmarks.model_detection import (
    EXAMPLES,
    RECIPES,
    VARIANTS,
    Task,
    run_tasks,
    tasks,
)
from framework_parity.benchmarks.model_detection_report import (
    cause_is_right,
    is_found,
    is_known,
    lines,
    place_is_right,
)
from framework_parity.benchmarks.porting_bugs import BUGS
from framework_parity.benchmarks.porting_bugs.bug import changed
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.training.model_file import SUFFIX
from tests.helpers import FRAMEWORKS

PLANTED = {"mlp": "Nesterov momentum", "transformer": "epsilon of a norm"}
"""By example the bug that is planted here; ``benchmarks detection --models`` plants all."""


def text_of(example):
    return (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Rows of all examples, each of three steps, and why an example has none."""
    found = discover(external=False)
    environments = {name: find_environment(found[name]) for name in FRAMEWORKS}
    wanted = []
    for example, recipe in RECIPES.items():
        planted = [bug for bug in BUGS if (bug.example, bug.name) in PLANTED.items()]
        pairs = tuple((bug, name) for bug in planted for name in [*bug.changes][1:2])
        short = replace(recipe, batch_size=479)
        wanted.append(Task(example, example, "as it is", short, pairs if pairs else ()))
    wanted = [
        replace(task, bugs=tuple(p for p in task.bugs if p[0].example == task.example))
        for task in wanted
    ]
    deadline = time.monotonic() + 600
    return run_tasks(wanted, tmp_path_factory.mktemp("examples"), environments, deadline)


@pytest.mark.parametrize("example", RECIPES)
def test_sound_ports_agree_or_their_difference_is_named(judged, example):
    rows, failed = judged
    assert example not in failed, failed[example]
    sound = [row for row in rows if row["example"] == example and row["bug"] is None]
    assert len(sound) >= 3
    for row in sound:
        assert row["status"] == "done", row["reason"]
        assert row["grade"] in SOUND or is_known(row), row


@pytest.mark.parametrize("example", PLANTED)
def test_a_bug_is_found_where_it_is(judged, example):
    rows, _ = judged
    sound = {row["backend"]: row for row in rows if (row["example"], row["bug"]) == (example, None)}
    (row,) = (row for row in rows if row["example"] == example and row["bug"])
    assert row["moved"] > 5
    assert is_found(row, sound[row["backend"]])
    assert place_is_right(row), row["divergence"]
    assert cause_is_right(row), row["cause"]


def test_the_report_counts_them(judged):
    rows, failed = judged
    facts = {"command": "…", "seconds": 1.0, "machine": {"processor": "…"}, "versions": {}}
    text = "\n".join(lines(facts | {"plans": len(RECIPES), "failed": failed, "runs": rows}))
    assert f"{len(RECIPES) - len(failed)} of {len(RECIPES)} plans were judged." in text
    assert "| found of all | 2 of 2 (100.0 %) |" in text


@pytest.mark.parametrize("example", RECIPES)
def test_every_bug_and_variant_has_its_place_in_the_example(example):
    text = text_of(example)
    for bug in BUGS:
        for backend, changes in bug.changes.items() if bug.example == example else ():
            planted = changed(text, changes, backend)
            assert planted != text
            compile(planted, bug.name, "exec")
    for variant, changes in VARIANTS[example].items():
        compile(changed(text, changes), variant, "exec")


def test_there_are_enough_of_all():
    names = list(discover(external=False))
    runs = [text_of(task.example).count(f"{SUFFIX}(d2l") for task in tasks(names) if not task.bugs]
    assert sum(count - 1 for count in runs) >= 250
    assert len({bug.name for bug in BUGS}) >= 12


@pytest.mark.parametrize("example", RECIPES)
def test_the_guide_lists_every_example_with_its_command(example):
    guide = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")
    assert f"docs/examples/{example}.py --data" in guide
