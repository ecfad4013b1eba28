"""What comes from outside may be anything: each reader gives it as it must be, or one line.

Thousands of cases are made here from sound files: values of other types and sizes in them, bytes
changed, cut off and put twice; and what only seems to be a file.
docs/what_was_tried.md counts them.
"""

import copy
import datetime
import io
import json
import os
import resource
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework_parity.common.commands.accepted_differences import Accepted
from framework_parity.common.commands.bisection_state import load_state
from framework_parity.common.commands.golden_records import Baseline, save_baseline
from framework_parity.common.core.archive import read_arrays
from framework_parity.common.core.errors import Complaint
from framework_parity.common.core.outside import (
    misfit,
    open_file,
    parse_json,
    read_bytes,
    read_json,
)
from framework_parity.common.data.datasets import load_npz
from framework_parity.common.environments.external_command import Command
from framework_parity.common.execution.launcher import PROGRESS, parse
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record, RecordError
from tests.helpers import make_plan
from tests.test_record import SHA256, make_record

CASES = Counter()
"""How many there were of each reader, for the last test."""

many = settings(
    deadline=None,
    max_examples=250,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

HUGE = [10**400, -(10**30), 2**63, 1e308, 1e-320, float("nan"), float("-inf"), True, 0, -1]
WORDS = ["", "x" * 5000, "\x1b[2J\x1b]0;title\x07", "\u202ereversed", "[bold]", "\ud800", "\x00\n"]
VALUES = st.one_of(
    st.sampled_from([*HUGE, *WORDS, None, [], {}, [[]], {"": None}]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
)


def places(value, place=()):
    """Where there is something in a value of JSON."""
    yield place
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*place, name))


@st.composite
def altered(draw, value):
    """A value with one or two of its parts replaced, left out or named otherwise."""
    made = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 2))):
        *path, last = ("", *draw(st.sampled_from([*places(made[""])])))
        holder = made
        for name in path:
            holder = holder[name]
        if isinstance(holder, dict) and path and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = draw(VALUES)
    return made[""]


def damaged(content):
    """Bytes of a file, some of which were changed, or its end cut off, or a part put twice."""
    flips = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)

    def apply(flips, end, twice):
        spoilt = bytearray(content)
        for place, byte in flips:
            spoilt[place] = byte
        return bytes(spoilt[:end] + spoilt[: twice if twice < 64 else 0])

    return st.builds(apply, flips, st.integers(0, len(content)), st.integers(0, 128))


def one_line(error):
    """What a complaint says: one line, and nothing that steers a terminal."""
    said = str(error)
    assert said.isprintable(), ascii(said)
    assert len(said) < 10_000
    assert "expected" in said


# Records


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with one sound file for each reader."""
    folder = tmp_path_factory.mktemp("sound")
    make_record(snapshots=np.array([1, 2])).save(folder / "record")
    return folder


def spoil(folder, name, content):
    (folder / name).write_bytes(content)


@given(st.data())
@many
def test_a_record_of_other_facts(sound, data):
    facts = json.loads((sound / "record" / "record.json").read_text())
    text = json.dumps(data.draw(altered(facts)))
    check_record(sound, text.encode(), (sound / "record" / "arrays.npz").read_bytes())


@given(st.data())
@many
def test_a_record_of_other_bytes(sound, data):
    facts, arrays = ((sound / "record" / n).read_bytes() for n in ("record.json", "arrays.npz"))
    if data.draw(st.booleans()):
        facts = data.draw(damaged(facts))
    else:
        arrays = data.draw(damaged(arrays))
    check_record(sound, facts, arrays)


NUMBERS = st.sampled_from(
    [
        np.full(3, 1e308),
        np.full(3, np.inf, np.float32),
        np.ones(3, np.longdouble),
        np.array(["a"]),
        np.array([b"a" * 99]),
        np.ones(3, bool),
        np.ones(3, complex),
        np.zeros(3, "M8[s]"),
        np.zeros(2, [("a", "f4"), ("b", "i8")]),
        np.ones((0, 2**40)),
        np.ones((1,) * 30),
        np.ones(3, ">f4"),
        np.float16(7),
        np.array([{}]),
    ]
)


@given(st.sampled_from(["step_loss", "parameters/W", "x/../../y", "\x1b[2J", "a" * 2000]), NUMBERS)
@many
def test_a_record_of_other_arrays(sound, name, numbers):
    file = io.BytesIO()
    np.savez(file, **{**make_record().arrays, name: numbers})
    check_record(sound, (sound / "record" / "record.json").read_bytes(), file.getvalue())


def check_record(sound, facts, arrays):
    """It is refused, or all that it says is of the types and within the limits."""
    CASES["records"] += 1
    folder = sound / "spoilt"
    folder.mkdir(exist_ok=True)
    spoil(folder, "record.json", facts)
    spoil(folder, "arrays.npz", arrays)
    try:
        record = Record.load(folder, SHA256)
    except RecordError as error:
        one_line(error)
        return
    assert all(isinstance(said, str) for said in record.facts["versions"].values())
    for array in record.arrays.values():
        assert array.dtype.kind in "fiu"
        assert array.dtype.itemsize <= 8
        assert np.abs(array.astype(float)).max(initial=0) <= 1e100


# Archives


def npy(header, numbers=b""):
    """An ``.npy`` file whose header says whatever one likes."""
    padded = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + numbers


def declared(shape, dtype="<f4"):
    return npy(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}", bytes(64))


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)


LIES = {
    "10^18 numbers": [("a.npy", declared((10**18,)))],
    "10^18 by 10^18": [("a.npy", declared((10**18, 10**18)))],
    "a negative axis": [("a.npy", declared((-1, 16)))],
    "no shape": [("a.npy", declared("'x'"))],
    "fractions": [("a.npy", declared((1.5,)))],
    "fewer numbers": [("a.npy", declared((3,)))],
    "objects": [("a.npy", declared((16,), "|O"))],
    "a word of 2 GB": [("a.npy", declared((1,), "|S2000000000"))],
    "code": [("a.npy", npy("__import__('os').abort()"))],
    "a deep header": [("a.npy", npy("(" * 90))],
    "another version": [("a.npy", b"\x93NUMPY\x09\x00" + bytes(99))],
    "nothing": [("a.npy", b"")],
    "no array": [("a.npy", b"hello")],
    "no .npy": [("a.txt", b"hello")],
    "a folder": [("a/", b"")],
    "twice": [("a.npy", declared((16,))), ("a.npy", declared((16,)))],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("lie", LIES)
def test_an_archive_that_lies_is_refused_before_it_is_read(tmp_path, lie, method):
    archive(tmp_path / "a.npz", LIES[lie], method)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Exception, match=r"\w"):
        read_arrays(tmp_path / "a.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_an_archive_that_unpacks_to_more_than_there_is_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("framework_parity.common.core.archive.available_bytes", lambda: 10**6)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**6), b=np.zeros(10))
    with pytest.raises(ValueError, match=r"8,000,\d+ bytes of arrays, where 1,000,000 of memory"):
        read_arrays(tmp_path / "a.npz")


@given(st.data())
@many
@pytest.mark.filterwarnings("default")  # NumPy warns of some damages before it refuses them
def test_a_users_arrays_of_other_bytes(sound, data):
    CASES["data of a user's"] += 1
    file = io.BytesIO()
    X, y = np.ones((6, 2), np.float32), np.arange(6) % 2
    np.savez(file, X_train=X, y_train=y, X_val=X, y_val=y)
    spoil(sound, "data.npz", data.draw(damaged(file.getvalue())))
    try:
        load_npz(sound / "data.npz")
    except Complaint as error:
        one_line(error)


# What only seems to be a file


def fifo(path):
    os.mkfifo(path)


def socket(path):
    import socket

    os.chdir(path.parent)  # an address has room for a hundred bytes
    socket.socket(socket.AF_UNIX).bind(path.name)


SEEMING = {
    "a pipe": fifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a socket": socket,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", SEEMING)
def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a"
    SEEMING[kind](path)
    with pytest.raises(OSError, match=r"\w"):
        open_file(path)
    readers = (load_npz, Baseline.load, Accepted.load, lambda p: Command.read(p, ()))
    for read in (*readers, lambda p: load_state(p) or 1 / 0):
        with pytest.raises((Complaint, ZeroDivisionError)) as error:
            read(path)
        if error.type is not ZeroDivisionError:
            one_line(error.value)


@pytest.mark.parametrize("name", ["record.json", "arrays.npz"])
@pytest.mark.parametrize("kind", [*SEEMING, "a link"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_record_whose_file_is_none_is_bad(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    make_record().save(tmp_path / "record")
    path = tmp_path / "record" / name
    path.rename(tmp_path / "other")
    SEEMING.get(kind, lambda path: path.symlink_to(tmp_path / "other"))(path)
    with pytest.raises(RecordError) as error:
        Record.load(tmp_path / "record")
    one_line(error.value)


# Texts

DEEP = ("[" * 100_000, '{"a":' * 5000, "[" * 66 + "]" * 66, '{"a": ' * 500 + "1" + "}" * 500)


@pytest.mark.parametrize(
    "text",
    [*DEEP, "1" * 5000, "1" * 200, "1e400", "NaN", '{"a": 1, "a": 2}', b"\xff", b"", "{", "nul"],
)
def test_a_text_beyond_the_limits_is_no_json(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_a_file_beyond_the_limits_is_not_read(tmp_path):
    (tmp_path / "a").write_text("[" + "1," * 100 + "1]")
    assert len(read_json(tmp_path / "a")) == 101
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_bytes(tmp_path / "a", 100)


@given(VALUES)
@many
def test_a_text_within_the_limits_is_what_it_was(value):
    CASES["JSON"] += 1
    try:
        found = parse_json(json.dumps(value))
    except ValueError:
        return
    assert found == value


LINE = {"event": "training", "epoch": 1, "max_epochs": 3, "loss": 0.5, "reason": "x"}
LINE |= {"columns": ["a", "b"], "table": [["1", "2"], ["3", "4"]]}


@given(st.data())
@many
def test_a_line_of_progress(data):
    CASES["lines of progress"] += 1
    text = json.dumps(data.draw(altered(LINE)))
    facts = parse(data.draw(st.sampled_from([text, text[:-1], text * 2, f"[{text}]"])))
    if facts is not None:
        assert {*facts} <= {*PROGRESS}
        assert not misfit(facts, {name: PROGRESS[name] for name in facts})
        assert len({*map(len, [facts.get("columns", ()), *facts.get("table", ())])}) == 1
        assert ("epoch" in facts) == ("max_epochs" in facts)
        assert 0 <= facts.get("epoch", 1) <= facts.get("max_epochs", 1)


ENTRY = """[[accept]]
backend = "made-up"
implementation = "scratch"
stage = "loss"
bound = 9.5
reason = "known"
expires = 2030-01-31
"""
COMMAND = """program = "julia"
arguments = ["{folder}/train.jl", "{plan}"]
version = ["--version"]
release = "1.11"
implementations = ["scratch"]
[setup]
files = ["a"]
commands = [["julia", "{environment}"]]
"""


@given(st.data())
@many
def test_toml(sound, data):
    CASES["TOML"] += 1
    readers = ((ENTRY, Accepted.load), (COMMAND, lambda p: Command.read(p, ("scratch",))))
    text, read = data.draw(st.sampled_from(readers))
    lines = text.splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    name = lines[place].partition(" = ")[0]
    odd = (f"{name} = {'[' * 9999}", f"{name} = {'9' * 5000}", f"{name} = 1e999", f"{name} = nan")
    odd += (f"{name} = 1979-05-27", f'{name} = "\\u001b[2J"', f"{name} = {{a.b.c = [1]}}", "", name)
    lines[place] = data.draw(st.sampled_from(odd))
    content = data.draw(damaged("\n".join(lines).encode())) if data.draw(st.booleans()) else None
    spoil(sound, "a.toml", content or "\n".join(lines).encode())
    try:
        found = read(sound / "a.toml")
    except Complaint as error:
        one_line(error)
        return
    for entry in getattr(found, "entries", ()):
        assert 0 < entry.bound < 10**300
        assert type(entry.expires) is datetime.date


# Reports and baselines


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a comparison of softmax regressions in NumPy, one of which is off."""
    from tests.comparisons import finished

    folder = tmp_path_factory.mktemp("report") / "out"
    return finished(folder, {("made-up", "concise"): 1.0, ("made-up", "scratch"): 1.001})


@given(st.data())
@many
def test_a_report_of_other_facts(sound, report, data):
    from io import StringIO

    from rich.console import Console

    from framework_parity.common.commands.show import shown

    CASES["reports"] += 1
    facts = data.draw(altered(json.loads((report.folder / FILE).read_text())))
    spoil(sound, FILE, json.dumps(facts).encode())
    out = StringIO()
    try:
        found = Report.load(sound)
        shown(found, Console(file=out, width=150))
    except Complaint as error:
        one_line(error)
        return
    assert all(c.isprintable() or c == "\n" for c in out.getvalue()), ascii(out.getvalue())
    assert found.exit_status() in (0, 1, 3)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """Golden records of one run."""
    texts = {"backend": "a", "implementation": "b", "grade": "rounding", "version": "1.0"}
    tables = ("versions", "history", "sha256", "states_sha256")
    facts = {**texts, "cause": None, **{name: {"a": "1"} for name in tables}, "stages": [{"a": 1}]}
    path = tmp_path_factory.mktemp("baseline") / "a.npz"
    save_baseline(path, None, make_plan()[0], [Record(facts, {"a": np.ones(3)})], "because", [])
    return Baseline.load(path)


@given(st.data())
@many
def test_a_baseline_of_other_facts(sound, baseline, data):
    CASES["baselines"] += 1
    facts = baseline.facts | {"runs": [dict(run.facts) for run in baseline.runs]}
    with zipfile.ZipFile(sound / "a.npz", "w") as file:
        file.writestr("baseline.json", json.dumps(data.draw(altered(facts))))
    try:
        found = Baseline.load(sound / "a.npz")
    except Complaint as error:
        one_line(error)
        return
    assert found.facts["recipe"].items()


def test_enough_was_tried():
    """Two thousand cases and more, when the whole file is run."""
    if len(CASES) > 6:
        assert sum(CASES.values()) >= 1900, CASES
