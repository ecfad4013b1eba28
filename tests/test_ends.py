"""However a process ends early, its row is failed: 0 is said only by a verdict."""

import json
import shlex
import sys
from dataclasses import replace

import pytest

from framework_parity.benchmarks import measure
from framework_parity.benchmarks.measure import Task
from framework_parity.common.commands.judge_comparison import load_trajectories
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Execution
from framework_parity.common.judging.grades import VERDICTS
from framework_parity.common.notebook import exercises
from framework_parity.common.notebook.exercises import ask
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import RecordError
from tests.comparisons import finished
from tests.helpers import (
    COMPARE,
    PLAIN,
    interpreter,
    make_plan,
    program,
    run,
)
from tests.test_worker_pool import contenders, execution, train

# Workers

BEFORE = (
    *("end", "end_with_words", "leave", "fail", "kill", "interrupt", "become_another"),
    *("close_stdout", "say_done", "say_nothing", "half_a_record"),
)
AFTER = ("after_fail", "after_kill", "after_interrupt", "after_end_with_words")
SILENT = ("leave", "say_done", "say_nothing")
WAYS = ("shared", "alone", "pooled")
"""One process for both implementations, one for each, one that stays."""


def ends(folder, deed, way, workers, victim):
    """Whether the runs of a worker that does a deed in one of them can be judged."""
    script = f'exec {shlex.quote(sys.executable)} -m tests.sabotage {deed} {victim} "$@"'
    python = interpreter(folder / "python", "*framework_parity.common.worker*", script)
    plan = execution(folder / "plan", workers if way == "pooled" else None)
    plan = replace(plan, alone=way == "alone")
    judged, runs = {}, contenders(python=python)
    for name, outcome in train(plan, runs).items():
        (contender,) = (run for run in runs if run.implementation == name)
        judged[name] = outcome.status == "done"
        try:
            contender.read(plan.record_folder(contender.name), plan.plan.sha256)
        except RecordError:
            judged[name] = False
        else:
            assert judged[name] or deed in AFTER
    return judged


RUNS = [(way, deed, "concise") for way in ("shared", "pooled") for deed in BEFORE]
RUNS += [("alone", deed, "concise") for deed in SILENT]
RUNS += [(way, deed, "scratch") for way in ("shared", "pooled") for deed in SILENT]


@pytest.mark.parametrize(("way", "deed", "victim"), RUNS)
def test_a_worker_that_ends_early_fails_that_run_alone(tmp_path, workers, deed, way, victim):
    (other,) = {"scratch", "concise"} - {victim}
    judged = ends(tmp_path, deed, way, workers, victim)
    assert not judged[victim]
    assert judged[other]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("deed", AFTER)
def test_a_worker_that_ends_badly_after_its_record_has_failed(tmp_path, workers, deed, way):
    judged = ends(tmp_path, deed, way, workers, "concise")
    assert judged == {"scratch": True, "concise": False}


# The reference

EMPTY = b"PK\x05\x06" + bytes(18)
"""A ZIP archive of nothing."""

GONE = {
    "gone": None,
    "empty": b"",
    "rubbish": b"PK rubbish",
    "no arrays": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", [REFERENCE, MEMBERS[-1]])
@pytest.mark.parametrize("damage", GONE)
def test_a_reference_that_ends_without_its_trajectory_is_one_line(tmp_path, name, damage):
    finished(tmp_path / "out", {})
    plan, _ = make_plan(tmp_path)
    found = Execution(plan, tmp_path / "out", 1, 1, 60.0)
    place = found.reference_folder(name) / "arrays.npz"
    place.unlink()
    if GONE[damage] is not None:
        place.write_bytes(GONE[damage])
    done = dict.fromkeys((REFERENCE, *MEMBERS), Outcome("done", None, 1.0))
    with pytest.raises(ParityError, match=f"{name}: expected the trajectory"):
        load_trajectories(found, done, list(done))


# Other questions to other processes

ANSWERS = {
    "nothing": "exit 0",
    "no JSON": "echo { > record.json; exit 0",
    "no object": "echo 7 > record.json; exit 0",
    "half": "printf '{\"limits\": {' > record.json; exit 0",
    "an answer, then the end": "echo '{\"schema\": 1}' > record.json; exit 3",
    "a signal": "kill -9 $$",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_question_that_is_not_answered_has_failed(tmp_path, monkeypatch, answer):
    place = r"""sed -n 's/^ "record": "\(.*\)",$/\1/p' "$last\""""
    script = f'for last; do :; done; out="$({place})"; mkdir "$out"; cd "$out"; {ANSWERS[answer]}'
    python = program(tmp_path / "python", script)
    monkeypatch.setattr(exercises, "find_environment", lambda b: Environment(b.name, python))
    found = ask("limits", [PLAIN])[PLAIN]
    assert list(found) == ["failed"]
    assert found["failed"]


@pytest.mark.parametrize("script", ["exit 0", "exit 1", "kill -9 $$", "echo '{}' ; exit 0"])
def test_a_benchmark_without_its_sample_has_failed(tmp_path, script):
    python = program(tmp_path / "python", script)
    found = measure.sample(Task("a", Environment("a", python), {"kind": "fit"}), tmp_path, 1, "cpu")
    assert list(found) == ["failed"]


# A stored report

SPOILT = {
    "another verdict": lambda facts: facts.update(verdict="splendid"),
    "no verdict": lambda facts: facts.pop("verdict"),
    "null": lambda facts: facts.update(verdict=None),
    "a better verdict": lambda facts: facts["runs"][0].update(grade="disagree"),
    "a failed row": lambda facts: facts["runs"][0].update(status="failed"),
    "no grade": lambda facts: facts["runs"][0].update(grade=None),
    "another grade": lambda facts: facts["runs"][0].update(grade="good"),
    "another release": lambda facts: facts["runs"][0].update(version="2.0"),
    "no release": lambda facts: facts["runs"][0].update(versions={}),
    "no versions": lambda facts: facts["runs"][0].update(versions=None),
    "no rows": lambda facts: facts.update(runs=[]),
    "a seed": lambda facts: facts.update(seeds={"verdicts": ["disagree"], "seeds": [0]}),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "out"
    return finished(folder, {("made-up", "concise"): 1.0})


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_stored_report_that_contradicts_itself_is_refused(stored, tmp_path, spoil):
    facts = json.loads((stored.folder / FILE).read_text())
    SPOILT[spoil](facts)
    (tmp_path / FILE).write_text(json.dumps(facts))
    process = run([*COMPARE, "show", tmp_path], tmp_path)
    assert process.returncode == 2, process.stdout
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert "expected a report" in line


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_bisection_that_is_shown_ends_as_it_did(stored, verdict):
    """Its releases are meant to differ: the pair is what was asked for."""
    facts = stored.facts | {"verdict": verdict, "bisection": {"first_different": "2.0"}}
    assert Report(facts, stored.folder).exit_status() == 0
