"""Trainings of code that is not the suite's, judged by the arrays that it left."""

import re
import subprocess
import sys

import numpy as np
import pytest

from framework_parity.common.commands.judge_arrays import assert_agreement, main
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.plan import Plan
from tests.helpers import COMPARE, PLAIN, check_complaint, run

RECIPE = ("--data", "synthetic:300x8x3", "--max-epochs", "2", "--batch-size", "64")

PROGRAM = """
# Somebody else's program: it knows the files, and nothing of the suite.
import json, sys
import numpy as np

place, out, factor, what = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
recipe = json.load(open(f"{place}/plan/plan.json"))["recipe"]
facts = json.load(open(f"{place}/data/facts.json"))
W, b, order = (np.load(f"{place}/plan/{name}.npy") for name in ("W", "b", "order"))
X = (np.load(f"{place}/data/X_train.npy") / np.float32(facts["divisor"])).astype(np.float32)
y = np.load(f"{place}/data/y_train.npy")
lr = np.float32(recipe["lr"] * factor)
losses, Ws, bs = [], [], []
for epoch in order:
    for start in range(0, len(epoch), recipe["batch_size"]):
        rows = epoch[start : start + recipe["batch_size"]]
        z = X[rows] @ W + b
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(rows)), y[rows]]).mean())
        p[np.arange(len(rows)), y[rows]] -= 1
        W = W - lr * (X[rows].T @ p / np.float32(len(rows)))
        b = b - lr * (p.sum(axis=0) / np.float32(len(rows)))
        Ws.append(W)
        bs.append(b)
if what == "end":
    np.savez(out, **{"parameters/W": W, "parameters/b": b})
else:
    recorded = json.load(open(f"{place}/steps.json"))["snapshots"]
    np.savez(
        out,
        step_loss=np.array(losses),
        snapshots=np.array(recorded),
        **{"parameters/W": np.stack([Ws[step - 1] for step in recorded])},
        **{"parameters/b": np.stack([bs[step - 1] for step in recorded])},
    )
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def plan(tmp_path_factory, cache):
    """A plan, written for others, and moved since."""
    folder = tmp_path_factory.mktemp("plan")
    process = run([*COMPARE, "plan", folder / "written", *RECIPE, "--quiet"], cache)
    assert process.returncode == 0, process.stderr
    assert "10 updates" in process.stdout
    return (folder / "written").rename(folder / "plan")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, plan):
    """Train with somebody else's program."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "program.py").write_text(PROGRAM)

    def train(factor=1.0, what="all"):
        out = folder / f"{what}-{factor}.npz"
        words = [sys.executable, folder / "program.py", plan, out, str(factor), what]
        subprocess.run(words, check=True, cwd=folder)
        return out

    return train


@pytest.mark.parametrize("what", ["all", "end"])
def test_a_sound_program_agrees(plan, elsewhere, what):
    found = assert_agreement(elsewhere(what=what), plan)
    assert found.grade == "rounding"
    assert 0 < found.envelopes < 4
    assert ("step_loss" in found.not_given) == (what == "end")
    assert "probe" in found.not_given


def test_a_learning_rate_that_is_off_is_named(plan, elsewhere):
    with pytest.raises(AssertionError) as failed:
        assert_agreement(elsewhere(1.1), plan)
    said = str(failed.value)
    assert said.startswith("disagree")
    assert "stage update" in said
    assert "learning rate × 1.1" in said
    assert len(said.splitlines()) <= 7


@pytest.mark.parametrize("name", ["parameters/W", "step_loss"])
def test_nothing_is_said_of_single_steps_where_none_is_probed(plan, elsewhere, name):
    with np.load(elsewhere()) as archive:
        arrays = dict(archive)
    arrays[name] = (arrays[name] * 1.001).astype(np.float32)
    with pytest.raises(AssertionError) as failed:
        assert_agreement(arrays, plan)
    assert "in its own training" in str(failed.value)
    assert "single step" not in str(failed.value)


def test_predictions_that_changed_are_told(plan, elsewhere):
    with pytest.raises(AssertionError, match=r"\d+ predictions? differs? from"):
        assert_agreement(elsewhere(8.0), plan)


@pytest.mark.parametrize("fail_on", ["Drift", "rounding"])
def test_a_grade_that_fails_is_one_of_those_that_can(plan, elsewhere, fail_on):
    with pytest.raises(ParityError, match="expected chaotic, drift or disagree"):
        assert_agreement(elsewhere(), plan, fail_on=fail_on)


def test_drift_fails_unless_allowed(plan, elsewhere):
    with pytest.raises(AssertionError, match="drift"):
        assert_agreement(elsewhere(1.0001), plan)
    assert assert_agreement(elsewhere(1.0001), plan, fail_on="disagree").grade == "drift"
    with pytest.raises(AssertionError, match="drift"):
        assert_agreement(elsewhere(1.0001, "end"), plan)


def test_the_record_of_a_worker_is_judged_as_the_comparison_judges_it(plan, cache, tmp_path):
    words = [*COMPARE, PLAIN, *RECIPE, "--quiet", "--out", tmp_path / "out"]
    assert run(words, cache).returncode == 0
    found = assert_agreement(tmp_path / "out" / "runs" / f"{PLAIN}-scratch" / "arrays.npz", plan)
    assert found.not_given == ("history/val_loss",)
    assert found.judgement.stages["update"].envelopes > 0


def test_metrics_that_are_given_are_judged(plan, elsewhere):
    with np.load(elsewhere()) as archive:
        arrays = dict(archive)
    arrays["history/val_loss"] = np.array([0.5, 0.4])
    with pytest.raises(AssertionError, match="stage metric, val_loss"):
        assert_agreement(arrays, plan)


def test_the_command_line(plan, elsewhere, capsys):
    assert main([str(elsewhere()), "--plan", str(plan)]) == 0
    assert capsys.readouterr().out.startswith("rounding")
    assert main([str(elsewhere(1.1)), "--plan", str(plan)]) == 1
    assert main(["nowhere.npz", "--plan", str(plan)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.count("nowhere.npz:") == 1


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"parameters/W": None}, "parameters/W"),
        ({"parameters/W": np.zeros((5, 2, 2))}, "shape"),
        ({"parameters/W": np.full((5, 8, 3), np.nan)}, "parameters/W"),
        ({"snapshots": np.array([1, 2, 3, 5, 10])}, "after 1, 2, 3"),
        ({"snapshots": np.array([1, 2, 4, 5])}, "the last"),
        ({"step_loss": np.zeros(9)}, "(9,)"),
        ({"step_losses": np.zeros(10)}, "step_losses"),
        ({"val_y_hat": np.zeros((3, 3))}, "val_y_hat"),
        ({"history/val_loss": np.zeros(3)}, "val_loss"),
        ({"step_loss": np.array(["low"] * 10)}, "step_loss"),
        ({"parameters/b": np.full((5, 3), 1 / 3)}, "more digits than float32"),
        ({"val_y_hat": np.full((100, 3), 1e300)}, "more digits than float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(plan, elsewhere, changes, part):
    with np.load(elsewhere()) as archive:
        arrays = dict(archive) | changes
    with pytest.raises(ParityError) as refused:
        assert_agreement({k: a for k, a in arrays.items() if a is not None}, plan)
    assert part in str(refused.value)


def test_what_is_no_plan_or_no_arrays_is_said_in_words(plan, cache, tmp_path, capsys):
    results = tmp_path / "results"
    run([*COMPARE, PLAIN, *RECIPE, "--quiet", "--out", results], cache)
    (tmp_path / "words.npz").write_text("words")
    for run_file, folder, part in (
        ("nowhere.npz", plan, "nowhere.npz: expected an .npz of arrays; received No such file"),
        (tmp_path / "words.npz", plan, "expected an .npz of arrays; received "),
        (
            tmp_path / "words.npz",
            results,
            f"{results}: expected a plan, as compare.py plan writes it",
        ),
        (tmp_path / "words.npz", tmp_path, f"{tmp_path}: expected a plan, as compare.py plan"),
    ):
        assert main([str(run_file), "--plan", str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert part in line
        assert "delete" not in line
        assert not re.search(r"Error\(|Errno", line)
    for words in (["a.npz"], ["a.npz", "--plan", "p", "--plan", "q"], ["--pl", "p", "a.npz"]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected " in line
        assert "; received " in line


def test_places_that_hold_something_are_kept(plan, cache, tmp_path):
    before = sorted(plan.rglob("*"))
    process = run([*COMPARE, "plan", plan, *RECIPE, "--quiet"], cache)
    check_complaint(process, plan, "plan: expected a new folder")
    assert sorted(plan.rglob("*")) == before
    words = [*COMPARE, PLAIN, *RECIPE, "--quiet", "--overwrite", "--out", plan]
    check_complaint(run(words, cache), plan, "one that compare.py plan wrote", "--out")
    assert sorted(plan.rglob("*")) == before
    with pytest.raises(ParityError, match="expected a plan"):
        assert_agreement({}, tmp_path)
    (tmp_path / "plan").symlink_to(plan / "plan")
    (tmp_path / "data").symlink_to(plan / "data")
    assert Plan.load(tmp_path / "plan").num_steps == 10
    with pytest.raises(ParityError, match=r"compare\.py plan"):
        assert_agreement({}, tmp_path)
