"""Every kind of request, from its file alone: one record, or one line that says what is wrong."""

import inspect
import json
import subprocess
import sys

import pytest

from framework_parity.benchmarks import faulty_training
from framework_parity.benchmarks import kinds as measurements
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.reference.replay import Training
from framework_parity.common.training.record import Record
from framework_parity.common.worker.kinds import KINDS, find_kind
from framework_parity.common.worker.request import Request
from framework_parity.common.worker.server import done
from framework_parity.common.worker.worker import Kind, Worker
from tests.helpers import PLAIN, carry_out, make_plan
from tests.test_own_model import PLAIN_MODEL

MEASURED = [
    name
    for name, function in inspect.getmembers(measurements, inspect.isfunction)
    if [*inspect.signature(function).parameters][:1] == ["worker"]
]
ALL = [
    *KINDS,
    "benchmarks.faulty_training:train",
    *(f"benchmarks.kinds:{name}" for name in MEASURED if name != "keras"),
]
"""Keras is not among the plain backend's packages."""


@pytest.fixture
def fields(tmp_path):
    """A function from a kind to fields that it can be asked with."""
    plan, data = make_plan(tmp_path)
    Training(plan, data).run().record().save(tmp_path / "reference")
    (tmp_path / "mine.py").write_text(PLAIN_MODEL)
    places = {name: tmp_path / name for name in ("plan", "reference")}
    known = {
        **{name: str(place) for name, place in places.items()},
        "backend": PLAIN,
        "backends": [PLAIN],
        "implementation": "concise",
        "plans": [str(tmp_path / "plan")],
        "model": str(tmp_path / "mine.py"),
        "dtype": "float64",
        "seed": 1,
        "loop": "tuned",
        "shapes": [[4, 3]],
        "repeats": 1,
        "epochs": 1,
    }

    def given(kind):
        names = inspect.signature(find_kind(kind)).parameters
        left_out = ("reference",) if kind == "own_model" else ()
        return {n: value for n, value in known.items() if n in names and n not in left_out}

    return given


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_leaves_one_record(tmp_path, fields, kind):
    place = tmp_path / "out"
    place.mkdir()
    file = place / "asked.json"
    asked = {"kind": kind, "record": str(place / "record"), "log": str(place / "log")}
    file.write_text(json.dumps(asked | fields(kind)))
    request = Request.read(file)
    status, told = carry_out(request)
    assert status == 0, request.log.read_text()
    assert told[-1] == {"event": "done", "request": str(request.file)}
    record = Record.read(request.record)
    assert record.facts or record.arrays
    assert {path.name for path in place.iterdir()} == {
        *("asked.json", "record", "log", request.file.name)
    }


def test_one_worker_takes_one_after_the_other(tmp_path, fields):
    """By lines of standard input; when that closes it ends."""
    names = ("one", "two", "three")
    asked = [Request("train", tmp_path / n, tmp_path / f"{n}.log", fields("train")) for n in names]
    with subprocess.Popen(
        [sys.executable, "-m", "framework_parity.common.worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for request in asked:
            request.write()
            process.stdin.write(f"{json.dumps(str(request.file))}\n")
        process.stdin.flush()
        wanted = [done(request.file) for request in asked]
        for line in process.stdout:
            if line.rstrip() == wanted[0]:
                del wanted[0]
            if not wanted:
                process.stdin.close()
    assert process.returncode == 0
    facts = [Record.load(request.record).facts for request in asked]
    assert [len(found["earlier_in_process"]) for found in facts] == [0, 1, 2]
    assert len({found["seconds"]["import"] for found in facts}) == 1


WRONG = {
    "no file": (None, "expected a request"),
    "no JSON": ("{", "expected a request"),
    "no object": ("[7]", "expected a request"),
    "no record": ('{"kind": "train", "log": "log"}', "expected a request"),
    "no kind of ours": ({"kind": "bake"}, "kind: expected train, probe"),
    "a module of another": ({"kind": "os.path:join"}, "kind: expected train, probe"),
    "no plan": ({"kind": "reference"}, "received no plan"),
    "a number for a place": ({"kind": "reference", "plan": 7}, "received plan = 7"),
    "a word too many": ({"kind": "reference", "plan": "a", "b": 1}, "received b = 1"),
    "a word for a number": (
        {"kind": "reference", "plan": "a", "member": "one"},
        "received member = 'one'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_request_is_one_line(tmp_path, capfd, name):
    content, part = WRONG[name]
    if isinstance(content, dict):
        places = {place: str(tmp_path / place) for place in ("record", "log")}
        content = json.dumps(content | places)
    if content is not None:
        (tmp_path / "asked.json").write_text(content)
    with pytest.raises(SystemExit) as ended:
        Worker(sys.stdout).carry_out(tmp_path / "asked.json", find_kind)
    (line,) = str(ended.value).splitlines()
    assert part in line
    assert "; received " in line
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "record").exists()


def test_what_is_no_place_and_no_json_is_not_written(tmp_path):
    with pytest.raises(TypeError):
        Request("train", tmp_path / "a", tmp_path / "a.log", {"plan": {1, 2}}).write()
    assert not list(tmp_path.iterdir())


def test_a_request_is_read_as_it_was_written(tmp_path):
    fields = {"plan": str(tmp_path / "caf\udce9"), "member": None, "size": 0.5}
    request = Request("reference", tmp_path / "a", tmp_path / "a.log", fields)
    request.write()
    assert Request.read(request.file) == request


def test_kinds_of_benchmarks_are_found_by_their_module():
    found: Kind = find_kind("benchmarks.faulty_training:train")
    assert found is faulty_training.train
    with pytest.raises(ParityError, match="No module named"):
        find_kind("benchmarks.nothing:train")


def test_a_whole_number_is_a_number(tmp_path):
    def kind(worker: Worker, size: float | str | None):
        """Takes a number, or a word."""

    for size in (10, 0.5, "batch size", None):
        request = Request("any", tmp_path / "a", tmp_path / "a.log", {"size": size})
        assert request.arguments(kind) == {"size": size}
