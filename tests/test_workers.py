"""Whatever happens to a worker is a row of the report; whatever happens to the runner ends it."""

import os
import shlex
import shutil
import signal
import sys

import pytest

from framework_parity.common.execution.process import OwnProcess, log_tail
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record
from tests.helpers import (
    COMPARE,
    FRAMEWORKS,
    PLAIN,
    REPORT,
    SMALL,
    alive,
    interpreter,
    processes,
    program,
    run,
    start,
    wait_until,
)

WORKER = "*framework_parity.common.worker*"
REAL = shlex.quote(sys.executable)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


# One comparison in which nearly everything goes wrong

MISHAPS = {
    "killed": ("echo last words >&2; kill -9 $$", "failed", ("SIGKILL", "last words")),
    "hung": ("echo thinking >&2; exec sleep 600", "timeout", ("still running", "thinking")),
    "import": (
        f"exec {REAL} -c \"raise ImportError('libmissing.so.9')\"",
        "failed",
        ("exit status 1", "ImportError", "libmissing.so.9"),
    ),
    "silent": ("exit 0", "failed", ("bad record", "no record")),
    "rubbish": (
        f'exec {REAL} -m tests.damage rubbish {PLAIN} "$@"',
        "failed",
        ("bad record", "unreadable"),
    ),
    "other plan": (
        f'exec {REAL} -m tests.damage other_plan {PLAIN} "$@"',
        "failed",
        ("bad record", "another plan"),
    ),
    "not finite": (
        f'exec {REAL} -m tests.damage not_finite {PLAIN} "$@"',
        "failed",
        ("bad record", "parameters/W", "not finite"),
    ),
}
NOISE = (
    r"printf 'not json\n[]\n{}\n7\n{\"event\": 5}\n{\"event\": \"training\", \"loss\": \"low\"}\n"
    r"{\"event\": \"training\", \"epoch\": 1}\n\377\376\n\n'; "
    f"""{REAL} -c 'print("[" * 100000)'; printf 'Kept Alive\\n' >&2; exec {REAL} "$@" """
)


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
    """Every framework's interpreter is a script: one prints no version, the others mishaps.

    The plain backend's own worker talks rubbish, but works.
    """
    folder = tmp_path_factory.mktemp("mishaps")
    unavailable, *others = FRAMEWORKS
    expected = {(PLAIN, "scratch"): None, (PLAIN, "concise"): None}
    arguments = []

    def named(backend, script):
        arguments.extend(("--python", f"{backend}={script}"))

    missing = ("unavailable", ("No module named", "libmissing"))
    for implementation in ("scratch", "concise"):
        expected[unavailable, implementation] = missing
    named(unavailable, program(folder / "none", "echo No module named libmissing >&2; exit 1"))
    named(PLAIN, interpreter(folder / "noise", f"{WORKER}-concise.request.json", NOISE))
    waiting = dict(MISHAPS)
    for backend in others:
        lines = ['case "$*" in']
        for implementation in ("scratch", "concise"):
            name = next(iter(waiting), "silent")
            script, *expected[backend, implementation] = waiting.pop(name, MISHAPS["silent"])
            lines.append(f"{WORKER}-{implementation}.request.json) {script} ;;")
        lines += ["*) echo version 0.0.0 ;;", "esac"]
        named(backend, program(folder / backend, "\n".join(lines)))
    out = folder / "out"
    names = [PLAIN, *FRAMEWORKS]
    # Each run in a process of its own: here it is the process that comes to grief.
    words = [*arguments, "--timeout", "6", "--out", out]
    process = run([*COMPARE, "benchmark", *names, *SMALL, *words], folder / "cache")
    return process, expected, waiting, out


def test_the_comparison_is_incomplete(mishaps):
    process, expected, _, out = mishaps
    assert process.returncode == 3, process.stderr
    assert "Traceback" not in process.stderr
    report = Report.load(out)
    assert report.verdict == "incomplete"
    assert {(row["backend"], row["implementation"]) for row in report.runs} == set(expected)
    assert process.stdout.splitlines()[-2].startswith("incomplete: ")


def test_every_mishap_has_its_row_and_its_reason(mishaps):
    process, expected, waiting, out = mishaps
    rows = {(row["backend"], row["implementation"]): row for row in Report.load(out).runs}
    for key, mishap in expected.items():
        if mishap is None:
            continue
        status, parts = mishap
        row = rows[key]
        assert row["status"] == status, (key, row["reason"])
        assert row["grade"] is None
        for part in parts:
            assert part in row["reason"], key
        assert row["reason"] in process.stdout
    # Of four frameworks, one has no interpreter: that leaves room for six.
    assert set(waiting) <= {"not finite"}


def test_the_other_rows_are_complete(mishaps):
    process, expected, _, out = mishaps
    sound = [key for key, mishap in expected.items() if mishap is None]
    rows = {(row["backend"], row["implementation"]): row for row in Report.load(out).runs}
    for key in sound:
        assert rows[key]["status"] == "done", rows[key]["reason"]
        assert rows[key]["grade"] == "rounding"
        assert len(rows[key]["val_loss"]) == 2
    assert {frozenset(row) for row in rows.values()} == {frozenset(rows[sound[0]])}
    assert "not json" not in process.stderr
    assert "Kept Alive" in (out / "runs" / f"{PLAIN}-concise.log").read_text()


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (40, "signal 40"), (signal.SIGKILL, "memory")]
)
def test_signals_are_named_if_they_have_names(tmp_path, number, name):
    process = OwnProcess(["sh", "-c", f"kill -{int(number)} $$"], tmp_path / "log", {}, None)
    reason, killed = process.failure()
    process.close()
    assert killed
    assert name in reason


# Interrupts


def hanging(folder):
    """An interpreter whose worker hangs when it comes to ``concise``."""
    script = f'exec {REAL} -m tests.sabotage hang concise "$@"'
    return interpreter(folder / "python", WORKER, script)


def number(path):
    text = path.read_text() if path.exists() else ""
    return int(text) if text.endswith("\n") else None


@pytest.mark.parametrize(
    ("name", "to_group"), [("SIGINT", True), ("SIGINT", False), ("SIGTERM", False)]
)
def test_interrupted_while_training(tmp_path, cache, name, to_group):
    out = tmp_path / "out"
    python = f"{PLAIN}={hanging(tmp_path)}"
    with start([PLAIN, *SMALL, "--jobs", "2", "--python", python, "--out", out], cache) as process:
        finished, pid = out / "runs" / f"{PLAIN}-scratch", out / "runs" / "pid"
        wait_until(lambda: finished.exists() and number(pid))
        (os.killpg if to_group else os.kill)(process.pid, getattr(signal, name))
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("compare.py: interrupted")
    assert not alive(number(pid))
    assert not processes(str(out))
    assert Record.load(finished).facts["implementation"] == "scratch"
    assert not (out / REPORT).exists()
    if to_group:  # what an interrupted comparison left is no obstacle to the next
        again = run([*COMPARE, PLAIN, *SMALL, "--quiet", "--out", out], cache)
        assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("instead", [False, True])
def test_interrupted_while_looking_for_environments(tmp_path, cache, instead):
    note = f"echo $$ > {shlex.quote(str(tmp_path / 'pid'))}; exec sleep 600"
    python = interpreter(tmp_path / "python", "*", note)
    arguments = ["list"] if instead else [PLAIN, *SMALL, "--out", tmp_path / "out"]
    with start([*arguments, "--python", f"{PLAIN}={python}"], cache) as process:
        wait_until(lambda: number(tmp_path / "pid"))
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not alive(number(tmp_path / "pid"))


def test_workers_end_when_the_runner_is_killed(tmp_path, cache):
    out = tmp_path / "out"
    long = ("--data", "synthetic:20000x20x5", "--batch-size", "1", "--max-epochs", "100")
    with start([PLAIN, *long, "--jobs", "4", "--out", out], cache) as process:
        # The runner, a worker of the plain backend, the reference, two members of the ensemble.
        wait_until(lambda: len(processes(str(out))) == 5)
        process.kill()
        process.communicate(timeout=60)
    wait_until(lambda: not processes(str(out)))
    assert not (out / REPORT).exists()
    shutil.rmtree(out)


def test_a_reason_quotes_no_lines_of_mere_marks(tmp_path):
    (tmp_path / "log").write_text("Traceback\n    x = y.z\n        ^^^\n  \nValueError: no z\n")
    assert log_tail(tmp_path / "log") == "Traceback | x = y.z | ValueError: no z"
