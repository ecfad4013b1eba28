"""What a user's own model learns: numbers of any shape, and sequences of classes."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from framework_parity.common.commands.model_targets import with_targets
from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.baseline_difference import compare_with_golden
from framework_parity.common.judging.golden_record import golden_record
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.markdown import markdown
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.model_targets import measure, read_metrics
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import per_example
from framework_parity.common.worker.arrangement import Arranged
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, run
from tests.model_files import FOUND, TARGET_FAULTS, learned_file, plain_learned_file

KINDS = ("regression", "autoencoder", "sequence")
TRAINED = ("--max-epochs", "2", "--batch-size", "32", "--quiet")
METRICS = 'METRICS = {"mae": lambda y_hat, y: abs(y_hat - y).mean()}\n'
GIVEN = {"regression": METRICS, "autoencoder": "", "sequence": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference in NumPy, and the ensemble of it, of each kind."""
    folder = tmp_path_factory.mktemp("targets")
    random = np.random.default_rng(0)
    X = random.standard_normal((250, 6)).astype("float32")
    y = {"regression": X @ random.standard_normal((6, 2)) + 1, "autoencoder": np.arange(250) % 3}
    y["sequence"] = (X.reshape(250, 2, 3) + random.standard_normal((250, 2, 3)) / 4).argmax(axis=2)
    for kind in KINDS:
        arrays = {"X_train": X[:200], "y_train": y[kind][:200]}
        np.savez(folder / f"{kind}.npz", **arrays, X_val=X[200:], y_val=y[kind][200:])
        file = folder / f"{kind}.py"
        file.write_text(plain_learned_file(kind, PLAIN, GIVEN[kind]))
        words = [PLAIN, "--data", folder / f"{kind}.npz", *TRAINED, "--out", folder / kind]
        process = run([*COMPARE, "model", file, *words], cache_directory())
        assert process.returncode == 0, process.stdout + process.stderr
        (folder / f"{kind}.txt").write_text(process.stdout)
    return folder


@pytest.fixture(scope="module")
def judges(folder):
    found = {}
    for kind in KINDS:
        place = folder / kind / "reference"
        members = [Record.load(place / name) for name in MEMBERS]
        plan = Plan.load(folder / kind / "plan")
        given = Record.load(place / REFERENCE), members
        found[kind] = ModelJudge.measure(plan, plan.data(), *given)
    return found


@pytest.fixture(scope="module")
def trained(folder):
    def train(name):
        """Records of all kinds in one framework, by kind and fault, made in one process."""
        cases, words = (
            [*((kind, None) for kind in KINDS), *(("autoencoder", f) for f in FAULTS)],
            [],
        )
        files = {}
        for number, (kind, fault) in enumerate(cases):
            files[kind, fault] = path = folder / f"{name}{number}.py"
            path.write_text(learned_file(name, kind, fault, GIVEN[kind]))
            words += [folder / kind / "plan", path]
        python = find_environment(discover()[name], None, build=False).python
        process = run(
            [python, "-m", "tests.train_models", name, *words], cache_directory(), cwd=ROOT
        )
        assert process.returncode == 0, process.stderr
        reasons = json.loads(process.stdout.splitlines()[-1])
        assert set(reasons.values()) == {None}, reasons
        return {case: Record.load(path.with_suffix("")) for case, path in files.items()}

    return train


FAULTS = list(TARGET_FAULTS)


@pytest.mark.parametrize("name", FOUND)
def test_sound_runs_are_within_rounding_and_wrong_targets_are_found(judges, trained, name):
    for (kind, fault), record in trained(name).items():
        found = judges[kind].judge(record)
        if kind == "sequence":  # by the framework's own cross-entropy, which is coarse in one
            assert found.grade in ("rounding", "drift")
            assert found.stages["forward"].envelopes <= 4
            assert found.stages["metric"].envelopes <= 4
            assert found.flips == []
        elif fault is None:
            assert (found.grade, found.divergence) == ("rounding", None), (kind, found)
        else:
            assert found.grade == "disagree"
            assert (found.divergence.step, found.divergence.stage) == (0, "example loss"), fault


def run_of(folder, kind):
    return Record.load(folder / kind / "runs" / f"{PLAIN}-{kind}")


def test_what_a_framework_was_fed_is_compared_number_by_number(folder, judges, monkeypatch):
    whole = Arranged.scaled_targets

    def shifted(data, y, dtype="float32"):
        return np.roll(whole(data, y, dtype), 1, axis=0)

    monkeypatch.setattr(Arranged, "scaled_targets", shifted)
    given = folder / "regression" / "plan", PLAIN, folder / "regression.py", "float32"
    record = own_model(
        Worker(io.StringIO()), *given, folder / "regression" / "reference" / REFERENCE
    )
    found = judges["regression"].judge(record)
    assert (found.divergence.step, found.divergence.stage) == (0, "data")
    assert "32 of 32 targets are not those of their examples" in found.divergence.tensor
    assert found.grade == "disagree"


def test_a_metric_of_the_file_is_judged_by_its_own_envelope(folder, judges):
    judge, record = judges["regression"], run_of(folder, "regression")
    assert judge.judge(record).grade == "rounding"
    history = record.facts["history"]
    assert set(history) == {"train_loss", "val_loss", "val_mae"}
    assert "step_accuracy" not in record.arrays
    rounded = [value * (1 + 1e-8) for value in history["val_mae"]]
    for values, grade in ((rounded, "rounding"), ([history["val_mae"][0], 0.5], "disagree")):
        facts = record.facts | {"history": history | {"val_mae": values}}
        found = judge.judge(replace(record, facts=facts))
        assert found.grade == grade, found.reason
        if grade == "disagree":
            assert (found.divergence.stage, found.divergence.tensor) == ("metric", "val_mae")
            assert "val_mae" in found.reason


def test_golden_records_of_numbers_hold_their_metrics(folder, judges):
    judge, record = judges["regression"], run_of(folder, "regression")
    row = ReportFacts.load(folder / "regression").runs[0]
    golden = golden_record(judge, record, row, {})
    assert set(golden.facts["history"]) == {"train_loss", "val_loss", "val_mae"}
    assert compare_with_golden(judge, golden, record, row, {}).grade == "exact"
    facts = json.loads(json.dumps(golden.facts))
    facts["history"]["val_mae"][-1] += 0.1
    moved = compare_with_golden(judge, replace(golden, facts=facts), record, row, {})
    assert moved.grade == "disagree"
    assert (moved.divergence.stage, moved.divergence.tensor) == ("metric", "val_mae")


def test_places_of_a_sequence_are_predictions(folder, judges):
    judge, record = judges["sequence"], run_of(folder, "sequence")
    scores = record.arrays["val_y_hat"].copy()
    place = scores[7, 1].argmax()
    scores[7, 1] = -scores[7, 1]
    found = judge.judge(replace(record, arrays={**record.arrays, "val_y_hat": scores}))
    (flip,) = found.flips
    assert (flip["example"], flip["reference"]) == (7, place)
    assert "1.00% of its predictions changed" in found.reason  # one of 100


def test_reports_say_what_is_learned(folder):
    said = {kind: (folder / f"{kind}.txt").read_text() for kind in KINDS}
    assert "6 inputs, 2 numbers as target" in said["regression"]
    assert "val mae" in said["regression"]
    assert "val acc" not in said["regression"]
    assert "6 inputs, 6 numbers as target" in said["autoencoder"]
    assert "6 inputs, 3 classes at each of 2 places" in said["sequence"]
    assert "–" in said["autoencoder"]
    report = ReportFacts.load(folder / "regression")
    assert report.facts["data"]["targets"] == "2 numbers as target"
    assert report.runs[0]["prediction_flips"] is None
    mae = f"{report.runs[0]['val_mae'][-1]:.6g}"
    text = markdown(report)
    assert "| val mae |" in text
    assert f"| {mae}" in text
    page = (folder / "regression" / "report.html").read_text()
    assert "validation mae" in page
    assert "2 numbers as target" in page


def model(folder, text):
    (folder / "mine.py").write_text(plain_learned_file("regression", PLAIN) + text)
    return OwnModel.load(folder / "mine.py", BACKENDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def targets(X, y):\n    return X[:-1]", "float32 of shape (199, 6)"),
        ("def targets(X, y):\n    return 1.0", "float64 of shape ()"),
        ("def targets(X, y):\n    return X > 0", "bool of shape (200, 6)"),
        ("def targets(X, y):\n    return X / 0", "finite targets"),
        ("def targets(X, y):\n    return X.missing", "'missing' (mine.py, line 37)"),
        ("def targets(X, y):\n    raise SystemExit", "the end of its process"),
    ],
)
def test_odd_targets_are_refused_in_one_line(folder, tmp_path, text, expected):
    data = DataModule.open(folder_of(folder))
    found = model(tmp_path, "\n\n" + text.replace("X / 0", "np.where(X > 0, np.inf, X)"))
    with pytest.raises(ParityError) as error:
        with_targets(found, folder_of(folder), data)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert "mine.py" in str(error.value)


def folder_of(folder):
    return Plan.load(folder / "regression" / "plan").data_folder


@pytest.mark.parametrize("metrics", ["3", "{'accuracy': abs}", "{'mae': 1}", "{'a b': abs}"])
def test_odd_metrics_are_refused_in_one_line(tmp_path, metrics):
    found = model(tmp_path, f"\n\nMETRICS = {metrics}")
    with pytest.raises(ParityError, match="METRICS, functions of y_hat and y"):
        read_metrics(found.path, found.module)


def test_a_metric_is_a_finite_number(tmp_path):
    for function in (lambda y_hat, y: np.nan, lambda y_hat, y: y.missing, lambda y_hat, y: y):
        with pytest.raises(ParityError, match="METRICS: mae: expected a finite number"):
            measure(tmp_path, {"mae": function}, np.zeros(3), np.zeros(3))


def refusal(plan, file):
    with pytest.raises(ParityError) as error:
        own_model(Worker(io.StringIO()), plan, PLAIN, file, "float32")
    return str(error.value)


def test_numbers_need_a_loss_and_classes_no_metric(folder, tmp_path):
    text = plain_learned_file("regression", PLAIN, METRICS)
    (tmp_path / "mine.py").write_text(text.replace("def loss", "def other"))
    said = refusal(folder / "regression" / "plan", tmp_path / "mine.py")
    assert "loss: expected the model's own, since its targets are numbers" in said
    (tmp_path / "other.py").write_text(plain_learned_file("sequence", PLAIN, METRICS))
    said = refusal(folder / "sequence" / "plan", tmp_path / "other.py")
    assert "METRICS: expected none, since targets are classes" in said


def test_softmax_regression_learns_classes_alone(folder):
    for kind, dtype in (("regression", "float64"), ("sequence", "int64")):
        with pytest.raises(
            ParityError, match=f"one integer label per example; received dtype {dtype}"
        ):
            open_data(str(folder / f"{kind}.npz"), 32)


def test_targets_are_of_one_shape_and_kind():
    X = np.zeros((4, 2), "float32")
    for y in (np.zeros((4, 3)), np.zeros(4, int)):
        with pytest.raises(ParityError, match="targets of one shape and kind"):
            DataModule(X, np.zeros((4, 2)), X, y, any_targets=True)
    with pytest.raises(ParityError, match="y_train: expected finite targets"):
        DataModule(X, np.full(4, 1e300), X, np.zeros(4), any_targets=True)


def test_what_belongs_to_an_example_is_averaged():
    values = np.arange(12, dtype="float32")
    assert per_example(values, 12) is values
    for shape in ((12,), (4, 3), (2, 2, 3)):
        np.testing.assert_array_equal(per_example(values.reshape(shape), 4), [1, 4, 7, 10])
    with pytest.raises(ParityError, match="a number for each of 5 examples"):
        per_example(values, 5)
