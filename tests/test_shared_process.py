"""One process trains all implementations of a backend: what one of them suffers is its own."""

import io
import shlex
import sys

import pytest
from rich.console import Console

from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report
from framework_parity.common.training.record import Record
from framework_parity.common.worker.request import Request
from tests.helpers import COMPARE, PLAIN, SMALL, check_complaint, interpreter, program, run

TIMING = ("seconds", "peak_rss_bytes", "earlier_in_process")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


# The launcher

SPEAKER = """
import itertools, json, os, sys, time
for path in itertools.chain(sys.argv[-1:], map(json.loads, sys.stdin)):
    with open(path) as file:
        word = json.load(file)["word"]
    print(json.dumps({"event": "began", "word": word}), flush=True)
    if word == "die":
        print("dying", file=sys.stderr, flush=True)
        os.kill(os.getpid(), 9)
    time.sleep(0.6 if word == "slow" else 60 if word == "hang" else 0)
    if word == "exit":
        sys.exit(4)
    if word == "rubbish":
        print(json.dumps({"event": "done"}), flush=True)
        sys.exit(4)
    print(json.dumps({"event": "done", "request": path}), flush=True)
"""


def launch(tmp_path, words, **options):
    """Run a job per word in one process; outcomes by word, and what was told."""
    (tmp_path / "speaker.py").write_text(SPEAKER)
    speak = shlex.join(["exec", sys.executable, str(tmp_path / "speaker.py")])
    speaker, told = Environment("any", program(tmp_path / "python", f'{speak} "$@"')), []
    jobs = [
        Job(
            name, speaker, Request("any", tmp_path / name, tmp_path / f"{name}.log", {"word": word})
        )
        for name, word in ((f"{i}-{word}", word) for i, word in enumerate(words))
    ]

    def tell(name, facts):
        told.append((name, facts["event"], facts.get("word")))

    options = {"slots": 1, "threads": 1, "timeout": 30.0} | options
    return run_jobs([jobs], tell=tell, **options), told


def test_each_job_has_its_outcome_and_its_progress(tmp_path):
    outcomes, told = launch(tmp_path, ["a", "b", "c"])
    assert [outcome.status for outcome in outcomes.values()] == ["done"] * 3
    assert told == [
        line
        for name, word in (("0-a", "a"), ("1-b", "b"), ("2-c", "c"))
        for line in ((name, "began", word), (name, "done", None))
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("word", "reason"), [("die", "killed by SIGKILL"), ("exit", "ended with exit status 4")]
)
def test_a_job_that_fails_takes_no_other_with_it(tmp_path, word, reason, place):
    words = ["a", "b"]
    words.insert(place, word)
    outcomes, told = launch(tmp_path, words)
    # It is the others that count: those before are done, those after run in a new process.
    assert {name for name, outcome in outcomes.items() if outcome.status == "done"} == {
        f"{i}-{other}" for i, other in enumerate(words) if other != word
    }
    outcome = outcomes[f"{place}-{word}"]
    assert outcome.status == "failed"
    assert outcome.reason.startswith(reason)
    assert [event for name, event, _ in told if name == f"{place}-{word}"] == ["began", "failed"]
    assert len(told) == 6


def test_each_job_has_its_own_time(tmp_path):
    outcomes, _ = launch(tmp_path, ["slow", "slow", "hang", "slow"], timeout=1.1)
    assert [outcome.status for outcome in outcomes.values()] == ["done", "done", "timeout", "done"]
    assert "still running after 1.1 s" in outcomes["2-hang"].reason


def test_to_say_done_of_no_request_is_not_to_have_done_it(tmp_path):
    outcomes, _ = launch(tmp_path, ["rubbish", "a"])
    assert [outcome.status for outcome in outcomes.values()] == ["failed", "done"]


# The worker


@pytest.fixture(scope="module")
def sound(tmp_path_factory, cache):
    """A small comparison of the plain backend in which nothing happens."""
    out = tmp_path_factory.mktemp("sound") / "out"
    process = run([*COMPARE, PLAIN, *SMALL, "--quiet", "--out", out], cache)
    assert process.returncode == 0, process.stderr
    return out


@pytest.mark.parametrize("implementation", ["scratch", "concise"])
@pytest.mark.parametrize(
    ("deed", "status", "reason"),
    [
        ("kill", "failed", "killed by SIGKILL"),
        ("fail", "failed", "a deed of sabotage"),
        ("hang", "timeout", "still running"),
        ("leave", "failed", "no record"),
    ],
)
def test_a_run_that_comes_to_grief_leaves_the_other(
    cache, sound, tmp_path, deed, status, reason, implementation
):
    real = shlex.quote(sys.executable)
    script = f'exec {real} -m tests.sabotage {deed} {implementation} "$@"'
    python = interpreter(tmp_path / "python", "*framework_parity.common.worker*", script)
    words = ["--python", f"{PLAIN}={python}", "--timeout", "5", "--out", tmp_path / "out"]
    process = run([*COMPARE, PLAIN, *SMALL, *words], cache)
    assert process.returncode == 3, process.stderr
    for row in Report.load(tmp_path / "out").runs:
        name = f"{PLAIN}-{row['implementation']}"
        if row["implementation"] == implementation:
            assert row["status"] == status, row["reason"]
            assert reason in row["reason"]
            assert deed in ("leave", "fail") or "last words" in row["reason"]
            log = tmp_path / "out" / "runs" / f"{name}.log"
            assert "last words" in log.read_text()
            continue
        assert (row["status"], row["grade"]) == ("done", "rounding"), row["reason"]
        assert f"{name}: done" in process.stderr.splitlines()
        check_same(tmp_path / "out", sound, name)


def check_same(out, other, name):
    """Bit for bit the same training."""
    record, same = (Record.load(folder / "runs" / name) for folder in (out, other))
    assert set(record.arrays) == set(same.arrays)
    for key, array in record.arrays.items():
        assert array.tobytes() == same.arrays[key].tobytes(), key
    assert {k: v for k, v in record.facts.items() if k not in TIMING} == {
        k: v for k, v in same.facts.items() if k not in TIMING
    }


def test_what_shared_a_process_is_on_record(cache, sound, tmp_path):
    words = [*COMPARE, "benchmark", PLAIN, *SMALL, "--quiet", "--out", tmp_path / "out"]
    process = run(words, cache)
    assert process.returncode == 0, process.stderr
    shared, alone = (Report.load(folder) for folder in (sound, tmp_path / "out"))
    assert [row["earlier_in_process"] for row in shared.runs] == [[], ["scratch"]]
    assert [row["earlier_in_process"] for row in alone.runs] == [[], []]
    assert shared.runs[0]["seconds"]["import"] == shared.runs[1]["seconds"]["import"]
    assert not shared.facts["settings"]["benchmark"]
    assert alone.facts["settings"]["benchmark"]
    assert alone.facts["settings"]["jobs"] == 1
    assert "compare.py benchmark" not in process.stdout
    again = io.StringIO()
    print_report(shared, Console(file=again))
    assert "compare.py benchmark" in again.getvalue()
    for row in shared.runs:
        check_same(sound, tmp_path / "out", f"{PLAIN}-{row['implementation']}")


def test_repeats_have_a_process_each(cache, tmp_path):
    words = [*COMPARE, PLAIN, *SMALL, "--quiet", "--repeat", "2", "--out", tmp_path / "out"]
    process = run(words, cache)
    assert process.returncode == 0, process.stderr
    for row in Report.load(tmp_path / "out").runs:
        assert row["repeats"]["identical"]
        for name in (row["implementation"], f"{row['implementation']}-2"):
            facts = Record.load(tmp_path / "out" / "runs" / f"{PLAIN}-{name}").facts
            assert facts["earlier_in_process"] == row["earlier_in_process"]


def test_alone_means_one_at_a_time(cache, tmp_path):
    words = [*COMPARE, "benchmark", PLAIN, "--jobs", "2", "--out", tmp_path / "out"]
    check_complaint(run(words, cache), "--jobs", "compare.py benchmark --help")
