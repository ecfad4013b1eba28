"""The float64 reference is the mathematics; every member of the ensemble is, too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS, measure_envelope, member
from framework_parity.common.reference.replay import (
    FORMS,
    Training,
    Trajectory,
    block_product,
    epoch_means,
)
from framework_parity.common.worker.request import Request
from tests.helpers import carry_out, make_plan

quick = settings(deadline=None)
logits = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-50, 50)
)
sizes = {
    "num_train": st.integers(1, 40),
    "num_inputs": st.integers(1, 6),
    "num_outputs": st.integers(1, 5),
    "batch_size": st.integers(1, 45),
    "max_epochs": st.integers(1, 3),
}


def sized(num_train, num_inputs, num_outputs, batch_size, max_epochs, dtype="float64"):
    data = Synthetic(num_train, num_inputs, num_outputs)
    return make_plan(data=data, batch_size=batch_size, max_epochs=max_epochs, dtype=dtype)


def labels_of(z):
    return np.arange(len(z)) % z.shape[1]


# The loss and its gradient


@given(z=logits)
@quick
def test_the_forms_of_the_loss_agree(z):
    y = labels_of(z)
    with np.errstate(over="raise", invalid="raise"):
        found = [form(z, y) for form in FORMS]
    for losses, probabilities, error in found:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(probabilities, found[0][1], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(error, found[0][2], rtol=0, atol=1e-11)


@given(z=logits)
@quick
def test_the_loss_is_cross_entropy_by_definition(z):
    y = labels_of(z)
    shifted = np.longdouble(z) - z.max(axis=1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    expected = [-np.log(row[label]) for row, label in zip(softmax, y, strict=True)]
    np.testing.assert_allclose(FORMS[0](z, y)[0], np.array(expected, float), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (7, 1, 3), (7, 3, 1), (9, 4, 5)])
def test_the_gradient_is_that_of_finite_differences(form, shape):
    n, num_inputs, num_outputs = shape
    plan, data = sized(n, num_inputs, num_outputs, n, 1)
    training = Training(plan, data, form=form)
    random = np.random.default_rng(0)
    W = random.standard_normal((num_inputs, num_outputs))
    b = random.standard_normal(num_outputs)
    rows = plan.order[0]
    step = training.step(W, b, rows)
    for parameter, gradient in ((W, step.gradient_W), (b, step.gradient_b)):
        assert gradient.shape == parameter.shape
        for i in np.ndindex(parameter.shape):
            ends = []
            for sign in (1, -1):
                parameter[i] += sign * 1e-6
                ends.append(training.step(W, b, rows).loss)
                parameter[i] -= sign * 1e-6
            assert abs((ends[0] - ends[1]) / 2e-6 - gradient[i]) < 1e-8


# The training


@given(**sizes)
@quick
def test_the_training_is_gradient_descent_written_out(**size):
    """Example by example, in plain loops, from the definition."""
    plan, data = sized(**size)
    received = Training(plan, data).run()
    X, y = (array.astype(np.float64) for array in data.examples(train=True))
    W, b = plan.W.copy(), plan.b.copy()
    done, losses, kept = 0, [], []
    for order in plan.order:
        for start in range(0, len(order), plan.recipe.batch_size):
            rows = order[start : start + plan.recipe.batch_size]
            gradient_W, gradient_b, loss = np.zeros_like(W), np.zeros_like(b), 0.0
            for row in rows:
                z = X[row] @ W + b
                softmax = np.exp(z) / np.exp(z).sum()
                label = int(y[row])
                loss -= np.log(softmax[label]) / len(rows)
                softmax[label] -= 1
                gradient_W += np.outer(X[row], softmax) / len(rows)
                gradient_b += softmax / len(rows)
            W -= plan.recipe.lr * gradient_W
            b -= plan.recipe.lr * gradient_b
            losses.append(loss)
            done += 1
            if done in plan.snapshots:
                kept.append(W.copy())
    np.testing.assert_allclose(received.step_loss, losses, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(received.parameters["W"], kept, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(received.parameters["b"][-1], b, rtol=1e-10, atol=1e-13)
    X_val, y_val = data.examples(train=False, dtype="float64")
    z = X_val @ W + b
    assert received.val_accuracy[-1] == np.mean(z.argmax(axis=1) == y_val)
    assert received.val_loss.shape == (plan.recipe.max_epochs,)
    np.testing.assert_allclose(received.val_logits, z, rtol=1e-10, atol=1e-12)


@given(index=st.integers(0, ENSEMBLE_MEMBERS - 1), **sizes)
@quick
def test_members_are_the_same_mathematics(index, **size):
    plan, data = sized(**size)
    exact, other = Training(plan, data).run(), member(plan, data, index).run()
    received = other.record().arrays
    for name, expected in exact.record().arrays.items():
        np.testing.assert_allclose(received[name], expected, rtol=0, atol=1e-12, err_msg=name)


def test_members_differ_in_float32():
    plan, data = make_plan(dtype="float32")
    finals = {
        member(plan, data, index).run().parameters["W"][-1].tobytes()
        for index in range(ENSEMBLE_MEMBERS)
    }
    assert len(finals) == ENSEMBLE_MEMBERS


@pytest.mark.parametrize("index", [None, 0, 5])
def test_a_training_repeats_to_the_bit(index):
    plan, data = make_plan()

    def train():
        training = Training(plan, data) if index is None else member(plan, data, index)
        return training.run()

    first, second = (train().record().arrays for _ in range(2))
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


def test_the_same_from_a_process_of_its_own(tmp_path):
    plan, data = make_plan(tmp_path)
    fields = {"plan": tmp_path / "plan"}
    status, told = carry_out(Request("reference", tmp_path / "one", tmp_path / "log", fields))
    assert status == 0
    assert [line["event"] for line in told] == ["training"] * plan.recipe.max_epochs + ["done"]
    expected = Training(plan, data).run().record().arrays
    for name, values in Trajectory.load(tmp_path / "one").record().arrays.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-15)


def test_trajectories_are_saved_and_loaded_bit_by_bit(tmp_path):
    trajectory = Training(*make_plan()).run()
    trajectory.record().save(tmp_path / "one")
    loaded = Trajectory.load(tmp_path / "one").record().arrays
    for name, values in trajectory.record().arrays.items():
        assert loaded[name].tobytes() == values.tobytes()
        assert loaded[name].shape == values.shape
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@given(num_train=st.integers(1, 50), batch_size=st.integers(1, 60), max_epochs=st.integers(1, 4))
@quick
def test_epoch_means_are_means_over_examples(num_train, batch_size, max_epochs):
    plan, _ = make_plan(
        data=Synthetic(num_train, 2, 2), batch_size=batch_size, max_epochs=max_epochs
    )
    values = np.random.default_rng(0).random((max_epochs, num_train))
    starts = range(0, num_train, batch_size)
    per_step = [row[start : start + batch_size].mean() for row in values for start in starts]
    np.testing.assert_allclose(
        epoch_means(np.array(per_step), plan), values.mean(axis=1), rtol=1e-13
    )


# The envelope


def parts(measured):
    """Everything that an envelope bounds, by name."""
    named = vars(measured)
    return {n: v for n, v in named.items() if n != "parameters"} | dict(named["parameters"])


def test_the_envelope_holds_its_members_and_grows():
    plan, data = make_plan()
    oracle = Training(plan, data).run()
    members = [member(plan, data, index).run() for index in range(ENSEMBLE_MEMBERS)]
    measured = measure_envelope(plan, data, oracle, members)
    for other in members:
        assert (np.abs(other.step_loss - oracle.step_loss) <= measured.loss).all()
        assert (np.abs(other.val_loss - oracle.val_loss) <= measured.val_loss).all()
        for name in "Wb":
            errors = np.abs(other.parameters[name] - oracle.parameters[name])
            largest = errors.reshape(len(errors), -1).max(axis=1)
            assert (largest <= measured.parameters[name]).all()
    for name, bound in parts(measured).items():
        values = np.atleast_1d(bound)
        assert (values > 0).all(), name
        assert (values < 1e-4).all(), name
        assert (np.diff(values) >= 0).all(), name


def test_a_member_that_overflows_leaves_the_envelope_finite():
    plan, data = make_plan(sigma=1000.0)
    oracle = Training(plan, data).run()
    with np.errstate(all="ignore"):
        members = [member(plan, data, index).run() for index in range(ENSEMBLE_MEMBERS)]
        assert any(not np.isfinite(other.step_loss).all() for other in members)
        measured = measure_envelope(plan, data, oracle, members)
    for name, bound in parts(measured).items():
        assert np.isfinite(bound).all(), name


@pytest.mark.parametrize("at_once", [2**18, 64, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_in_blocks_are_those_of_a_loop_bit_for_bit(monkeypatch, dtype, at_once):
    monkeypatch.setattr("framework_parity.common.reference.replay.AT_ONCE", at_once)
    random = np.random.default_rng(0)
    shapes = [(1, 1, 1), (1, 50, 1), (256, 784, 10), (7, 20, 1), (1, 33, 5), (3, 8, 2)]
    for n, k, m in [*shapes, *random.integers(1, 40, (30, 3))]:
        A = random.standard_normal((n, k)).astype(dtype)
        B = random.standard_normal((k, m)).astype(dtype)
        for block in (1, 3, 8, 64):
            for left in (A, np.asfortranarray(A)):
                expected = left[:, :block] @ B[:block]
                for start in range(block, k, block):
                    expected += left[:, start : start + block] @ B[start : start + block]
                received = block_product(left, B, block)
                assert received.tobytes() == expected.tobytes(), (n, k, m, block)
