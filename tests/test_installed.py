"""Installed from a wheel, each worker has its environment's packages, whatever the shell holds."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.environments.backend import ROOT
from tests.helpers import FRAMEWORKS, PLAIN, run

OLDER = "1.26.4"
DATA = ("--data", "synthetic:300x8x3", "--max-epochs", "2", "--quiet")
HOSTILE = ("numpy.py", "common.py", "json.py", "sitecustomize.py", "backends/__init__.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An interpreter whose site-packages hold the suite from its wheel, and what it needs."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "results", "site", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    python = folder / "venv" / "bin" / "python"
    for words in (
        [sys.executable, "-m", "venv", folder / "venv"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source],
    ):
        made = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    shutil.rmtree(source)
    return python


def compared(python, tmp_path, *words, **variables):
    """The report of a comparison, from a folder of nobody's."""
    (tmp_path / "here").mkdir()
    out = tmp_path / "out"
    process = run(
        [python.parent / "framework-parity", *words, *DATA, "--out", out],
        cache_directory(),
        cwd=tmp_path / "here",
        **variables,
    )
    assert (out / "report.json").exists(), process.stderr
    return process, json.loads((out / "report.json").read_text())


def own_numpy(facts):
    """The NumPy that each row trained with, by the release that the row names."""
    return {run["version"]: run["versions"]["numpy"] for run in facts["runs"]}


@pytest.mark.parametrize("safe", [{}, {"PYTHONSAFEPATH": "1"}], ids=["plain", "safe path"])
def test_each_release_trains_with_its_own(installed, tmp_path, safe):
    process, facts = compared(installed, tmp_path, f"{PLAIN}=={OLDER}", PLAIN, **safe)
    assert process.returncode == 0, process.stderr
    found = own_numpy(facts)
    assert found[OLDER] == OLDER
    assert len(found) == 2
    assert all(release == numpy for release, numpy in found.items())


def test_a_path_full_of_traps_reaches_no_worker(installed, tmp_path):
    traps = tmp_path / "traps"
    for name in HOSTILE:
        place = traps / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("raise SystemExit('a trap was imported')\n")
    # The runner is the user's own process and sees what the user gave it; its workers do not.
    given = {"FRAMEWORK_PARITY_TRAPS": os.fspath(traps)}
    start = (
        "import os, runpy, sys; from framework_parity import compare; os.environ['PYTHONPATH'] = "
        "os.environ['FRAMEWORK_PARITY_TRAPS']; sys.exit(compare.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    words = [installed, "-P", "-c", start, f"{PLAIN}=={OLDER}", PLAIN, *DATA, "--out", out]
    process = run(words, cache_directory(), cwd=traps, **given)
    assert process.returncode == 0, process.stderr
    assert own_numpy(json.loads((out / "report.json").read_text()))[OLDER] == OLDER


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_starts(installed, tmp_path, name):
    process, facts = compared(installed, tmp_path, name, "--implementation", "scratch")
    assert process.returncode == 0, process.stderr
    (row,) = facts["runs"]
    assert (row["status"], row["grade"]) == ("done", "rounding")
