"""The notebooks: what is committed of them, and that each runs from a clean kernel.

Executed in a folder of the test's own; ``make notebooks`` executes and rewrites the committed ones.
"""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from framework_parity.common.environments.backend import ROOT
from tests.helpers import FRAMEWORKS
from tests.notebooks import (
    ALL_FRAMEWORKS,
    PARAMETERS,
    PATHS,
    clean_folder,
    default_framework,
    execute,
    for_framework,
    read,
)

MOST_BYTES = 3_000_000
OF_A_MACHINE = re.compile(r"/(home|root|Users|tmp|var/folders)/")
SHOWN = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml"}
"""What a committed output may be: no scripts, no widgets."""

SAID = {
    "from_scratch": (
        r"of each example: \[2\.30258\d* 0\.693147\d*\]",
        r"'val_accuracy': 0\.8\d+",
        r"\[-110\.0, -111\.0, -112\.0\] +plain +\[nan nan nan\]",
        r"\[-110\.0, -111\.0, -112\.0\] +stable +\[0\.66524\d* 0\.24472\d* 0\.0900\d*\]",
        r"indexed: \[-0\. inf\]\s+one-hot: \[nan nan\]",
        r"from the scores: +\[ *1\.31326\d* +50\. +110\. +1000\. *\]",
        r"0\.9 +[45]\d\.\d% +[1-4]\.\d%",
        r"least expected cost +mean cost 0\.[34]\d\d",
        r"10,000 +[\d.]+ +650,000 +9\.2\d+ +9\.210",
    ),
    "concise": (
        r"from scratch +losses +\[1\.3132\d+ +inf +nan +inf\]",
        r"concise +losses +\[1\.3132\d+e\+00 1\.0000\d+e\+02 3\.132\d+e-01 1\.0000\d+e\+03\]",
        r"\| INT8 \| 127 .* 42 dB \|",
        r"probabilities in INT8 +accuracy 0\.8\d+, loss inf",
        r"best 0\.84\d+ in epoch \d+, last 0\.8",
        r"validation loss: best 0\.6\d+ in epoch \d+, last 0\.[67]",
    ),
    "side_by_side": (
        *(rf"backends/{name}/scratch\.py:\d+ softmax" for name in FRAMEWORKS),
        *(
            rf"backends/{name}/trainer\.py:\d+ Trainer\.(?:fit_epoch|train_step)"
            for name in FRAMEWORKS
        ),
        r"[✓▲✕] (agree|drift|disagree): ",
        r"First divergence and cause",
    ),
    "upgrade": (
        r"✓ agree: 2 runs within 4 × rounding",
        r"baseline saved, 2 runs",
        r"Against the baseline: 2 (exact|rounding)",
        r"received one of another plan \(lr 0\.1, not 0\.2\)",
        r"first beyond rounding at step 0, stage update, W",
        r"learning rate × 1\.001 reproduces this run",
        r"→ 2\.14\.0",
        r"before the upgrade: 0\nafter it: 1\n",
        r"\(accepted until [\d-]+\).*\nexit status: 0\n",
        r"<testsuites .* failures=\"2\"",
    ),
}
"""What must be read in the outputs of a notebook, as regular expressions."""

FIGURES = {"from_scratch": 6, "concise": 4, "side_by_side": 5, "upgrade": 2}

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def executions():
    """Each notebook; one that chooses its framework by a variable, once for each."""
    for path in PATHS:
        for framework in FRAMEWORKS if default_framework(read(path)) else [None]:
            name = "-".join(filter(None, (path.stem, framework)))
            yield pytest.param(path, framework, id=name)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def kinds(cell):
    """What a cell shows, without saying how often."""
    data = {kind for output in cell.outputs for kind in output.get("data", ())}
    return data | {output.name for output in cell.outputs if output.output_type == "stream"}


def text_of(notebook):
    """All text that its outputs show."""
    texts = []
    for output in outputs(notebook):
        texts.append(output.get("text", ""))
        texts += [value for kind, value in output.get("data", {}).items() if "text" in kind]
    return "\n".join(texts)


def check_outputs(notebook):
    """Fail unless these are outputs that a reader wants to see."""
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert set(output.get("data", ())) <= SHOWN
    said = text_of(notebook)
    assert "Traceback" not in said
    assert str(ROOT) not in said
    assert str(Path.home()) not in said
    assert not OF_A_MACHINE.search(said)


# What is committed


def test_there_are_notebooks():
    assert set(SAID) <= {path.stem for path in PATHS}
    assert set(SAID) == set(FIGURES)


@every_notebook
def test_it_was_executed_from_top_to_bottom(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert any("image/png" in kinds(cell) for cell in cells)


@every_notebook
def test_its_outputs_can_be_committed(path):
    assert path.stat().st_size < MOST_BYTES
    check_outputs(read(path))


@every_notebook
def test_its_links_lead_somewhere(path):
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (path.parent / target).exists(), target


# What they do


@pytest.mark.parametrize(("path", "framework"), [*executions()])
def test_it_runs_from_a_clean_kernel(path, framework, tmp_path):
    committed = read(path)
    wanted = for_framework(committed, framework)
    executed = execute(wanted, clean_folder(tmp_path))
    said = text_of(executed)
    for output in outputs(executed):
        assert output.get("name") != "stderr", output.text
    for pattern in SAID.get(path.stem, ()):
        assert re.search(pattern, said), pattern
    drawn = sum("image/png" in kinds(cell) for cell in code_cells(executed))
    assert drawn >= FIGURES.get(path.stem, 1)
    if wanted is committed:
        shown = {cell.id: kinds(cell) for cell in code_cells(committed)}
        assert {cell.id: kinds(cell) for cell in code_cells(executed)} == shown


# That this would fail


def notebook_of(*sources, tags=()):
    cells = [new_code_cell(source) for source in sources]
    for cell, tag in zip(cells, tags, strict=False):
        cell.metadata["tags"] = [tag] if tag else []
    return new_notebook(cells=cells)


WARN = "import warnings\nwarnings.warn_explicit('old', {}, 'file.py', 1, module='{}')"


@pytest.mark.parametrize(
    "source",
    [
        "1 / 0",
        "import warnings\nwarnings.warn('old')",
        "import warnings\nwarnings.warn('old', DeprecationWarning)",
        WARN.format("FutureWarning", "framework_parity.common.training.plan"),
        WARN.format("DeprecationWarning", "framework_parity.compare"),
    ],
)
def test_an_exception_or_a_warning_fails(source, tmp_path):
    with pytest.raises(CellExecutionError):
        execute(notebook_of(source), tmp_path)


def test_a_deprecation_inside_a_library_does_not(tmp_path):
    executed = execute(notebook_of(WARN.format("DeprecationWarning", "commonplace")), tmp_path)
    assert outputs(executed) == []


def test_the_kernel_is_this_interpreter_and_clean(tmp_path, monkeypatch):
    registered = tmp_path / "jupyter" / "kernels" / "python3"
    registered.mkdir(parents=True)
    facts = {"argv": ["false"], "display_name": "another", "language": "python"}
    (registered / "kernel.json").write_text(json.dumps(facts))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "own.py").write_text("left = 1")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    program = "import os, sys\nprint(sys.executable, os.getcwd(), 'left' in globals())"
    original = notebook_of(program)
    executed = execute(original, tmp_path)
    assert text_of(executed).split() == [sys.executable, str(tmp_path), "False"]
    assert original.cells[0].outputs == []


def test_another_framework_is_another_value_and_fewer_cells():
    sources = ('framework = "one"\nother = "one"', "print(framework)", "print('slow')")
    original = notebook_of(*sources, tags=(PARAMETERS, None, ALL_FRAMEWORKS))
    assert default_framework(original) == "one"
    assert for_framework(original, None) is for_framework(original, "one") is original
    changed = for_framework(original, "two")
    first = "framework = 'two'\nother = \"one\""
    assert [cell.source for cell in changed.cells] == [first, sources[1]]
    assert [cell.source for cell in original.cells] == list(sources)


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "stream", "name": "stderr", "text": "careful"},
        {"output_type": "stream", "name": "stdout", "text": f"{ROOT}/results"},
        {"output_type": "stream", "name": "stdout", "text": "Traceback (most recent call last)"},
        {"output_type": "stream", "name": "stdout", "text": "see /home/someone/data"},
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/javascript": "alert(1)"},
        },
    ],
)
def test_outputs_that_cannot_be_committed_fail(output):
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[nbformat.from_dict(output)])])
    with pytest.raises(AssertionError):
        check_outputs(notebook)
