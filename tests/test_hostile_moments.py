"""Signals at every moment, streams that cannot be written, processes that run away: none is left.

Every run ends with 0, 1, 2, 3 or 130, and says in one line why.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from framework_parity.common.core.programs import MARK, run_to_end, started_by
from framework_parity.common.execution import process as processes
from framework_parity.common.execution.process import OwnProcess, cut_log, log_tail
from framework_parity.common.report.report import Report
from tests.helpers import (
    COMPARE,
    FRAMEWORKS,
    PLAIN,
    SMALL,
    alive,
    heed_interrupts,
    interpreter,
    user_environment,
    wait_until,
)

WORKER = "*framework_parity.common.worker*"
REAL = shlex.quote(sys.executable)
STATUSES = {0, 1, 2, 3, 130}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def begin(cache):
    """A function that starts ``compare.py``; all that it starts must have ended in five seconds."""
    mark = uuid.uuid4().hex

    def start(*words, streams=None, closed="", **changes):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | (streams or {})
        return subprocess.Popen(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *COMPARE, *map(str, words)],
            env=user_environment(cache, **{MARK: mark}, **changes),
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=heed_interrupts,
            **pipes,
        )

    yield start
    deadline = time.monotonic() + 5
    while left := started_by(0, mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


# Signals and moments


def imports(begin, folder):
    """While the program is still imported: when it has begun to heed signals, no sooner."""
    process = begin(PLAIN, *SMALL, "--quiet", "--out", folder / "out")

    def heeds():
        line = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2]
        return int(line.split()[0], 16) >> signal.SIGTERM - 1 & 1

    wait_until(heeds)
    return process


def noted(folder, pattern):
    """An interpreter that notes that it was called so, and then hangs."""
    note = f"echo > {shlex.quote(str(folder / 'called'))}; exec sleep 600"
    return f"{PLAIN}={interpreter(folder / 'python', pattern, note)}"


def environments(begin, folder):
    words = ("--python", noted(folder, "*"), "--quiet", "--out", folder / "out")
    process = begin(PLAIN, *SMALL, *words)
    wait_until((folder / "called").exists)
    return process


def training(begin, folder):
    words = ("--python", noted(folder, WORKER), "--quiet", "--out", folder / "out")
    process = begin(PLAIN, *SMALL, *words)
    wait_until((folder / "called").exists)
    return process


def pip(begin, folder):
    """While pip waits for an index that does not answer."""
    index = socket.create_server(("127.0.0.1", 0))
    index.settimeout(60)
    address = f"http://127.0.0.1:{index.getsockname()[1]}/"
    process = begin(
        "bisect",
        f"{FRAMEWORKS[0]}>=0.1,<=9999",
        "--quiet",
        "--out",
        folder / "o",
        PIP_INDEX_URL=address,
    )
    index.accept()[0].detach()
    index.close()
    return process


MOMENTS = (imports, environments, training, pip)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signals", [("SIGHUP",), ("SIGINT", "SIGINT", "SIGTERM")])
def test_a_signal_ends_it_with_one_line(begin, tmp_path, moment, signals):
    with moment(begin, tmp_path) as process:
        for name in signals:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(getattr(signal, name))
            time.sleep(0.02)
        out, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert out == ""
    (line,) = said.splitlines()
    assert line.startswith("compare.py: interrupted")


# Streams

STREAMS = {
    "closed": lambda: None,
    "full": lambda: os.open("/dev/full", os.O_WRONLY),
    "left": lambda: left(),
}


def left():
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def with_streams(begin, words, **kinds):
    """Run it to its end with streams of these kinds; its status, and what the others say."""
    opened = {name: STREAMS[kind]() for name, kind in kinds.items()}
    closed = " ".join(f"{1 + (n == 'stderr')}>&-" for n, file in opened.items() if file is None)
    given = {name: file for name, file in opened.items() if file is not None}
    process = begin(*words, streams=given, closed=closed)
    said = process.communicate(timeout=100)
    for file in given.values():
        os.close(file)
    return process.returncode, *said


@pytest.mark.parametrize("kind", STREAMS)
def test_a_list_that_cannot_be_printed_is_one_line(begin, kind):
    status, _, said = with_streams(begin, ["list"], stdout=kind)
    assert status == (0 if kind == "left" else 3)
    assert len(said.splitlines()) == (0 if kind == "left" else 1), said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", STREAMS)
def test_a_complaint_that_cannot_be_printed_has_its_status(begin, kind):
    assert with_streams(begin, ["nonsense"], stderr=kind)[0] == 2


@pytest.mark.parametrize("kinds", [("closed", "closed"), ("left", "full")])
def test_what_was_done_is_kept_where_nothing_can_be_printed(begin, tmp_path, kinds):
    out = tmp_path / "out"
    words = [PLAIN, *SMALL, "--out", out]
    status = with_streams(begin, words, stdout=kinds[0], stderr=kinds[1])[0]
    assert status == 0
    assert Report.load(out).verdict == "agree"


# Processes that run away

RUNAWAYS = {
    "twice removed": "(setsid sh -c 'sleep 600 & sleep 600' &) ; setsid sleep 600 & ",
    "without a mark": "env -i setsid sleep 600 & ",
}


@pytest.mark.parametrize("kind", RUNAWAYS)
def test_what_a_worker_started_ends_with_it(begin, tmp_path, kind):
    """Though it has a session of its own, and holds the pipes of its parent, which is gone."""
    script = f'{RUNAWAYS[kind]}exec {REAL} "$@"'
    name = f"600{os.getpid()}"  # of seconds: by it those without a mark are found
    python = interpreter(tmp_path / "python", WORKER, script.replace("600", name))
    words = ("--python", f"{PLAIN}={python}", "--out", tmp_path / "out", "--timeout", "60")
    with begin(PLAIN, *SMALL, *words) as process:
        _, said = process.communicate(timeout=50)
    assert process.returncode == 0, said
    from tests.helpers import processes as named

    wait_until(lambda: not named(name))


FIFOS = r"""for last; do :; done; out="$(sed -n 's/^ "record": "\(.*\)",$/\1/p' "$last")"
mkdir "$out"; mkfifo "$out/record.json" "$out/arrays.npz"; rm "$out.log"; mkfifo "$out.log"
exit 0"""


def test_pipes_where_files_should_be_hold_nobody(begin, tmp_path):
    """The record's files, and the log."""
    python = interpreter(tmp_path / "python", f"{WORKER}-scratch.request.json", FIFOS)
    out = tmp_path / "out"
    words = ("--quiet", "--timeout", "60", "--python", f"{PLAIN}={python}", "--out", out)
    with begin("benchmark", PLAIN, *SMALL, *words) as process:
        process.communicate(timeout=50)
    assert process.returncode == 3
    first, second = Report.load(out).runs
    assert first["status"] == "failed"
    assert "bad record" in first["reason"]
    assert "a pipe, not a regular file" in first["reason"]
    assert log_tail(out / "runs" / f"{PLAIN}-scratch.log") == ""
    assert second["grade"] == "rounding"


def test_a_time_limit_ends_what_runs_away(tmp_path):
    """Pipes included: its own process is gone, and the one that holds them is not in its group."""
    process = OwnProcess(["sh", "-c", "setsid sleep 600 & exit 3"], tmp_path / "log", {}, None)
    started = time.monotonic()
    assert list(filter(None, process.progress(tmp_path / "request"))) == []
    assert process.failure() == ("ended with exit status 3", False)
    process.close()
    assert time.monotonic() - started < 10


def test_what_was_there_before_is_left_alone(begin, tmp_path):
    """A shell's background process is a child of what the shell becomes."""
    words = [*COMPARE, "nonsense"]
    script = 'sleep 600 >/dev/null 2>&1 & echo $! > "$0"; exec "$@"'
    subprocess.run(["sh", "-c", script, tmp_path / "pid", *words], capture_output=True)
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_program_ends_though_what_it_started_holds_its_pipes():
    started = time.monotonic()
    found = run_to_end(["sh", "-c", "setsid sleep 600 & echo done"], 60)
    assert found.stdout == b"done\n"
    assert time.monotonic() - started < 10


def test_a_line_without_an_end_is_not_kept(tmp_path):
    script = "import sys; sys.stdout.write('x' * 10**7 + '\\n{}\\n')"
    process = OwnProcess([sys.executable, "-c", script], tmp_path / "log", {}, None)
    assert list(filter(None, process.progress(tmp_path / "request"))) == ["{}\n"]
    process.close()


def test_whoever_says_more_than_is_heard_is_ended_all_the_same(tmp_path):
    process = OwnProcess(["sh", "-c", "yes"], tmp_path / "log", {}, None)
    alarm = threading.Timer(1, process.end)
    alarm.start()
    lines = process.progress(tmp_path / "request")
    assert next(lines) == "y\n"
    alarm.join()
    process.close()
    assert not started_by(process._process.pid)


def test_of_a_log_that_is_too_long_both_ends_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "MOST_LOG_BYTES", 10_000)
    monkeypatch.setattr(processes, "LOG_PART_BYTES", 1000)
    log = tmp_path / "log"
    with log.open("ab") as file:
        for number in range(5):
            file.write(b"first" * (not number) + b"x" * 20_000 + b"last %d" % number)
            file.flush()
            cut_log(log)
            content = log.read_bytes()
            assert len(content) < 2200
            assert content.startswith(b"first")
            assert content.endswith(b"last %d" % number)
    assert b"left out" in content
