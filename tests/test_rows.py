"""A record that is not of the row that it is read for is never judged, wherever it is read."""

import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import framework_parity.common.commands.reprobe
from framework_parity.benchmarks.detection import Run
from framework_parity.benchmarks.programs import Program
from framework_parity.common.commands.bisection import Bisection
from framework_parity.common.commands.bisection_state import Question, State
from framework_parity.common.commands.judge_comparison import (
    judge_comparison,
    judge_record,
    load_judge,
)
from framework_parity.common.commands.reprobe import second_look
from framework_parity.common.core.cache import cache_directory
from framework_parity.common.environments.backend import ROOT, Environment
from framework_parity.common.environments.discovery import discover
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import (
    MEMBERS,
    REFERENCE,
    Contender,
    Execution,
    repeat_name,
)
from framework_parity.common.judging.equivalence import LEAST_SEEDS
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.details import load_details
from framework_parity.common.report.report import Report
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import RecordError
from tests.comparisons import finished
from tests.damage import OF_ANOTHER_ROW, change_arrays, change_facts
from tests.helpers import COMPARE, PLAIN, SMALL, interpreter, run
from tests.test_own_model import PLAIN_MODEL

RELEASE = "1.0"
ROW = Contender(Environment("made-up", Path(sys.executable), RELEASE), "concise")


def versions(**found):
    return lambda folder: change_facts(folder, lambda facts: facts.update(versions=found))


WRONG = OF_ANOTHER_ROW | {
    "later": versions(**{"made-up": "1.0.1"}),
    "post-release": versions(**{"made-up": "1.0.post1"}),
    "candidate": versions(**{"made-up": "1.0rc1"}),
    "no version": versions(**{"made-up": "unknown"}),
    "empty": versions(**{"made-up": ""}),
    "null": versions(**{"made-up": None}),
    "number": versions(**{"made-up": 1.0}),
    "list": versions(**{"made-up": ["1.0"]}),
    "of another library": versions(python="1.0", made_up="1.0"),
    "none at all": versions(),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A finished comparison of one row."""
    folder = tmp_path_factory.mktemp("rows") / "out"
    finished(folder, {("made-up", "concise"): 1.0})
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of it."""
    shutil.copytree(sound, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_of_another_row_is_refused(folder, wrong):
    place = folder / "runs" / ROW.name
    ROW.read(place)
    WRONG[wrong](place)
    with pytest.raises(RecordError, match="expected"):
        ROW.read(place)


@pytest.mark.parametrize(
    ("version", "asked", "trained", "fits"),
    [
        ("1.0", None, "1.0+cpu", True),
        ("1.0+cpu", None, "1.0", True),
        ("1.0", None, "1.0.0", True),
        ("1.0+cpu", "1.0", "1.0+cpu", True),
        ("1.0+cpu", None, "1.0+gpu", False),
        ("1.0+cpu", "1.0", "1.0+gpu", False),
        ("1.1", "1.0", "1.1", False),
        (None, "1.0", "1.1", False),
        (None, None, "1.1", True),
        ("nightly", None, "nightly", True),
        ("nightly", None, "1.0", False),
    ],
)
def test_which_releases_are_the_rows(folder, version, asked, trained, fits):
    row = replace(ROW, environment=Environment("made-up", None, version, None, asked))
    place = folder / "runs" / ROW.name
    versions(**{"made-up": trained})(place)
    if fits:
        row.read(place)
    else:
        with pytest.raises(RecordError, match=re.escape(f"received one with {trained}")):
            row.read(place)


@pytest.mark.parametrize("given", [{}, {"python": "3.11"}])
def test_a_backend_whose_versions_lack_its_own_is_told_so(folder, given):
    place = folder / "runs" / ROW.name
    versions(**given)(place)
    with pytest.raises(RecordError) as refused:
        ROW.read(place)
    assert f"received the versions of {', '.join(given) or 'nothing'}, and" in str(refused.value)
    assert "; let the backend's versions() give that of made-up" in str(refused.value)


# Each way to a judge, from records that are there

DONE = Outcome("done", None, 1.0)
routes = pytest.mark.parametrize("wrong", OF_ANOTHER_ROW)


class Comparison:
    """A finished comparison, as its folder holds it."""

    def __init__(self, folder):
        self.plan = Plan.load(folder / "plan")
        self.data = self.plan.data()
        self.execution = Execution(self.plan, folder, slots=1, threads=1, timeout=60.0)
        self.outcomes = dict.fromkeys((REFERENCE, *MEMBERS, ROW.name), DONE)

    @property
    def judge(self):
        return load_judge(self.execution, self.data, self.outcomes)

    def facts(self, repeats=1):
        given = (self.execution, self.data, [ROW], self.outcomes, Thresholds(), repeats)
        return judge_comparison(*given)


@routes
def test_a_run_is_failed(folder, wrong):
    assert Comparison(folder).facts()["verdict"] == "agree"
    OF_ANOTHER_ROW[wrong](folder / "runs" / ROW.name)
    facts = Comparison(folder).facts()
    (row,) = facts["runs"]
    assert facts["verdict"] == "incomplete"
    assert (row["status"], row["grade"]) == ("failed", None)
    assert "expected" in row["reason"]


@routes
@pytest.mark.parametrize("repeat", [0, 1, 2])
def test_a_repetition_fails_its_row(folder, wrong, repeat):
    comparison = Comparison(folder)
    for other in (1, 2):
        comparison.outcomes[repeat_name(ROW, other)] = DONE
        shutil.copytree(folder / "runs" / ROW.name, folder / "runs" / repeat_name(ROW, other))
    assert comparison.facts(3)["verdict"] == "agree"
    OF_ANOTHER_ROW[wrong](folder / "runs" / repeat_name(ROW, repeat))
    facts = comparison.facts(3)
    (row,) = facts["runs"]
    assert facts["verdict"] == "incomplete"
    assert (row["status"], row["grade"], row["repeats"]["trained"]) == ("failed", None, 2)
    assert f"training {repeat + 1} of 3: bad record" in row["repeats"]["reason"]


@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_a_repetition_that_does_not_train_fails_its_row(folder, status):
    comparison = Comparison(folder)
    comparison.outcomes[repeat_name(ROW, 1)] = Outcome(status, "it ended", 1.0)
    facts = comparison.facts(2)
    (row,) = facts["runs"]
    assert facts["verdict"] == "incomplete"
    assert (row["status"], row["grade"]) == ("failed", None)
    assert row["reason"] == f"training 2 of 2: {status}: it ended"


@routes
def test_a_second_look_by_another_is_none(folder, monkeypatch, wrong):
    comparison = Comparison(folder)
    place, record = folder / "second_look" / ROW.name / "record", folder / "runs" / ROW.name
    damages = []

    def look_again(*_):
        shutil.copytree(record, place)
        for damage in damages:
            damage(place)
        return {ROW.name: DONE}

    monkeypatch.setattr(
        framework_parity.common.commands.reprobe,
        "steps_to_probe",
        lambda *_: comparison.plan.probes,
    )
    monkeypatch.setattr(Execution, "look_again", look_again)
    judge = comparison.judge
    judged = {ROW.name: judge_record(judge, comparison.execution, ROW)}
    given = (judge, comparison.execution, [ROW], judged)
    assert ROW.name in second_look(*given)
    damages.append(OF_ANOTHER_ROW[wrong])
    assert not second_look(*given)


def test_a_second_look_changes_nothing_but_its_probes(folder, monkeypatch):
    """An external program may leave what it was not asked for."""
    comparison = Comparison(folder)
    record = ROW.read(folder / "runs" / ROW.name)

    def look_again(*_):
        arrays = {name: 0 * array for name, array in record.arrays.items() if name[0] != "p"}
        other = replace(record, arrays={**record.arrays, **arrays})
        other.save(folder / "second_look" / ROW.name / "record")
        return {ROW.name: DONE}

    monkeypatch.setattr(
        framework_parity.common.commands.reprobe,
        "steps_to_probe",
        lambda *_: comparison.plan.probes,
    )
    monkeypatch.setattr(Execution, "look_again", look_again)
    judge = comparison.judge
    judged = {ROW.name: judge_record(judge, comparison.execution, ROW)}
    seen = second_look(judge, comparison.execution, [ROW], judged)
    assert seen[ROW.name][1].grade == "rounding"


@routes
def test_a_release_of_a_bisection_is_failed(folder, monkeypatch, wrong):
    comparison = Comparison(folder)
    asked = ("made-up", ">=0", "grade", ("concise",), (), comparison.plan.sha256, ())
    state = State(Question(*asked), (RELEASE,))
    backend = discover()[PLAIN]
    found = Bisection(state, backend, comparison.execution, comparison.data, Thresholds())
    found.references = comparison.outcomes
    found.environments[RELEASE] = replace(ROW.environment, asked=RELEASE)
    (contender,) = found._contenders(RELEASE)
    shutil.copytree(folder / "runs" / ROW.name, folder / "runs" / contender.name)
    monkeypatch.setattr(Execution, "train_again", lambda *_: {contender.name: DONE})
    assert found._try(RELEASE).grades == ("rounding",)
    OF_ANOTHER_ROW[wrong](folder / "runs" / contender.name)
    trial = found._try(RELEASE)
    assert (trial.grades, trial.digests) == (("failed",), (None,))
    assert "bad record: expected" in trial.failure


@routes
def test_it_is_not_drawn(folder, wrong):
    runs = Report.load(folder).runs
    assert not load_details(folder, runs).missing
    OF_ANOTHER_ROW[wrong](folder / "runs" / ROW.name)
    details = load_details(folder, runs)
    assert not details.runs
    assert "its record cannot be drawn: expected" in details.missing[0]


@routes
def test_a_benchmark_reads_none(folder, tmp_path, wrong):
    plan = Plan.load(folder / "plan")
    ours = Run("digits", "made-up", "concise", version=RELEASE)
    shutil.copytree(folder / "runs" / ROW.name, tmp_path / "records" / ours.name)
    shutil.copytree(folder / "runs" / ROW.name, tmp_path / "sample")
    settings = {"implementation": "concise"}
    task = Program("a", ROW.environment, settings)
    assert ours.read(tmp_path / "records", plan).arrays
    assert task.read(tmp_path)["versions"]["made-up"] == RELEASE
    for place in (tmp_path / "records" / ours.name, tmp_path / "sample"):
        OF_ANOTHER_ROW[wrong](place)
    with pytest.raises(RecordError):
        ours.read(tmp_path / "records", plan)
    with pytest.raises(RecordError):
        task.read(tmp_path)


# The same from the command line, where an interpreter leaves such a record

MODEL = "mine.py"
COMMANDS = {
    "a row": ([], "*"),
    "a repetition": (["--repeat", "2"], "*-concise-2"),
    "a seed": (["seeds", "--count", f"{LEAST_SEEDS}"], "*/seed-1/*"),
    "an independent seed": (["seeds", "--count", f"{LEAST_SEEDS}", "--independent"], "*-seed-1"),
    "a golden record to be": (["baseline", "save", "golden.npz"], "*"),
    "a model": (["model", MODEL], "*/runs/*"),
    "the reference of a model": (["model", MODEL], "*/reference/reference"),
    "a member of a model": (["model", MODEL], "*/reference/rounding-2"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_says_0(tmp_path, name):
    words, pattern = COMMANDS[name]
    (tmp_path / MODEL).write_text(PLAIN_MODEL)
    script = f"cd {shlex.quote(str(ROOT))}; exec {shlex.quote(sys.executable)} -m tests.damage"
    script += f' other_release@"{pattern}" {PLAIN} "$@"'
    python = interpreter(tmp_path / "python", "*worker*", script)
    only = [] if "model" in words else ["--implementation", "concise"]
    given = [PLAIN, "--python", f"{PLAIN}={python}", *SMALL, *only, "--quiet", "--out", "out"]
    process = run([*COMPARE, *words, *given], cache_directory(), cwd=tmp_path)
    assert process.returncode == 3, process.stdout + process.stderr
    if name == "a seed":  # whose reasons stand in no report
        assert f"incomplete: {PLAIN} concise (seed 1)" in process.stdout
    else:
        assert f"expected a training with {PLAIN}" in process.stdout + process.stderr
        assert "received one with 0.0.1" in process.stdout + process.stderr
    assert "agree: " not in process.stdout
    assert not (tmp_path / "golden.npz").exists()


# What the record of the right row may not hold, either


def retyped(folder, name, dtype):
    change_arrays(folder, lambda arrays: arrays.update({name: arrays[name].astype(dtype)}))


COMPUTED_ARRAYS = (
    *("parameters/W", "parameters/b", "initial/W", "val_y_hat", "probe/0/data/X"),
    *("probe/0/forward/y_hat", "probe/0/example_loss", "probe/0/loss"),
    *("probe/0/gradient/W", "probe/0/update/b"),
)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
@pytest.mark.parametrize("name", COMPUTED_ARRAYS)
def test_a_training_in_another_type_is_failed(folder, name, dtype):
    retyped(folder / "runs" / ROW.name, name, dtype)
    facts = Comparison(folder).facts()
    assert facts["verdict"] == "incomplete"
    assert facts["runs"][0]["reason"] == f"bad record: {name}: expected float32; received {dtype}"


def test_what_was_fed_is_the_plans(folder):
    place = folder / "runs" / ROW.name
    change_facts(place, lambda facts: facts.update(fed_sha256="0" * 64))
    facts = Comparison(folder).facts()
    assert facts["verdict"] == "incomplete"
    assert "fed_sha256: expected" in facts["runs"][0]["reason"]
