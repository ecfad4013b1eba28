"""No training draws: Matplotlib is imported with the first picture, and then it is the real one."""

import subprocess

import pytest

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.environments.program import clean_environment
from tests.conftest import BACKENDS

BEFORE = """
import importlib, sys
importlib.import_module(f"framework_parity.backends.{sys.argv[1]}")
assert not [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]
held = {
    name: getattr(module, name)
    for module in list(sys.modules.values())
    for name in ("plt", "patches")
    if getattr(vars(module).get(name), "__name__", "").startswith("matplotlib.")
}
import matplotlib
matplotlib.use("agg")
import matplotlib.patches
from matplotlib import pyplot
assert pyplot.__file__ and matplotlib.patches.__file__ and matplotlib.__file__
for name, module in held.items():  # what a framework kept of it works, too
    real = pyplot if name == "plt" else matplotlib.patches
    assert module.Rectangle is real.Rectangle
assert len(pyplot.subplots(2)[1]) == 2
"""

AFTER = """
import importlib, sys
import matplotlib.pyplot
kept = dict(vars(matplotlib.pyplot))
importlib.import_module(f"framework_parity.backends.{sys.argv[1]}")
import matplotlib.pyplot as again
assert again is sys.modules["matplotlib.pyplot"] and again.__file__
assert again.subplots is kept["subplots"]
"""


@pytest.mark.parametrize("script", [BEFORE, AFTER], ids=["before", "after"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_pictures_are_imported_when_they_are_drawn(backend, script):
    python = find_environment(BACKENDS[backend]).python
    process = subprocess.run(
        [str(python), "-c", script, backend],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
