"""Training with optimizers that remember: their state is read, set, recorded and compared."""

import json

import numpy as np
import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record
from framework_parity.common.worker.arrangement import ORDERS
from tests.helpers import COMPARE, PLAIN, make_plan, run
from tests.model_files import FOUND, PARAMETERS, PLAIN_OPTIMIZERS, optimized, optimized_file

DIGITS = ("--data", "digits", "--max-epochs", "2", "--lr", "0.01")
LATE = 6
"""A probed step in the midst of a training of ten steps and more."""
ROUNDED = ("adam", "adamw")
"""Where some frameworks compute a correction of the moments in float32, and that is found."""
ROUNDED_CAUSES = ("bias correction 1 − βᵗ in float32", "1 − β of the moments in float32")


@pytest.fixture
def compare(tmp_path):
    def start(text, *names):
        (tmp_path / "mine.py").write_text(text)
        words = [*COMPARE, "model", tmp_path / "mine.py", *names, *DIGITS, "--quiet"]
        process = run([*words, "--out", tmp_path / "out"], cache_directory())
        assert process.returncode in (0, 1), process.stdout + process.stderr
        return Report.load(tmp_path / "out").facts

    return start


def recorded(folder, name):
    return Record.load(folder / "out" / "runs" / f"{name}-mine").arrays


@pytest.mark.parametrize("kind", PLAIN_OPTIMIZERS)
def test_late_steps_of_every_framework_begin_with_the_reference_s_state(compare, tmp_path, kind):
    """Each from its own state would be off by what the trainings have strayed by then."""
    text, names = optimized_file(kind, PLAIN)
    facts = compare(text)
    assert {row["backend"] for row in facts["runs"]} == {*names}
    assert facts["reference"]["by"] == PLAIN
    assert facts["notices"] == []
    grades = [row["grade"] for row in facts["runs"]]
    assert "rounding" in grades
    assert set(grades) <= {"rounding", "drift"}  # a loss may be biased, a correction be rounded
    kinds = set.intersection(*({*recorded(tmp_path, name)} for name in names))
    kept = [name for name in kinds if name.startswith(f"probe/{LATE}/optimizer/")]
    assert kept
    for row in facts["runs"]:
        stages = {stage: found["envelopes"] for stage, found in row["stages"].items()}
        biased = stages["example loss"] > 4 or kind in ROUNDED
        assert stages["update"] < (200 if biased else 4)  # of a state that is another: thousands
        if row["divergence"] and row["divergence"]["stage"] == "update":
            assert row["cause"]["name"] in ROUNDED_CAUSES


@pytest.mark.parametrize("name", FOUND)
def test_a_step_probed_from_its_own_state_is_the_one_that_was_trained(tmp_path, name):
    """To the rounding of a velocity that a framework multiplies with the learning rate."""
    make_plan(tmp_path, Synthetic(96, 64, 3), batch_size=32, max_epochs=3)
    python = find_environment(discover()[name], None, build=False).python
    expected = FOUND[name]["MORE_OPTIMIZERS"]
    files = {tmp_path / f"{number}.py": optimizer for number, optimizer in enumerate(expected)}
    for file, optimizer in files.items():
        file.write_text(f"PARAMETERS = {PARAMETERS}\n{optimized(name, optimizer)}")
    command = [python, "-m", "tests.remembering", name, tmp_path / "plan", *files]
    process = run(command, cache_directory(), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    for file, optimizer in files.items():
        (unknown, error, by_hand), part = found[str(file)], expected[optimizer]
        assert error < 1e-6, optimizer
        if optimizer in FOUND[name]["NO_ARGUMENTS"]:
            assert by_hand is None, optimizer
        else:
            assert by_hand < 1e-3, optimizer
        assert unknown is None if part is None else part in unknown, optimizer


FAULTS = [
    pytest.param(name, *fault, id=f"{name}: {what}")
    for name, found in FOUND.items()
    for what, fault in found["OPTIMIZER_FAULTS"].items()
]


@pytest.mark.parametrize(("name", "kind", "optimizer", "where", "cause"), FAULTS)
def test_a_fault_of_the_optimizer_is_found_at_its_step(
    compare, name, kind, optimizer, where, cause
):
    text, _ = optimized_file(kind, PLAIN, **{name: optimizer})
    (row,) = compare(text, name)["runs"]
    found, (step, tensor) = row["divergence"], where
    assert row["grade"] in ("drift", "disagree")
    if found["stage"] == "example loss":  # biased, whatever the optimizer
        assert row["stages"]["update"]["envelopes"] > 1000
        assert tensor in row["stages"]["update"]["tensor"]
        assert row["cause"] is None
        return
    assert (found["step"], found["stage"]) == (step, "update"), found
    assert tensor in found["tensor"] or "loss" in found["tensor"], found
    assert (row["cause"] and row["cause"]["name"]) == cause, row["cause"]


SHIFTED = {
    '"b": ("outputs",)}': '"b": ("outputs",), "shift": (1,)}',
    "self.W, self.b = ": "self.shift, self.W, self.b = np.zeros(1), ",
    "X @ self.W + self.b": "X @ self.W + self.b + self.shift",
    "error.sum(axis=0)}": 'error.sum(axis=0), "shift": error.sum(keepdims=True)[0]}',
}
"""A parameter that all logits share has no gradient but rounding, which Adam makes a step of."""


def test_a_gradient_that_is_rounding_alone_leaves_the_ensemble_its_orders(compare):
    text, _ = optimized_file("adam", PLAIN)
    for old, new in SHIFTED.items():
        assert old in text
        text = text.replace(old, new, 1)
    facts = compare(text, PLAIN)
    assert facts["envelope"]["orders"] == [*ORDERS]
    assert facts["runs"][0]["grade"] == "rounding"


def test_of_an_optimizer_without_canonical_names_late_steps_are_not_probed(compare, tmp_path):
    name = next(name for name, found in FOUND.items() if "KNOWN_NOT" in found)
    text, _ = optimized_file("momentum", PLAIN, **{name: FOUND[name]["KNOWN_NOT"]})
    facts = compare(text, name)
    assert facts["runs"][0]["grade"] == "rounding"
    (notice,) = facts["notices"]
    assert "Mine remembers" in notice
    assert "first step" in notice
    probed = {name.split("/")[1] for name in recorded(tmp_path, name) if name.startswith("probe/")}
    assert probed == {"0"}


def test_that_an_optimizer_remembers_another_kind_is_said(compare):
    text, _ = optimized_file("momentum", PLAIN, **{PLAIN: "d2l.SGD(self.named_tensors(), lr)"})
    name = next(iter(FOUND))
    facts = compare(text, name)
    assert any("remembers velocity, the reference's nothing" in said for said in facts["notices"])
    found = facts["runs"][0]["divergence"]
    assert (found["step"], found["stage"]) == (1, "update")
    assert np.isfinite(found["envelopes"])
