"""Faultless trainings on legitimate plans are rounding, whatever the plan; dead ones are not.

The trainings are NumPy's own, in summation orders and forms that the ensemble does not have.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework_parity.benchmarks.drawn_plans import FRESH, draw_one, is_finite, record_of
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.datasets import Digits
from framework_parity.common.judging.grades import SOUND
from framework_parity.common.judging.ladder import count_borderline, order_rounding
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.ensemble import member
from framework_parity.common.reference.replay import (
    FORMS,
    Training,
    losses_from_logits,
    losses_from_probabilities,
    losses_from_quotients,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record


def made(n, f, c, labels="linear", scale=1.0):
    """Examples of a kind, as many again to validate."""
    random = np.random.default_rng([n, f, c])
    X = random.standard_normal((2 * n, f))
    slopes = random.standard_normal((f, c))
    y = (X @ slopes).argmax(axis=1)
    if labels == "random":
        y = random.integers(0, c, 2 * n)
    elif labels == "one each":
        y = np.arange(2 * n) % c
    elif labels == "absent":
        y[n:][y[n:] == 0] = 1
    elif labels == "separable":
        X += 5 * slopes.T[y]
    X, y = (X * scale).astype(np.float32), y.astype(np.int32)
    return DataModule(X[:n], y[:n], X[n:], y[n:], name="made", num_outputs=c)


PLANS = {
    "a rate so small that nothing is learned": (Digits, Recipe("digits", 64, 1e-6, 3)),
    "a rate of zero": (Digits, Recipe("digits", 64, 0.0, 2)),
    "a large rate, late steps": (Digits, Recipe("digits", 64, 5.0, 20)),
    "weights that begin at zero": (Digits, Recipe("digits", 64, 0.1, 3, sigma=0.0)),
    "digits in float64": (Digits, Recipe("digits", 64, 0.1, 3, dtype="float64")),
    "large weights in float64": (Digits, Recipe("digits", 64, 1e-4, 5, sigma=1.0, dtype="float64")),
    "random labels": (lambda: made(500, 20, 5, "random"), Recipe("made", 50, 0.1, 3)),
    "a thousand classes": (lambda: made(1000, 20, 1000, "one each"), Recipe("made", 250, 0.1, 1)),
    "a class absent": (lambda: made(500, 20, 5, "absent"), Recipe("made", 50, 0.1, 3)),
    "many features": (lambda: made(40, 5_000, 5), Recipe("made", 8, 1e-4, 2)),
    "separable": (lambda: made(500, 20, 3, "separable"), Recipe("made", 50, 0.02, 20)),
    "separable, one by one": (lambda: made(60, 5, 3, "separable"), Recipe("made", 1, 0.05, 10)),
    "tiny features": (lambda: made(500, 20, 5, scale=1e-6), Recipe("made", 50, 0.1, 3)),
    "tiny features, no weights": (
        lambda: made(500, 20, 5, scale=1e-6),
        Recipe("made", 50, 0.1, 3, sigma=0.0),
    ),
    "tiny features in float64": (
        lambda: made(200, 300, 8, scale=1e-6),
        Recipe("made", 50, 6e-4, 8, sigma=0.0, dtype="float64"),
    ),
    "hundreds of classes, all alike": (
        lambda: made(40, 8, 300, "random", scale=1e-3),
        Recipe("made", 4, 0.1, 2, sigma=0.0),
    ),
    "one example of many features": (
        lambda: made(1, 4_000, 2, scale=1e-6),
        Recipe("made", 1, 30.0, 3),
    ),
    "one example": (lambda: made(1, 5, 2), Recipe("made", 1, 0.5, 5)),
    "one feature": (lambda: made(40, 1, 2), Recipe("made", 1, 6.0, 20)),
    "one batch, larger than the data": (lambda: made(300, 30, 4), Recipe("made", 1000, 3.0, 20)),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_faultless_training_is_rounding(name):
    make, recipe = PLANS[name]
    data = make()
    data.batch_size = recipe.batch_size
    plan = Plan.make(recipe, data, Path("made"))
    judge = SoftmaxJudge.measure(plan, data)
    graded = 0
    for index in FRESH[::4]:
        with np.errstate(all="ignore"):
            record = record_of(judge, member(plan, data, index))
        if is_finite(record):  # a plain softmax may overflow
            found = judge.judge(record)
            assert found.grade in SOUND, (index, found.reason, found.divergence)
            graded += 1
    assert graded >= 4


@pytest.mark.parametrize("name", PLANS)
def test_a_training_that_stands_still_is_found_where_the_reference_moves(name):
    make, recipe = PLANS[name]
    data = make()
    data.batch_size = recipe.batch_size
    plan = Plan.make(recipe, data, Path("made"))
    judge = SoftmaxJudge.measure(plan, data)
    record = record_of(judge, member(plan, data, FRESH[0]))
    still = {"parameters/W": np.broadcast_to(plan.W, record.arrays["parameters/W"].shape)}
    found = judge.judge(Record(record.facts, {**record.arrays, **still}))
    if judge.liveness.moved:
        assert found.grade == "disagree"
        assert "never moved" in found.reason
    else:
        assert recipe.lr == 0.0
        assert found.grade in SOUND


@settings(max_examples=12, deadline=None)
@given(index=st.integers(0, 10**6))
def test_a_drawn_plan_is_always_the_same(index):
    one, other = draw_one(7, index), draw_one(7, index)
    assert one == other
    for name in ("X_train", "y_train", "X_val", "y_val"):
        assert np.array_equal(getattr(one.data(), name), getattr(other.data(), name))


# The forms that make up the envelope


@given(
    logits=st.lists(
        st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=5
    ).map(np.array),
    label=st.integers(0, 2),
)
def test_the_chain_rule_gives_the_same_gradient(logits, label):
    y = np.full(len(logits), label)
    expected = losses_from_logits(logits, y)[2]
    for form in FORMS:
        np.testing.assert_allclose(form(logits, y)[2], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_probability_that_lost_its_digits_is_no_number(dtype):
    least = float(-np.log(np.finfo(dtype).smallest_normal))
    for beyond, finite in ((-1.0, True), (1.0, False)):
        logits = np.array([[0.0, -(least + beyond)]], dtype)
        losses = losses_from_probabilities(logits, np.array([1]))[0]
        assert np.isfinite(losses).all() == finite


@pytest.mark.parametrize("index", [32, 283, 833])
def test_the_softmax_may_be_differentiated_one_operation_after_another(index):
    """As automatic differentiation goes. NumPy alone came to 34 to 60, 7 and 14 envelopes on these
    drawn plans, and so did real frameworks, when no member was differentiated like this."""
    drawn = draw_one(0, index)
    data = drawn.data()
    plan = Plan.make(drawn.recipe, data, Path("drawn"))
    judge = SoftmaxJudge.measure(plan, data)
    for fresh in (51, 55):
        training = member(plan, data, fresh)
        assert training.form is losses_from_quotients
        with np.errstate(all="ignore"):
            assert judge.judge(record_of(judge, training)).grade in SOUND


@pytest.mark.parametrize("form", FORMS)
def test_the_classes_may_be_added_up_in_any_order(form):
    """The sum of the softmax is not NumPy's in every library: one class after the other as well."""
    random = np.random.default_rng(5)
    logits, y = random.standard_normal((20, 700)), random.integers(0, 700, 20)
    expected = form(logits, y)
    order = random.permutation(700)
    for received, exact in zip(form(logits, y, order), expected, strict=True):
        np.testing.assert_allclose(received, exact, rtol=1e-12)
    narrow = logits.astype(np.float32)
    assert not np.array_equal(form(narrow, y)[1], form(narrow, y, order)[1])
    assert form(narrow, y, order)[1].dtype == np.float32


def test_members_that_add_in_blocks_take_the_classes_in_an_order_of_their_own():
    data = made(50, 12, 30)
    data.batch_size = 10
    plan = Plan.make(Recipe("made", 10, 0.1, 1), data, Path("made"))
    orders = [member(plan, data, index).class_order for index in range(24)]
    assert [order is None for order in orders] == [True] * 4 + [False] * 4 + [True] * 4 + [
        False
    ] * 4 + [True] * 4 + [False] * 4
    orders = [tuple(order) for order in orders if order is not None]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("form", FORMS)
def test_the_bias_may_come_first(form):
    data = made(50, 12, 3)
    data.batch_size = 10
    plan = Plan.make(Recipe("made", 10, 0.1, 1), data, Path("made"))
    X, W, b = data.X_train.astype(float), plan.W.astype(float), np.array([1.0, -2.0, 3.0])
    expected = X @ W + b
    for block in (None, 1, 5, 8):
        training = Training(plan, data, form=form, block=block)
        np.testing.assert_allclose(training.logits(X, W, b), expected, rtol=1e-13)


# Ties


@given(
    margin=st.floats(0, 1e-3),
    rounding=st.floats(1e-9, 1e-4),
    kind=st.sampled_from(["logits", "probabilities"]),
)
def test_an_example_is_borderline_within_its_rounding(margin, rounding, kind):
    unit = float(np.finfo("float32").eps) / 2
    logits = np.array([[0.0, margin, -5.0], [3.0, 0.0, 0.0]])
    near = order_rounding(rounding, kind, unit)
    assert count_borderline(logits, rounding, kind, unit) == (margin <= near)
    assert order_rounding(0.0, "logits", unit) == 0.0
    assert order_rounding(0.0, "probabilities", unit) > 0.0


def test_one_class_has_no_borderline():
    assert count_borderline(np.zeros((4, 1)), 1.0, "logits", 1e-7) == 0


@pytest.mark.parametrize("examples", [1, 2])
def test_an_example_beyond_the_borderline_counts(examples):
    data = Digits()
    plan = Plan.make(Recipe("digits", 64, 0.1, 2), data, Path("digits"))
    data.batch_size = 64
    judge = SoftmaxJudge.measure(plan, data)
    record = record_of(judge, member(plan, data, FRESH[0]))
    facts = {**record.facts, "history": dict(record.facts["history"])}
    wrong = facts["history"]["val_accuracy"][-1] + examples / data.num_val
    facts["history"]["val_accuracy"] = [*facts["history"]["val_accuracy"][:-1], wrong]
    found = judge.judge(Record(facts, record.arrays))
    assert found.divergence is not None
    assert (found.divergence.stage, found.divergence.tensor) == ("metric", "val_accuracy")
