"""The examples of ``docs/examples`` as users write them: sound ports agree, bugs are found."""

import time

import numpy as np
import pytest

from framework_parity.benchmarks.model_detection import (
    BACKENDS,
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
from framework_parity.common.training.forward_checks import changing

PLANTED = {"mlp": "Nesterov momentum", "transformer": "epsilon of a norm"}
"""By example the bug that is planted here; ``benchmarks detection --models`` plants all."""


def text_of(example):
    return (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Rows of all examples, and why an example has none.

    Each is trained by the reference's framework and one other: those with Adam by the first.
    """
    found, (first, *others) = discover(external=False), BACKENDS
    rows, failed = [], {}
    for other in others:
        wanted = []
        for example in RECIPES:
            if ("Adam" in text_of(example)) != (other == others[0]):
                continue
            bugs = [b for b in BUGS if (b.example, b.name) == (example, PLANTED.get(example))]
            pairs = tuple((bug, other) for bug in bugs)
            wanted.append(Task(example, example, "as it is", RECIPES[example], pairs))
        environments = {name: find_environment(found[name]) for name in (first, other)}
        work, deadline = tmp_path_factory.mktemp(other), time.monotonic() + 3600
        more, reasons = run_tasks(wanted, work, environments, deadline)
        rows, failed = rows + more, failed | reasons
    return rows, failed


@pytest.mark.parametrize("example", RECIPES)
def test_sound_ports_agree_or_their_difference_is_named(judged, example):
    rows, failed = judged
    assert example not in failed, failed[example]
    sound = [row for row in rows if row["example"] == example and row["bug"] is None]
    assert len(sound) == 2
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
    assert not is_known(row) or cause_is_right(row), row["cause"]


def test_the_report_counts_them(judged):
    rows, failed = judged
    facts = {"command": "…", "seconds": 1.0, "machine": {"processor": "…"}, "versions": {}}
    text = "\n".join(lines(facts | {"plans": len(RECIPES), "failed": failed, "runs": rows}))
    assert f"{len(RECIPES) - len(failed)} of {len(RECIPES)} plans were judged." in text
    assert "| found of all | 2 of 2 (100.0 %) |" in text


def test_a_step_along_a_gradient_of_rounding_alone_is_no_chance():
    """Adam divides it by its size: the bias of an attention's keys goes anywhere."""
    probe = {
        "gradient/W": np.array([0.5, 1e-9], np.float32),
        "update/W": np.array([0.1, 0.1], np.float32),
    }
    other = probe | {"update/W": np.array([0.1, -0.1], np.float32)}
    assert not list(changing(other, [probe, probe]))
    assert list(changing(probe | {"update/W": np.array([0.2, 0.1], np.float32)}, [probe, probe]))


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
    clean = [task for task in tasks(BACKENDS) if not task.bugs]
    assert len(clean) * (len(BACKENDS) - 1) >= 250
    assert len({bug.name for bug in BUGS}) >= 12


@pytest.mark.parametrize("example", RECIPES)
def test_the_guide_lists_every_example_with_its_command(example):
    guide = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")
    assert f"docs/examples/{example}.py --data" in guide
