"""Bisection over releases: the search, a planted change, interruptions and unusable ranges."""

import json
import math
import os
import shutil
import signal
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework_parity.common.commands.bisection import search
from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.releases import list_releases
from framework_parity.common.environments.specifier import parse_range
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record
from tests import planted
from tests.helpers import (
    COMPARE,
    PLAIN,
    SMALL,
    check_complaint,
    heed_interrupts,
    run,
    user_environment,
    wait_until,
)
from tests.test_own_model import PLAIN_MODEL

PACKAGE = planted.PACKAGE
WHOLE = f"{PACKAGE}>=1.1,<=1.12"
LAST_RIGHT = planted.RELEASES[planted.RELEASES.index(planted.FIRST_WRONG) - 1]
TWICE = ["--implementation", "concise"]


# The search


@st.composite
def histories(draw):
    """How many releases, which is the first that differs, and which cannot be had."""
    count = draw(st.integers(2, 40))
    first = draw(st.integers(1, count - 1))
    return count, first, draw(st.sets(st.integers(1, count - 2))) if count > 2 else set()


@given(histories())
def test_the_search_finds_what_can_be_found(history):
    count, first, missing = history
    asked = []

    def sign(release):
        asked.append(release)
        return None if release in missing else release >= first

    low, high = search(range(count), 0, count - 1, sign)
    had = [i for i in range(count) if i not in missing]
    assert low == max(i for i in had if i < first)
    assert high == min(i for i in had if i >= first)
    assert len(asked) == len(set(asked))


@given(st.integers(2, 4000), st.data())
def test_the_search_asks_log2_of_the_releases(count, data):
    first = data.draw(st.integers(1, count - 1))
    asked = []
    search(range(count), 0, count - 1, lambda i: asked.append(i) or i >= first)
    assert len(asked) <= 1 + math.ceil(math.log2(count))  # one is the oldest, which is known


# The releases


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project whose one framework has twelve releases, and some odd ones."""
    folder = tmp_path_factory.mktemp("planted")
    packages = folder / "packages"
    planted.build_releases(packages)
    right = planted.UPDATE.format(factor=1)
    planted.build_wheel(packages, "1.7rc1", right, ["absent-package==1.0"])
    planted.build_wheel(packages, "2.0", "def update(*_):\n    raise ValueError('moved to 3.0')\n")
    planted.build_wheel(packages, "2.1", "raise ImportError('needs an older Python')\n")
    command = planted.copy_project(folder / "project")
    options = ["--find-links", packages, *SMALL]

    def bisect(releases, *more, start=subprocess.run, **how):
        words = [*command, "bisect", releases, *options, *more]
        return start(
            [str(word) for word in words],
            env=user_environment(folder / "cache"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )

    bisect.packages, bisect.folder = packages, folder
    return bisect


def releases_of(text, packages, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return list_releases(PACKAGE, parse_range(text)[1], [str(packages)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WHOLE, planted.RELEASES),
        (f"{PACKAGE}>1.9,<2", ["1.10", "1.11", "1.12"]),
        (f"{PACKAGE}>=1.6rc1,<=1.7", ["1.6", "1.7rc1", "1.7"]),
        (f"{PACKAGE}>=1.6,<=1.8,!=1.7", ["1.6", "1.8"]),
        (f"{PACKAGE}>=5", []),
    ],
)
def test_releases_come_from_pip_in_their_order(project, monkeypatch, text, expected):
    assert releases_of(text, project.packages, monkeypatch) == expected


def test_the_index_lists_real_releases():
    found = list_releases(PLAIN, parse_range(f"{PLAIN}>=1.26.3,<2.0.1")[1])
    assert found == ["1.26.3", "1.26.4", "2.0.0"]


@pytest.mark.parametrize("text", ["", "probe", "probe==", "probe>=", ">=1", "probe[x]>=1"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(ParityError, match="bisect: expected a backend with a range"):
        parse_range(text)


# A planted change


@pytest.fixture(scope="module")
def found(project):
    """The planted change, bisected by the command line."""
    process = project(WHOLE, "--out", project.folder / "out")
    return process, project.folder / "out"


def test_the_planted_change_is_found(found):
    process, out = found
    assert process.returncode == 0, process.stderr
    facts = Report.load(out).facts["bisection"]
    assert facts["last_alike"] == LAST_RIGHT
    assert facts["first_different"] == planted.FIRST_WRONG
    assert facts["releases"] == planted.RELEASES
    assert facts["skipped"] == {}
    assert facts["between"] == []
    assert f"{PACKAGE}=={planted.FIRST_WRONG} is the first of 12 releases" in process.stdout


def test_it_is_found_in_log2_runs(found):
    tried = Report.load(found[1]).facts["bisection"]["tried"]
    assert len(tried) <= 2 + math.ceil(math.log2(len(planted.RELEASES) - 1))


def test_the_change_is_described(found):
    process, out = found
    changes = Report.load(out).facts["bisection"]["changes"]
    assert [change["implementation"] for change in changes] == ["scratch", "concise"]
    for change in changes:
        assert change["grades"][0] == "rounding"
        assert change["grades"][1] != "rounding"
        for place in ("divergence", "first"):
            where = change[place]
            assert (where["step"], where["stage"], where["tensor"]) == (0, "update", "W")
            assert where["envelopes"] > 100
        assert change["divergence"]["error"] == pytest.approx(planted.FACTOR - 1, rel=0.01)
        assert change["cause"].startswith(f"learning rate × {planted.FACTOR:g}")
        assert change["versions"] == {PACKAGE: [LAST_RIGHT, planted.FIRST_WRONG]}
        assert change["parameter_envelopes"] > 100
        assert change["cause"] in process.stdout


def test_every_release_tried_is_a_row(found):
    report = Report.load(found[1])
    tried = report.facts["bisection"]["tried"]
    assert [run["version"] for run in report.runs] == [v for v in tried for _ in range(2)]
    wrong = planted.RELEASES[planted.RELEASES.index(planted.FIRST_WRONG) :]
    for row in report.runs:
        assert (row["grade"] == "rounding") == (row["version"] not in wrong)


def test_a_bisection_that_is_done_is_not_trained_again(found, project):
    process, out = found
    times = {path: path.stat().st_mtime_ns for path in out.rglob("record.json")}
    again = project(WHOLE, "--out", out)
    assert again.returncode == 0, again.stderr
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("record.json")}
    sentences = [p.stdout[p.stdout.index("bisection:") :] for p in (process, again)]
    assert sentences[0].splitlines()[:-1] == sentences[1].splitlines()[:-1]


@pytest.mark.usefixtures("found")  # its environments
def test_an_interrupted_bisection_goes_on(project, tmp_path):
    out = tmp_path / "out"
    how = {"start": subprocess.Popen, "start_new_session": True, "preexec_fn": heed_interrupts}
    process = project(WHOLE, "--out", out, *TWICE, **how)
    state = out / "bisection.json"
    wait_until(lambda: state.exists() and len(json.loads(state.read_text())["trials"]) >= 2)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"--out {out} goes on with it" in errors
    assert not (out / "report.json").exists()
    tried = json.loads(state.read_text())["trials"]
    records = [out / "runs" / f"{PACKAGE}=={v}-concise" / "record.json" for v in tried]
    times = [path.stat().st_mtime_ns for path in records]
    again = project(WHOLE, "--out", out, *TWICE)
    assert again.returncode == 0, again.stderr
    assert [path.stat().st_mtime_ns for path in records] == times
    facts = Report.load(out).facts["bisection"]
    assert (facts["last_alike"], facts["first_different"]) == (LAST_RIGHT, planted.FIRST_WRONG)
    assert set(tried) < set(facts["tried"])


@pytest.mark.usefixtures("found")
def test_a_model_of_ones_own_is_bisected(project, tmp_path):
    """Against the framework's pinned release, the last: the ones before the change disagree."""
    text = PLAIN_MODEL.replace(f"{PLAIN}_model", f"{PACKAGE}_model")
    (tmp_path / "mine.py").write_text(text)
    more = ("--model", tmp_path / "mine.py", "--out", tmp_path / "out")
    process = project(f"{PACKAGE}>=1.5,<=1.8", *more)
    assert process.returncode == 0, process.stderr
    report = Report.load(tmp_path / "out")
    found = report.facts["bisection"]
    assert (found["last_alike"], found["first_different"]) == (LAST_RIGHT, planted.FIRST_WRONG)
    (change,) = found["changes"]
    assert change["implementation"] == "mine"
    assert change["first"]["stage"] == "update"
    assert {run["grade"] for run in report.runs} > {"rounding"}


@pytest.mark.usefixtures("found")
def test_bits_tell_releases_apart_too(project, tmp_path):
    out = tmp_path / "out"
    process = project(f"{PACKAGE}>=1.4,<=1.7", "--by", "bits", "--out", out)
    assert process.returncode == 0, process.stderr
    facts = Report.load(out).facts["bisection"]
    assert (facts["last_alike"], facts["first_different"]) == (LAST_RIGHT, planted.FIRST_WRONG)
    assert "whose record is, bit for bit, not the oldest's" in process.stdout


def test_real_releases_are_bisected(tmp_path):
    """Where they part depends on the processor, and so does whether: the records decide."""
    releases, out = ["1.23.4", "1.23.5", "1.24.0"], tmp_path / "out"
    asked = f"{PLAIN}>={releases[0]},<={releases[-1]}"
    words = [*COMPARE, "bisect", asked, "--by", "bits", *SMALL, *TWICE, "--out", out]
    process = run(words, cache_directory())

    def bits(release):
        record = Record.load(out / "runs" / f"{PLAIN}=={release}-concise")
        arrays = {name: array.tobytes() for name, array in record.arrays.items()}
        return arrays, record.facts["history"]

    alike = bits(releases[0]) == bits(releases[-1])
    assert process.returncode == (2 if alike else 0), process.stderr
    if alike:
        assert "expected ends that differ" in process.stderr
        return
    facts = Report.load(out).facts["bisection"]
    pair = facts["last_alike"], facts["first_different"]
    assert pair in list(pairwise(releases))
    assert bits(releases[0]) == bits(pair[0]) != bits(pair[1])


@pytest.mark.usefixtures("found")
def test_a_release_that_does_not_install_is_passed_over_and_named(project, tmp_path):
    out = tmp_path / "out"
    process = project(f"{PACKAGE}>=1.6rc1,<=1.7", *TWICE, "--out", out)
    assert process.returncode == 0, process.stderr
    facts = Report.load(out).facts["bisection"]
    assert (facts["last_alike"], facts["first_different"]) == ("1.6", "1.7")
    assert facts["between"] == list(facts["skipped"]) == ["1.7rc1"]
    assert "absent-package" in facts["skipped"]["1.7rc1"]
    assert f"{PACKAGE}==1.7rc1: passed over, it cannot be had: pip failed" in process.stdout
    assert "it may as well be one of those between them" in process.stdout


@pytest.mark.usefixtures("found")
def test_a_release_that_does_not_train_differs_and_one_that_does_not_import_is_no_end(
    project, tmp_path
):
    out = tmp_path / "out"
    process = project(f"{PACKAGE}>=1.12,<=2.1", *TWICE, "--out", out)
    assert process.returncode == 0, process.stderr
    facts = Report.load(out).facts["bisection"]
    assert (facts["last_alike"], facts["first_different"]) == ("1.12", "2.0")
    assert "needs an older Python" in facts["skipped"]["2.1"]
    (change,) = facts["changes"]
    assert change["grades"][1] == "failed"
    assert "moved to 3.0" in change["reason"]
    assert "→ failed: ended with exit status 1" in process.stdout


# What cannot be bisected


@pytest.mark.usefixtures("found")
def test_ends_that_do_not_differ_are_refused(project, tmp_path):
    process = project(f"{PACKAGE}>=1.1,<=1.4", *TWICE, "--quiet", "--out", tmp_path / "out")
    check_complaint(process, "expected ends that differ", f"{PACKAGE}==1.4", "rounding", "bits")
    assert not (tmp_path / "out" / "report.json").exists()


def test_an_oldest_release_that_does_not_train_is_refused(project, tmp_path):
    process = project(f"{PACKAGE}>=2.0,<=2.1", *TWICE, "--quiet", "--out", tmp_path / "out")
    assert process.returncode == 3
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"compare.py: {PACKAGE}==2.0: expected an oldest release that trains")
    assert "moved to 3.0" in line


def test_releases_none_of_which_installs_are_refused(project, tmp_path):
    packages = tmp_path / "packages"
    for version in ("7.0", "7.1"):
        planted.build_wheel(packages, version, "", ["absent-package==1.0"])
    options = ["--find-links", packages, "--quiet", "--out", tmp_path / "out"]
    process = project(f"{PACKAGE}>=7", *options)
    assert process.returncode == 3
    (line,) = process.stderr.splitlines()
    assert "received none of 2" in line
    assert "absent-package" in line


def test_a_package_that_pip_does_not_find_is_refused(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    command = [*COMPARE, "bisect", f"{PLAIN}>=1.26", *SMALL, "--out", tmp_path / "out"]
    process = run(command, tmp_path / "cache")
    assert process.returncode == 3
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"compare.py: {PLAIN}: expected releases of it; received pip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([f"{PACKAGE}>=5"], ["two releases or more", "none"]),
        ([f"{PACKAGE}==1.3"], ["two releases or more", "1.3"]),
        ([PACKAGE], ["expected a backend with a range"]),
        (["absent>=1.0"], ["expected some of", "absent"]),
        ([WHOLE, PACKAGE], [f"received {PACKAGE}"]),
        (
            [WHOLE, "--repeat", "2", "--seeds", "3"],
            ["received --repeat 2 --seeds 3"],
        ),
        ([WHOLE, "--find-links", "nowhere"], ["--find-links", "nowhere"]),
        ([WHOLE, "--lr", "-1"], ["lr"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_a_question_that_is_none_is_refused(project, tmp_path, words, parts):
    check_complaint(project(*words, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "more", "part"),
    [
        (lambda text: text[:-20], [], "expected the state of a bisection"),
        (lambda text: text.replace('"schema": 2', '"schema": 3'), [], "schema 3, not 2"),
        (lambda text: "[]", [], "expected the state of a bisection"),
        (lambda text: text, ["--lr", "0.2"], "of the same releases and recipe"),
        (lambda text: text, ["--by", "bits"], "of the same releases and recipe"),
        (lambda text: text, ["--threshold", "5"], "of the same releases and recipe"),
    ],
    ids=["half", "newer", "list", "recipe", "by", "threshold"],
)
def test_the_folder_of_another_bisection_is_left_alone(project, found, tmp_path, spoil, more, part):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copytree(found[1] / "plan", out / "plan")
    state = out / "bisection.json"
    state.write_text(spoil((found[1] / "bisection.json").read_text()))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    process = project(WHOLE, *more, "--quiet", "--out", out)
    check_complaint(process, part, state)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
