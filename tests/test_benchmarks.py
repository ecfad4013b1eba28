"""Each benchmark at a tiny size: what it writes, never how long it took."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure, numerics, scaling
from benchmarks.__main__ import main

HERE = f"numpy={sys.executable}"
ROOT = Path(__file__).parent.parent
TINY = ["numpy", "--python", HERE, "--data", "synthetic:60x4x3", "--max-epochs", "2"]


def run(name, out, *options):
    status = main([name, *TINY, "--out", str(out), *options])
    facts = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["benchmark"] == name
    assert {"command", "machine", "settings", "load"} <= set(facts)
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"`{facts['command']}`" in text
    assert (out / f"{name}.png").stat().st_size > 1000
    return status, facts, text


def test_speed(tmp_path):
    status, facts, text = run("speed", tmp_path, "--runs", "2")
    assert status == 0
    rows = {row["name"]: row for row in facts["rows"]}
    assert set(rows) == {
        *("limit", "numpy scratch", "numpy concise"),
        *("numpy raw scratch", "numpy raw concise", "numpy loader"),
    }
    assert rows["numpy scratch"]["grade"] in ("exact", "rounding")
    assert rows["numpy loader"]["grade"] == "right"
    assert rows["numpy concise"]["epoch_seconds"]["runs"] == 2
    assert set(rows["numpy concise"]["ratios"]) == {"raw", "loader", "limit"} | {"keras"}
    assert "| numpy concise | raw |" in text


def test_a_wrong_answer_is_not_ranked(tmp_path):
    report = {
        "runs": [
            {"backend": "numpy", "implementation": i, "grade": g, "status": "done"}
            for i, g in (("scratch", "disagree"), ("concise", "rounding"))
        ]
    }
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    _, _, text = run("speed", tmp_path, "--runs", "1", "--report", str(tmp_path))
    assert "**disagree**, not ranked" in text
    assert "| numpy scratch | raw |" not in text


def test_what_got_slower(tmp_path):
    facts = {"benchmark": "speed", "series": {"a": [2.0, 2.1, 2.2, 2.0], "b": [1.0, 1.1, 1.2, 1.0]}}
    old = {"benchmark": "speed", "series": {"a": [1.0, 1.1, 1.2, 1.0], "b": [1.0, 1.1, 1.2, 1.0]}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    (slower,) = measure.compare_old(path, facts)
    assert slower.startswith("a: ")
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(measure.ParityError, match="expected a result of speed"):
        measure.compare_old(path, facts)


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
    assert facts["points"][0]["failed"] is None


def test_exponents_and_bends():
    values = [1, 10, 100, 1000]
    assert scaling.exponent(values, [3 * v**2 for v in values]) == pytest.approx(2)
    assert scaling.bends(values, [5 + 2 * v for v in values]) == []
    assert scaling.bends(values, [5, 6, 7, 9000])


def test_no_gpu_is_a_clear_line(capsys):
    assert main(["speed", *TINY, "--device", "gpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: device: expected")
    assert error.count("\n") == 1


def test_help():
    command = [sys.executable, "-m", "benchmarks", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in ("speed", "scaling", "time_to_accuracy", "numerics", "detection"):
        assert name in shown
