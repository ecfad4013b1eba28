"""A GPU: what can be known of it without one."""

import fnmatch
import inspect
import io
import os
import shlex
import sys
from types import SimpleNamespace
from unittest import mock

import pytest

from framework_parity.benchmarks import kinds
from framework_parity.common.commands.options import CompareOptions
from framework_parity.common.core import device
from framework_parity.common.core.cache import CACHE_VARIABLE
from framework_parity.common.core.device import DEVICE_VARIABLE, check_device
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.worker.kinds import find_kind
from framework_parity.common.worker.request import Request
from framework_parity.common.worker.worker import Worker
from framework_parity.compare import compare
from tests.helpers import PLAIN, make_plan, program
from tests.test_own_model import PLAIN_MODEL

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
    (tmp_path / "tell.py").write_text(TELL)
    tell = shlex.join([sys.executable, str(tmp_path / "tell.py")])
    python = program(tmp_path / "python", f"exec {tell}")
    job = Job("job", Environment("any", python), Request("any", tmp_path / "a", tmp_path / "a.log"))
    limits = {"slots": 1, "threads": 1, "timeout": 60.0}
    run_jobs([[job]], **limits, device=kind, tell=lambda _, facts: told.append(facts))
    assert told[0]["cpus"] == (cpus if kind == "gpu" else cpus[:1])
    assert told[0]["variables"][DEVICE_VARIABLE] == kind
    assert told[0]["variables"]["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize("kind", ["train", "limits", "own_model", "benchmarks.kinds:fit"])
def test_a_worker_computes_where_it_is_told(tmp_path, monkeypatch, kind):
    make_plan(tmp_path)
    (tmp_path / "mine.py").write_text(PLAIN_MODEL)
    monkeypatch.setenv(DEVICE_VARIABLE, "gpu")
    fields = {"plan": tmp_path / "plan", "backend": PLAIN, "implementation": "concise"}
    fields |= {"model": tmp_path / "mine.py", "dtype": "float32"}
    function = find_kind(kind)
    known = inspect.signature(function).parameters
    with pytest.raises(ParityError, match=REFUSED):
        function(Worker(io.StringIO()), **{n: v for n, v in fields.items() if n in known})


@pytest.mark.parametrize(("kind", "expected"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_a_peer_computes_where_it_is_told(tmp_path, monkeypatch, kind, expected):
    """It says what it finds in its environment when it is imported."""
    code = "import os\nraise ImportError('told ' + os.environ['KERAS_TORCH_DEVICE'])\n"
    (tmp_path / "keras.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(DEVICE_VARIABLE, kind)
    for variable in ("KERAS_BACKEND", "KERAS_TORCH_DEVICE"):
        monkeypatch.setenv(variable, "nothing")
    monkeypatch.setattr(kinds, "Measurement", mock.Mock())
    with pytest.raises(ImportError, match=f"told {expected}"):
        kinds.keras(mock.Mock(), tmp_path, "any")
