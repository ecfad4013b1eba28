"""The suite's test of itself, in small; ``python -m benchmarks.detection`` is the whole of it."""

import json

import numpy as np
import pytest

from framework_parity.benchmarks import detection_report
from framework_parity.benchmarks.detection import (
    FAULTY,
    Run,
    change,
    choose_faults,
    clean_recipes,
    drawn_runs,
    faulty_runs,
    judged,
    open_record,
    plan_name,
    prepare,
    train,
)
from framework_parity.benchmarks.drawn_plans import SIZES, affordable, draw, draw_one, judge_drawn
from framework_parity.benchmarks.faults import CATALOGUE, PLANTERS
from framework_parity.benchmarks.measure import told
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT, Environment
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.judging.candidates import UNDERFLOW
from framework_parity.common.judging.causes import find_cause
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.judging.ladder import STAGES
from framework_parity.common.training.recipe import Recipe
from tests.conftest import BACKENDS

DIGITS = {
    "learning rate": 1 + 1e-5,
    "momentum": 0.9,
    "label smoothing": 1e-4,
    "TF32 products": None,
    "wrong labels": 10,
    "metric averaged over batches": None,
}
"""Faults planted where free runs can be compared, and their sizes."""
CHAOTIC = {"learning rate": 1 + 1e-5}
PLANS = {
    "digits": FAULTY["digits"],
    "chaotic": Recipe("fashion-mnist", 256, 1.0, 2),
    "steep": Recipe("synthetic:240x260x3", 50, 1e-3, 2, sigma=1.0),
}
IMPLEMENTATION = {"digits": "scratch", "chaotic": "concise", "steep": "scratch"}
"""At this learning rate the plain softmax of the from-scratch models runs out of numbers."""
BY_NAME = {fault.name: fault for fault in CATALOGUE}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Plans, and the records of all runs in all backends."""
    folder = tmp_path_factory.mktemp("detection")
    for name in ("records", "probes"):
        (folder / name).mkdir()
    for name, recipe in PLANS.items():
        prepare(folder / name, recipe)
    environments = {name: find_environment(backend) for name, backend in BACKENDS.items()}
    runs = [
        Run(plan, backend, IMPLEMENTATION[plan], fault, size)
        for backend in BACKENDS
        for plan, faults in (("digits", DIGITS), ("chaotic", CHAOTIC), ("steep", {}))
        for fault, size in {None: None, **faults}.items()
    ] + [Run("digits", backend, IMPLEMENTATION["chaotic"]) for backend in BACKENDS]
    statuses = train(folder, runs, environments)
    assert [statuses.get(run.name) for run in runs] == ["done"] * len(runs), statuses
    return folder


def judge(work, plan, backend, fault=None, size=None, implementation=None):
    """The judge of a plan, a run's record, and its judgement."""
    run = Run(plan, backend, implementation or IMPLEMENTATION[plan], fault, size)
    judge, record = open_record(work, run)
    return judge, record, judge.judge(record)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clean_run_is_not_flagged(work, backend):
    own, _, found = judge(work, "digits", backend)
    assert found.grade == "rounding"
    assert found.divergence is None
    assert own.worst(found) < own.thresholds.envelopes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", DIGITS)
def test_a_fault_is_found_placed_and_named(work, fault, backend):
    own, record, found = judge(work, "digits", backend, fault, DIGITS[fault])
    cause = find_cause(own, record, found)
    assert cause, found.divergence
    assert fault in cause.sentence or any(
        name.startswith(fault) for name in cause.name.split(" or ")
    )
    assert found.grade in ("drift", "disagree")
    assert found.divergence.stage in BY_NAME[fault].stages
    if cause.value is not None:
        assert cause.value == pytest.approx(DIGITS[fault], rel=1e-3)


def test_what_underflows_in_a_plain_softmax_is_found_and_named(work):
    """By a replay that computes as the framework does; a gradient derived by hand is sound."""
    flagged = {}
    for backend in BACKENDS:
        own, record, found = judge(work, "steep", backend)
        if found.grade not in SOUND:
            flagged[backend] = find_cause(own, record, found)
    assert len(flagged) >= 3
    assert {cause and cause.name for cause in flagged.values()} == {UNDERFLOW}


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_training_is_chaotic_lockstep_finds_the_fault_and_nothing_else(work, backend):
    # An implementation may be unsound, and flagged without a fault: then here as elsewhere.
    _, _, elsewhere = judge(work, "digits", backend, implementation=IMPLEMENTATION["chaotic"])
    own, _, clean = judge(work, "chaotic", backend)
    assert not own.free_running.informative
    assert own.free_running.last > 0.01, "rounding alone moves the weights by a percent"
    sound = elsewhere.divergence is None
    assert (clean.divergence is None) == (clean.grade == "chaotic") == sound
    for fault, size in CHAOTIC.items():
        _, _, found = judge(work, "chaotic", backend, fault, size)
        assert found.grade in ("drift", "disagree")
        expected = BY_NAME[fault].stages if sound else (elsewhere.divergence.stage,)
        assert found.divergence.stage in expected
        assert found.divergence.step == 0


# The catalogue and its report


def test_every_fault_has_a_stage_a_plan_and_a_way_to_be_planted():
    places = [ROOT / "benchmarks" / "faults" / f"{name}.py" for name in BACKENDS]
    sources = [place.read_text() for place in places if place.exists()]  # a backend need not
    for fault in CATALOGUE:
        assert set(fault.stages) <= set(STAGES)
        assert set(fault.plans) <= set(FAULTY)
        for part, size in fault.parts:
            assert size in BY_NAME[part].sizes
        for source in sources:
            ways = (fault.name in PLANTERS, f'"{fault.name}": ' in source, bool(fault.parts))
            assert sum(ways) == 1


def test_each_family_is_large_enough_and_of_every_backend():
    families = {fault.family for fault in CATALOGUE}
    assert families == {
        *("known", "feeding", "metrics", "late", "compound", "look-alike", "optimizer state")
    }
    runs = faulty_runs([Environment(name, ROOT) for name in BACKENDS], CATALOGUE)
    more = [run for run in runs if BY_NAME[run.fault].family != "known"]
    assert len(more) >= 300
    assert {run.backend for run in more} == set(BACKENDS)
    assert len({(run.backend, run.implementation) for run in more}) == 2 * len(BACKENDS)


ELSEWHERE = {
    "two rows swapped": 60,
    "labels rolled at one step": 1,
    "predictions shifted": 1.0,
    "steps report running means": None,
    "learning rate from step 50 on": 1.1,
    "velocity cleared each epoch": 0.9,
    "focal loss": 2.0,
    "label smoothing and learning rate": None,
}
"""A fault of each other family."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fault_of_another_family_changes_what_is_recorded(work, backend):
    runs = [
        Run("digits", backend, IMPLEMENTATION["digits"], fault, size)
        for fault, size in ELSEWHERE.items()
    ]
    statuses = train(work, runs, {backend: find_environment(BACKENDS[backend])})
    assert [statuses.get(run.name) for run in runs] == ["done"] * len(runs), statuses
    for run in runs:
        own, record = open_record(work, run)
        moved = change(own, record, work, run.clean)
        assert moved > detection_report.CHANGED, run


def row_of(fault, cause):
    """A run in which a cause was named."""
    return {"fault": fault, "cause": cause and {"name": cause}}


@pytest.mark.parametrize(
    ("fault", "cause", "verdict"),
    [
        ("momentum", "momentum", "right"),
        ("momentum", "Nesterov momentum or momentum", "right"),
        ("momentum", "learning rate", "wrong"),
        ("momentum", None, "missing"),
        ("order rotated", None, "right"),
        ("order rotated", "log clipped", "wrong"),
        ("random labels", "wrong labels", "right"),
        ("momentum and order reused", None, "right"),
        ("momentum and order reused", "order reused", "right"),
        ("momentum and order reused", "order reused and momentum", "right"),
        ("momentum and order reused", "order reused and weight decay", "wrong"),
    ],
)
def test_a_cause_is_right_wrong_or_missing(fault, cause, verdict):
    ways = {
        "right": detection_report.cause_is_right,
        "wrong": detection_report.cause_is_wrong,
        "missing": detection_report.cause_is_missing,
    }
    assert [name for name, of in ways.items() if of(row_of(fault, cause))] == [verdict]


def test_a_seed_draws_the_same_plans_and_another_seed_others():
    one, other = draw(1, 200), draw(2, 200)
    assert one == draw(1, 200)
    assert one[150:] == draw(1, 50, first=150)
    assert not {plan.words for plan in one} & {plan.words for plan in other}
    assert one[3].data().sha256() == draw_one(1, 3).data().sha256()
    for plan in one:
        assert affordable(plan.sizes | {"batch": plan.recipe.batch_size})
        assert all(least <= plan.sizes[name] <= most for name, (least, most) in SIZES.items())
    for name, (least, most) in SIZES.items():
        assert max(plan.sizes[name] for plan in one) > most / 3 > 3 * least


def test_drawn_plans_are_trained_by_numpy_all_and_by_each_framework_others():
    plans, environments = draw(0, 20), [Environment(name, ROOT) for name in BACKENDS]
    runs = drawn_runs(environments, plans)
    names = {drawn.recipe.data for drawn in plans}
    by_backend = {name: {r.plan for r in runs if r.backend == name} for name in BACKENDS}
    plain = [name for name, backend in BACKENDS.items() if not backend.is_framework]
    assert all(by_backend[name] == names for name in plain)
    assert sum(len(by_backend[name]) for name in set(BACKENDS) - set(plain)) == len(plans)


def test_a_faultless_member_on_a_drawn_plan_is_judged():
    rows = judge_drawn(draw_one(0, 1), 3)
    assert len({row["member"] for row in rows}) == 3
    assert {row["grade"] for row in rows} == {"rounding"}


def test_each_run_and_each_plan_has_a_name_of_its_own():
    environments = [Environment(name, ROOT) for name in BACKENDS]
    runs = faulty_runs(environments, CATALOGUE)
    assert len({run.name for run in runs}) == len(set(runs)) == len(runs)
    recipes = clean_recipes(quick=False)
    assert all(name == plan_name(recipe) for name, recipe in recipes.items())
    assert not set(recipes) & set(FAULTY)
    assert 2 * len(recipes) >= 200


def test_unknown_faults_are_refused():
    assert [fault.name for fault in choose_faults(["momentum"], quick=True)] == ["momentum"]
    with pytest.raises(ParityError, match=r"expected some of .* received mistake"):
        choose_faults(["mistake"], quick=False)


def test_the_command_is_told_without_places():
    words = ["--quick", "--python", "x=y", "--python=x=y", "--out", "z", "--faults", "momentum"]
    assert told(words) == ["--quick", "--faults", "momentum"]


def test_the_report_counts(work, tmp_path):
    backend = next(iter(BACKENDS))
    rows = []
    for fault, size in {None: None, "momentum": 0.9, "learning rate": 1 + 1e-5}.items():
        own, _, found = judge(work, "digits", backend, fault, size)
        row = vars(Run("digits", backend, IMPLEMENTATION["digits"], fault, size)) | judged(
            own, found
        )
        row |= dict.fromkeys(detection_report.FIXED, False) | {"cause": None}
        rows.append(row | {"status": "done", "change_envelopes": 9.0 if fault else None})
    kept = ("plan", "backend", "fault", "size")
    broken = {"implementation": "concise", "status": "bad record: not finite"}
    rows.append({name: rows[1][name] for name in kept} | broken)
    facts = {"command": "this", "seconds": 1.0, "machine": {"cpus": 2, "processor": "one"}}
    detection_report.write_report(facts | {"versions": {}, "runs": rows}, tmp_path)
    text = (tmp_path / "detection.md").read_text()
    assert "is detected | 3 of 3 (100.0%) |" in text
    assert "stage right, of detected faults: 98 % | 2 of 3 (66.7%) |" in text
    assert "known faults that are not named | 3 of 3 (100.0%) |" in text
    assert "wrong causes named, of detected faults: 0.5 % | 0 of 3 (0.0%) |" in text
    assert "no false alarm where the arithmetic is sound | 0 of 1 (0.0%) |" in text
    assert (tmp_path / "detection.png").stat().st_size > 1000
    stored = json.loads((tmp_path / "detection.json").read_text())["runs"]
    assert np.isclose(stored[2]["size"], 1 + 1e-5)
