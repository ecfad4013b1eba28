"""Who may import whom: read from the source, and tried in a process."""

import ast
import re
import sys
import tomllib

import pytest

from framework_parity.common.environments.backend import ROOT, WORKER_NEEDS
from framework_parity.common.worker.request import Request
from tests.conftest import BACKENDS, EXTERNAL
from tests.helpers import PLAIN, carry_out, make_plan

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [PROJECT["optional-dependencies"][name] for name in ("page", "digits", "seeds")]
DEPENDENCIES = {re.match(r"[\w-]+", line)[0] for line in sum(EXTRAS, start=PROJECT["dependencies"])}
PROJECT_NAME = "framework_parity"
COMMON = f"{PROJECT_NAME}.common"
PLUGIN = ROOT / "common" / "commands" / "pytest_plugin.py"
ACTIVATION = ROOT / "common" / "notebook" / "activation.py"
BOOTSTRAP = ROOT / "framework_parity" / "bootstrap.py"

ROOMS = (
    *("core", "data", "training", "reference", "worker"),
    *("environments", "execution", "judging", "report", "notebook", "commands"),
)
"""The rooms of ``common/`` from the ground up: each imports from itself and those before it."""
WALL = "worker"
"""The last room of what a worker imports, which needs NumPy and the standard library only."""
PURE = "judging"
"""A room without processes: it imports nothing between the wall and itself."""
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
OPTIONAL = (
    *("benchmarks/chapters", "benchmarks/exercises", "benchmarks/faults", "benchmarks/raw_loops"),
    *("tests/own_checks", "tests/own_layers", "tests/own_models", "tests/ported_models"),
)
"""Where a backend may have a file of its name: what is optional lives with what uses it."""
ALL_NAMES = set().union(*FRAMEWORK_NAMES.values(), EXTERNAL)


def owner(path):
    """The name of the backend that a file belongs to; None for a file of all."""
    folder = str(path.parent.relative_to(ROOT))
    name = path.stem if folder in OPTIONAL else path.parent.name
    return name if name in BACKENDS and (folder in OPTIONAL or "backends/" in folder) else None


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
    assert not names & (ALL_NAMES - FRAMEWORK_NAMES.get(owner(path), set()))
    if path.is_relative_to(ROOT / "common"):
        third_party = names - sys.stdlib_module_names - {PROJECT_NAME}
        allowed = {IMPORT_NAMES.get(name, name) for name in DEPENDENCIES}
        if path == PLUGIN:
            allowed.add("pytest")  # which is what imports it
        assert third_party <= allowed


def test_the_runner_imports_no_framework():
    names = {top(name) for name in imported(parsed(ROOT / "compare.py"))}
    assert names <= sys.stdlib_module_names | DEPENDENCIES | {PROJECT_NAME}


@sources("backends", *OPTIONAL)
def test_backends_import_themselves_and_what_they_require(path):
    backend = BACKENDS.get(owner(path))
    if backend is None:
        assert path.name == "__init__.py"
        assert path.parent.name == "faults" or not list(imported(parsed(path)))
        return
    required = {IMPORT_NAMES.get(r.name, r.name) for r in backend.requirements}
    allowed = {backend.name, "numpy", *required}
    for name in imported(parsed(path)):
        if name.startswith(f"{PROJECT_NAME}.backends"):
            assert name.split(".")[2] == backend.name
        elif path.parent.name != backend.name and ".raw_loops." in name:
            assert name.split(".")[3] == backend.name
        elif top(name) == PROJECT_NAME:
            assert name.startswith(COMMON)
        else:
            assert top(name) in sys.stdlib_module_names | allowed


def modules():
    """The modules of ``common/`` and what each imports of it, wherever in it, as modules."""
    paths = {}
    for path in sorted((ROOT / "common").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join([PROJECT_NAME, *(part for part in parts if part != "__init__")])
        paths[name] = path
    found = {}
    for name, path in paths.items():
        uses = {n for n in imported(parsed(path)) if n.startswith(f"{COMMON}.")}
        # What is imported is a module, or a name in one.
        uses = {use if use in paths else use.rpartition(".")[0] for use in uses}
        assert uses <= set(paths), (name, uses - set(paths))
        found[name] = uses - {name}
    return found


def room(name):
    return name.split(".")[2]


def test_a_room_imports_from_those_before_it_alone():
    there = {path.name for path in (ROOT / "common").iterdir()} - {"__pycache__"}
    assert there == {*ROOMS, "__init__.py"}
    for name, uses in modules().items():
        if name != COMMON:
            allowed = ROOMS[: ROOMS.index(room(name)) + 1]
            if room(name) == PURE:
                between = ROOMS[ROOMS.index(WALL) : ROOMS.index(PURE)]
                allowed = set(allowed) - set(between)
            assert {room(use) for use in uses} <= set(allowed), name


def test_no_two_modules_import_each_other():
    waiting = modules()
    while waiting:
        free = {name for name, uses in waiting.items() if not uses & set(waiting)}
        assert free, f"a circle among {sorted(waiting)}"
        waiting = {name: uses for name, uses in waiting.items() if name not in free}


def test_the_picture_of_the_rooms_is_true():
    from tests.rooms import drawn

    assert "\n".join(drawn()) in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_room_says_its_idea_in_a_line():
    for name in ROOMS:
        text = (ROOT / "common" / name / "__init__.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        assert len(tree.body) == 1, "a docstring and nothing else"
        assert ast.get_docstring(tree).count("\n") == 0


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for name in ROOMS[: ROOMS.index(WALL) + 1]
        for path in sorted((ROOT / "common" / name).rglob("*.py"))
    ],
)
def test_workers_need_numpy_and_the_standard_library_only(path):
    for name in imported_on_import(parsed(path)):
        assert top(name) in sys.stdlib_module_names | {"numpy", PROJECT_NAME}, name


def test_one_name_is_imported_everywhere():
    places = ("common", "backends", "benchmarks", "tests", "compare.py")
    for place in places:
        for path in [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"):
            names = {top(name) for name in imported(parsed(path))}
            assert not names & {"common", "backends", "benchmarks", "compare"}, path


BLOCKED = """
import sys

class OnlyWhatWorkersNeed:
    def find_spec(self, name, path=None, target=None):
        known = sys.stdlib_module_names | {"numpy", "framework_parity"}
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(f"a worker asked for {name}", name=name)

sys.meta_path.insert(0, OnlyWhatWorkersNeed())
assert not any(place.rstrip("/").endswith("backends") for place in sys.path)
from framework_parity.common.worker import __main__ as main
from framework_parity.common.worker.worker import Worker
carry_out = Worker.carry_out

def checked(*arguments):
    carry_out(*arguments)
    assert not any(place.rstrip("/").endswith("backends") for place in sys.path)
    print(*sorted({name.partition(".")[0] for name in sys.modules}), flush=True)

Worker.carry_out = checked
main.main()
"""


def test_a_worker_runs_where_there_is_nothing_else(tmp_path):
    make_plan(tmp_path)
    fields = {"plan": tmp_path / "plan", "backend": PLAIN, "implementation": "concise"}
    request = Request("train", tmp_path / "record", tmp_path / "log", fields)
    status, _ = carry_out(request, "-c", BLOCKED)
    output = request.log.read_text()
    assert status == 0, output
    assert (tmp_path / "record" / "record.json").exists()
    modules = output.splitlines()[-1].split()
    assert "numpy" in modules
    assert not ALL_NAMES & set(modules)


@sources("common", "tests", "backends")
def test_no_framework_is_named_outside_its_folder(path):
    check_names(path, FRAMEWORK_NAMES.get(owner(path), set()))


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
    if path in (ACTIVATION, BOOTSTRAP):
        return  # that is what it is for; tests/test_activation.py says what it may put there
    for node in ast.walk(parsed(path)):
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path")
