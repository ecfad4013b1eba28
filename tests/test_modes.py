"""Training and evaluation, what layers keep besides parameters, and dropout, in every framework."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.findings import divergence_line
from framework_parity.common.training.buffers import in_order, partners
from framework_parity.common.training.dropout import Masks, kept
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from tests.helpers import COMPARE, PLAIN, run
from tests.model_files import FOUND

REFERENCE_MODEL = f"""
import numpy as np

PARAMETERS = {{
    "W1": ("inputs", 16), "scale1": (16,), "shift1": (16,),
    "W2": (16, 16), "scale2": (16,), "shift2": (16,),
    "W3": (16, "outputs"), "b3": ("outputs",),
}}


def initial_parameters(num_inputs, num_outputs, seed):
    sizes, random = {{"inputs": num_inputs, "outputs": num_outputs}}, np.random.default_rng(seed)
    shapes = {{n: [sizes.get(s, s) for s in shape] for n, shape in PARAMETERS.items()}}
    found = {{n: random.normal(0, 1 / shape[0] ** 0.5, shape) for n, shape in shapes.items()}}
    return found | {{n: random.uniform(0.5, 1.5, 16) for n in ("scale1", "scale2")}}


def {PLAIN}_model(d2l, num_inputs, num_outputs, lr):
    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {{"inputs": num_inputs, "outputs": num_outputs}}
            for name, shape in PARAMETERS.items():
                setattr(self, name, np.zeros([sizes.get(size, size) for size in shape]))
            self.buffers = {{}}
            for norm in ("norm1", "norm2"):
                self.buffers[f"{{norm}}.running_mean"] = np.zeros(16)
                self.buffers[f"{{norm}}.running_var"] = np.ones(16)

        def norm(self, i, H, keep):
            names = [f"norm{{i}}.running_{{what}}" for what in ("mean", "var")]
            mean, var = (self.buffers[name] for name in names)
            if self.training:
                mean, var = H.mean(axis=0), H.var(axis=0)
                for name, new in zip(names, (mean, var)) if keep else ():
                    self.buffers[name] = 0.9 * self.buffers[name] + 0.1 * new
            deviation = np.sqrt(var + 1e-5)
            N = (H - mean) / deviation
            scale, shift = getattr(self, f"scale{{i}}"), getattr(self, f"shift{{i}}")
            return N, deviation, np.tanh(self.named(f"norm{{i}}", N * scale + shift))

        def layers(self, X, keep):
            N1, deviation1, A1 = self.norm(1, X @ self.W1, keep)
            M = self.dropout(np.ones_like(A1), 0.25)
            D = self.named("drop", A1 * M)
            return N1, deviation1, A1, M, D, *self.norm(2, D @ self.W2, keep)

        def forward(self, X):
            return self.layers(X, True)[-1] @ self.W3 + self.b3

        def gradients(self, X, y_hat, y):
            N1, deviation1, A1, M, D, N2, deviation2, A2 = self.layers(X, False)
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            E = exp / exp.sum(axis=1, keepdims=True)
            E[np.arange(len(y)), y] -= 1
            E /= E.dtype.type(len(y))
            found = {{"W3": A2.T @ E, "b3": E.sum(axis=0)}}

            def below(i, G, N, deviation):
                found[f"scale{{i}}"], found[f"shift{{i}}"] = (G * N).sum(axis=0), G.sum(axis=0)
                G = G * getattr(self, f"scale{{i}}")
                return (G - G.mean(axis=0) - N * (G * N).mean(axis=0)) / deviation

            G2 = below(2, E @ self.W3.T * (1 - A2**2), N2, deviation2)
            found["W2"] = D.T @ G2
            found["W1"] = X.T @ below(1, G2 @ self.W2.T * M * (1 - A1**2), N1, deviation1)
            return {{name: found[name] for name in PARAMETERS}}

    return Mine()
"""
LAYERS = ["norm1", "drop", "norm2"]
EVALUATED = [f"{name} in evaluation" for name in (*LAYERS, "y_hat")]
BUFFERS = [f"running_{what} of norm{i}" for i in (1, 2) for what in ("mean", "var")]
FIRST = {
    "rotated": "drop",
    "dropped in evaluation": "drop in evaluation",
    "not updated": "running_mean of norm1",
    "of the batch in evaluation": "norm1 in evaluation",
}
"""By what is wrong: the rung in which it shows first."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference in NumPy, which names its layers, and the ensemble of it."""
    folder = tmp_path_factory.mktemp("modes")
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


def far(judge, record):
    """The rungs beyond rounding, in the ladder's order."""
    rungs = judge.ladder.layer_facts(record)["rungs"]
    return [rung["tensor"] for rung in rungs if rung["envelopes"] > 4]


def test_what_is_kept_is_on_record_and_judged(folder, judge):
    record = Record.load(folder / "runs" / f"{PLAIN}-mine")
    names = [rung["tensor"] for rung in judge.ladder.layer_facts(record)["rungs"]]
    assert names[:8] == [*LAYERS, "y_hat", *EVALUATED]
    assert [name for name in names if name in BUFFERS] == BUFFERS
    assert judge.judge(record).grade == "rounding"
    moved = record.arrays["buffer/norm1.running_var"]
    assert len(moved) == len(record.arrays["snapshots"])
    assert not (moved[-1] == 1).any()
    assert (record.arrays["initial_buffer/norm1.running_var"] == 1).all()
    assert judge.reference.facts["orders"] == ["examples", "features", "classes"]


def changed(record, key, value):
    return Record(record.facts, record.arrays | {key: value})


def test_what_is_kept_counts_before_the_first_step_and_in_the_free_run(folder, judge):
    record = Record.load(folder / "runs" / f"{PLAIN}-mine")
    key = "norm2.running_mean"
    found = judge.judge(changed(record, f"initial_buffer/{key}", np.full(16, 1e-3, "float32")))
    said = found.divergence
    assert (said.step, said.stage, said.tensor) == (0, "data", "initial running_mean of norm2")
    free = record.arrays[f"buffer/{key}"] * np.float32(1.001)
    found = judge.judge(changed(record, f"buffer/{key}", free))
    assert found.divergence.tensor.startswith("running_mean of norm2, carried over")
    assert found.grade == "drift"


@pytest.mark.parametrize("name", FOUND)
def test_modes_are_told_and_what_is_wrong_with_them_is_found(folder, judge, tmp_path, name):
    found = FOUND[name]
    cases = {None: {}} | found["MODES_FAULTS"]
    files = {case: tmp_path / f"{number}.py" for number, case in enumerate(cases)}
    parameters = REFERENCE_MODEL.partition("\n\ndef ")[0]
    for case, path in files.items():
        text = parameters + found["MODES"]
        for mark, value in (found["MODES_SOUND"] | cases[case]).items():
            text = text.replace(mark, value)
        path.write_text(text)
    python = find_environment(discover()[name], None, build=False).python
    command = [python, "-m", "tests.train_models", name, folder / "plan", *files.values()]
    process = run(command, cache_directory(), cwd=ROOT, OMP_NUM_THREADS="1")
    assert process.returncode == 0, process.stderr
    reasons = json.loads(process.stdout.splitlines()[-1])
    assert set(reasons.values()) == {None}, reasons
    records = {case: Record.load(path.with_suffix("")) for case, path in files.items()}
    sound = records.pop(None)
    alone = far(judge, sound)
    if found.get("UNBIASED"):
        assert alone == [name for name in BUFFERS if "var" in name]
        judged = judge.judge(sound)
        assert judge.cause(sound, judged) is None
        said = divergence_line({"divergence": asdict(judged.divergence)})
        assert "at step 0, stage update, running_var of norm1: " in said
    else:
        assert not {*LAYERS, *EVALUATED, *BUFFERS, "y_hat"} & {*alone}
    for case, record in records.items():
        assert next(rung for rung in far(judge, record) if rung not in alone) == FIRST[case], case
        judged = judge.judge(record)
        said = judged.divergence
        judge.cause(record, judged)  # it may be known
        if said.stage == "forward":
            assert f"layer {FIRST[case]}: " in divergence_line({"divergence": asdict(said)})


def test_masks_follow_the_examples_and_keep_as_many_as_they_should():
    step, rows, shape = np.array([3]), np.arange(1000), (1000, 40)
    mask = kept(7, step, 0, rows, shape, 0.25)
    assert abs(mask.mean() - 0.75) < 0.01
    assert mask.mean(axis=0).std() < 0.03
    order = np.random.default_rng(0).permutation(1000)
    assert (kept(7, step, 0, rows[order], shape, 0.25) == mask[order]).all()
    assert (kept(7, step, 0, rows[:10], (10, 40), 0.25) == mask[:10]).all()
    assert (kept(7, step, 0, rows, (4000, 10), 0.25).reshape(shape) == mask).all()
    turned = kept(7, step, 0, rows, (1000, 3, 4, 5), 0.25).transpose(0, 2, 3, 1)
    assert (kept(7, step, 0, rows, (1000, 4, 5, 3), 0.25) == turned).all()
    others = [(8, step, 0, rows), (7, step + 1, 0, rows), (7, step, 1, rows)]
    for given in [*others, (7, step, 0, rows + 1)]:
        agree = (kept(*given, shape, 0.25) == mask).mean()
        assert abs(agree - 0.625) < 0.02  # 0.75² + 0.25²


def test_masks_are_of_examples_and_of_the_pass_at_hand():
    masks = Masks(0)
    assert not masks.drops(0.5)
    with masks.of(0, np.arange(4)):
        first, second = masks.keep((4, 9), 0.5), masks.keep((4, 9), 0.5)
        assert (first != second).any()
        assert [masks.drops(rate) for rate in (0.0, 0.5, 1.0)] == [False, True, False]
        with pytest.raises(ParityError, match=r"a first axis of examples, 4 of them; .*\(3, 4\)"):
            masks.keep((3, 4), 0.5)
    with masks.of(0, np.arange(4)):
        assert (masks.keep((4, 9), 0.5) == first).all()


@pytest.mark.parametrize(
    ("own", "exact", "expected"),
    [
        ("a.mean a.var", "a.running_mean a.running_var", "a.running_mean a.running_var"),
        ("b.mean a.mean", "a.running_mean b.running_mean", "b.running_mean a.running_mean"),
        ("N_0.mean N_1.mean", "n.1.mean n.4.mean", "n.1.mean n.4.mean"),
        ("a.mean b.mean", "a.mean", "a.mean"),
        ("a.mean b.mean", "c.mean", ""),
        ("a.count", "a.mean", ""),
    ],
)
def test_which_buffer_is_which(own, exact, expected):
    own, exact = (dict.fromkeys(names.split(), (3,)) for names in (own, exact))
    assert " ".join(partners(own, exact).values()) == expected


def test_buffers_stand_in_the_order_of_the_network():
    layers = ["norm10", "block.conv", "block.norm", "norm2", "norm10#2"]
    names = ["count", "norm2.mean", "block.norm.mean", "norm10.mean"]
    assert in_order(names, layers) == ["norm10.mean", "block.norm.mean", "norm2.mean", "count"]
