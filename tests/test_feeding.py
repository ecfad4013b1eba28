"""What each step is fed is proved: a feeding fault is stage data, at its step, in every backend."""

import numpy as np
import pytest

from framework_parity.benchmarks.detection import FAULTY, Run, open_record, prepare, train
from framework_parity.benchmarks.faults import CATALOGUE
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.reference.replay import Training
from framework_parity.common.reference.variations import Momentum, Variation
from framework_parity.common.training.feeding import (
    Feeding,
    check_feeding,
    first_wrong_batch,
    with_counts,
)
from framework_parity.common.training.record import Record, RecordError
from tests.conftest import BACKENDS
from tests.helpers import make_plan
from tests.replays import digits_judge, record_of

FEEDING = {fault.name: fault for fault in CATALOGUE if fault.family == "feeding"}
UPDATES = {"momentum": 0.9, "learning rate": 1 + 1e-5}
"""Faults of the update: what was fed is right."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The records of all runs in all backends."""
    folder = tmp_path_factory.mktemp("feeding")
    for name in ("records", "probes"):
        (folder / name).mkdir()
    prepare(folder / "digits", FAULTY["digits"])
    faults = {name: fault.sizes[0] for name, fault in FEEDING.items()} | UPDATES | {None: None}
    runs = [
        Run("digits", backend, "scratch", fault, size)
        for backend in BACKENDS
        for fault, size in faults.items()
    ]
    environments = {name: find_environment(backend) for name, backend in BACKENDS.items()}
    statuses = train(folder, runs, environments)
    assert [statuses.get(run.name) for run in runs] == ["done"] * len(runs), statuses
    return folder, faults


def judge(work, backend, fault):
    folder, faults = work
    own, record = open_record(folder, Run("digits", backend, "scratch", fault, faults[fault]))
    return own, record, own.judge(record)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_faultless_run_was_fed_is_the_plan(work, backend):
    own, record, found = judge(work, backend, None)
    sizes = [len(own.plan.rows(step)) for step in range(own.plan.num_steps)]
    assert record.arrays["fed/examples"].tolist() == sizes
    assert not record.arrays["fed/wrong_rows"].any()
    assert not record.arrays["fed/wrong_labels"].any()
    assert "fed/rows" not in record.arrays
    assert found.grade == "rounding"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", FEEDING)
def test_a_feeding_fault_is_stage_data_at_its_step(work, backend, fault):
    own, record, found = judge(work, backend, fault)
    assert found.grade in ("drift", "disagree")
    assert found.divergence.stage == "data", found.divergence
    arrays = record.arrays
    sizes = np.array([len(own.plan.rows(step)) for step in range(own.plan.num_steps)])
    if len(arrays["fed/examples"]) == len(sizes):
        wrong = arrays["fed/examples"] != sizes
        wrong |= (arrays["fed/wrong_rows"] + arrays["fed/wrong_labels"]) > 0
        assert found.divergence.step == int(np.argmax(wrong))
        assert "batch" in found.divergence.tensor


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", UPDATES)
def test_a_fault_of_the_update_stays_one(work, backend, fault):
    _, record, found = judge(work, backend, fault)
    assert found.divergence.stage == "update"
    assert "not on record" not in found.divergence.tensor
    assert not record.arrays["fed/wrong_rows"].any()


# What a program of its own leaves


def projected(plan, data, change=lambda step, rows: rows):
    """The arrays of a program that was fed the rows that ``change`` makes of the planned ones."""
    used = [change(step, plan.rows(step)) for step in range(plan.num_steps)]
    rows = np.concatenate(used)
    X = data.scale(data.X_train[rows])
    return {
        "fed/examples": np.array([len(some) for some in used]),
        "fed/projections": X @ plan.direction,
        "fed/labels": np.asarray(data.y_train, np.int32)[rows],
    }


def test_projections_of_the_planned_rows_become_counts_without_a_fault(digits):
    arrays = projected(digits.plan, digits.data)
    found = with_counts(digits.plan, digits.data, Record({}, arrays)).arrays
    assert set(found) == {"fed/examples", "fed/wrong_rows", "fed/wrong_labels"}
    check_feeding(digits.plan, found)
    assert first_wrong_batch(digits.plan, found) is None


@pytest.mark.parametrize("at", [0, 5, 68])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: np.append(rows[:-1], rows[0]),
        lambda rows: rows[:-1],
        lambda rows: np.append(rows, rows[:3]),
        lambda rows: (rows + 1) % 1437,
    ],
)
def test_projections_of_other_rows_are_told_apart_at_their_step(digits, at, change):
    plan, data = digits.plan, digits.data
    wrong = projected(plan, data, lambda step, rows: change(rows) if step == at else rows)
    found = with_counts(plan, data, Record({}, wrong)).arrays
    check_feeding(plan, found)
    step, count, _ = first_wrong_batch(plan, found)
    assert step == at
    assert count > 0


@pytest.mark.parametrize(
    "broken",
    [
        lambda a: a.pop("fed/labels"),
        lambda a: a.pop("fed/projections"),
        lambda a: a.pop("fed/examples"),
        lambda a: a.update({"fed/labels": a["fed/labels"][1:]}),
        lambda a: a.update({"fed/labels": a["fed/labels"].astype(float)}),
        lambda a: a.update({"fed/projections": a["fed/projections"][None]}),
        lambda a: a.update({"fed/examples": -a["fed/examples"]}),
        lambda a: a.update({"fed/examples": a["fed/examples"][1:]}),
        lambda a: a.update({"fed/examples": a["fed/examples"].astype(float)}),
    ],
)
def test_projections_that_do_not_fit_each_other_are_refused(digits, broken):
    arrays = projected(digits.plan, digits.data)
    broken(arrays)
    with pytest.raises(RecordError, match="expected one number for each"):
        with_counts(digits.plan, digits.data, Record({}, arrays))


# What is too small to be seen


class Small(Variation):
    """Features that are off where training goes on, while a probed step has the right ones."""

    def change(self, X):
        noise = np.random.default_rng(0).standard_normal(X.shape[1])
        return X * self.factor + self.noise * noise.astype(X.dtype)

    def examples(self, rows):
        X, y = super().examples(rows)
        return self.change(X).astype(X.dtype), y


@pytest.mark.parametrize("factor", [1 + 1e-6, 1 + 3e-6, 1 + 1e-5, 1 + 1e-4, 1.001])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-5])
def test_where_too_little_is_off_to_be_seen_the_update_is_not_said_alone(digits, factor, noise):
    kind = type("Small", (Small,), {"factor": np.float32(factor), "noise": np.float32(noise)})
    found = fed_and_judged(digits, kind, 0.0).divergence
    assert found is None or found.stage == "data" or "the data may be off" in found.note


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9])
def test_where_no_data_could_be_off_so_far_the_update_is_said_alone(digits, momentum):
    found = fed_and_judged(digits, Momentum, momentum).divergence
    assert (found.stage, found.note) == ("update", "")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return digits_judge(tmp_path_factory.mktemp("small"))


def fed_and_judged(own, kind, value):
    """The judgement of a free run; its probed steps are right."""
    training = kind(own.plan, own.data, value, dtype="float32")
    right = record_of(own, Training(own.plan, own.data, dtype="float32"))
    record = record_of(own, training)
    probes = {name: array for name, array in right.arrays.items() if name.startswith("probe/")}
    feeding = Feeding(own.plan, own.data)
    for step in range(own.plan.num_steps):
        X, y = training.examples(own.plan.rows(step))
        feeding._step(X @ feeding.v, y)
    return own.judge(Record(record.facts, record.arrays | probes | feeding.arrays()))


# The words


def fed_arrays(plan, data, batches, labels=None):
    """What is on record of batches of rows."""
    feeding = Feeding(plan, data)
    y = np.asarray(data.y_train) if labels is None else labels
    for rows in batches:
        feeding._step(feeding.exact[rows], y[rows])
    return feeding.arrays()


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        (lambda b: [*b[:1], *b[2:]], 1, "batch dropped, the next one is in its place"),
        (lambda b: [*b[:2], b[1], *b[3:]], 2, "the batch before it again"),
        (lambda b: b[:5] * 2 + b[10:], 5, "order of epoch 1 again"),
        (lambda b: [b[0][::-1], *b[1:]], 0, "the planned examples in another order"),
        (
            lambda b: [*b[:4], np.resize(b[4], 64), *b[5:]],
            4,
            "64 examples, the plan has 44 (padded)",
        ),
        (lambda b: b[:-1], 14, "batch dropped, training ended before it"),
    ],
)
def test_it_is_said_what_was_seen(change, step, words):
    plan, data = make_plan()
    batches = [plan.rows(step) for step in range(plan.num_steps)]
    assert first_wrong_batch(plan, fed_arrays(plan, data, batches)) is None
    found = first_wrong_batch(plan, fed_arrays(plan, data, change(batches)))
    assert found[0] == step
    assert found[2].endswith(words), found


def test_labels_of_other_rows_are_counted():
    plan, data = make_plan()
    batches = [plan.rows(step) for step in range(plan.num_steps)]
    y = np.asarray(data.y_train).copy()
    row = batches[3][7]
    y[row] = (y[row] + 1) % data.num_outputs
    step, count, words = first_wrong_batch(plan, fed_arrays(plan, data, batches, y))
    assert (step, count) == (3, 1)
    assert "1 of 64 labels are not those of their examples" in words


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("fed/wrong_rows"),
        lambda a: a.pop("fed/rows"),
        lambda a: a.update({"fed/rows": a["fed/rows"][:-1]}),
        lambda a: a.update({"fed/examples": a["fed/examples"][:-1]}),
        lambda a: a.update({"fed/examples": a["fed/examples"] * -1}),
        lambda a: a.update({"fed/wrong_labels": a["fed/wrong_labels"] * 0.5}),
    ],
)
def test_half_a_record_of_feeding_is_refused(change):
    plan, data = make_plan()
    batches = [plan.rows(step) for step in range(plan.num_steps)]
    batches[2] = batches[1]
    arrays = fed_arrays(plan, data, batches) | {"step_loss": np.zeros(plan.num_steps)}
    check_feeding(plan, arrays)
    change(arrays)
    with pytest.raises(RecordError, match="fed/"):
        check_feeding(plan, arrays)
