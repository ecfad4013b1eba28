"""A model of one's own: what its file must hold, and what a comparison of it finds."""

import json
import re

import numpy as np
import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.ladder import Finding
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.report import Report
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.arrangement import ORDERS
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, FRAMEWORKS, PLAIN, SMALL, check_complaint, make_plan, run
from tests.model_files import KINDS, UNEQUAL, sound_file, unequal_file, wrong_file

EXAMPLES = ROOT / "docs" / "examples"
DIGITS = ("--data", "digits", "--max-epochs", "2")
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
        words = [*COMPARE, "model", path, *more, *data, "--quiet", "--out", tmp_path / "out"]
        return run(words, cache_directory())

    return start


# The file


def test_parameters_are_drawn_alike_whoever_draws(model_file):
    model = OwnModel.load(model_file(), BACKENDS)
    drawn = model.draw(8, 3, 0)
    assert {name: value.shape for name, value in drawn.items()} == {
        "W1": (8, 6),
        "b1": (6,),
        "W2": (6, 3),
        "b2": (3,),
    }
    assert drawn["W1"].std() == pytest.approx(8**-0.5, rel=0.4)
    assert not drawn["b1"].any()
    again, other = (model.draw(8, 3, seed) for seed in (0, 1))
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(drawn[name], again[name])
        assert not np.array_equal(drawn[name], other[name])


def test_scales_of_norms_begin_at_one(model_file):
    names = {
        "norm1.weight": 1,
        "block.LayerNorm_0/scale": 1,
        "gamma": 1,
        "norm1.bias": 0,
        "dense.weight": 0,
        "beta": 0,
    }
    shapes = repr(dict.fromkeys(names, (4,)) | {"scale": (4, 3)})
    model = OwnModel.load(model_file(PLAIN_MODEL.replace(PARAMETERS, shapes)), BACKENDS)
    drawn = model.draw(8, 3, 0)
    for name, value in names.items():
        np.testing.assert_array_equal(drawn[name], np.full(4, value))
    assert drawn["scale"].std() > 0.1  # a matrix


GIVEN = """
def initial_parameters(num_inputs, num_outputs, seed):
    draw = np.random.default_rng(seed).random
    shapes = {"W1": (num_inputs, 6), "b1": (6,), "W2": (6, num_outputs), "b2": (num_outputs,)}
    return {name: draw(shape) for name, shape in shapes.items()}
"""


@pytest.mark.parametrize("how", ["function", "file"])
def test_parameters_begin_as_the_file_says(model_file, compare, tmp_path, how):
    shapes = {"W1": (8, 6), "b1": (6,), "W2": (6, 3), "b2": (3,)}
    draw = np.random.default_rng(0).random
    expected = {name: draw(shape).astype("float32") for name, shape in shapes.items()}
    np.savez(tmp_path / "start.npz", **expected)
    text = GIVEN if how == "function" else 'INITIAL = "start.npz"\n'
    process = compare(model_file(PLAIN_MODEL + text), PLAIN)
    assert process.returncode == 0, process.stderr
    for kind, name in (("reference", REFERENCE), ("runs", f"{PLAIN}-mine")):
        begun = Record.load(tmp_path / "out" / kind / name).states()[0]
        for parameter, value in expected.items():
            np.testing.assert_array_equal(begun[parameter], value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("num_inputs, 6)", "num_inputs, 5)"), ["W1 of shape (8, 6)", "float64 of shape (8, 5)"]),
        (('"b2": (num_outputs,)', '"c": (1,)'), ["the parameters W1, b1, W2, b2", "W1, b1, W2, c"]),
        (("draw(shape)", "draw(shape) / 0"), ["W1 of shape (8, 6), all finite", ", not finite"]),
        (("draw(shape)", "str(shape)"), ["W1 of shape (8, 6), all finite", "<U6"]),
        (("return {", "return len() or {"), ["an array for each parameter", "TypeError"]),
        (("return {", "return 3 or {"), ["the parameters W1, b1, W2, b2", "received 3"]),
        ((GIVEN, 'INITIAL = "absent.npz"\n'), ["INITIAL", "absent.npz"]),
    ],
    ids=["shape", "name", "infinite", "text", "raises", "none", "no file"],
)
def test_initial_parameters_that_are_none_are_refused(model_file, compare, tmp_path, change, parts):
    assert change[0] in GIVEN
    path = model_file(PLAIN_MODEL + GIVEN.replace(*change))
    check_complaint(compare(path, PLAIN), path, *parts, "give one array for each name")
    assert not (tmp_path / "out" / "report.json").exists()


def test_features_are_permuted_where_they_enter_and_nowhere_else(model_file):
    model = OwnModel.load(model_file(), BACKENDS)
    drawn = model.draw(6, 3, 0)  # as many features as hidden units
    features = np.array([3, 1, 0, 5, 2, 4])
    classes = np.array([2, 0, 1])
    permuted = model.permute(drawn, features, classes)
    np.testing.assert_array_equal(permuted["W1"], drawn["W1"][features])
    np.testing.assert_array_equal(permuted["W2"], drawn["W2"][:, classes])
    back = model.permute(permuted, np.argsort(features), np.argsort(classes))
    for name, value in drawn.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["expected a Python file"]),
        ("\nraise ValueError('not yet')", ["imported", "ValueError: not yet (mine.py, line 2)"]),
        ("x = 1\ndef (", ["can be imported", "SyntaxError: invalid syntax (mine.py, line 2);"]),
        ("import json\njson.loads('{')", ["JSONDecodeError: Expecting", "(mine.py, line 2)"]),
        (
            PLAIN_MODEL.replace("(d2l, num_inputs, num_outputs, lr)", "(d2l)"),
            [
                f"expected {PLAIN}_model(d2l, num_inputs, num_outputs, lr); received",
                "(d2l)",
                "line 7",
            ],
        ),
        ("import absent_framework", ["can be imported", "absent_framework"]),
        ("x = 1", ["expected a function for each framework"]),
        (f"NAMES = {{'W': 'net.0.weight'}}\n{PLAIN_MODEL}", ["expected NAMES", "net.0.weight"]),
        (
            PLAIN_MODEL.replace(PARAMETERS, '{"W": ("pixels", 3)}'),
            ["PARAMETERS", "'W': ('pixels', 3), in which 'pixels'"],
        ),
        (PLAIN_MODEL.replace(PARAMETERS, '{"W": ("inputs", 0)}'), ["'W'", "in which 0"]),
        (PLAIN_MODEL.replace(PARAMETERS, '{"b": (6)}'), ["'b': 6, which is no tuple"]),
        (PLAIN_MODEL.replace(PARAMETERS, "{7: (6,)}"), ["7, a name that is no text"]),
        (PLAIN_MODEL.replace(PARAMETERS, '{"W": ()}'), ["PARAMETERS", "'W': ()"]),
        (PLAIN_MODEL.replace(PARAMETERS, "{}"), ["PARAMETERS", "{}"]),
    ],
    ids=[
        *("absent", "raises", "syntax", "calls", "signature", "import", "no model", "names"),
        *("size", "zero", "no tuple", "number", "empty", "none"),
    ],
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
    [["--sigma", "0.1"], ["--implementation", "concise"], ["--seeds", "3"], ["--device", "gpu"]],
    ids=lambda words: words[0],
)
def test_options_that_have_no_use_are_refused(model_file, compare, options):
    check_complaint(compare(model_file(), *options), "compare.py model", options[0])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("self.lr = lr", "raise RuntimeError('out of layers')"), "out of layers"),
        (
            ("self.b2 = np", "self.bias = np"),
            "expected the parameters W1, b1, W2, b2; received bias besides",
        ),
        (('("inputs", 6)', '("inputs", 7)'), "W1 of shape (8, 6), not (8, 7) as in PARAMETERS"),
        (
            ("return TwoLayers()", "TwoLayers()"),
            "expected an instance of d2l.Classifier; received None",
        ),
        (("@ self.W2 + self.b2", "@ self.W2.T"), "(mine.py, line 16)"),
        (("self.lr = lr", "self.lr = lr * 1e308"), "finite"),
    ],
    ids=["raises", "names", "shape", "nothing", "forward", "overflows"],
)
def test_a_reference_that_does_not_train_is_one_line(model_file, compare, tmp_path, change, part):
    process = compare(model_file(PLAIN_MODEL.replace(*change)))
    assert process.returncode in (2, 3)
    (line,) = process.stderr.splitlines()
    assert line.startswith("compare.py: reference")
    assert part in line
    assert "Traceback" not in line
    assert 'File "' not in line
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_model_of_any_kind_is_within_rounding(model_file, compare, tmp_path, kind):
    """The ensemble keeps the order of features that mean something by their place."""
    text, names = sound_file(kind)
    process = compare(model_file(text), data=DIGITS)
    assert process.returncode == 0, process.stdout + process.stderr
    facts = Report.load(tmp_path / "out").facts
    grades = {row["backend"]: row["grade"] for row in facts["runs"]}
    assert set(grades) == set(names)
    assert set(grades.values()) <= {"rounding", "drift"}
    assert "rounding" in grades.values()
    for row in facts["runs"]:  # a loss may be biased; how the model is written is the same
        assert row["stages"]["forward"]["envelopes"] <= 4
    assert facts["free_running"]["informative"]
    assert facts["notices"] == []
    kept = () if "inputs" in KINDS[kind] else ("features",)
    assert facts["envelope"]["orders"] == [name for name in ORDERS if name not in kept]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_in_a_model_of_any_kind_is_found_in_its_stage(
    model_file, compare, tmp_path, kind
):
    text, faulty = wrong_file(kind)
    right = next(name for name in sound_file(kind)[1] if name != faulty)
    process = compare(model_file(text), "--reference", right, data=DIGITS)
    assert process.returncode in (0, 1), process.stdout + process.stderr
    facts = Report.load(tmp_path / "out").facts
    assert facts["verdict"] in ("drift", "disagree")
    by = facts["reference"]["by"]  # its own row agrees with it, right or wrong
    for row in facts["runs"]:
        assert (row["grade"] == "rounding") == (row["backend"] == by)
    (found,) = (row["divergence"] for row in facts["runs"] if row["backend"] != by)
    assert (found["step"], found["stage"]) == (0, "forward")
    assert faulty in [row["backend"] for row in facts["runs"]]


FED_OTHERWISE = {
    "an order turned round": "order[::-1].copy()",
    "a row in another's place": "np.where(order == order[5], order[6], order)",
    "a batch left out": "order[64:]",
}
"""What a file makes of an epoch's order in one framework."""


@pytest.mark.parametrize("how", FED_OTHERWISE)
def test_a_model_that_is_fed_otherwise_is_stage_data(model_file, compare, tmp_path, how):
    text, names = sound_file("layers of all features")
    change = f"""\
    import numpy as np
    fit_epoch = d2l.Trainer.fit_epoch
    d2l.Trainer.fit_epoch = lambda self, order: fit_epoch(self, {FED_OTHERWISE[how]})
"""
    head = f"def {names[-1]}_model(d2l, num_inputs, num_outputs, lr):\n"
    assert head in text
    process = compare(model_file(text.replace(head, head + change)), data=DIGITS)
    assert process.returncode == 1, process.stdout + process.stderr
    found = {run["backend"]: run["divergence"] for run in Report.load(tmp_path / "out").runs}
    assert (found[names[-1]]["step"], found[names[-1]]["stage"]) == (0, "data")


PLACE_MATTERS = {
    "by its place": "X * (1 + np.arange(X.shape[1]) % 2).astype(X.dtype)",
    "by a parameter of zero": "X + self.b1[:1] * np.arange(X.shape[1]).astype(X.dtype)",
}


@pytest.mark.parametrize("how", PLACE_MATTERS)
def test_features_that_mean_something_by_their_place_are_not_permuted(
    model_file, compare, tmp_path, how
):
    """Though parameters name an axis of inputs; it is said."""
    text = PLAIN_MODEL.replace("X @ self.W1", f"({PLACE_MATTERS[how]}) @ self.W1")
    text = text.replace("X.T @ below", f"({PLACE_MATTERS[how]}).T @ below")
    process = compare(model_file(text), "--lr", "0.01")
    assert process.returncode == 0, process.stdout + process.stderr
    facts = Report.load(tmp_path / "out").facts
    assert facts["envelope"]["orders"] == ["examples", "classes"]
    assert any("PARAMETERS calls inputs" in notice for notice in facts["notices"])


def test_examples_that_matter_to_each_other_by_their_place_are_not_permuted(
    model_file, compare, tmp_path
):
    process = compare(
        model_file(PLAIN_MODEL.replace("below.sum(axis=0)", "below.sum(axis=0) + below[0]"))
    )
    assert process.returncode == 0, process.stdout + process.stderr
    facts = Report.load(tmp_path / "out").facts
    assert facts["envelope"]["orders"] == ["features", "classes"]
    assert any("examples of a batch" in notice for notice in facts["notices"])


@pytest.mark.parametrize("name", UNEQUAL)
def test_what_cannot_be_held_equal_is_refused_by_name(tmp_path, name):
    make_plan(tmp_path, Synthetic(96, 64, 3), batch_size=32, max_epochs=1)
    files = {case: tmp_path / f"{number}.py" for number, case in enumerate(UNEQUAL[name])}
    for case, path in files.items():
        path.write_text(unequal_file(name, case))
    python = find_environment(discover()[name], None, build=False).python
    command = [python, "-m", "tests.train_models", name, tmp_path / "plan", *files.values()]
    process = run(command, cache_directory(), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    reasons = json.loads(process.stdout.splitlines()[-1])
    for case, (_, _, part) in UNEQUAL[name].items():
        reason = reasons[str(files[case])]
        if part is None:
            assert reason is None, case
        else:
            assert reason is not None, case
            assert part in reason, case
            assert f"{files[case]}: {name}: expected" in reason
            assert len(reason.splitlines()) == 1


LINEAR_MODEL = f"""
import numpy as np


def {PLAIN}_model(d2l, num_inputs, num_outputs, lr):
    class Linear(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W, self.b = np.zeros((num_inputs, num_outputs)), np.zeros(num_outputs)

        def forward(self, X):
            return X @ self.W + self.b

        def gradients(self, X, y_hat, y):
            return {{"W": 0 * self.W, "b": 0 * self.b}}

    return Linear()
"""


@pytest.mark.parametrize("name", UNEQUAL)
def test_a_comparison_of_what_cannot_be_held_equal_is_one_line(model_file, compare, tmp_path, name):
    path = model_file(unequal_file(name, "noise") + LINEAR_MODEL)
    process = compare(path, PLAIN, name)  # the reference does it not
    check_complaint(process, path, f"{name}: ", "random numbers in", "leave that out")
    assert not (tmp_path / "out" / "report.json").exists()


def test_random_numbers_of_a_model_without_a_framework_are_refused(model_file, compare):
    for drawn in ("np.random.rand()", "np.random.default_rng().random()"):
        path = model_file(PLAIN_MODEL.replace("self.b2\n", f"self.b2 * {drawn}\n", 1))
        check_complaint(compare(path, "--overwrite"), path, PLAIN, "random")


ANOTHER = {
    "a loss that counts": (
        "self.calls = 0",
        """
        def loss(self, y_hat, y, averaged=True):
            self.calls += 1
            return super().loss(y_hat, y, averaged) * (1 + 1e-3 * self.calls)
""",
        "another loss",
    ),
    "a gradient that counts": (
        "self.calls = 0",
        """
        def gradients(self, X, y_hat, y):
            self.calls += 1
            return {n: g * (1 + 1e-3 * self.calls) for n, g in self.plain(X, y_hat, y).items()}
""",
        "another update of W1",
    ),
    "noise in a gradient": (
        "self.draw = np.random.default_rng(0)",
        """
        def gradients(self, X, y_hat, y):
            return {n: g * (1 + self.draw.random()) for n, g in self.plain(X, y_hat, y).items()}
""",
        "another update of W1",
    ),
    "a rate that falls": (
        "pass",
        """
        def gradients(self, X, y_hat, y):
            self.lr *= 0.99
            return self.plain(X, y_hat, y)
""",
        "another update of W1",
    ),
    "a beginning that is gentle": (
        "self.calls = 0",
        """
        def gradients(self, X, y_hat, y):
            self.calls += 1
            rate = 0.1 if self.calls < 4 else 1
            return {n: g * rate for n, g in self.plain(X, y_hat, y).items()}
""",
        "another update of W1",
    ),
}
"""What a model keeps, what it does with it, and a part of why it is refused."""


@pytest.mark.parametrize("case", ANOTHER)
def test_a_step_that_is_not_the_same_again_is_refused(model_file, compare, tmp_path, case):
    kept, method, part = ANOTHER[case]
    text = PLAIN_MODEL.replace("self.lr = lr", f"self.lr = lr; {kept}")
    if "def gradients" in method:
        text = text.replace("def gradients", "def plain")
    text = text.replace("    return TwoLayers()", f"{method}\n    return TwoLayers()")
    path = model_file(text)
    check_complaint(compare(path), path, PLAIN, part, "same parameters and examples")
    assert not (tmp_path / "out" / "report.json").exists()


ENDS = {
    "sys.exit(0)": "SystemExit(0)",
    "raise SystemExit": "SystemExit()",
    "raise KeyboardInterrupt": "KeyboardInterrupt()",
    "os._exit(0)": "exit status 0",
    "print('{}'); os._exit(0)": "exit status 0",
    "raise SystemExit('all is well')": "SystemExit('all is well')",
    "os.execv(sys.executable, [sys.executable, '-c', 'print({})'])": "exit status 0",
    "os.closerange(0, 64); os._exit(0)": "exit status 0",
}
PLACES = {
    "import": ("import numpy as np\n", ""),
    "builder": (f"def {PLAIN}_model(d2l, num_inputs, num_outputs, lr):\n", "    "),
    "class body": ("    class TwoLayers(d2l.Classifier):\n", "        "),
    "forward": ("        def forward(self, X):\n", "            "),
    "loss": ("        def loss(self, y_hat, y, averaged=True):\n", "            "),
}
ENDINGS = [("import", end) for end in ENDS] + [
    (place, end) for place in list(PLACES)[1:] for end in list(ENDS)[::3]
]


@pytest.mark.parametrize(("place", "end"), ENDINGS)
def test_a_file_that_ends_its_process_is_never_an_agreement(
    model_file, compare, tmp_path, place, end
):
    loss = "        def loss(self, y_hat, y, averaged=True):\n            return 0\n\n"
    text = PLAIN_MODEL.replace("        def gradients", f"{loss}        def gradients")
    head, indent = PLACES[place]
    path = model_file("import os, sys\n" + text.replace(head, f"{head}{indent}{end}\n", 1))
    process = compare(path)
    assert process.returncode in (2, 3)
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert str(path) in line
    assert ENDS[end] in line
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize("end", list(ENDS)[::3])
def test_a_model_that_ends_its_process_in_one_framework_is_a_failed_row(compare, tmp_path, end):
    """In the framework that is no reference; what it says stands in its row."""
    text = (EXAMPLES / "two_layers_bug.py").read_text()
    last = OwnModel.load(EXAMPLES / "two_layers_bug.py", BACKENDS).backends[-1]
    head = f"def {last}_model(d2l, num_inputs, num_outputs, lr):\n"
    (tmp_path / "mine.py").write_text(f"import os, sys\n{text}".replace(head, f"{head}    {end}\n"))
    process = compare(tmp_path / "mine.py")
    assert process.returncode == 3, process.stderr
    (failed,) = (r for r in Report.load(tmp_path / "out").runs if r["status"] != "done")
    assert failed["status"] == "failed"
    assert "mine.py" in failed["reason"]
    assert ENDS[end] in failed["reason"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The folders of a sound run, and of the same with each planted mistake in float32 alone."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "mine.py").write_text(PLAIN_MODEL)
    options = [PLAIN, *SMALL, "--quiet", "--out", folder / "sound"]
    sound = run([*COMPARE, "model", folder / "mine.py", *options], folder / "cache")
    assert sound.returncode == 0, sound.stderr
    for stage, change in PLANTED.items():
        assert change[0] in PLAIN_MODEL
        (folder / "mine.py").write_text(PLAIN_MODEL.replace(*change))
        options = [PLAIN, *SMALL, "--quiet", "--out", folder / stage]
        process = run([*COMPARE, "model", folder / "mine.py", *options], folder / "cache")
        assert process.returncode == 0, process.stderr
    return folder


def judge(folder):
    place = folder / "sound" / "reference"
    plan = Plan.load(folder / "sound" / "plan")
    members = [Record.load(place / name) for name in MEMBERS]
    return ModelJudge.measure(plan, plan.data(), Record.load(place / REFERENCE), members)


def test_an_envelope_that_is_as_wide_as_it_should_be_gets_no_notice(records):
    assert not list(judge(records).notices())


@pytest.mark.parametrize(
    ("names", "factor", "part"),
    [
        (("parameters/",), 1e4, "strays up to"),
        (("parameters/",), 1e6, "strays up to"),
        (("step_loss", "parameters/", "train_loss"), 1e6, "the ensemble alone that makes"),
        (("probe/",), 1e5, "rounds coarsely"),
    ],
)
def test_an_envelope_that_is_wider_than_it_should_be_is_said(records, names, factor, part):
    sound = judge(records)
    before = sound.reference
    first, *others = sound.ladder.members

    def away(name, values, exact):
        return exact + factor * (values - exact) if name.startswith(names) else values

    def strayed(member):
        arrays = {n: away(n, array, before.arrays[n]) for n, array in member.arrays.items()}
        history = {
            n: away(n, np.array(values), np.array(before.facts["history"][n])).tolist()
            for n, values in member.facts["history"].items()
        }
        return Record(member.facts | {"history": history}, arrays)

    members = [first, *map(strayed, others)]
    given = ModelJudge.measure(sound.plan, sound.data, before, members)
    assert any(re.search(part, notice) for notice in given.notices()), list(given.notices())


@pytest.mark.parametrize("name", ["junk", "probe/0/junk", "fed/y_train"])
def test_an_array_that_nobody_knows_is_refused(records, name):
    sound = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine")
    with pytest.raises(RecordError, match=f"{name}: expected the arrays of the reference"):
        judge(records).judge(Record(sound.facts, sound.arrays | {name: np.zeros(3)}))


def test_a_short_batch_gives_the_accuracies_of_others_no_room(records):
    judged = judge(records)
    lengths = [len(judged.plan.rows(step)) for step in range(judged.plan.num_steps)]
    assert min(lengths) < max(lengths)
    sound = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine")
    for step, length in enumerate(lengths):
        values = sound.arrays["step_accuracy"].copy()
        values[step] -= 5 / length
        found = judged.judge(Record(sound.facts, sound.arrays | {"step_accuracy": values}))
        assert found.grade == "disagree", (step, length)


@pytest.mark.parametrize("stage", PLANTED)
def test_a_planted_mistake_is_found_in_its_stage(records, stage):
    found = judge(records).judge(Record.load(records / stage / "runs" / f"{PLAIN}-mine"))
    assert found.grade != "rounding"
    # A bias that starts at zero is multiplied in vain until its first update.
    assert found.divergence.stage == stage
    assert found.divergence.step <= 4
    assert found.divergence.envelopes > 4


@pytest.mark.parametrize("name", ["train_accuracy", "val_accuracy", "step_accuracy"])
def test_an_accuracy_that_is_no_count_of_examples_is_found(records, name):
    sound, judged = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine"), judge(records)
    history, step_accuracy = json.loads(json.dumps(sound.facts["history"])), None
    if name == "step_accuracy":
        step_accuracy = sound.arrays[name].copy()
        step_accuracy[-1] += 0.23 / len(judged.plan.rows(judged.plan.num_steps - 1))
    else:
        size = (
            len(sound.arrays["val_y_hat"]) if name == "val_accuracy" else judged.plan.order.shape[1]
        )
        history[name][0] += 0.23 / size
    arrays = sound.arrays if step_accuracy is None else sound.arrays | {name: step_accuracy}
    found = judged.judge(Record(sound.facts | {"history": history}, arrays))
    assert found.grade != "rounding"
    assert (found.divergence.stage, found.divergence.tensor) == ("metric", name)


@pytest.mark.parametrize("examples", [1, 2, 3, 4])
def test_an_accuracy_that_no_rounding_explains_is_found(records, examples):
    """Of few examples: none of these is near to a tie, so that all runs classify them alike."""
    sound, judged = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine"), judge(records)
    history = json.loads(json.dumps(sound.facts["history"]))
    history["val_accuracy"][-1] -= examples / len(sound.arrays["val_y_hat"])
    found = judged.judge(Record(sound.facts | {"history": history}, sound.arrays))
    step = judged.plan.num_steps - 1
    assert found.grade == "disagree"
    assert (found.divergence.stage, found.divergence.step) == ("metric", step)
    for step in judged.plan.probes:
        name = f"probe/{step}/metric/accuracy"
        wrong = sound.arrays[name] - examples / len(judged.plan.rows(step))
        found = judged.judge(Record(sound.facts, sound.arrays | {name: wrong}))
        assert found.grade in ("drift", "disagree")
        assert (found.divergence.stage, found.divergence.step) == ("metric", step)


@pytest.mark.parametrize("stage", ["gradient", "update"])
def test_of_an_error_too_small_for_an_earlier_stage_that_is_said(records, stage):
    small, large = (Finding(0, stage, "W1", "largest", 0.1, ulps, 6.0) for ulps in (2.0, 1e5))
    assert (
        "forward or the example loss or the loss may be off"
        in judge(records).ladder.noted(small, 4.0).note
    )
    assert judge(records).ladder.noted(large, 4.0) == large


def test_a_dead_run_disagrees(records):
    sound = Record.load(records / "sound" / "runs" / f"{PLAIN}-mine")
    initial = sound.states()[0]
    still = {
        name: np.stack([initial[name.partition("/")[2]]] * len(array))
        if name.startswith("parameters/")
        else array
        for name, array in sound.arrays.items()
    }
    found = judge(records).judge(Record(sound.facts, still))
    assert found.grade == "disagree"
    assert "never moved" in found.reason


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
    first = OwnModel.load(path, BACKENDS).backends[0]
    more = ("--reference", first)
    process = compare(path, *more, data=("--data", "digits", "--max-epochs", "3"))
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
    said = "".join(report.facts["notices"])
    assert f"In float64, too, {wrong['backend']} does not train as {reference} does" in said
    assert "(step 0, stage update, W1)" in said
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == "disagree"


def test_a_second_framework_confirms_the_reference(compare, tmp_path):
    """Without a model in NumPy: of the worked example two frameworks are left."""
    source = (EXAMPLES / "two_layers_bug.py").read_text()
    assert ", weight_decay=5e-4" in source
    (tmp_path / "mine.py").write_text(source.replace(", weight_decay=5e-4", ""))
    process = compare(tmp_path / "mine.py")
    assert process.returncode == 0, process.stderr + process.stdout
    report = Report.load(tmp_path / "out")
    second = report.facts["reference"]["second"]
    assert second in FRAMEWORKS
    assert second != report.facts["reference"]["by"]
    assert not [notice for notice in report.facts["notices"] if "float64" in notice]


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
