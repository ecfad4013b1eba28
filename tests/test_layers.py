"""Layers of a user's own model are rungs of the forward stage: which one is the first to be off."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.layers import partners
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.findings import divergence_line
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, check_complaint, run
from tests.model_files import FAULTS, FOUND, LAYERED, layered_file

NETWORK = ["hidden", "act", "norm", "second", "scores"]
REFERENCE_MODEL = f"""
import numpy as np

PARAMETERS = {LAYERED}


def {PLAIN}_model(d2l, num_inputs, num_outputs, lr):
    class Layers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {{"inputs": num_inputs, "outputs": num_outputs}}
            for name, shape in PARAMETERS.items():
                setattr(self, name, np.zeros([sizes.get(size, size) for size in shape]))

        def layers(self, X):
            A = np.tanh(self.named("hidden", X @ self.W1 + self.b1))
            self.named("act", A)
            centred = A - A.mean(axis=1, keepdims=True)
            deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
            N = self.named("norm", centred / deviation)
            S = self.named("second", 1 / (1 + np.exp(-(N @ self.W2 + self.b2))))
            return A, N, deviation, S

        def forward(self, X):
            return self.named("scores", self.layers(X)[-1] @ self.W3 + self.b3)

        def gradients(self, X, y_hat, y):
            A, N, deviation, S = self.layers(X)
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            D3 = exp / exp.sum(axis=1, keepdims=True)
            D3[np.arange(len(y)), y] -= 1
            D3 /= D3.dtype.type(len(y))
            D2 = (D3 @ self.W3.T) * S * (1 - S)
            DN = D2 @ self.W2.T
            means = DN.mean(axis=1, keepdims=True) + N * (DN * N).mean(axis=1, keepdims=True)
            D1 = (DN - means) / deviation * (1 - A**2)
            below = (("1", X, D1), ("2", N, D2), ("3", S, D3))
            found = {{f"W{{i}}": H.T @ D for i, H, D in below}}
            return found | {{f"b{{i}}": D.sum(axis=0) for i, _, D in below}}

    return Layers()
"""


CAUSES = {
    "a first layer that is larger": ("factor", 1.001),
    "another function": ("function", None),
    "another epsilon": ("epsilon", 1e-4),
    "a second layer that is larger": ("factor", 1.001),
    "a third layer that is larger": ("factor", 1.001),
    "no bias": ("bias", None),
}
"""What the cause of each fault is, and its value."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference in NumPy, which names its layers, and the ensemble of it."""
    folder = tmp_path_factory.mktemp("layers")
    (folder / "mine.py").write_text(REFERENCE_MODEL)
    words = [PLAIN, "--data", "digits", "--max-epochs", "1", "--batch-size", "479", "--quiet"]
    words += ["--out", folder / "out"]
    process = run([*COMPARE, "model", folder / "mine.py", *words], cache_directory())
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def judge(folder):
    place = folder / "reference"
    members = [Record.load(place / name) for name in MEMBERS]
    reference = Record.load(place / REFERENCE)
    plan = Plan.load(folder / "plan")
    return ModelJudge.measure(plan, plan.data(), reference, members)


@pytest.fixture(scope="module")
def trained(folder):
    def train(name, *faults):
        """Records of the layers of one framework, by fault, made in one process."""
        place = folder / name
        place.mkdir(exist_ok=True)
        files = {
            fault: place / f"{number}.py"
            for number, fault in enumerate([None, *FAULTS])
            if fault in faults
        }
        for fault, path in files.items():
            path.write_text(layered_file(name, fault))
        python = find_environment(discover()[name], None, build=False).python
        command = [python, "-m", "tests.train_models", name, folder / "plan", *files.values()]
        process = run(command, cache_directory(), cwd=ROOT)
        assert process.returncode == 0, process.stderr
        reasons = json.loads(process.stdout.splitlines()[-1])
        assert set(reasons.values()) == {None}, reasons
        return {fault: Record.load(path.with_suffix("")) for fault, path in files.items()}

    return train


def test_rungs_stand_in_the_order_of_the_network(folder, judge):
    assert list(judge.ladder.layers) == NETWORK
    found = judge.ladder.layer_facts(Record.load(folder / "runs" / f"{PLAIN}-mine"))
    names = [rung["tensor"] for rung in found["rungs"]]
    order = judge.ladder.parameters
    assert order == ["W1", "b1", "W2", "b2", "W3", "b3"]
    ends = ["y_hat", "example_loss", "loss", *order, *order, "accuracy"]
    assert names == [*NETWORK, *ends]
    assert found["layers"] == {
        "compared": {n: n for n in NETWORK},
        "alone": [],
        "missing": [],
    }


@pytest.mark.parametrize("name", FOUND)
def test_the_layer_that_is_wrong_is_the_first_divergence(judge, trained, name):
    faults = list(FAULTS)
    records = trained(name, None, *faults[:3]) | trained(name, *faults[3:])
    plain = records.pop(None)
    sound, rungs = judge.judge(plain), judge.ladder.layer_facts(plain)["rungs"]
    layers = [rung for rung in rungs if rung["tensor"] in NETWORK]
    assert [rung["tensor"] for rung in layers] == NETWORK
    assert all(rung["envelopes"] <= 4 for rung in layers)
    assert sound.stages["forward"].envelopes <= 4
    for fault, record in records.items():
        _, stage, rung = FAULTS[fault]
        judgement = judge.judge(record)
        found, cause = judgement.divergence, judge.cause(record, judgement)
        if stage == "gradient" and sound.divergence:  # a loss that is biased by itself is first
            assert found.stage == sound.divergence.stage
            continue
        assert (found.step, found.stage, found.tensor) == (0, stage, rung), fault
        assert (cause.name, cause.value) == CAUSES[fault], cause.sentence
        layer = "layer " * (stage == "forward")
        assert f"stage {stage}, {layer}{rung}: " in divergence_line({"divergence": asdict(found)})


def renamed(record, names):
    """A record that calls its activations otherwise; None: not at all."""
    arrays = {}
    for key, array in record.arrays.items():
        kind, _, name = key.partition("/forward/")
        if names.get(name, name) is not None:
            arrays[f"{kind}/forward/{names.get(name, name)}" if name else key] = array
    return replace(record, arrays=arrays)


@pytest.fixture(scope="module")
def sound(folder):
    return Record.load(folder / "runs" / f"{PLAIN}-mine")


def off(record, name):
    """A record in which an activation, and what comes after it, is off by a thousandth."""
    late = (*NETWORK[NETWORK.index(name) :], "y_hat")
    changed = {key: a * 1.001 for key, a in record.arrays.items() if key.endswith(late)}
    return replace(record, arrays=record.arrays | changed)


@pytest.mark.parametrize("name", NETWORK[:4])
def test_layers_of_other_names_are_matched_by_value_and_order(judge, sound, name):
    numbers = {layer: f"net.{5 - place}" for place, layer in enumerate(NETWORK)}
    wrong = renamed(off(sound, name), numbers)
    for record in (renamed(sound, numbers), wrong):
        assert judge.ladder.layer_facts(record)["layers"]["compared"] == numbers
    found = judge.judge(wrong).divergence
    assert (found.stage, found.tensor) == ("forward", name)
    assert f"its own name is {numbers[name]}" in found.note


def test_what_is_not_compared_on_the_way_is_said(judge, sound):
    record = renamed(off(sound, "norm"), {"norm": None})
    found = judge.judge(record).divergence
    assert found.tensor == "second"
    assert found.note == "not compared on the way to it: norm"
    assert judge.ladder.layer_facts(record)["layers"]["missing"] == ["norm"]


def test_an_activation_that_is_another_one_is_not_compared(judge, sound):
    """Of the same name and shape, and far off where what is computed from it is not."""
    given = {k: np.tanh(a) for k, a in sound.arrays.items() if k.endswith("/hidden")}
    record = replace(sound, arrays=sound.arrays | given)
    assert judge.judge(record).divergence is None
    assert judge.ladder.layer_facts(record)["layers"]["missing"] == ["hidden"]


def layers(**sizes):
    """By name: the kind of a layer, and its size."""
    found = ((name.replace("__", "."), size.split()) for name, size in sizes.items())
    return {name: (kind, ((int(size),),)) for name, (kind, size) in found}


LINEAR, DENSE = "Linear 3", "Dense 3"


@pytest.mark.parametrize(
    ("exact", "received", "near", "expected"),
    [
        ({"fc": LINEAR, "out": DENSE}, {"out": DENSE, "fc": DENSE}, "", "fc fc, out out"),
        ({"fc": LINEAR}, {"fc": "Dense 2"}, "", ""),
        ({"n__0": LINEAR, "n__1": LINEAR}, {"D_0": DENSE, "D_1": DENSE}, "", "n.0 D_0, n.1 D_1"),
        (
            {"n__0": "a 3", "n__1": "b 3", "n__2": "c 2"},
            {"D_0": "d 3", "D_1": "d 2"},
            "",
            "n.2 D_1",
        ),
        ({"n__0": "a 3", "n__1": "b 3"}, {"n__0": "c 3"}, "n.1 n.0", "n.1 n.0"),
        ({"n__0": "a 3", "n__1": "b 3"}, {"n__0": "c 3"}, "", "n.0 n.0"),
        ({"fc": LINEAR, "act": "Tanh 3"}, {"fc": DENSE}, "act fc", "fc fc"),
        ({"n__0": LINEAR, "n__1": "Tanh 3"}, {"D_0": DENSE}, "", "n.0 D_0"),
        (
            {"n__0": "Conv2d 3", "n__1": "BatchNorm2d 3", "n__2": "Embedding 3"},
            {"x": "Embed 3", "y": "BatchNormalization 3", "z": "Conv 3", "w": "ReLU 3"},
            "",
            "n.0 z, n.1 y, n.2 x",
        ),
    ],
)
def test_which_layer_is_which(exact, received, near, expected):
    def apart(name, other):
        return 0.0 if f"{name} {other}" == near else 1.0

    found = partners(layers(**exact), layers(**received), apart)
    assert ", ".join(f"{name} {other}" for name, other in sorted(found.items())) == expected


def test_a_file_names_what_frameworks_call_otherwise(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"{REFERENCE_MODEL}\nLAYERS = {{'first': {{'{PLAIN}': 'hidden'}}}}\n")
    model = OwnModel.load(path, BACKENDS)
    given = {"hidden": np.zeros(1), "act": np.ones(1), "first": np.ones(2)}
    assert model.renamed(PLAIN, given) == {"first": given["hidden"], "act": given["act"]}
    assert model.renamed("other", given) == given
    with pytest.raises(ParityError, match=r"LAYERS with activations of .*: act; received hidden"):
        model.renamed(PLAIN, {"act": np.ones(1)})


@pytest.mark.parametrize("text", ["['hidden']", "{'hidden': 'net.0'}", "{'a/b': {'x': 'y'}}"])
def test_names_of_layers_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(f"{REFERENCE_MODEL}\nLAYERS = {text}\n")
    words = [*COMPARE, "model", path, PLAIN, "--out", tmp_path / "out"]
    check_complaint(run(words, cache_directory()), path, "expected LAYERS")
