"""What is recorded is compared: no array of a worker's record may be another one unnoticed."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest

from framework_parity.common.commands.judge_arrays import _kind_of_y_hat
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.judging.baseline_difference import compare_with_golden
from framework_parity.common.judging.golden_record import golden_record
from framework_parity.common.judging.metrics import step_sizes
from framework_parity.common.judging.record_check import check_record
from framework_parity.common.reference.replay import Training, losses_from_logits
from framework_parity.common.training.feeding import COUNTS, PROJECTED, ROWS
from framework_parity.common.training.record import HISTORY, Record, RecordError
from tests.helpers import PLAIN
from tests.replays import digits_judge, record_of
from tests.test_agreement import case, changed

__all__ = ["case"]

COSTS = {"seconds", "peak_rss_bytes", "earlier_in_process"}


def noticed(judge, record):
    """The judgement of what is not rounding any more; None if it was refused."""
    try:
        for name, array in record.arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RecordError(name, "finite numbers", "others")  # as Record.load does
        found = judge.judge(record)
    except RecordError:
        return None
    assert found.grade != "rounding"
    return found


def named_in_the_table():
    text = (ROOT / "docs" / "record.md").read_text().partition("## What is recorded")[2]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_table_names_all_that_a_worker_records(case):
    recorded = {re.sub(r"probe/\d+/", "probe/STEP/", name) for name in case.record.arrays}
    recorded |= {*case.record.facts, "schema"}
    table = named_in_the_table()
    assert recorded <= table
    assert table - recorded == {"probe/STEP/data/missing", "fed/rows", *PROJECTED}


CHANGES = {
    "scaled": lambda a: a * 1.05,
    "shifted": lambda a: a + 0.05 * max(1.0, float(np.abs(a).max())),
    "reversed": lambda a: a[::-1],
    "not finite": lambda a: np.full(a.shape, np.nan),
    "negated": lambda a: -a.astype(np.float64),
    "rounded": lambda a: np.round(a.astype(np.float64), 2),
    "of another shape": lambda a: a[np.newaxis],
    "missing": lambda a: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_array_is_noticed(case, change):
    unnoticed = []
    for name, old in case.record.arrays.items():
        if change == "reversed" and not old.ndim:
            continue
        new = CHANGES[change](old)
        if new is not None and np.array_equal(new, old):
            continue
        if new is None and re.fullmatch(r"probe/\d+/data/[Xy]", name):
            continue  # its error is there
        if name.endswith("metric/accuracy") and new is not None and new.shape == old.shape:
            examples = len(case.plan.rows(int(name.split("/")[1])))
            if np.abs(new - old) * examples <= 2:
                continue  # within the bound that the table gives
        try:
            noticed(case.judge, changed(case.record, **{name.replace("/", "__"): new}))
        except AssertionError:
            unnoticed.append(name)
    assert not unnoticed


DRAWS = range(3)
"""Seeds of what is drawn: a place in each array, a sign and a size."""


def drawn(rng, largest):
    """A change of a number: a thousandth of the largest one there, up to a hundred times it."""
    return float(rng.choice([-1, 1]) * max(largest, 1e-3) * 10 ** rng.uniform(-3, 2))


def another_accuracy(old, examples, many=3):
    """By more than the two examples that may be near to a tie."""
    return old + many / examples * np.where(old < 0.5, 1, -1)


@pytest.mark.parametrize("seed", DRAWS)
def test_any_number_of_any_array_that_changes_is_noticed(case, seed):
    """Whatever is recorded, found by looking at a record, not from a list."""
    rng, unnoticed = np.random.default_rng(seed), []
    for name, old in case.record.arrays.items():
        place = rng.integers(old.size)
        new = old.astype(np.float64 if old.dtype.kind == "f" else old.dtype).reshape(-1)
        if "/metric/" in name:
            examples = len(case.plan.rows(int(name.split("/")[1])))
            new[place] = another_accuracy(new[place], examples)
        elif old.dtype.kind == "f":
            new[place] += drawn(rng, float(np.abs(old).max()))
        else:
            new[place] += rng.choice([-2, -1, 1, 2])
        try:
            record = changed(case.record, **{name.replace("/", "__"): new.reshape(old.shape)})
            noticed(case.judge, record)
        except AssertionError:
            unnoticed.append((name, place, float(old.reshape(-1)[place]), float(new[place])))
    assert not unnoticed


@pytest.mark.parametrize("seed", DRAWS)
@pytest.mark.parametrize("name", HISTORY)
def test_any_number_of_the_history_that_changes_is_noticed(case, name, seed):
    rng, values = np.random.default_rng(seed), list(case.record.facts["history"][name])
    place = rng.integers(len(values))
    if name == "val_accuracy":
        values[place] = another_accuracy(values[place], case.data.num_val)
    else:
        values[place] += drawn(rng, 1.0)
    noticed(case.judge, changed(case.record, {name: values}))


COMPARED_FACTS = {"plan_sha256", "schema", "backend", "implementation", "versions", "fed_sha256"}
"""What :meth:`processes.Contender.read` and the judge refuse: tests/test_rows.py."""


def test_every_other_fact_is_compared_or_a_cost(case):
    assert {*case.record.facts} - COMPARED_FACTS - COSTS == {"history", "y_hat"}
    other = {"probabilities": "logits", "logits": "probabilities"}[case.record.facts["y_hat"]]
    for wrong in (other, "numbers", None):
        facts = {**case.record.facts, "y_hat": wrong}
        noticed(case.judge, dataclasses.replace(case.record, facts=facts))


# Golden records


@pytest.fixture(scope="module")
def golden(case):
    """The golden record of the case's run, and the row that it was made from."""
    history = {name: case.record.facts["history"][name] for name in HISTORY}
    row = {
        "backend": PLAIN, "implementation": "concise", "version": "1", "grade": "rounding",
        "versions": case.record.facts["versions"], "envelopes": 1.0, "divergence": None,
        "cause": None, "fed_sha256": case.record.facts["fed_sha256"], **history,
    }  # fmt: skip
    kept = golden_record(case.judge, case.record, row, {})
    kept = dataclasses.replace(kept, facts=json.loads(json.dumps(kept.facts)))
    assert compare_with_golden(case.judge, kept, case.record, row, {}).grade == "exact"
    return kept, row


TOLD = {
    *("backend", "implementation", "version", "versions", "surroundings"),
    *("grade", "envelopes", "divergence", "cause", "saved", "states_sha256", "predicted"),
}
"""What a golden record tells of its run, and of the reference that it was probed from: it has a
digest, and is held against nothing."""


def leaves(value, path=()):
    """The places of a JSON value's numbers and texts; an array of numbers is one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, (*path, place))
    else:
        yield path


def change_at(kept, path, change):
    """Change what stands at a path of a golden record."""
    *before, last = path
    for name in before:
        kept = kept[name]
    kept[last] = change(kept[last])


NAMES = ("step", "stage", "tensor")
"""What says which of a golden record's numbers stands beside it."""


def is_a_digest(path):
    """Then bits differ, and no more is known."""
    return any("sha256" in str(name) for name in path)


@pytest.mark.parametrize("seed", DRAWS)
def test_any_value_of_a_golden_record_that_changes_is_noticed(case, golden, seed):
    kept, row = golden
    rng, unnoticed = np.random.default_rng(seed), []

    def other(value):
        if isinstance(value, np.ndarray):
            array = value.astype(np.float64, order="C")
            if "metric/" in path[0]:
                step = int(path[0].split("/")[1])
                return another_accuracy(array, len(case.plan.rows(step)), 5)
            array.reshape(-1)[rng.integers(array.size)] += drawn(rng, float(np.abs(array).max()))
            return array
        if isinstance(value, str):
            return ("1" if value[0] == "0" else "0") + value[1:]
        return value + float(rng.choice([-1, 1]))

    for path in leaves({**kept.facts, **kept.arrays}):
        # of zero biases
        zero = path[-1] == "decay" and kept.facts["stages"][path[1]]["decay"] == 0
        if zero or path[0] in TOLD or path[-1] in NAMES:
            continue  # these have digests: tests/test_baseline.py
        if is_a_digest(path) and path[1].startswith("step "):
            continue  # names the place where bits differ, and decides nothing
        spoilt = copy.deepcopy(kept)
        change_at(spoilt.arrays if path[0] in kept.arrays else spoilt.facts, path, other)
        if not is_a_digest(path):  # where all bits are those of the digests, no number is read
            spoilt.facts["sha256"]["step_loss"] = "0" * 64
        found = compare_with_golden(case.judge, spoilt, case.record, row, {})
        seen = found.grade != "exact" or found.first_bits
        if not (seen if is_a_digest(path) else found.grade in ("drift", "disagree")):
            unnoticed.append((path, found.grade, found.first_bits))
    assert not unnoticed


@pytest.mark.parametrize("name", HISTORY)
@pytest.mark.parametrize("factor", [0.95, 1.05, -1.0])
def test_a_changed_metric_is_noticed(case, name, factor):
    values = [factor * value for value in case.record.facts["history"][name]]
    assert noticed(case.judge, changed(case.record, {name: values}))


@pytest.mark.parametrize("name", ["loss", "fed/other", "probe/3/loss", "probe/0/other"])
def test_what_would_not_be_compared_is_refused(case, name):
    other = Record(case.record.facts, {**case.record.arrays, name: np.array(1.0)})
    with pytest.raises(RecordError, match=name):
        check_record(case.plan, case.data, other)


def softmax(logits):
    return losses_from_logits(logits, np.zeros(len(logits), np.int64))[1]


PREDICTIONS = {
    "shifted": lambda y, case: y + 0.001,
    "scaled": lambda y, case: 1.0001 * y,
    "softmax": lambda y, case: softmax(y),
    "permuted": lambda y, case: np.roll(y, 1, axis=0),
    "duplicated": lambda y, case: y[np.r_[0, 0 : len(y) - 1]],
    "stale": lambda y, case: (
        case.judge.validation @ case.judge.oracle.parameters["W"][-2]
        + case.judge.oracle.parameters["b"][-2]
    ),
    "of training": lambda y, case: (
        case.data.examples(train=True, dtype="float64")[0][: len(y)]
        @ case.judge.oracle.parameters["W"][-1]
        + case.judge.oracle.parameters["b"][-1]
    ),
}


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("change", PREDICTIONS)
def test_predictions_that_are_not_those_of_the_parameters_are_found(case, change, kind):
    W, b = (case.record.arrays[f"parameters/{name}"][-1].astype(float) for name in "Wb")
    y_hat, logits = PREDICTIONS[change], case.judge.validation @ W + b
    if kind == "probabilities":
        if change in ("stale", "of training"):
            wrong = softmax(y_hat(logits, case))
        else:
            wrong = y_hat(softmax(logits), case)
    else:
        wrong = y_hat(logits, case)
    record = changed(case.record, val_y_hat=wrong)
    facts = {**record.facts, "y_hat": kind}
    probes = {
        name: softmax(array) if name.endswith("forward/y_hat") and kind != "logits" else array
        for name, array in record.arrays.items()
    }
    found = noticed(case.judge, dataclasses.replace(record, facts=facts, arrays=probes))
    assert (found.divergence.stage, found.divergence.tensor) == ("metric", "val_y_hat")


def test_probabilities_are_told_from_logits_by_predictions_alone():
    assert _kind_of_y_hat({"val_y_hat": np.array([[0.25, 0.75]])}) == "probabilities"
    assert _kind_of_y_hat({"val_y_hat": np.array([[0.25, 0.5]])}) == "logits"
    assert _kind_of_y_hat({}) == "logits"


def test_accuracies_of_steps_that_are_consistent_with_themselves_are_found(tmp_path):
    """Two steps of an epoch exchanged: every mean stays; only the reference knows."""
    judge = digits_judge(tmp_path)
    record = record_of(judge, Training(judge.plan, judge.data, "float32", block=8))
    assert judge.judge(record).grade == "rounding"
    accuracy = record.arrays["step_accuracy"].copy()
    accuracy[[3, 4]] = accuracy[3] + 1 / 64, accuracy[4] - 1 / 64
    found = judge.judge(changed(record, step_accuracy=accuracy))
    assert (found.divergence.step, found.divergence.tensor) == (3, "step_accuracy")


@pytest.mark.parametrize("name", ["step_accuracy", "train_accuracy", "val_accuracy"])
@pytest.mark.parametrize("part", [0.23, -0.4, 0.02])
def test_an_accuracy_that_is_no_count_of_examples_is_found(tmp_path, name, part):
    judge = digits_judge(tmp_path)
    record = record_of(judge, Training(judge.plan, judge.data, "float32", block=8))
    history = copy.deepcopy(record.facts["history"])
    arrays = {"step_accuracy": record.arrays["step_accuracy"].copy()}
    if name == "step_accuracy":
        arrays[name][2] += part / judge.plan.recipe.batch_size
    else:
        size = judge.data.num_val if name == "val_accuracy" else judge.data.num_train
        history[name][0] += part / size
    facts = record.facts | {"history": history}
    changed = dataclasses.replace(record, facts=facts, arrays=record.arrays | arrays)
    found = judge.judge(changed)
    assert found.grade != "rounding"
    assert (found.divergence.stage, found.divergence.tensor) == ("metric", name)


def test_rows_that_are_not_the_plan_s_are_stage_data_whatever_the_counts_say(tmp_path):
    judge = digits_judge(tmp_path)
    record = record_of(judge, Training(judge.plan, judge.data, "float32", block=8))
    rows = np.concatenate([judge.plan.rows(step) for step in range(judge.plan.num_steps)])
    counts = {name: np.zeros(judge.plan.num_steps, np.int32) for name in COUNTS}
    counts[COUNTS[0]] = step_sizes(judge.plan).astype(np.int32)
    assert judge.judge(changed(record, **counts, **{ROWS: rows})).grade == "rounding"
    rows = rows.copy()
    rows[70:80] = rows[0]
    found = judge.judge(changed(record, **counts, **{ROWS: rows}))
    assert (found.divergence.step, found.divergence.stage) == (1, "data")
    with pytest.raises(RecordError, match="expected the row of each example"):
        judge.judge(changed(record, **counts, **{ROWS: rows[:-1]}))


@pytest.mark.parametrize("recipe", [{"sigma": 30.0}, {"dtype": "float64"}])
def test_metrics_that_were_added_up_in_float32_round_as_much(tmp_path, recipe):
    """Of a program of one's own: the mean of a large loss; accuracies beside float64."""
    judge = digits_judge(tmp_path, **recipe)
    record = record_of(judge, Training(judge.plan, judge.data, judge.plan.recipe.dtype, block=8))
    narrow = ["train_accuracy"] if recipe.get("dtype") else ["train_loss", "train_accuracy"]
    history = record.facts["history"]
    history |= {name: np.float32(history[name]).astype(float).tolist() for name in narrow}
    accuracies = {"step_accuracy": np.float32(record.arrays["step_accuracy"])}
    record = Record(record.facts | {"history": history}, record.arrays | accuracies)
    assert judge.judge(record).grade in ("rounding", "chaotic")
