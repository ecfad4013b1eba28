"""CONTRIBUTING.md, followed to the letter: a fifth framework is the files that it links to."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover
from framework_parity.common.report.report import Report
from tests.helpers import user_environment

EXAMPLES = ROOT / "docs" / "examples"
(EXAMPLE,) = sorted({place.parents[2] for place in EXAMPLES.glob("*/backends/*/requirements.txt")})
"""The files that the page links to, where they belong in the repository."""
COPIED = ("backends", "benchmarks", "common", "docs", "framework_parity", "tests")
FILES = ("compare.py", "pyproject.toml", "CONTRIBUTING.md")


@pytest.fixture(scope="module")
def files():
    """The example's files, as they are called where they belong."""
    found = sorted(path for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [path.relative_to(EXAMPLE).as_posix() for path in found]


@pytest.fixture(scope="module")
def name(files):
    (name,) = {path.split("/")[1] for path in files if path.startswith("backends")}
    return name


@pytest.fixture(scope="module")
def copy(name, tmp_path_factory):
    """A copy of the repository with the new folder in it."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "results")
    for place in COPIED:
        shutil.copytree(ROOT / place, root / place, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, root)
    shutil.rmtree(root / "backends" / name, ignore_errors=True)  # a reader may have followed, too
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=ignored)
    return root


@pytest.fixture(scope="module")
def call(copy):
    """A function that runs Python in the copy."""

    def call(*words):
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=copy,
            env=user_environment(cache_directory()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return call


def test_the_page_links_to_every_file(files):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in files:
        assert f"({(EXAMPLE / path).relative_to(ROOT).as_posix()})" in text


def test_it_is_as_small_as_the_page_says(files, name):
    lines = {path: len((EXAMPLE / path).read_text().splitlines()) for path in files}
    assert lines[f"backends/{name}/__init__.py"] <= 150
    assert sum(lines.values()) <= 400


def test_it_is_styled_as_the_rest(call, files):
    for words in (("check",), ("format", "--check")):
        process = call("-m", "ruff", *words, *(path for path in files if path.endswith(".py")))
        assert process.returncode == 0, process.stdout + process.stderr


def test_it_is_discovered(call, name):
    process = call("compare.py", "list", "--json")
    assert process.returncode == 0, process.stderr
    rows = {row["name"]: row for row in json.loads(process.stdout)["backends"]}
    assert rows[name]["implementations"] == ["scratch", "concise"]
    assert set(rows) == {name, *discover()}


def test_it_keeps_the_contract(call, name):
    tests = [f"tests/test_{part}.py" for part in ("backends", "pictures", "docs", "side_by_side")]
    for words, least in (([*tests, "-k", name], 40), (["tests/test_imports.py"], 100)):
        process = call("-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
        assert process.returncode == 0, process.stdout + process.stderr
        assert int(re.search(r"(\d+) passed", process.stdout)[1]) > least
        assert "skipped" not in process.stdout


def test_it_is_a_row_of_the_report(call, copy, name):
    words = [name, "--data", "digits", "--max-epochs", "3", "--quiet", "--out", "results/fifth"]
    process = call("-W", "error", "compare.py", *words)
    assert process.returncode == 0, process.stderr
    rows = Report.load(copy / "results" / "fifth").runs
    assert [(row["backend"], row["implementation"]) for row in rows] == [
        (name, "scratch"),
        (name, "concise"),
    ]
    assert {row["status"] for row in rows} == {"done"}
    assert {row["grade"] for row in rows} == {"rounding"}


def test_every_fault_can_be_planted_in_it(copy, name):
    by_backend = {
        other: set(re.findall(r'^    "([^"]+)": ', path.read_text(), re.MULTILINE))
        for other in (name, *discover(external=False))
        for path in [copy / "benchmarks" / "faults" / f"{other}.py"]
    }
    assert len(set(map(frozenset, by_backend.values()))) == 1
    assert len(by_backend[name]) > 10
