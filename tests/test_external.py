"""External backends: found, set up, started, and judged like any other, whatever they do."""

import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from framework_parity.common.core.cache import CACHE_VARIABLE, cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.environments.external import (
    ExternalBackend,
    ExternalEnvironment,
    environment_folder,
)
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.execution.process import command
from framework_parity.common.judging.equivalence import LEAST_SEEDS
from framework_parity.common.reference.replay import Training
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record
from framework_parity.common.worker.request import Request
from tests.conftest import EXTERNAL
from tests.helpers import (
    COMPARE,
    PLAIN,
    SMALL,
    WAIT_SECONDS,
    copy_code,
    make_plan,
    program,
    run,
)

RELEASE = "1.0"
PRINTS_RELEASE = f"print('starting'); print({RELEASE!r})"


def toml(value):
    """A value of a command.toml; JSON's texts, lists and booleans are TOML's, too."""
    return json.dumps(value)


def external(folder, name="probe", setup=(), files=(), package=(), **entries):
    """A backend's folder with a command.toml; the program is this interpreter unless named."""
    facts = {
        "program": sys.executable,
        "arguments": ["{folder}/worker.py", "{record}"],
        "version": ["-c", PRINTS_RELEASE],
        "release": RELEASE,
        "implementations": ["concise"],
    } | entries
    lines = [f"{key} = {toml(value)}" for key, value in facts.items() if value is not None]
    lines += ["[setup]", f"files = {toml(list(files))}", f"commands = {toml(list(setup))}"]
    if package:
        requirement, programs = package
        lines += ["[package]", f"requirement = {toml(requirement)}", "[package.programs]"]
        lines += [f"{key} = {toml(words)}" for key, words in programs.items()]
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "command.toml").write_text("\n".join(lines))
    return folder


def found_in(folder, name="probe"):
    return discover(folder)[name]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


# Discovery


def test_a_folder_with_a_command_is_an_external_backend(tmp_path):
    external(tmp_path, "b", implementations=["scratch", "concise"])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "requirements.txt").write_text("a==1\n")
    found = discover(tmp_path)
    assert list(found) == ["a", "b"]
    assert [isinstance(backend, ExternalBackend) for backend in found.values()] == [False, True]
    assert found["b"].implementations == ("scratch", "concise")
    assert found["b"].pinned_version == RELEASE
    assert list(discover(tmp_path, external=False)) == ["a"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, False),
        ({"default": False}, False),
        ({"default": True}, True),
        ({"default": True, "program": "no-such-program"}, False),
        ({"default": True, "setup": [["true"], ["no-such-program", "install"]]}, False),
    ],
)
def test_the_default_comparison_has_those_that_ask_for_it_and_can_run(tmp_path, entries, expected):
    backend = found_in(external(tmp_path, **entries))
    assert backend.is_framework is expected
    assert choose((), {"probe": backend}) == [backend] * expected
    assert choose(["probe"], {"probe": backend}) == [backend]


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ({"program": None}, ("program",)),
        ({"program": 7}, ("program", "7")),
        ({"arguments": "worker.py"}, ("arguments", "list")),
        ({"arguments": ["{plan}", "{plna}"]}, ("{plan}", "{plna}")),
        ({"version": ["{plan}"]}, ("{folder}", "{plan}")),
        ({"implementations": ["sketch"]}, ("scratch, concise", "sketch")),
        ({"implementations": []}, ("scratch, concise", "none")),
        ({"default": "yes"}, ("default", "yes")),
        ({"timeout": 7}, ("timeout",)),
        ({"setup": ["npm install"]}, ("commands", "npm install")),
        ({"package": ("p==1", {"other": ["{package}/x"]})}, ("programs",)),
    ],
)
def test_a_command_that_cannot_be_used_is_one_clear_line(tmp_path, entries, parts):
    external(tmp_path, **entries)
    with pytest.raises(ParityError) as caught:
        discover(tmp_path)
    for part in ("command.toml: expected", "; received ", *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_toml_is_one_clear_line(tmp_path):
    (external(tmp_path) / "probe" / "command.toml").write_bytes(b"program = \xff")
    with pytest.raises(ParityError, match="expected a TOML file"):
        discover(tmp_path)


# Setting up


def test_what_is_set_up_is_kept_under_its_content(tmp_path, cache):
    note = "import pathlib; pathlib.Path('note').open('a').write('set up')"
    folder = external(tmp_path, files=["list.txt"], setup=[[sys.executable, "-c", note]])
    (folder / "probe" / "list.txt").write_text("one")
    told = []
    first = find_environment(found_in(folder), tell=told.append)
    assert first.python == Path(shutil.which(sys.executable)), first.reason
    assert first.version == RELEASE
    (place,) = (path for path in (cache / "environments").iterdir() if path.is_dir())
    assert (place / "list.txt").read_text() == "one"
    assert told
    assert find_environment(found_in(folder), tell=told.append).python
    assert (place / "note").read_text() == "set up"  # once
    (folder / "probe" / "list.txt").write_text("two")
    assert find_environment(found_in(folder), build=False).python is None
    assert find_environment(found_in(folder)).python
    assert len([path for path in (cache / "environments").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ({"setup": [["no-such-installer"]]}, ("no-such-installer",)),
        ({"setup": [[sys.executable, "-c", "raise SystemExit('no room')"]]}, ("no room",)),
        ({"setup": [["sh", "-c", "echo sh error code 7; echo bye; exit 1"]]}, ("error code 7",)),
        ({"files": ["missing.txt"]}, ("missing.txt",)),
        ({"version": ["-c", "print(2)"]}, ("expected 1.0", "received 2")),
        ({"version": ["-c", ""]}, ("expected 1.0", "received nothing")),
        ({"program": "no-such-program"}, ("no-such-program is not on the PATH",)),
    ],
)
def test_a_setup_that_fails_leaves_nothing(tmp_path, cache, entries, parts):
    environment = find_environment(found_in(external(tmp_path, **entries)))
    assert environment.python is None
    for part in parts:
        assert part in environment.reason
    assert not [path for path in cache.glob("environments/*") if path.is_dir()]


def test_a_program_that_is_not_on_the_path_comes_from_its_package(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    info = "runtime-3.0.dist-info"
    with zipfile.ZipFile(tmp_path / "runtime-3.0-py3-none-any.whl", "w") as wheel:
        script = zipfile.ZipInfo("runtime/bin/no-such-program")
        script.external_attr = (stat.S_IFREG | 0o755) << 16
        wheel.writestr(script, f"#!/bin/sh\necho {RELEASE}\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: runtime\nVersion: 3.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")
    name, there = "no-such-program", "{package}/runtime/bin/no-such-program"
    programs = {name: [there], "installer": [there, "install"]}
    package = ("runtime==3.0", programs)
    folder = external(tmp_path / "b", program=name, package=package, setup=[["installer", "it"]])
    assert "compare.py setup" in find_environment(found_in(folder), build=False).reason
    environment = find_environment(found_in(folder))
    assert environment.reason is None
    assert environment.python.parts[-3:] == ("runtime", "bin", name)
    assert environment.python.is_relative_to(cache)
    assert find_environment(found_in(folder), build=False) == environment


@pytest.mark.parametrize("kind", ["missing", "silent"])
def test_a_named_program_is_taken_as_it_is(tmp_path, cache, kind):
    folder = external(tmp_path)
    own = program(tmp_path / "own", f'exec {sys.executable} "$@"')
    found = find_environment(found_in(folder), own)
    assert (found.python, found.version) == (own, RELEASE)
    other = tmp_path / "other"
    if kind == "silent":
        program(other, "exit 0")
    assert find_environment(found_in(folder), other).python is None


# A comparison in which everything goes wrong that a program can do

MISHAPS = {
    "good": ("done", None),
    "learns faster": ("done", None),
    "other pixels": ("done", None),
    "one batch again": ("done", None),
    "no history": ("done", None),
    "exits": ("failed", ("exit status 1", "the licence has expired")),
    "rubbish": ("failed", ("bad record", "no record")),
    "breaks": ("failed", ("bad record", "unreadable")),
    "other plan": ("failed", ("bad record", "another plan")),
    "other y_hat": ("failed", ("bad record", "y_hat", "numbers")),
    "silent": ("failed", ("bad record", "no record")),
    "says next": ("failed", ("bad record", "no record")),
    "closes its output": ("failed", ("bad record", "no record")),
    "killed": ("failed", ("SIGKILL",)),
    "breaks off": ("failed", ("bad record", "no record")),
    "fails after its record": ("failed", ("exit status 1",)),
    "killed after its record": ("failed", ("SIGKILL",)),
    "hangs": ("timeout", ("still running after",)),
}


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
    """A copy of the project whose backends are the plain one and a program for each mishap."""
    root = tmp_path_factory.mktemp("project")
    copy_code(root, [PLAIN])
    for mishap in MISHAPS:
        name = mishap.replace(" ", "_")
        words = ["{folder}/worker.py", "--backend", name, "--mishap", mishap]
        for place in ("task", "implementation", "plan", "reference", "record"):
            words += [f"--{place}", f"{{{place}}}"]
        external(root / "backends", name, arguments=words)
        shutil.copy(ROOT / "tests" / "external_program.py", root / "backends" / name / "worker.py")
    out = root / "out"
    process = run(
        [
            *(sys.executable, "-W", "error", root / "compare.py", PLAIN),
            *(mishap.replace(" ", "_") for mishap in MISHAPS),
            *SMALL,
            *("--implementation", "concise", "--timeout", "25", "--out", out),
        ],
        root / "cache",
    )
    return process, out, root


def test_the_comparison_is_incomplete(mishaps):
    process, out, _ = mishaps
    assert process.returncode == 3, process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    assert Report.load(out).verdict == "incomplete"


@pytest.mark.parametrize("mishap", MISHAPS)
def test_every_mishap_is_a_row_with_its_reason(mishaps, mishap):
    process, out, _ = mishaps
    status, parts = MISHAPS[mishap]
    name = mishap.replace(" ", "_")
    (row,) = (row for row in Report.load(out).runs if row["backend"] == name)
    assert row["status"] == status, row["reason"]
    for part in parts or ():
        assert part in row["reason"]
        assert row["reason"] in process.stdout


def test_a_program_that_follows_the_protocol_is_judged_like_any_other(mishaps):
    _, out, _ = mishaps
    rows = {row["backend"]: row for row in Report.load(out).runs}
    good, plain = rows["good"], rows[PLAIN]
    assert (good["status"], good["grade"], good["divergence"]) == ("done", "rounding", None)
    assert good["fed_sha256"] == plain["fed_sha256"]
    assert set(good) == set(plain)
    assert good["version"] == RELEASE


def test_a_program_is_not_asked_for_an_implementation_that_it_does_not_have(mishaps, tmp_path):
    _, _, root = mishaps
    words = [sys.executable, root / "compare.py", "good", PLAIN, *SMALL, "--out", tmp_path / "out"]
    process = run(words, root / "cache")
    assert process.returncode == 0, process.stdout + process.stderr
    rows = [(row["backend"], row["implementation"]) for row in Report.load(tmp_path / "out").runs]
    assert rows == [("good", "concise"), (PLAIN, "scratch"), (PLAIN, "concise")]


def test_a_fault_of_a_program_is_found_where_it_is(mishaps):
    _, out, _ = mishaps
    rows = {row["backend"]: row for row in Report.load(out).runs}
    row = rows["other_pixels"]  # which says of itself that its batches are the plan's
    assert (row["divergence"]["step"], row["divergence"]["stage"]) == (0, "data")
    assert row["fed_sha256"] != rows["good"]["fed_sha256"]
    row = rows["one_batch_again"]  # in its loop alone: a probed step has the right one
    assert (row["divergence"]["step"], row["divergence"]["stage"]) == (1, "data")
    assert "the batch before it again" in row["divergence"]["tensor"]
    row = rows["learns_faster"]
    assert row["grade"] in ("drift", "disagree")
    assert (row["divergence"]["step"], row["divergence"]["stage"]) == (0, "update")
    assert row["cause"]["name"] == "learning rate"
    assert row["cause"]["value"] == pytest.approx(1.001, abs=1e-5)


def test_draws_that_a_program_does_not_make_are_a_reason(mishaps, tmp_path):
    _, _, root = mishaps
    out = tmp_path / "out"
    words = [
        *(sys.executable, root / "compare.py", "seeds", "good", "no_history"),
        *SMALL,
        "--quiet",
    ]
    words += ["--count", LEAST_SEEDS, "--independent", "--out", out]
    process = run([*words, "--implementation", "concise"], root / "cache")
    assert "Traceback" not in process.stderr
    failed = Report.load(out).facts["seeds"]["failed"]
    assert "draws nothing itself" in failed["good-concise"]
    assert "expected a history of val_loss; received none" in failed["no_history-concise"]


def test_nothing_is_overwritten(mishaps):
    _, out, root = mishaps
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    words = [sys.executable, root / "compare.py", "exits", *SMALL, "--quiet", "--out", out]
    process = run(words, root / "cache")
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))} == before


def test_a_broken_command_is_wrong_usage(mishaps, tmp_path):
    _, _, root = mishaps
    unread = shutil.ignore_patterns("out", "cache")
    shutil.copytree(root, tmp_path / "project", symlinks=True, ignore=unread)
    (tmp_path / "project" / "backends" / "good" / "command.toml").write_text("program = 7")
    process = run([sys.executable, tmp_path / "project" / "compare.py", "list"], tmp_path)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert "command.toml: expected" in process.stderr


# The real ones: programs that are no Python

everywhere = pytest.mark.parametrize("name", EXTERNAL)
RUNS = [(name, kind) for name, backend in EXTERNAL.items() for kind in backend.implementations]


def environment_of(name):
    environment = find_environment(EXTERNAL[name])
    assert environment.python, f"{name} cannot be had: {environment.reason}"
    return environment


def task(environment, implementation, folder, name, record, seed=0):
    """Run one task of one implementation; its outcome."""
    fields = {"plan": folder / "plan", "implementation": implementation}
    fields |= {"seed": seed} if name == "independent" else {"reference": folder / "reference"}
    job = Job(name, environment, Request(name, record, folder / f"{name}.log", fields))
    return run_jobs([[job]], slots=1, threads=1, timeout=2 * WAIT_SECONDS)[name]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Every external backend and the plain one on the digits."""
    for name in EXTERNAL:
        environment_of(name)
    out = tmp_path_factory.mktemp("digits") / "out"
    words = [*COMPARE, PLAIN, *EXTERNAL, "--data", "digits", "--out", out]
    process = run(words, cache_directory())
    assert process.returncode == 0, process.stdout + process.stderr
    return process, Report.load(out)


def test_one_is_there_in_both_implementations():
    assert EXTERNAL
    for name, backend in EXTERNAL.items():
        assert backend.implementations == ("scratch", "concise")
        assert isinstance(environment_of(name), ExternalEnvironment)


@pytest.mark.parametrize(("name", "implementation"), RUNS)
def test_it_trains_within_rounding(compared, name, implementation):
    process, report = compared
    key = (name, implementation)
    (row,) = (row for row in report.runs if (row["backend"], row["implementation"]) == key)
    assert row["status"] == "done", row["reason"]
    assert row["grade"] == "rounding", row["reason"]
    assert row["divergence"] is None
    assert row["unexplained_flips"] == 0
    assert row["version"] == EXTERNAL[name].pinned_version
    assert row["peak_rss_bytes"] > 1e7
    assert f"{name}-{implementation}: training, epoch" in process.stderr


def test_all_were_fed_the_same_bytes(compared):
    _, report = compared
    assert len(report.runs) == 2 + len(RUNS)
    assert len({row["fed_sha256"] for row in report.runs}) == 1
    assert all(row["fed_sha256"] for row in report.runs)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A small plan and its reference."""
    folder = tmp_path_factory.mktemp("plan")
    plan, data = make_plan(folder)
    Training(plan, data).run().record().save(folder / "reference")
    return folder


@pytest.mark.parametrize(("name", "implementation"), RUNS)
def test_probes_without_training_are_those_of_training(planned, tmp_path, name, implementation):
    environment = environment_of(name)
    for kind in ("train", "probe"):
        outcome = task(environment, implementation, planned, kind, tmp_path / kind)
        assert outcome.status == "done", outcome.reason
    trained, probed = (Record.load(tmp_path / kind).arrays for kind in ("train", "probe"))
    assert probed
    assert set(probed) == {key for key in trained if key.startswith("probe/")}
    for key, array in probed.items():
        assert array.tobytes() == trained[key].tobytes(), key
    assert probed["probe/0/data/X_error"] == probed["probe/0/data/y_error"] == 0


@pytest.mark.parametrize(("name", "implementation"), RUNS)
def test_draws_of_its_own_repeat_with_the_seed(planned, tmp_path, name, implementation):
    environment, losses = environment_of(name), []
    for i, seed in enumerate((1, 1, 2)):
        record = tmp_path / str(i)
        outcome = task(environment, implementation, planned, "independent", record, seed)
        assert outcome.status == "done", outcome.reason
        losses.append(Record.load(record).facts["history"]["train_loss"])
    assert losses[0] == losses[1] != losses[2]
    assert all(after < before for before, after in zip(losses[0], losses[0][1:], strict=False))


@everywhere
def test_a_dtype_that_it_lacks_is_a_reason(tmp_path, name):
    environment_of(name)
    words = [*COMPARE, name, *SMALL, "--implementation", "scratch", "--dtype", "float64"]
    process = run([*words, "--quiet", "--out", tmp_path / "out"], cache_directory())
    assert process.returncode == 3, process.stderr
    (row,) = Report.load(tmp_path / "out").runs
    assert row["status"] == "failed"
    assert "expected float32; received float64" in row["reason"]
    assert "    at " not in row["reason"]  # a sentence, not a stack


@everywhere
def test_it_ends_with_the_runner(planned, tmp_path, name):
    """The runner's end of standard input closes while the reference is waited for."""
    fields = {"plan": planned / "plan", "reference": tmp_path / "never"}
    fields |= {"implementation": "concise"}
    request = Request("train", tmp_path / "record", tmp_path / "log", fields)
    with subprocess.Popen(
        command(environment_of(name), request),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "probing":
                break
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=WAIT_SECONDS) == 1
    assert not (tmp_path / "record").exists()


@everywhere
def test_without_its_program_it_is_a_row_with_a_reason(tmp_path, name):
    """Neither on the PATH nor to be had from the package index."""
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [*COMPARE, PLAIN, name, *SMALL, "--implementation", "concise", "--quiet"]
    variables = {"PATH": str(empty), "PIP_NO_INDEX": "1"}
    process = run([*words, "--out", tmp_path / "out"], tmp_path / "cache", **variables)
    assert process.returncode == 3, process.stderr
    rows = {row["backend"]: row for row in Report.load(tmp_path / "out").runs}
    assert rows[PLAIN]["grade"] == "rounding"
    assert rows[name]["status"] == "unavailable"
    assert f"{EXTERNAL[name].command.program} is not on the PATH" in rows[name]["reason"]
    assert rows[name]["reason"] in process.stdout


def test_all_that_npm_installs_is_pinned():
    lists = [path for b in EXTERNAL.values() for path in b.folder.glob("package.json")]
    assert lists
    for path in lists:
        facts = json.loads(path.read_text())
        pinned = facts["dependencies"] | facts["overrides"]
        environment_of(path.parent.name)
        folder = environment_folder(EXTERNAL[path.parent.name])
        found = json.loads((folder / "node_modules" / ".package-lock.json").read_text())
        installed = {
            place.rpartition("node_modules/")[2]: package["version"]
            for place, package in found["packages"].items()
        }
        assert installed == pinned
