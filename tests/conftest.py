"""Fixtures: the discovered backends in Python, each with a process of its own interpreter."""

import contextlib
import json
import subprocess
import tempfile

import pytest

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.environments.program import clean_environment
from framework_parity.common.execution.worker_pool import WorkerPool

BACKENDS = discover(external=False)
EXTERNAL = {name: backend for name, backend in discover().items() if name not in BACKENDS}
"""Those that are not imported but called: docs/external.md."""


def pytest_addoption(parser):
    """The option of ``.ci/run``: what did not run has not passed."""
    parser.addoption("--fail-on-skip", action="store_true", help="a skipped test fails")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """With the option, a skipped test fails."""
    report = yield
    offered = not hasattr(report, "wasxfail")  # else a backend lacks what is optional
    if report.skipped and offered and item.config.getoption("fail_on_skip"):
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
    return report


NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
"""Environment variables by which a framework sees no GPU, whatever its build and the machine."""


class BackendProcess:
    """Runs checks of ``tests/checks.py`` in a backend's interpreter, in one process."""

    def __init__(self, name):
        environment = find_environment(BACKENDS[name])
        assert environment.python, f"{name} cannot be had: {environment.reason}"
        self.python = environment.python
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (see close)
        self.process = subprocess.Popen(
            [str(environment.python), "-m", "tests.checks", name],
            cwd=ROOT,
            env=clean_environment() | NO_GPU | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def check(self, *words):
        """Run one check; fail with its traceback, or with what the process said at its end."""
        with contextlib.suppress(BrokenPipeError):  # it ended: then it has no answer
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()
        if not (answer := self.process.stdout.readline()):
            status = self.process.wait()
            self.log.seek(0)
            pytest.fail(f"it ended with status {status}:\n{self.log.read()[-4000:]}", pytrace=False)
        said = json.loads(answer)
        if absent := said.get("absent"):
            pytest.xfail(absent)  # no skip: nothing is missing that was promised
        if wrong := said.get("wrong"):
            pytest.fail(wrong, pytrace=False)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def backend_processes():
    """A function from a backend's name to its process, started when first asked for."""
    started = {}

    def get(name):
        if name not in started:
            started[name] = BackendProcess(name)
        return started[name]

    yield get
    for process in started.values():
        process.close()


@pytest.fixture
def workers(tmp_path):
    """A pool of workers in a folder of the test's own; all of them end with the test."""
    from tests.helpers import processes, wait_until  # which imports this module

    value = WorkerPool(tmp_path / "workers")
    yield value
    value.close()
    wait_until(lambda: not processes(str(value.folder)))
