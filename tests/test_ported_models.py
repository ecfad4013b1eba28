"""A network of layers as they stand, ported with mistakes: layer and cause are named."""

import json
import runpy
from dataclasses import asdict

import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.report.wording import run_lines
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, run

FOUND = {
    name: runpy.run_path(str(place))
    for name in BACKENDS
    if (place := ROOT / "tests" / "ported_models" / f"{name}.py").exists()
}
ORIGINAL = next(name for name, found in FOUND.items() if found["IS_REFERENCE"])
PORTS = [name for name in FOUND if name != ORIGINAL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The original's float64 run, and its ensemble."""
    folder = tmp_path_factory.mktemp("ported")
    (folder / "mine.py").write_text(FOUND[ORIGINAL]["MODEL"])
    words = [ORIGINAL, "--data", "digits", "--max-epochs", "1", "--batch-size", "479", "--quiet"]
    words += ["--out", folder / "out"]
    process = run([*COMPARE, "model", folder / "mine.py", *words], cache_directory())
    assert process.returncode == 0, process.stdout + process.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def judge(folder):
    place = folder / "reference"
    members = [Record.load(place / name) for name in MEMBERS]
    plan = Plan.load(folder / "plan")
    return ModelJudge.measure(plan, plan.data(), Record.load(place / REFERENCE), members)


@pytest.mark.parametrize("name", PORTS)
def test_layer_and_cause_of_a_port_are_named(folder, judge, name):
    place, model = folder / name, FOUND[name]["MODEL"]
    place.mkdir()
    files = {}
    for number, (fault, found) in enumerate([("", ("", "")), *FOUND[name]["FAULTS"].items()]):
        assert not fault or model.count(found[0]) == 1, fault
        files[fault] = place / f"{number}.py"
        files[fault].write_text(model.replace(*found[:2]) if fault else model)
    python = find_environment(discover()[name], None, build=False).python
    command = [python, "-m", "tests.train_models", name, folder / "plan", *files.values()]
    process = run(command, cache_directory(), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    reasons = json.loads(process.stdout.splitlines()[-1])
    assert set(reasons.values()) == {None}, reasons
    records = {fault: Record.load(path.with_suffix("")) for fault, path in files.items()}

    sound = judge.judge(records[""])
    assert sound.divergence is None, sound.divergence
    missing = judge.ladder.layer_facts(records[""])["layers"]["missing"]
    assert missing == [], "channels first and last are compared"
    for fault, (*_, layer, cause, value) in FOUND[name]["FAULTS"].items():
        judgement = judge.judge(records[fault])
        found = judge.cause(records[fault], judgement)
        where = judgement.divergence
        assert (where.step, where.stage, where.tensor) == (0, "forward", layer), fault
        assert found, fault
        assert (found.name, found.value) == (cause, value), found.sentence
        run_facts = judgement.to_json() | {"cause": asdict(found), "envelopes": 1.0}
        assert found.sentence in [*run_lines(run_facts)]
