"""Each benchmark at a tiny size: what it writes, never how long it took."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from framework_parity.benchmarks import against, measure, numerics, scaling, speed
from framework_parity.benchmarks.__main__ import NAMES, main
from framework_parity.benchmarks.programs import Program
from framework_parity.common.core import device
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.discovery import discover
from framework_parity.common.environments.external import ExternalEnvironment

HERE = f"numpy={sys.executable}"
ROOT = Path(__file__).parent.parent
PROGRAMS = [backend for backend in discover().values() if not backend.requirements]
TINY = ["numpy", "--python", HERE, "--data", "synthetic:60x4x3", "--max-epochs", "2"]


def run(name, out, *options):
    status = main([name, *TINY, "--out", str(out), *options])
    facts = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["benchmark"] == name
    assert {"command", "machine", "versions", "settings", "load", "left_out"} <= set(facts)
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "Other programs kept" in text
    assert f"`{facts['command']}`" in text
    assert (out / f"{name}.png").stat().st_size > 1000
    return status, facts, text


def test_speed(tmp_path):
    status, facts, text = run("speed", tmp_path, "--runs", "2")
    assert status == 0
    rows = {row["name"]: row for row in facts["rows"]}
    assert set(rows) == {
        *("limit", "numpy scratch", "numpy concise", "numpy own concise"),
        *(f"numpy {loop}" for loop in speed.loops("numpy")),
    }
    assert rows["numpy scratch"]["grade"] in ("exact", "rounding")
    assert rows["numpy plain loader"]["grade"] == rows["numpy own concise"]["grade"] == "right"
    assert "| numpy own concise | idiomatic |" in text
    assert rows["numpy concise"]["epoch_seconds"]["runs"] == 2
    assert set(rows["numpy concise"]["ratios"]) == set(speed.PEERS)
    assert rows["numpy concise"]["tuned_loop"] == "numpy tuned"
    ratio = rows["numpy concise"]["ratios"]["idiomatic"]
    met = "met" if ratio <= facts["goals"]["idiomatic"] else "missed"
    lines = [line for line in text.splitlines() if line.startswith("| numpy concise | ")]
    assert next(line for line in lines if "| idiomatic |" in line).endswith(f"| {met} |")
    assert next(line for line in lines if "| numpy tuned |" in line).endswith("|  |  |")


@pytest.mark.parametrize("backend", PROGRAMS, ids=lambda program: program.name)
def test_a_program_of_its_own_has_its_rows(tmp_path, backend):
    """It times itself, in wall seconds, and is ranked by the loss of a training of its own."""
    options = ("--data", "digits", "--max-epochs", "2", "--runs", "1")
    status = main(
        ["speed", backend.name, "numpy", "--python", HERE, *options, "--out", str(tmp_path)]
    )
    facts = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert status == 0
    rows = {row["name"]: row for row in facts["rows"]}
    for implementation in backend.implementations:
        row = rows[f"{backend.name} {implementation}"]
        assert row["grade"] == "rounding"
        assert row["failed"] is None
        assert row["epoch_seconds"]["runs"] == 1
        assert row["epoch_cpu_seconds"] is None
        assert row["peak_rss_bytes"]["median"] > 1e7
        (sample,) = (s["samples"] for s in facts["samples"] if s["name"] == row["name"])
        assert sample[0]["right"] is True
    assert facts["versions"][backend.name]


EMPTY = {
    **dict.fromkeys(("plan_sha256", "fed_sha256"), ""),
    "backend": "a",
    "implementation": "concise",
    "versions": {},
    "history": {},
    "peak_rss_bytes": 1,
    "seconds": dict.fromkeys(("import", "compile", "fit", "evaluate"), 0.0),
}
"""The facts of a record of no training."""

LEAVE = """
import json, sys
from pathlib import Path
from framework_parity.common.training.record import Record
if facts := json.loads(Path(sys.argv[1]).read_text()):
    Record(facts, {}).save(Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("facts", "said"), [(None, "bad record: "), (EMPTY, "train_loss")])
def test_a_program_that_leaves_no_record_has_failed(tmp_path, facts, said):
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    words = ("-c", LEAVE, str(tmp_path / "facts.json"), "{record}")
    environment = ExternalEnvironment(backend="a", python=Path(sys.executable), arguments=words)
    task = Program("a", environment, {"implementation": "concise"})
    assert said in measure.sample(task, tmp_path, 1, "cpu")["failed"]


def report(folder, grade):
    facts = {
        "runs": [
            {"backend": "numpy", "implementation": i, "grade": g, "status": "done"}
            for i, g in (("scratch", grade), ("concise", "rounding"))
        ]
    }
    (folder / "report.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_a_wrong_answer_is_not_ranked(tmp_path):
    graded = str(report(tmp_path, "disagree"))
    _, _, text = run("speed", tmp_path, "--runs", "1", "--report", graded)
    assert "**disagree**, not ranked" in text
    assert "| numpy scratch | idiomatic |" not in text
    assert "| numpy concise | idiomatic |" in text


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    _, facts, _ = run("numerics", folder, *QUICK)
    assert all(len(values) == 3 for values in facts["series"].values())
    return facts


QUICK = ("--runs", "3", "--repeats", "2")


def doctored(tmp_path, facts, **changes):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(facts | changes), encoding="utf-8")
    return path


def times(facts, factor):
    return {name: [factor * v for v in values] for name, values in facts["series"].items()}


def test_slower_than_an_old_result_is_status_1(tmp_path, measured, capsys):
    old = doctored(tmp_path, measured, series=times(measured, 1e-4))
    status, facts, _ = run("numerics", tmp_path, *QUICK, "--compare", str(old))
    assert status == 1
    lines = capsys.readouterr().out.splitlines()
    for name in facts["series"]:
        assert any(line.startswith(f"{name}: ") and "slower than before" in line for line in lines)


def test_faster_than_an_old_result_is_status_0(tmp_path, measured, capsys):
    old = doctored(tmp_path, measured, series=times(measured, 1e4))
    assert run("numerics", tmp_path, *QUICK, "--compare", str(old))[0] == 0
    assert f"nothing is slower than in {old}" in capsys.readouterr().out


def test_only_the_row_that_is_slower_is_named(tmp_path, measured):
    series = {"a": [1.0, 1.1, 1.2, 1.0], "b": [1.0, 1.1, 1.2, 1.0]}
    old = doctored(tmp_path, measured, series=series)
    now = measured | {"series": series | {"a": [2.0, 2.1, 2.2, 2.0]}}
    (slower,), _ = against.compare(old, now)
    assert slower.startswith("a: 1.95 × slower")


def test_noise_is_not_slower(tmp_path, measured):
    old = doctored(tmp_path, measured, series={"a": [1.0, 3.0, 2.0]})
    assert against.compare(old, measured | {"series": {"a": [2.5, 3.1, 1.9]}})[0] == []


def test_what_cannot_be_compared_is_named(tmp_path, measured):
    other = measured["machine"] | {"processor": "another"}
    old = doctored(tmp_path, measured, series={"a": [1.0], "gone": [1.0] * 3}, machine=other)
    slower, notes = against.compare(old, measured | {"series": {"a": [9.0] * 3}})
    assert slower == []
    assert "note: the old result is of another machine: processor another" in notes[0]
    assert notes[1].endswith("not compared: a, gone")


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ({"benchmark": "speed"}, "one of speed"),
        ({"series": {"a": ["x"]}}, "no durations"),
        ({"series": {"a": [0]}}, "no durations"),
        ({"settings": {}}, "another device"),
    ],
)
def test_an_unusable_old_result_is_refused(tmp_path, measured, change, received):
    with pytest.raises(ParityError, match=received):
        against.compare(doctored(tmp_path, measured, **change), measured)


def test_a_file_that_is_no_result_is_refused(tmp_path, measured):
    for content in ("[]", "{}", "not JSON"):
        path = tmp_path / "old.json"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ParityError, match="expected a result of numerics"):
            against.compare(path, measured)


@pytest.mark.parametrize("name", ["speed", "time_to_accuracy", "numerics", "scaling"])
def test_when_the_time_is_up_the_report_says_so(tmp_path, name):
    options = ("--axes", "features") if name == "scaling" else ()
    options = ("--report", str(report(tmp_path, "exact"))) if name == "speed" else options
    status, facts, text = run(name, tmp_path, "--minutes", "0", *options)
    assert status == 0
    assert facts["left_out"]
    assert "**Not measured**, because 0 minutes were over: " in text
    assert "not measured: the time was up" in text


def test_numerics(tmp_path):
    _, facts, _ = run("numerics", tmp_path, "--runs", "1", "--repeats", "2")
    assert len(facts["rows"]) == len(numerics.SHAPES)
    for row in facts["rows"]:
        assert row["difference"] < 1e-5


def test_time_to_accuracy(tmp_path):
    _, facts, text = run("time_to_accuracy", tmp_path, "--runs", "1", "--accuracies", "0", "1.1")
    for row in facts["rows"]:
        assert row["reached"]["0.0"]["epoch"] == 1
        assert row["reached"]["1.1"]["seconds"] is None
    assert "not reached" in text


def test_scaling(tmp_path):
    _, facts, _ = run("scaling", tmp_path, "--axes", "features", "--most", "128")
    assert [point["value"] for point in facts["points"]] == [16, 128]
    (fit,) = facts["fits"]
    assert isinstance(fit["exponent"], float)


def test_scaling_of_data_larger_than_memory(tmp_path):
    assert main(["scaling", *TINY, "--out", str(tmp_path), "--large", "1000x8"]) == 0
    facts = json.loads((tmp_path / "scaling_large.json").read_text(encoding="utf-8"))
    (point,) = facts["points"]
    assert point["failed"] is None
    assert point["resident_bytes"]["anonymous"] > 2**27  # a chunk at least
    assert "≤ 2.00: met" in (tmp_path / "scaling_large.md").read_text(encoding="utf-8")
    assert (tmp_path / "scaling_large.png").stat().st_size > 1000


def test_exponents_and_bends():
    values = [1, 10, 100, 1000]
    assert scaling.exponent(values, [3 * v**2 for v in values]) == pytest.approx(2)
    assert scaling.bends(values, [5 + 2 * v for v in values]) == []
    assert scaling.bends(values, [5, 6, 7, 9000])


def test_no_gpu_is_a_clear_line(capsys, monkeypatch):
    monkeypatch.setattr(device, "DRIVERS", ())
    assert main(["speed", *TINY, "--device", "gpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: device: expected")
    assert error.count("\n") == 1


@pytest.fixture
def on_a_gpu(tmp_path, monkeypatch):
    """Run a benchmark as if on a GPU, while other programs keep the processors busy.

    The more wall seconds an epoch takes here, the fewer processor seconds.
    """
    here, turns = measure.sample, itertools.count(1)

    def sample(task, folder, threads, kind):
        assert kind == "gpu"
        turn = next(turns)
        seconds = {"epoch_seconds": [1.0 * turn], "epoch_cpu_seconds": [1.0 / turn]}
        return here(task, folder, threads, "cpu") | seconds | {"other_cpus": 1.0}

    monkeypatch.setattr(device, "DRIVERS", ("/dev/null",))
    monkeypatch.setattr(measure, "sample", sample)
    return lambda name, *options: run(name, tmp_path, "--device", "gpu", *options)


def test_a_gpus_speed_is_told_in_wall_seconds(tmp_path, on_a_gpu):
    graded = str(report(tmp_path, "exact"))
    _, facts, text = on_a_gpu("speed", "--runs", "1", "--report", graded)
    rows = {row["name"]: row for row in facts["rows"]}
    seconds = {name: row["epoch_seconds"]["median"] for name, row in rows.items()}
    assert facts["load"]["busy"]
    assert facts["load"]["clock"] == "wall"
    assert "all times are wall times, and too long" in text
    assert "pinned" not in text.partition("| what |")[0]
    assert facts["series"] == {name: [value] for name, value in seconds.items()}
    one, other = "numpy scratch", "numpy idiomatic scratch"
    assert rows[one]["ratios"]["idiomatic"] == pytest.approx(seconds[one] / seconds[other])
    places = [text.index(f"\n| {name} |") for name in sorted(seconds, key=seconds.get)]
    assert places == sorted(places)


def test_a_gpus_scaling_is_told_in_wall_seconds(on_a_gpu):
    _, facts, text = on_a_gpu("scaling", "--axes", "features", "--most", "128")
    one, other = (point["wall_seconds"] for point in facts["points"])
    assert other > one
    assert facts["fits"][0]["exponent"] > 0
    assert [point["spread"]["median"] for point in facts["points"]] == [one, other]
    assert sorted(facts["series"].values()) == [[1.0], [2.0]]
    assert "\nWall seconds per epoch" in text
    assert f"{1000 * other:,.1f} ms" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["speed", "--runs", "0"], "--runs: expected 1 or more; received 0"),
        (["scaling", "--most", "-5"], "--most: expected 1 or more; received -5"),
        (["scaling", "numpy", "--large", "0x784"], "large: expected ROWSxFEATURES"),
        (["scaling", "--axes", "size"], "--axes: expected one of 'examples'"),
        (["numerics", "--repeats", "0"], "--repeats: expected 1 or more; received 0"),
        (["numerics", "--threads", "0"], "--threads: expected 1 or more; received 0"),
        (["speed", "--batch-size", "-1"], "--batch-size: expected 1 or more; received -1"),
        (["speed", "--max-epochs", "0"], "--max-epochs: expected 1 or more; received 0"),
        (["speed", "--minutes", "-1"], "--minutes: expected 0 or more; received -1"),
        (["speed", "--minutes", "nan"], "--minutes: expected 0 or more; received nan"),
        (["time_to_accuracy", "--accuracies", "0.8", "-1"], "--accuracies: expected 0 or more"),
        (["speed", "--runs", "two"], "--runs: expected a whole number; received 'two'"),
        (["speed", "--run", "2"], "received --run"),
        (
            ["speed", "--out", "a", "--out", "b"],
            "--out: expected one value; received another one, b",
        ),
        (
            ["speed", "--python", "numpy=a", "--python", "numpy=b"],
            "--python: expected one for numpy",
        ),
        (["sped"], "expected one of 'speed', 'scaling'"),
        ([], "expected BENCHMARK; received none; python -m benchmarks --help"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_measured_is_one_line(words, said, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks: ")
    assert said in line


@pytest.mark.parametrize("words", [[], *([name] for name in NAMES)], ids=str)
def test_help_fits_a_narrow_terminal(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_help():
    command = [sys.executable, "-m", "benchmarks", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in ("speed", "scaling", "time_to_accuracy", "numerics", "detection"):
        assert name in shown
