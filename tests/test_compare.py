"""A comparison from the command line and from Python: what it prints, writes and ends with."""

import inspect
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import sys

import numpy as np
import pytest
from rich.console import Console

from framework_parity.common.core.cache import CACHE_VARIABLE
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data import sources as fetch
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.compare import compare, main
from tests.conftest import BACKENDS, EXTERNAL
from tests.helpers import (
    COMPARE,
    DEFAULT,
    FRAMEWORKS,
    PATCHED,
    PLAIN,
    REPORT,
    SMALL,
    check_complaint,
    copy_code,
    processes,
    program,
    run,
    start,
)

ROWS = {
    "backend",
    "implementation",
    "status",
    "reason",
    "grade",
    "versions",
    "fed_sha256",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "loss_error",
    "parameter_error",
    "loss_envelopes",
    "parameter_envelopes",
    "prediction_flips",
    "seconds",
    "peak_rss_bytes",
}
DATA = {"name", "sha256", "num_train", "num_val", "num_inputs", "num_outputs", "source"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """One small comparison, as a user starts it whose terminal is a file."""
    out = tmp_path_factory.mktemp("finished") / "deep" / "out"
    return run([*COMPARE, PLAIN, *SMALL, "--out", out], cache), out


# The report


def test_agreement_ends_with_zero(finished):
    process, out = finished
    assert process.returncode == 0, process.stderr
    assert Report.load(out).verdict == "agree"
    *_, sentence, place = process.stdout.splitlines()
    assert sentence.startswith("agree: 2 runs within")
    assert place.startswith(str(out / REPORT))


def test_the_report_has_every_key(finished):
    _, out = finished
    facts = json.loads((out / REPORT).read_text())
    assert facts["schema"] == 1
    assert facts["verdict"] == "agree"
    assert facts["notices"] == []
    assert {"batch_size", "lr", "max_epochs", "sigma", "seed", "dtype"} <= set(facts["recipe"])
    assert set(facts["data"]) == DATA
    assert {"loss", "parameters", "logits"} <= set(facts["envelope"])
    assert {"cpus", "memory_bytes", "system", "python"} <= set(facts["machine"])
    assert facts["thresholds"]["envelopes"] == 4
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert len(facts["reference"][name]) == 2
    assert [(row["backend"], row["implementation"]) for row in facts["runs"]] == [
        (PLAIN, "scratch"),
        (PLAIN, "concise"),
    ]
    for row in facts["runs"]:
        assert set(row) >= ROWS
        assert (row["status"], row["reason"], row["grade"]) == ("done", None, "rounding")
        assert row["versions"]["numpy"] == np.__version__
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert len(row[name]) == 2
        for name in ("loss_error", "parameter_error", "loss_envelopes", "parameter_envelopes"):
            assert 0 <= row[name] < 4
        assert set(row["seconds"]) == {"import", "compile", "fit", "evaluate", "total"}
        assert min(row["seconds"].values()) >= 0
        assert 1e6 < row["peak_rss_bytes"] < 1.5e9


def test_the_report_says_what_was_trained(finished):
    _, out = finished
    facts = Report.load(out).facts
    data, plan = Synthetic(300, 8, 3), Plan.load(out / "plan")
    assert facts["data"]["sha256"] == data.sha256() == plan.data_sha256
    assert facts["plan_sha256"] == plan.sha256
    assert facts["recipe"] == plan.recipe.to_json()
    assert facts["recipe"]["max_epochs"] == 2
    (fed,) = {row["fed_sha256"] for row in facts["runs"]}
    assert re.fullmatch("[0-9a-f]{64}", fed)
    for row in facts["runs"]:
        place = out / "runs" / f"{row['backend']}-{row['implementation']}"
        record = Record.load(place, plan.sha256)
        assert record.facts["history"]["val_loss"] == row["val_loss"]
        np.testing.assert_allclose(row["val_loss"], facts["reference"]["val_loss"], atol=1e-5)


def test_the_table_can_be_printed_again(finished):
    process, out = finished
    again = io.StringIO()
    print_report(Report.load(out), Console(file=again))
    assert process.stdout.splitlines()[:-1] == again.getvalue().splitlines()
    for row in Report.load(out).runs:
        assert f"{row['val_loss'][-1]:.6f}" in process.stdout


def test_the_same_again_gives_the_same_bits(finished, cache, tmp_path):
    first = finished[1]
    process = run([*COMPARE, PLAIN, *SMALL, "--jobs", "1", "--out", tmp_path / "out"], cache)
    assert process.returncode == 0, process.stderr
    one, other = (Report.load(folder) for folder in (first, tmp_path / "out"))
    for key in ("plan_sha256", "reference", "envelope", "data", "verdict"):
        assert one.facts[key] == other.facts[key]
    for row, same in zip(one.runs, other.runs, strict=True):
        name = f"{row['backend']}-{row['implementation']}"
        assert {key: row[key] for key in row if key not in ("seconds", "peak_rss_bytes")} == {
            key: same[key] for key in same if key not in ("seconds", "peak_rss_bytes")
        }
        arrays = [Record.load(report.folder / "runs" / name).arrays for report in (one, other)]
        for key, array in arrays[0].items():
            assert arrays[1][key].tobytes() == array.tobytes(), key


def test_reports_of_another_schema_are_refused(finished, tmp_path):
    facts = json.loads((finished[1] / REPORT).read_text())
    for text in (json.dumps(facts | {"schema": 2}), "{}", "[]", "{", ""):
        (tmp_path / REPORT).write_text(text)
        with pytest.raises(fetch.ParityError, match="received"):
            Report.load(tmp_path)


@pytest.mark.parametrize(
    ("verdict", "status", "strict"),
    [
        ("agree", 0, 0),
        ("chaotic", 0, 0),
        ("drift", 0, 1),
        ("disagree", 1, 1),
        ("incomplete", 3, 3),
    ],
)
def test_the_exit_status_and_the_sentence_follow_from_the_verdict(
    finished, verdict, status, strict
):
    report = Report.load(finished[1])
    report.facts["verdict"] = verdict
    first, second = report.facts["runs"]
    if verdict == "incomplete":
        first |= {"status": "timeout", "grade": None, "reason": "too slow"}
    elif verdict != "agree":
        first |= {"grade": verdict, "reason": "by hand"}
    assert report.exit_status() == report.exit_status("disagree") == status
    assert report.exit_status("drift") == strict
    assert report.exit_status("chaotic") == (1 if verdict == "chaotic" else strict)
    assert report.sentence.startswith(f"{verdict}: ")
    if verdict != "agree":
        assert f"{PLAIN} {first['implementation']}" in report.sentence
    text = io.StringIO()
    print_report(report, Console(file=text))
    assert report.sentence in text.getvalue()
    if first["reason"]:
        assert first["reason"] in text.getvalue()
    assert second["implementation"] in text.getvalue()


# Progress


def test_progress_is_plain_lines_where_there_is_no_terminal(finished):
    process, _ = finished
    lines = process.stderr.splitlines()
    assert "\x1b" not in process.stderr + process.stdout
    for line in lines:
        assert re.match(r"[\w-]+: \w", line), line
    for name in (f"{PLAIN}-scratch", f"{PLAIN}-concise", "reference"):
        assert any(line.startswith(f"{name}: training, epoch 1/2") for line in lines)
        assert f"{name}: done" in lines


def test_progress_is_a_bar_on_a_terminal(cache, tmp_path):
    ours, theirs = pty.openpty()

    def take_terminal():
        os.dup2(theirs, 2)

    with start([PLAIN, *SMALL, "--out", tmp_path / "out"], cache, take_terminal) as process:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
        process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    text = seen.decode()
    assert "\x1b[" in text
    assert "━" in text
    assert f"{PLAIN}-concise" in text
    assert "epoch 2/2" in text


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_quiet_prints_the_report_only(cache, tmp_path):
    out = tmp_path / "out"
    arguments = [PLAIN, *SMALL, "--quiet", "--implementation", "concise", "--dtype", "float64"]
    process = run([*COMPARE, *arguments, "--out", out], cache)
    assert process.returncode == 0
    assert process.stderr == ""
    (row,) = Report.load(out).runs
    assert row["implementation"] == "concise"
    assert row["loss_error"] < 1e-14


# Other ways to run it


def test_from_python(cache, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    options = {"data": "synthetic:300x8x3", "max_epochs": 2, "implementations": ["scratch"]}
    report = compare([PLAIN], **options, out=tmp_path / "out")
    assert isinstance(report, Report)
    assert report.verdict == "agree"
    assert report.facts == Report.load(tmp_path / "out").facts
    assert report.folder == tmp_path / "out"
    said = capfd.readouterr()
    assert said.out == said.err == ""
    with pytest.raises(fetch.ParityError, match="--overwrite"):
        compare([PLAIN], **options, out=tmp_path / "out")
    assert not processes(str(tmp_path))


def test_overwrite_replaces_the_report_and_nothing_else(finished, cache, tmp_path):
    out = shutil.copytree(finished[1], tmp_path / "out")
    words = [*COMPARE, PLAIN, *SMALL, "--quiet", "--implementation", "scratch", "--out", out]
    before = (out / REPORT).read_bytes()
    (out / "notes.txt").write_text("mine")
    check_complaint(run(words, cache), "--overwrite")
    assert (out / REPORT).read_bytes() == before
    assert run([*words, "--overwrite", "--seed", "5"], cache).returncode == 0
    assert Report.load(out).facts["recipe"]["seed"] == 5
    assert not (out / "runs" / f"{PLAIN}-concise").exists()
    assert (out / "notes.txt").read_text() == "mine"


def test_without_out_each_comparison_has_a_folder_of_its_own(cache, tmp_path):
    (tmp_path / "results" / "earlier").mkdir(parents=True)
    words = [*COMPARE, PLAIN, *SMALL, "--quiet", "--implementation", "scratch"]
    process = run(words, cache, cwd=tmp_path)
    assert process.returncode == 0
    assert os.listdir(tmp_path) == ["results"]
    (folder,) = set(os.listdir(tmp_path / "results")) - {"earlier"}
    assert (tmp_path / "results" / folder / REPORT).exists()
    assert f"results/{folder}/{REPORT}" in process.stdout
    assert not os.listdir(tmp_path / "results" / "earlier")


@pytest.mark.parametrize("name", ["own", "caf\udce9"], ids=["text", "bytes"])
def test_own_data(cache, tmp_path, name):
    """A file's name is bytes, which need not be UTF-8."""
    random = np.random.default_rng(0)
    y = np.arange(60, dtype=np.uint8) % 2
    X = random.integers(0, 100, (60, 3, 3), dtype=np.uint8) + 100 * y[:, None, None]
    arrays = {"X_train": X[:40], "y_train": y[:40], "X_val": X[40:], "y_val": y[40:]}
    np.savez(tmp_path / f"{name}.npz", **arrays)
    out = tmp_path / f"{name}-out"
    python = program(tmp_path / f"{name}-python", f'exec {sys.executable} "$@"')
    words = [*COMPARE, PLAIN, "--data", f"{name}.npz", "--batch-size", "8", "--out", out]
    words += ["--python", f"{PLAIN}={python}", "--markdown", "m.md", "--csv", "c", "--junit", "j"]
    process = run(words, cache, cwd=tmp_path)
    assert process.returncode == 0, process.stderr + process.stdout
    report = Report.load(out)
    facts = report.facts
    assert facts["data"]["name"] == name
    assert facts["data"]["source"] == f"{name}.npz"
    shown = name.encode(errors="replace").decode()
    assert f"{shown}.npz" in (out / "report.html").read_text()
    assert f"{shown}: 40 training" in process.stdout
    assert f"{shown}-out/{REPORT} and report.html written" in process.stdout
    assert "report.html</a>" in report._repr_html_().encode().decode()
    assert facts["data"]["num_inputs"] == 9
    assert facts["runs"][0]["val_accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "synthetic:1x1x1"),
        ("--data", "synthetic:5x2x1"),
        (*SMALL, "--lr", "0", "--batch-size", "2147483647", "--jobs", "1000"),
        (*SMALL, "--sigma", "1000"),
        (*SMALL, "--lr", "1e30"),
    ],
    ids=" ".join,
)
def test_extremes_are_judged_or_refused_in_one_line(cache, tmp_path, arguments):
    out = tmp_path / "out"
    process = run([*COMPARE, PLAIN, *arguments, "--quiet", "--out", out], cache)
    assert "Traceback" not in process.stderr
    if process.returncode == 2:
        check_complaint(process)
        return
    report = Report.load(out)
    assert process.returncode == report.exit_status()
    for row in report.runs:
        assert (row["grade"] == "rounding") == (row["reason"] is None)
    assert process.stderr == ""


def test_a_terminal_without_the_signs(cache, tmp_path):
    words = [*COMPARE, PLAIN, *SMALL, "--implementation", "scratch", "--out", tmp_path / "out"]
    process = run(words, cache, PYTHONIOENCODING="ascii")
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("what", ["show", "list", "setup"])
def test_a_reader_of_what_is_there_may_leave_early(finished, cache, what):
    show, setup = ["show", finished[1]], ["setup", PLAIN, "--data", "digits", "--quiet"]
    with start({"show": show, "list": ["list"], "setup": setup}[what], cache) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")


def test_a_reader_who_leaves_early_changes_nothing(cache, tmp_path):
    out = tmp_path / "out"
    arguments = [PLAIN, *SMALL, "--implementation", "scratch", "--quiet", "--out", out]
    with start(arguments, cache) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert errors == ""
    assert Report.load(out).verdict == "agree"


# Help, list, setup


def test_help_names_every_option(cache):
    process = run([*COMPARE, "--help"], cache)
    assert process.returncode == 0
    assert process.stderr == ""
    renamed = {"implementations": "implementation", "pythons": "python", "backends": None}
    options = {renamed.get(name, name) for name in inspect.signature(compare).parameters}
    options = options - {None} | {"fail_on", "junit", "markdown", "csv", "help"}
    named = set(re.findall(r"--[a-z][a-z-]*", process.stdout))
    assert {f"--{name.replace('_', '-')}" for name in options} <= named
    for line in process.stdout.splitlines():
        assert len(line) <= 80


def test_list(cache):
    plain, as_json = (run([*COMPARE, "list", *more], cache) for more in ([], ["--json"]))
    assert plain.returncode == as_json.returncode == 0
    assert plain.stderr == as_json.stderr == ""
    rows = json.loads(as_json.stdout)["backends"]
    found = BACKENDS | EXTERNAL
    assert [row["name"] for row in rows] == sorted(found)
    lines = plain.stdout.splitlines()
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert row["implementations"] == list(found[row["name"]].implementations)
        assert row["version"] == found[row["name"]].pinned_version
        assert line.split()[:2] == [row["name"], row["version"]]
        assert row["name"] != PLAIN or row["python"] == sys.executable
        assert row["name"] == PLAIN or row["python"] is None  # listing builds nothing
        assert (row["python"] or "compare.py setup") in line
    assert not (cache / "environments").exists()


def test_setup_of_a_backend_that_needs_nothing(cache, tmp_path):
    process = run([*COMPARE, "setup", PLAIN, "--data", "synthetic:9x2x2"], cache, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    data, environment = process.stdout.splitlines()
    assert "synthetic:9x2x2" in data
    assert sys.executable in environment
    assert not os.listdir(tmp_path)


def test_setup_that_fails_says_so(cache, tmp_path):
    missing = f"{FRAMEWORKS[0]}={tmp_path / 'python'}"
    words = [*COMPARE, "setup", FRAMEWORKS[0], "--data", "synthetic", "--python", missing]
    process = run(words, cache)
    assert process.returncode == 3
    assert str(tmp_path / "python") in process.stdout


# Poor surroundings


def no_network(tmp_path, *arguments):
    """The command line where no socket connects, in the workers neither if the system can."""
    isolated = ["unshare", "--map-root-user", "--net"]
    able = shutil.which("unshare") and not run([*isolated, "true"], tmp_path).returncode
    patched = [sys.executable, "-c", PATCHED, ROOT, tmp_path / "no-such-folder"]
    return [*(isolated if able else []), *patched, *arguments]


def test_no_network_is_needed(cache, tmp_path):
    words = no_network(tmp_path, PLAIN, *SMALL, "--quiet", "--out", tmp_path / "out")
    process = run(words, cache)
    assert process.returncode == 0, process.stderr
    assert Report.load(tmp_path / "out").verdict == "agree"


def test_digits_stand_in_and_the_report_says_so(tmp_path):
    """No cache, no package of the system, no apt-get, no network, and no data set was named."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if unshare := shutil.which("unshare"):
        (programs / "unshare").symlink_to(unshare)
    out = tmp_path / "out"
    words = no_network(tmp_path, PLAIN, "--max-epochs", "1", "--out", out)
    process = run(words, tmp_path / "empty", PATH=str(programs))
    assert process.returncode == 0, process.stderr
    report = Report.load(out)
    assert report.facts["data"]["name"] == "digits"
    (notice,) = report.facts["notices"]
    assert "digits" in notice
    assert "fashion-mnist" in notice
    assert "no network in this test" in notice
    assert "apt-get" in notice
    first = process.stdout.partition("digits: ")[0]
    assert " ".join(first.split()) == " ".join(f"Note: {notice}".split())

    named = [PLAIN, "--data", "fashion-mnist", "--quiet", "--out", tmp_path / "other"]
    named = no_network(tmp_path, *named)
    check_complaint(run(named, tmp_path / "empty", PATH=str(programs)), "fashion-mnist")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("room", [100, 1000, 8000])
def test_a_disk_that_fills_up(cache, tmp_path, room):
    """Files cannot grow beyond some size: of the plan, the reference, the report."""
    stored = run([*COMPARE, "setup", PLAIN, *SMALL[:2]], cache)
    assert stored.returncode == 0, stored.stderr
    out = tmp_path / "out"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    with start([PLAIN, *SMALL, "--quiet", "--out", out], cache, limit) as process:
        output, errors = process.communicate(timeout=60)
    assert not processes(str(out))
    process.stdout, process.stderr = output, errors
    if process.returncode == 2:
        check_complaint(process, "too large")
        assert not (out / REPORT).exists()
        assert room < 10_000
        return
    # The records are the largest files: they may fail alone.
    assert errors == ""
    report = Report.load(out)
    assert process.returncode == report.exit_status() == 3
    for row in report.runs:
        assert row["status"] == "done" or "too large" in row["reason"]


@pytest.mark.parametrize("size", ["8k", "40k"])
def test_a_small_file_system_that_fills_up(cache, tmp_path, size):
    """Where the system lets its users mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={size} none {disk} && exec "$@"'
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or run([*isolated, "true"], cache).returncode:
        return  # the limit on files, above, is what is left to try here
    words = [*isolated, *COMPARE, PLAIN, *SMALL, "--quiet", "--out", disk / "out"]
    check_complaint(run(words, cache), disk / "out" if size == "8k" else "disk is full")


# A new backend


def test_a_fifth_framework_is_one_new_folder(cache, tmp_path):
    """A copy of the plain backend that calls itself after a library that is there."""
    name = "filelock"
    pin = next(line for line in (ROOT / ".ci/constraints.txt").read_text().split() if name in line)
    copy_code(tmp_path, [*BACKENDS, *EXTERNAL])
    folder = tmp_path / "backends" / name
    shutil.copytree(tmp_path / "backends" / PLAIN, folder)
    for path in folder.glob("*.py"):
        text = path.read_text().replace(
            f"framework_parity.backends.{PLAIN}", f"framework_parity.backends.{name}"
        )
        named = f'return {{"{name}": "{pin.partition("==")[2]}", '
        path.write_text(text.replace('return {"numpy": np', f'{named}"numpy": np'))
    requirements = (folder / "requirements.txt").read_text()
    (folder / "requirements.txt").write_text(f"{pin}\n{requirements}")

    command = [sys.executable, "-W", "error", tmp_path / "compare.py"]
    listed = json.loads(run([*command, "list", "--json"], cache).stdout)["backends"]
    (row,) = (row for row in listed if row["name"] == name)
    assert row == {
        "name": name,
        "implementations": ["scratch", "concise"],
        "version": pin.partition("==")[2],
        "python": sys.executable,
    }
    # It belongs to the default comparison, where nothing else can be had.
    others = [word for other in DEFAULT for word in ("--python", f"{other}=/dev/null")]
    process = run([*command, *SMALL, "--quiet", *others, "--out", tmp_path / "out"], cache)
    assert process.returncode == 3, process.stderr
    rows = Report.load(tmp_path / "out").runs
    assert {row["backend"] for row in rows} == {name, *DEFAULT}
    for row in rows:
        ours = row["backend"] == name
        assert row["status"] == ("done" if ours else "unavailable"), row["reason"]
        assert row["grade"] == ("rounding" if ours else None)


def test_a_folder_that_is_no_backend_is_one_line(monkeypatch, capsys):
    def refuse(**_):
        raise ParityError("new/requirements.txt", "a pin", "none", "add one")

    monkeypatch.setattr("framework_parity.common.commands.list.discover", refuse)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["list"]) == 2
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "compare.py: new/requirements.txt: expected a pin; received none; add one"
    ]
    assert shown.out == ""
