"""Executes notebooks; ``python -m tests.notebooks`` keeps what they show."""

import ast
import copy
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from framework_parity.common.environments.backend import ROOT

NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))

PARAMETERS = "parameters"
"""The tag of the cell that says ``framework = "…"``."""

ALL_FRAMEWORKS = "all-frameworks"
"""The tag of cells that do not depend on it: executed for the framework as committed alone."""

CELL_SECONDS = 600


STRICT = (
    "import warnings; "
    r"warnings.filterwarnings('error', module=r'(__main__|framework_parity)(\.|$)')"
)
"""Warnings that the notebook or the project cause are errors, as in the tests.

Not those inside a framework that a notebook imports: MXNet's own imports bring some.
"""


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever is registered under that name on the machine."""

    @property
    def kernel_spec(self):
        """How it is started."""
        launcher = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
        words = [*launcher, "-f", "{connection_file}", f"--IPKernelApp.exec_lines={STRICT}"]
        return KernelSpec(argv=words, language="python")


def read(path):
    """A notebook, checked against its format."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    return notebook


def tagged(cell, tag):
    """Whether a cell has a tag."""
    return tag in cell.metadata.get("tags", ())


def default_framework(notebook):
    """The value of its variable ``framework``; None if it has no cell of parameters."""
    sources = [cell.source for cell in notebook.cells if tagged(cell, PARAMETERS)]
    return ast.literal_eval(_assigned(sources[0])) if sources else None


def for_framework(notebook, framework):
    """The notebook as it is for another framework than the one it is committed with."""
    default = default_framework(notebook)
    if framework in (None, default):
        return notebook
    other = copy.deepcopy(notebook)
    other.cells = [cell for cell in other.cells if not tagged(cell, ALL_FRAMEWORKS)]
    for cell in other.cells:
        if tagged(cell, PARAMETERS):
            old = ast.get_source_segment(cell.source, _assigned(cell.source))
            cell.source = cell.source.replace(f"framework = {old}", f"framework = {framework!r}", 1)
    assert default_framework(other) == framework
    return other


def _assigned(source):
    """What the variable ``framework`` is set to."""
    (value,) = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "framework"
    ]
    return value


def clean_folder(parent):
    """An empty folder for notebooks, beside which lies what lies beside the project's."""
    for path in ROOT.iterdir():
        if path != NOTEBOOKS and not path.name.startswith("."):
            (parent / path.name).symlink_to(path)
    folder = parent / NOTEBOOKS.name
    folder.mkdir()
    return folder


def execute(notebook, folder):
    """Execute a notebook from a clean kernel, with a folder as its working directory.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    executed = copy.deepcopy(notebook)
    with tempfile.TemporaryDirectory() as settings:  # none of the user's own
        client = NotebookClient(
            executed,
            km=OwnKernel(transport="ipc", connection_file=f"{settings}/kernel.json"),
            timeout=CELL_SECONDS,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder)}},
        )
        variables = os.environ | {"IPYTHONDIR": settings, "PYTHONPATH": ""}
        client.execute(env=variables, cleanup_kc=True)
    return executed


def main():
    """Execute every notebook in place, or those that are named."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else PATHS:
        started = time.perf_counter()
        nbformat.write(execute(read(path), NOTEBOOKS), path)
        print(f"{path.name}: {time.perf_counter() - started:.1f} s, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
