"""What a user's own model learns: numbers of any shape, and sequences of classes."""

import io
import json

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
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.markdown import markdown
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.model_targets import make_targets, measure, read_metrics
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import per_example
from framework_parity.common.worker.arrangement import Arranged
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, check_complaint, run
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
