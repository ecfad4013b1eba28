"""A GPU: what can be known of it without one."""

import fnmatch
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pytest

from framework_parity.benchmarks import worker
from framework_parity.common.commands.options import CompareOptions
from framework_parity.common.core import device
from framework_parity.common.core.cache import CACHE_VARIABLE
from framework_parity.common.core.device import DEVICE_VARIABLE, check_device
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.worker.train_model import Run
from framework_parity.compare import compare
from tests.helpers import PLAIN

REFUSED = "expected cpu, all that this backend can use; received gpu"


@pytest.fixture
def shown(monkeypatch):
    """A function that says what the machine shows of its drivers."""

    def show(*places):
        found = SimpleNamespace(glob=lambda pattern: fnmatch.filter(places, pattern))
        monkeypatch.setattr(device, "glob", found)

    return show


@pytest.mark.parametrize(
    "place",
    ["/dev/nvidia0", "/dev/nvidia12", "/dev/kfd", "/dev/dxg", "/proc/driver/nvidia/gpus/0000:01"],
)
def test_a_gpus_driver_is_known_by_what_it_shows(shown, place):
    shown("/dev/null", place)
    check_device("gpu")


@pytest.mark.parametrize("places", [(), ("/dev/nvidiactl", "/dev/null")])
def test_a_driver_without_a_gpu_is_none(shown, places):
    shown(*places)
    check_device("cpu")
    with pytest.raises(ParityError, match="received a machine without one"):
        check_device("gpu")


def test_workers_share_a_gpu_only_if_the_user_says_so():
    many = len(available_cpus())
    assert CompareOptions().slots == many
    assert CompareOptions(device="gpu").slots == 1
    assert CompareOptions(jobs=many + 2, device="gpu").slots == many + 2


def test_a_backend_without_a_gpu_is_a_row_with_that_reason(shown, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    shown("/dev/nvidia0")
    facts = compare([PLAIN], data="synthetic:30x4x3", device="gpu", out=tmp_path / "out").facts
    assert facts["verdict"] == "incomplete"
    assert facts["settings"]["jobs"] == 1
    assert all(REFUSED in run["reason"] for run in facts["runs"])


TELL = """
import json, os
cpus = sorted(os.sched_getaffinity(0))
print(json.dumps({"event": "seen", "cpus": cpus, "variables": dict(os.environ)}))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_what_a_worker_is_given(tmp_path, monkeypatch, kind):
    """Its kind of device, what the user switches by variables, and processors unless it has a GPU.

    What feeds a GPU has threads beside the one that is counted.
    """
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    told, cpus = [], available_cpus()
    job = Job("job", (sys.executable, "-c", TELL), tmp_path / "log")
    limits = {"slots": 1, "threads": 1, "timeout": 60.0}
    run_jobs([job], **limits, device=kind, tell=lambda _, facts: told.append(facts))
    assert told[0]["cpus"] == (cpus if kind == "gpu" else cpus[:1])
    assert told[0]["variables"][DEVICE_VARIABLE] == kind
    assert told[0]["variables"]["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_worker_for_a_users_own_model_computes_where_it_is_told(monkeypatch):
    monkeypatch.setenv(DEVICE_VARIABLE, "gpu")
    with pytest.raises(ParityError, match=REFUSED):
        Run.train(mock.Mock(), PLAIN, mock.Mock())


def test_a_worker_with_faults_computes_where_it_is_told(tmp_path):
    (tmp_path / "runs.json").write_text("[]")
    command = [
        sys.executable,
        "-m",
        "framework_parity.benchmarks.faulty_worker",
        "--backend",
        PLAIN,
    ]
    command += ["--runs", str(tmp_path / "runs.json")]
    for kind, status in (("cpu", 0), ("gpu", 1)):
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {DEVICE_VARIABLE: kind},
            stdin=subprocess.PIPE,  # open as long as the launcher lives
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            said = process.stderr.read()
        assert process.returncode == status, said
        assert (REFUSED in said) == bool(status)


@pytest.mark.parametrize(("kind", "expected"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_a_peer_computes_where_it_is_told(tmp_path, monkeypatch, kind, expected):
    """It says what it finds in its environment when it is imported."""
    code = "import os\nraise ImportError('told ' + os.environ['KERAS_TORCH_DEVICE'])\n"
    (tmp_path / "keras.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(DEVICE_VARIABLE, kind)
    for variable in ("KERAS_BACKEND", "KERAS_TORCH_DEVICE"):
        monkeypatch.setenv(variable, "nothing")
    with pytest.raises(ImportError, match=f"told {expected}"):
        worker.keras(SimpleNamespace(settings={"backend": "any"}))
