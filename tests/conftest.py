"""Fixtures: the discovered backends in Python, each with a process of its own interpreter."""

import json
import subprocess

import pytest

from common.environment import ROOT, clean_environment, discover, find_environment

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
    if report.skipped and item.config.getoption("fail_on_skip"):
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
    return report


class BackendProcess:
    """Runs checks of ``tests/checks.py`` in a backend's interpreter, in one process."""

    def __init__(self, name):
        environment = find_environment(BACKENDS[name])
        assert environment.python, f"{name} cannot be had: {environment.reason}"
        self.python = environment.python
        self.process = subprocess.Popen(
            [str(environment.python), "-m", "tests.checks", name],
            cwd=ROOT,
            env=clean_environment() | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def check(self, *words):
        """Run one check; fail with its traceback."""
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process ended with status {self.process.wait()}"
        if wrong := json.loads(answer)["wrong"]:
            pytest.fail(wrong, pytrace=False)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
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
