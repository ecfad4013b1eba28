"""Installed from a wheel, each worker has its environment's packages, whatever the shell holds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager as KernelManager
from nbclient import NotebookClient

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.environments.backend import ROOT
from tests.helpers import FRAMEWORKS, PLAIN, run

OLDER = "1.26.4"
DATA = ("--data", "synthetic:300x8x3", "--max-epochs", "2", "--quiet")
HOSTILE = ("numpy.py", "framework_parity.py", "json.py", "sitecustomize.py", "common/__init__.py")
OWN = ("common", "backends", "benchmarks", "tests")
"""Folders that the project beside it has as well, with modules of the same names."""


PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


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
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            source,
            "pytest",
            "ipykernel",
        ],
    ):
        made = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    shutil.rmtree(source)
    return python


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of somebody's who calls things as this one does; nothing of it may be imported."""
    folder = tmp_path_factory.mktemp("project")
    for name in OWN:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"whose = 'the user, {name}'\n")
        for module in ("worker", "plan", "judging", *FRAMEWORKS, PLAIN):
            (folder / name / f"{module}.py").write_text("raise SystemExit('not this one')\n")
    (folder / "compare.py").write_text("whose = 'the user, compare'\n")
    (folder / "tests" / "test_parity.py").write_text(
        "import backends, benchmarks, common, compare, tests\n\n\n"
        "def test_own(parity):\n"
        "    modules = backends, benchmarks, common, compare, tests\n"
        "    assert all(module.whose.startswith('the user') for module in modules)\n"
        f"    report = parity.compare(*{FRAMEWORKS!r}, implementations=['scratch'], "
        "data='synthetic:300x8x3', max_epochs=1)\n"
        "    report.assert_agreement()\n"
    )
    return folder


def test_one_name_is_in_site_packages(installed):
    command = [installed, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    place = Path(run(command, cache_directory()).stdout.strip())
    names = {path.name for path in place.iterdir()}
    assert "framework_parity" in names
    assert not names & {*OWN, "compare.py", "docs", "notebooks", "matplotlib", "plotly", "scipy"}
    assert not [path for path in (place / "framework_parity").rglob("*") if path.is_symlink()]


def test_the_plugin_runs_beside_a_project_with_the_same_names(installed, project):
    words = [installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    process = run(words, cache_directory(), cwd=project)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "1 passed" in process.stdout


def test_the_command_runs_there_each_release_with_its_own(installed, project, tmp_path):
    command = installed.parent / "framework-parity"
    words = [command, f"{PLAIN}=={OLDER}", PLAIN, *DATA, "--out", tmp_path / "out"]
    process = run(words, cache_directory(), cwd=project)
    assert process.returncode == 0, process.stderr
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert own_numpy(facts)[OLDER] == OLDER
    assert any("install framework-parity[page]" in notice for notice in facts["notices"])


def test_a_notebooks_cell_runs_there(installed, project):
    """In a kernel of that interpreter, started in the project's folder."""

    class Kernel(KernelManager):
        @property
        def kernel_spec(self):
            words = [str(installed), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=words, language="python")

    cell = nbformat.v4.new_code_cell(
        "import common\n"
        f"from framework_parity.backends import {PLAIN} as d2l\n"
        "from framework_parity.compare import side_by_side\n"
        "data = d2l.Synthetic(300, 8, 3)\n"
        "model = d2l.SoftmaxRegression(num_outputs=3, lr=0.1)\n"
        "d2l.Trainer(max_epochs=1).fit(model, data)\n"
        f"side_by_side('softmax', ['{PLAIN}'])\n"
        "print(common.whose, d2l.__name__)"
    )
    client = NotebookClient(
        nbformat.v4.new_notebook(cells=[cell]),
        kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(project)}},
    )
    done = client.execute()
    (said,) = [o.text for o in done.cells[0].outputs if o.output_type == "stream"]
    assert said.split() == f"the user, common framework_parity.backends.{PLAIN}".split()


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
