"""Who may import whom: read from the source, and tried in a process."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from framework_parity.common.environments.backend import ROOT, WORKER_NEEDS
from tests.conftest import BACKENDS, EXTERNAL
from tests.helpers import PLAIN, make_plan

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
PLUGIN = ROOT / "common" / "pytest_plugin.py"
ACTIVATION = ROOT / "common" / "activation.py"
IMPORT_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn"}

FRAMEWORK_NAMES = {
    backend.name: {
        *(backend.name, backend.requirements[0].name),
        # A companion may be a library that the runner has, too.
        *{r.name for r in backend.requirements[1:]} - WORKER_NEEDS - DEPENDENCIES,
    }
    for backend in BACKENDS.values()
    if backend.is_framework
}
ALL_NAMES = set().union(*FRAMEWORK_NAMES.values(), EXTERNAL)


def sources(*places):
    files = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    return pytest.mark.parametrize(
        "path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in files]
    )


def imported(tree):
    """Dotted names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_on_import(tree):
    """Dotted names that a module imports as soon as it is imported itself."""
    kept = ast.Module([], [])
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            kept.body.append(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting.extend(child for child in ast.iter_child_nodes(node))
    yield from imported(kept)


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def top(name):
    return name.partition(".")[0]


@sources("common", "benchmarks")
def test_shared_code_imports_no_framework(path):
    names = {top(name) for name in imported(parsed(path))}
    assert not names & ALL_NAMES
    if path.is_relative_to(ROOT / "common"):
        third_party = names - sys.stdlib_module_names - {"common"}
        allowed = {IMPORT_NAMES.get(name, name) for name in DEPENDENCIES}
        if path == PLUGIN:
            allowed.add("pytest")  # which is what imports it
        assert third_party <= allowed


def test_the_runner_imports_no_framework():
    names = {top(name) for name in imported(parsed(ROOT / "compare.py"))}
    assert names <= sys.stdlib_module_names | DEPENDENCIES | {"common"}


@sources("backends")
def test_backends_import_themselves_and_what_they_require(path):
    backend = BACKENDS.get(path.parent.name)
    if backend is None:
        assert path == ROOT / "backends" / "__init__.py"
        assert not list(imported(parsed(path)))
        return
    required = {IMPORT_NAMES.get(r.name, r.name) for r in backend.requirements}
    allowed = {backend.name, "numpy", "common", *required}
    for name in imported(parsed(path)):
        if top(name) == "backends":
            assert name.split(".")[1] == backend.name
        else:
            assert top(name) in sys.stdlib_module_names | allowed


def test_workers_need_numpy_and_the_standard_library_only():
    seen, waiting = set(), ["framework_parity.common.worker.train"]
    while waiting:
        module = waiting.pop()
        path = ROOT / f"{module.replace('.', '/')}.py"
        if module in seen or not path.exists():  # a name in a module, not a module
            continue
        seen.add(module)
        for name in imported_on_import(parsed(path)):
            if top(name) == "common":
                waiting += [name, name.rpartition(".")[0]]
            else:
                assert top(name) in sys.stdlib_module_names | {"numpy"}, (module, name)
    assert {
        "framework_parity.common.worker.train",
        "framework_parity.common.training.trainer",
        "framework_parity.common.data.data_module",
        "framework_parity.common.training.record",
    } <= seen


BLOCKED = """
import sys

class OnlyWhatWorkersNeed:
    def find_spec(self, name, path=None, target=None):
        known = sys.stdlib_module_names | {"numpy", "common", "backends"}
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(f"a worker asked for {name}", name=name)

sys.meta_path.insert(0, OnlyWhatWorkersNeed())
assert not any(place.rstrip("/").endswith("backends") for place in sys.path)
from framework_parity.common.worker import train as worker
worker.main()
assert not any(place.rstrip("/").endswith("backends") for place in sys.path)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_worker_runs_where_there_is_nothing_else(tmp_path):
    make_plan(tmp_path)
    arguments = ["--plan", tmp_path / "plan", "--out", tmp_path / "record"]
    arguments += ["--backend", PLAIN, "--implementation", "concise"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BLOCKED, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # open as long as the launcher lives
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert (tmp_path / "record" / "record.json").exists()
    modules = output.splitlines()[-1].split()
    assert "numpy" in modules
    assert not ALL_NAMES & set(modules)


@sources("common", "tests", "backends")
def test_no_framework_is_named_outside_its_folder(path):
    check_names(path, FRAMEWORK_NAMES.get(path.parent.name, set()))


def test_no_framework_is_named_in_the_runner():
    check_names(ROOT / "compare.py", set())


def check_names(path, own):
    others = ALL_NAMES - own
    tree = parsed(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    pattern = re.compile(rf"\b({'|'.join(sorted(others))})\b")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            assert not pattern.search(node.value), f"line {node.lineno}"


@sources("common", "backends")  # a peer in benchmarks/ may have a folder of its own
def test_nothing_changes_where_modules_are_looked_for(path):
    if path in (ACTIVATION, ROOT / "common" / "bootstrap.py"):
        return  # that is what it is for; tests/test_activation.py says what it may put there
    for node in ast.walk(parsed(path)):
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path")
