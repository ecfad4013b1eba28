"""Mixed precision: passes in a narrow format, parameters and optimizer in float32."""

import io
import json

import numpy as np
import pytest

from framework_parity.common.commands.options import CompareOptions, ModelOptions
from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, run
from tests.model_files import FOUND, learned_file, plain_learned_file

ABLE = [name for name, found in FOUND.items() if found.get("MIXED")]
SCALE = "LOSS_SCALE = 1024\n\n\ndef targets(X, y):\n    return X\n\n\n"
FAULTS = {
    None: (),
    "a rate that is larger": ("outputs, lr):", "outputs, lr):\n    lr = lr * 1.05", "update"),
    "a loss that is larger": ("(y_hat - y) ** 2", "(y_hat - y) ** 2 * 1.05", "example loss"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference in one framework, and its ensemble in float16."""
    folder = tmp_path_factory.mktemp("mixed")
    file = folder / "mine.py"
    file.write_text(SCALE + learned_file(ABLE[-1], "autoencoder"))
    words = ["--data", "synthetic:200x6x3", "--max-epochs", "1", "--batch-size", "64", "--quiet"]
    words += ["--dtype", "float16", "--out", folder / "out"]
    process = run([*COMPARE, "model", file, *words], cache_directory())
    assert process.returncode == 0, process.stdout + process.stderr
    assert "float32, passes in float16" in process.stdout
    return folder


@pytest.fixture(scope="module")
def judge(folder):
    place = folder / "out" / "reference"
    members = [Record.load(place / name) for name in MEMBERS]
    plan = Plan.load(folder / "out" / "plan")
    return ModelJudge.measure(plan, plan.data(), Record.load(place / REFERENCE), members)


def test_the_report_says_what_passes_are_computed_in(folder):
    facts = json.loads((folder / "out" / "report.json").read_text())
    assert (facts["recipe"]["dtype"], facts["recipe"]["mixed"]) == ("float32", "float16")
    assert facts["model"]["loss_scale"] == 1024


def test_sound_passes_are_within_their_format_and_faults_are_not(folder, judge):
    name, files = ABLE[0], {}
    for number, (fault, change) in enumerate(FAULTS.items()):
        files[fault] = path = folder / f"{number}.py"
        text = learned_file(name, "autoencoder")
        if change:
            assert text.count(change[0]) == 1
            text = text.replace(*change[:2])
        path.write_text(SCALE + text)
    python = find_environment(discover()[name], None, build=False).python
    command = [python, "-m", "tests.train_models", name, folder / "out" / "plan", *files.values()]
    process = run(command, cache_directory(), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    for fault, path in files.items():
        record = Record.load(path.with_suffix(""))
        assert {a.dtype.name for a in record.parameters().values()} == {"float32"}
        found = judge.judge(record)
        if fault is None:
            assert found.grade in ("rounding", "chaotic")
            assert found.divergence is None
            y_hat, exact = (r.arrays["probe/0/forward/y_hat"] for r in (record, judge.reference))
            off = np.abs(y_hat - exact).max() / np.abs(exact).max()
            assert 2.0**-14 < off < 2.0**-8  # of float16, not of float32
        else:
            assert found.grade == "disagree"
            assert (found.divergence.step, found.divergence.stage) == (0, FAULTS[fault][2])


def test_backends_without_such_passes_refuse_them_by_name(folder, tmp_path):
    (tmp_path / "mine.py").write_text(plain_learned_file("autoencoder", PLAIN))
    given = folder / "out" / "plan", PLAIN, tmp_path / "mine.py", "float32"
    with pytest.raises(ParityError, match="float32 or float64, all that this backend trains in"):
        own_model(Worker(io.StringIO()), *given)


def test_a_loss_scale_is_a_power_of_two(tmp_path):
    path = tmp_path / "mine.py"
    text = plain_learned_file("regression", PLAIN)
    for scale in ("1000", "-2", "0", "True + 2", "'2'", "float('inf')"):
        path.write_text(f"{text}\n\nLOSS_SCALE = {scale}\n")
        with pytest.raises(ParityError, match="LOSS_SCALE, a power of two"):
            OwnModel.load(path, BACKENDS)


def test_models_of_a_users_own_alone_are_trained_so():
    recipe = ModelOptions(path="mine.py", dtype="bfloat16").recipe
    assert (recipe.dtype, recipe.mixed, recipe.unit) == ("float32", "bfloat16", 2.0**-8)
    with pytest.raises(ParityError, match="one of float32, float64"):
        _ = CompareOptions(dtype="bfloat16").recipe
    with pytest.raises(ParityError, match="mixed"):
        Recipe(mixed="float8")
    assert "mixed" not in Recipe().to_json()
