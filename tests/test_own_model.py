"""A model of one's own: what its file must hold, and what a comparison of it finds."""

import json
import re

import numpy as np
import pytest

from common.agreement import Thresholds
from common.cache import cache_directory
from common.environment import ROOT
from common.errors import ParityError
from common.execution import MEMBERS, REFERENCE
from common.model_judging import ModelJudge
from common.own_model import OwnModel
from common.plan import Plan
from common.record import Record
from common.report import Report
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, FRAMEWORKS, PLAIN, SMALL, check_complaint, run

EXAMPLES = ROOT / "docs" / "examples"
PARAMETERS = '{"W1": ("inputs", 6), "b1": (6,), "W2": (6, "outputs"), "b2": ("outputs",)}'
PLAIN_MODEL = f"""
import numpy as np

PARAMETERS = {PARAMETERS}


def {PLAIN}_model(d2l, num_inputs, num_outputs, lr):
    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W1, self.b1 = np.zeros((num_inputs, 6)), np.zeros(6)
            self.W2, self.b2 = np.zeros((6, num_outputs)), np.zeros(num_outputs)

        def forward(self, X):
            return np.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

        def gradients(self, X, y_hat, y):
            hidden = np.tanh(X @ self.W1 + self.b1)
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            error = exp / exp.sum(axis=1, keepdims=True)
            error[np.arange(len(y)), y] -= 1
            error /= error.dtype.type(len(y))
            below = (error @ self.W2.T) * (1 - hidden**2)
            return {{
                "W1": X.T @ below,
                "b1": below.sum(axis=0),
                "W2": hidden.T @ error,
                "b2": error.sum(axis=0),
            }}

    return TwoLayers()
"""
PLANTED = {
    "forward": ("self.W2 + self.b2", "self.W2 + self.b2 * 1.001"),
    "gradient": ("(1 - hidden**2)", "(1 - hidden**2 * 0.999)"),
    "update": ("self.lr = lr", "self.lr = lr * (1.001 if num_inputs else 1)"),
}


@pytest.fixture
def model_file(tmp_path):
    def write(text=PLAIN_MODEL):
        (tmp_path / "mine.py").write_text(text)
        return tmp_path / "mine.py"

    return write


@pytest.fixture
def compare(tmp_path):
    def start(path, *more, data=SMALL):
        words = [*COMPARE, "--model", path, *more, *data, "--quiet", "--out", tmp_path / "out"]
        return run(words, cache_directory())

    return start


# The file


def test_parameters_are_drawn_alike_whoever_draws(model_file):
    model = OwnModel.load(model_file(), BACKENDS)
    drawn = model.draw(8, 3, 0, "float32")
    assert {name: value.shape for name, value in drawn.items()} == {
        "W1": (8, 6),
        "b1": (6,),
        "W2": (6, 3),
        "b2": (3,),
    }
    assert drawn["W1"].std() == pytest.approx(8**-0.5, rel=0.4)
    assert not drawn["b1"].any()
    again, other = (model.draw(8, 3, seed, "float32") for seed in (0, 1))
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(drawn[name], again[name])
        assert not np.array_equal(drawn[name], other[name])


def test_features_are_permuted_where_they_enter_and_nowhere_else(model_file):
    model = OwnModel.load(model_file(), BACKENDS)
    drawn = model.draw(6, 3, 0, "float32")  # as many features as hidden units
    features = np.array([3, 1, 0, 5, 2, 4])
    permuted = model.permute(drawn, features)
    np.testing.assert_array_equal(permuted["W1"], drawn["W1"][features])
    np.testing.assert_array_equal(permuted["W2"], drawn["W2"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["expected a Python file"]),
        ("raise ValueError('not yet')", ["can be imported", "ValueError('not yet')"]),
        ("def (", ["can be imported", "SyntaxError"]),
        ("import absent_framework", ["can be imported", "absent_framework"]),
        ("x = 1", ["expected a function for each framework"]),
        (PLAIN_MODEL.replace("PARAMETERS", "SHAPES"), ["expected PARAMETERS", "None"]),
        (PLAIN_MODEL.replace(PARAMETERS, '{"W": ("pixels", 3)}'), ["PARAMETERS", "pixels"]),
        (PLAIN_MODEL.replace(PARAMETERS, '{"W": ()}'), ["PARAMETERS", "()"]),
        (PLAIN_MODEL.replace(PARAMETERS, "{}"), ["PARAMETERS", "{}"]),
    ],
    ids=["absent", "raises", "syntax", "import", "no model", "no shapes", "name", "empty", "none"],
)
def test_a_file_that_is_no_model_is_refused(model_file, compare, tmp_path, text, parts):
    path = tmp_path / "absent.py" if text is None else model_file(text)
    check_complaint(compare(path), path, *parts)
    assert not (tmp_path / "out").exists()


def test_a_file_that_lacks_a_backend_is_refused(model_file, compare, tmp_path):
    process = compare(model_file(), PLAIN, FRAMEWORKS[0])
    check_complaint(process, f"define {FRAMEWORKS[0]}_model", PLAIN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--sigma", "0.1"], ["--implementation", "concise"], ["--seeds", "3"], ["--repeat", "2"]],
    ids=lambda words: words[0],
)
def test_options_that_have_no_use_are_refused(model_file, compare, options):
    check_complaint(compare(model_file(), *options), "--model", options[0])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("self.lr = lr", "raise RuntimeError('out of layers')"), "out of layers"),
        (("self.b2 = np", "self.bias = np"), "expected the parameters W1, b1, W2, b2"),
        (("self.lr = lr", "self.lr = lr * 1e308"), "finite"),
    ],
    ids=["raises", "names", "overflows"],
)
def test_a_reference_that_does_not_train_is_one_line(model_file, compare, tmp_path, change, part):
    process = compare(model_file(PLAIN_MODEL.replace(*change)))
    assert process.returncode in (2, 3)
    (line,) = process.stderr.splitlines()
    assert line.startswith("compare.py: reference")
    assert part in line
    assert not (tmp_path / "out" / "report.json").exists()


# What is found


def test_a_model_agrees_with_itself(model_file, compare, tmp_path):
    process = compare(model_file(), PLAIN)
    assert process.returncode == 0, process.stderr
    report = Report.load(tmp_path / "out")
    (row,) = report.runs
    assert (row["implementation"], row["grade"]) == ("mine", "rounding")
    assert 0 < row["envelopes"] <= 4
    assert report.facts["reference"]["by"] == PLAIN
    assert report.facts["model"]["parameters"]["W1"] == ["inputs", 6]
    assert re.search(rf"reference +float64 +{PLAIN}", process.stdout)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The folders of a sound run, and of the same with each planted mistake in float32 alone."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "mine.py").write_text(PLAIN_MODEL)
    options = [PLAIN, *SMALL, "--quiet", "--out", folder / "sound"]
    sound = run([*COMPARE, "--model", folder / "mine.py", *options], folder / "cache")
    assert sound.returncode == 0, sound.stderr
    for stage, change in PLANTED.items():
        assert change[0] in PLAIN_MODEL
        (folder / "mine.py").write_text(PLAIN_MODEL.replace(*change))
        options = [PLAIN, *SMALL, "--quiet", "--out", folder / stage]
        process = run([*COMPARE, "--model", folder / "mine.py", *options], folder / "cache")
        assert process.returncode == 0, process.stderr
    return folder


def judge(folder):
    place = folder / "sound" / "reference"
    return ModelJudge(
        Plan.load(folder / "sound" / "plan"),
        3,
        Record.load(place / REFERENCE),
        [Record.load(place / name) for name in MEMBERS],
        Thresholds(),
    )


@pytest.mark.parametrize("stage", PLANTED)
def test_a_planted_mistake_is_found_in_its_stage(records, stage):
    found = judge(records).judge(Record.load(records / stage / "runs" / f"{PLAIN}-mine"))
    assert found["grade"] != "rounding"
    # A bias that starts at zero is multiplied in vain until its first update.
    assert found["divergence"]["stage"] == stage
    assert found["divergence"]["step"] <= 4
    assert found["divergence"]["envelopes"] > 4


def test_a_dead_run_disagrees(records):
    sound = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine")
    still = {
        name: np.stack([array[0]] * len(array)) if name.startswith("parameters/") else array
        for name, array in sound.arrays.items()
    }
    found = judge(records).judge(Record(sound.facts, still))
    assert found["grade"] == "disagree"
    assert "never moved" in found["reason"]


def test_the_worked_example_trains_in_every_framework(compare, tmp_path):
    process = compare(EXAMPLES / "two_layers.py", data=("--data", "digits", "--max-epochs", "3"))
    assert process.returncode == 0, process.stderr + process.stdout
    report = Report.load(tmp_path / "out")
    given = OwnModel.load(EXAMPLES / "two_layers.py", BACKENDS).backends
    assert sorted(row["backend"] for row in report.runs) == sorted({*given} & {*FRAMEWORKS})
    assert len(report.runs) >= 4
    assert report.facts["reference"]["by"] == PLAIN
    exact = report.facts["reference"]["val_loss"][-1]
    for row in report.runs:
        assert row["grade"] in ("rounding", "drift")
        assert row["val_loss"][-1] == pytest.approx(exact, rel=1e-4)
        # A kernel may be off; how the model is written is the same in all.
        assert row["stages"]["forward"]["envelopes"] <= 4
    assert sum(row["grade"] == "rounding" for row in report.runs) >= 3


def test_the_worked_example_with_a_mistake_is_found_out(compare, tmp_path):
    path = EXAMPLES / "two_layers_bug.py"
    process = compare(path, data=("--data", "digits", "--max-epochs", "3"))
    assert process.returncode == 1, process.stderr
    report = Report.load(tmp_path / "out")
    reference = report.facts["reference"]["by"]
    assert reference in FRAMEWORKS  # the file gives no model without a framework
    sound, wrong = sorted(report.runs, key=lambda row: row["backend"] != reference)
    assert sound["grade"] == "rounding"
    assert wrong["grade"] == "disagree"
    assert (wrong["divergence"]["step"], wrong["divergence"]["stage"]) == (0, "update")
    assert "stage update, W1" in process.stdout
    assert "no known cause" not in process.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == "disagree"


def test_a_model_that_raises_in_one_framework_is_a_failed_row(compare, tmp_path):
    path = EXAMPLES / "two_layers_bug.py"
    last = OwnModel.load(path, BACKENDS).backends[-1]
    head = f"def {last}_model(d2l, num_inputs, num_outputs, lr):\n"
    wrong = path.read_text().replace(head, f"{head}    raise RuntimeError('out of layers')\n")
    (tmp_path / "mine.py").write_text(wrong)
    process = compare(tmp_path / "mine.py")
    assert process.returncode == 3, process.stderr
    statuses = [row["status"] for row in Report.load(tmp_path / "out").runs]
    assert sorted(statuses) == ["done", "failed"]
    assert "out of layers" in process.stdout


def test_what_is_no_model_is_an_error_of_the_library(tmp_path):
    with pytest.raises(ParityError, match="expected a Python file"):
        OwnModel.load(tmp_path, BACKENDS)
