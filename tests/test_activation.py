"""A framework's environment, lent to a process that runs already."""

import json
import subprocess
import sys

import pytest

from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.notebook.activation import activate
from tests.conftest import BACKENDS
from tests.helpers import FRAMEWORKS, PLAIN, program

ACTIVATED = [name for name in FRAMEWORKS if name in BACKENDS]


def run(code, *words):
    """Run code in a fresh process of the runner's interpreter; the JSON that it prints last."""
    process = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return json.loads(process.stdout.splitlines()[-1])


# What cannot be


def test_numpy_must_not_be_there_yet():
    with pytest.raises(ParityError, match="restart the kernel") as raised:  # pytest has it here
        activate(PLAIN)
    assert "\n" not in str(raised.value)
    assert f"received one with {PLAIN}" in str(raised.value)


def test_unknown_names_are_refused():
    with pytest.raises(ParityError, match="expected some of"):
        activate("thano")


FRESH = """
import json, sys
from framework_parity.common.notebook.activation import activate
from framework_parity.common.core.errors import ParityError
assert "numpy" not in sys.modules
try:
    activate(sys.argv[1], **json.loads(sys.argv[2]))
except ParityError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def test_an_interpreter_that_is_not_there(tmp_path):
    options = json.dumps({"python": str(tmp_path / "none")})
    kind, said = run(FRESH, ACTIVATED[0], options)
    assert kind == NotRunError.__name__
    assert said.startswith(f"{ACTIVATED[0]}: expected an environment that has it; received none: ")


def test_an_interpreter_of_another_python(tmp_path):
    other = '["cpython-27", "2.7.18", ["/usr/lib/python2.7/site-packages"]]'
    script = f"case \"$*\" in *import_module*) echo version 1.0;; *) echo '{other}';; esac"
    python = program(tmp_path / "python", script)
    kind, said = run(FRESH, ACTIVATED[0], json.dumps({"python": str(python)}))
    assert kind == ParityError.__name__
    assert "received Python 2.7.18, cpython-27" in said


# What can


TWICE = """
import json, sys
from framework_parity.common.notebook.activation import activate
from framework_parity.common.core.errors import ParityError
first = activate(sys.argv[1])
again = activate(sys.argv[1]) is first
try:
    activate(sys.argv[2])
    said = ""
except ParityError as error:
    said = str(error)
print(json.dumps([again, said]))
"""


def test_a_process_has_one_framework():
    again, said = run(TWICE, PLAIN, ACTIVATED[0])
    assert again
    assert f"received {ACTIVATED[0]} after {PLAIN}" in said


LENT = """
import importlib, json, sys
from pathlib import Path
from framework_parity.common.notebook.activation import activate
name = sys.argv[1]
d2l = activate(name)
import numpy
from framework_parity.common.environments.discovery import discover, find_environment
X, y = next(iter(d2l.Synthetic(50, 4, 3).train_dataloader()))
trainer = d2l.Trainer(1)
trainer.fit(d2l.SoftmaxRegression(3, 0.1), d2l.Synthetic(50, 4, 3))
try:
    import scipy.special
    scipy = f"{scipy.special.expit(0.0):g}"
except ModuleNotFoundError as error:
    scipy = str(error)
print(json.dumps({
    "d2l": d2l.__name__,
    "numpy": numpy.__version__,
    "framework": str(Path(sys.modules[name].__file__).resolve()),
    "rows": len(d2l.numpy(y)),
    "losses": len(trainer.history["val_loss"]),
    "backends": [place for place in sys.path if place.rstrip("/").endswith("backends")],
    "standard": sys.modules["typing"].__file__,
    "python": str(find_environment(discover()[name]).python),
    "scipy": scipy,
}))
"""


@pytest.mark.parametrize("name", ACTIVATED)
def test_the_environment_is_lent(name):
    backend = BACKENDS[name]
    environment = find_environment(backend)
    found = run(LENT, name)
    pinned = {requirement.name: requirement.specifier for requirement in backend.requirements}
    assert found["d2l"] == f"framework_parity.backends.{name}"
    assert found["numpy"] in pinned["numpy"]
    assert found["framework"].startswith(str(environment.python.parent.parent))
    assert (found["rows"], found["losses"]) == (50, 1)
    assert found["backends"] == []
    assert "-packages" not in found["standard"]
    # Children do not have what was lent: a comparison must not take this process for theirs.
    assert found["python"] == str(environment.python)
    # SciPy works, or says why it does not; it never half works.
    assert found["scipy"] == "0.5" or "needs numpy" in found["scipy"]
