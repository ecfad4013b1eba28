"""Versions side by side: how they are named, what is installed for them, how they are reported."""

import json
import re
import sys
import zipfile

import pytest

from framework_parity.common.core.cache import CACHE_VARIABLE, cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.environments.environment import environment_folder
from framework_parity.common.environments.specifier import is_release, parse_backend, parse_pythons
from framework_parity.common.report.report import Report
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, REPORT, SMALL, check_complaint, interpreter, run

OLD = "1.26.4"
"""A release of the plain backend's only library, older than the one that is pinned."""


def wheel(folder, name, version, requires=()):
    """A package that pip can install: one empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        f"{name}.py": "",
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """A backend without code; its releases and its companion's lie in a folder, not in an index."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    packages = tmp_path / "packages"
    wheel(packages, "parity_probe", "1.0", ["parity_friend>=1,<2"])
    wheel(packages, "parity_probe", "2.0", ["parity_friend>=2,<3"])
    for version in ("1.0", "1.5", "2.0", "2.1", "3.0"):
        wheel(packages, "parity_friend", version)
    folder = tmp_path / "backends" / "parity_probe"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("parity_probe==1.0\nparity_friend==1.0\n")
    return discover(tmp_path / "backends")["parity_probe"]


# How they are named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("probe", ("probe", None)),
        ("probe==1.0", ("probe", "1.0")),
        ("probe == 1.0", ("probe", "1.0")),
        ("probe==2.1.0+cpu", ("probe", "2.1.0+cpu")),
        ("probe==1.0.dev3", ("probe", "1.0.dev3")),
    ],
)
def test_a_backend_may_carry_a_version(text, expected):
    assert parse_backend(text) == expected


MALFORMED = (
    "{}==",
    "{}=1.0",
    "{}>=1.0",
    "{}==1.0,==1.1",
    "{}==1.*",
    "{}==one",
    "{}===1.0",
    "{}[extra]==1.0",
    "{}==1.0; python_version > '3'",
    "{} @ file:///tmp/x",
    "==1.0",
)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_version_is_refused(text, tmp_path):
    text = text.format(PLAIN)
    process = run([*COMPARE, text, *SMALL, "--out", tmp_path / "out"], tmp_path / "cache")
    check_complaint(process, "NAME==VERSION", text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("probe=/bin/python", ("probe", "/bin/python")),
        ("probe==1.0=/bin/python", ("probe==1.0", "/bin/python")),
        ("probe==1.0=/a=b/python", ("probe==1.0", "/a=b/python")),
        ("probe=/a==b/python", ("probe", "/a==b/python")),
    ],
)
def test_an_interpreter_is_named_for_a_backend_or_for_a_version(pair, expected):
    assert parse_pythons([pair]) == dict([expected])


@pytest.mark.parametrize("pair", ["probe", "probe==1.0", "probe==1.0.*=/bin/python"])
def test_half_an_interpreter_is_refused(pair):
    with pytest.raises(ParityError, match="expected"):
        parse_pythons([pair])


@pytest.mark.parametrize(
    ("version", "asked", "same"),
    [
        ("2.1.0+cpu", "2.1.0", True),
        ("2.1.0+cpu", "2.1", True),
        ("2.1.1", "2.1", False),
        ("1.0.dev3", "1.0.dev3", True),
        ("unknown", "1.0", False),
    ],
)
def test_an_installation_is_a_release_or_not(version, asked, same):
    assert is_release(version, asked) == same


def test_every_version_is_a_contender_of_its_own():
    names = [f"{PLAIN}==1.0", PLAIN, f"{PLAIN}==1.0", f"{PLAIN} == 1.1", PLAIN]
    chosen = choose(names, BACKENDS)
    assert [backend.label for backend in chosen] == [f"{PLAIN}==1.0", PLAIN, f"{PLAIN}==1.1"]
    assert [str(backend.requirements[0]) for backend in chosen] == [
        f"{PLAIN}==1.0",
        str(BACKENDS[PLAIN].requirements[0]),
        f"{PLAIN}==1.1",
    ]
    with pytest.raises(ParityError, match=r"expected some of .*received absent"):
        choose(["absent==1.0"], BACKENDS)


# What is installed


def test_the_pinned_version_is_the_same_environment(backend):
    assert environment_folder(backend.at("1.0")) == environment_folder(backend)
    assert environment_folder(backend.at("2.0")) != environment_folder(backend)


def test_a_release_built_again_has_an_environment_of_its_own(backend, tmp_path):
    places = [str(tmp_path / "packages")]
    before = environment_folder(backend.at("2.0", places))
    wheel(tmp_path / "packages", "parity_probe", "4.0")
    assert environment_folder(backend.at("2.0", places)) == before
    wheel(tmp_path / "packages", "parity_probe", "2.0", ["parity_friend>=2"])
    assert environment_folder(backend.at("2.0", places)) != before


def test_other_pins_give_way_where_they_must_and_only_there(backend, tmp_path):
    places = [str(tmp_path / "packages")]
    kept = find_environment(backend.at("1.0", places))
    assert (kept.version, kept.asked, kept.gave_way) == ("1.0", "1.0", ())
    moved = find_environment(backend.at("2.0", places))
    assert (moved.version, moved.label) == ("2.0", "parity_probe==2.0")
    assert moved.gave_way == ("parity_friend 2.1 (pinned 1.0)",)
    assert kept.python != moved.python
    # And it is found again, without a word.
    told = []
    assert find_environment(backend.at("2.0", places), tell=told.append) == moved
    assert told == []


def test_what_every_worker_needs_gives_way_last(backend):
    lines = "framework==1.0\ncompanion==2.0\nnumpy==1.23.5\n"
    folder = cache_directory().parent / "backends" / "framework"
    folder.mkdir()
    (folder / "requirements.txt").write_text(lines)
    found = discover(folder.parent)["framework"]
    assert [[str(r) for r in requirements] for requirements in found.at("3.0").attempts()] == [
        ["framework==3.0", "companion==2.0", "numpy==1.23.5"],
        ["framework==3.0", "companion", "numpy==1.23.5"],
        ["framework==3.0", "companion", "numpy"],
    ]
    assert found.attempts() == [found.requirements]


def test_a_version_that_does_not_exist_gives_its_reason_and_leaves_nothing(backend, tmp_path):
    wanted = backend.at("7.0", [str(tmp_path / "packages")])
    found = find_environment(wanted)
    assert (found.python, found.asked) == (None, "7.0")
    assert "parity_probe==7.0" in found.reason
    assert not environment_folder(wanted).exists()


# How they are reported


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two releases, the pinned one and one that does not exist, compared by the command line."""
    out = tmp_path_factory.mktemp("versions") / "out"
    names = [f"{PLAIN}=={OLD}", PLAIN, f"{PLAIN}==9999.0"]
    return run([*COMPARE, *names, *SMALL, "--out", out], cache_directory()), out


def test_each_version_is_a_row(sides):
    process, out = sides
    report = Report.load(out)
    pinned = BACKENDS[PLAIN].pinned_version
    assert [(run["asked_version"], run["version"], run["status"]) for run in report.runs] == [
        *[(OLD, OLD, "done")] * 2,
        *[(None, pinned, "done")] * 2,
        *[("9999.0", "9999.0", "unavailable")] * 2,
    ]
    for run_facts in report.runs[:4]:
        assert run_facts["versions"][PLAIN] == run_facts["version"]
        assert run_facts["grade"] == "rounding"
    for version in (OLD, pinned):
        assert re.search(rf"{PLAIN} +{re.escape(version)} +scratch", process.stdout)


def test_each_version_has_its_folder(sides):
    _, out = sides
    for version in (OLD, BACKENDS[PLAIN].pinned_version):
        name = PLAIN if version != OLD else f"{PLAIN}=={OLD}"
        facts = json.loads((out / "runs" / f"{name}-concise" / "record.json").read_text())
        assert facts["versions"][PLAIN] == version


def test_a_version_that_cannot_be_had_is_a_row_with_its_reason(sides):
    process, _ = sides
    assert process.returncode == 3, process.stderr
    assert re.search(rf"{PLAIN} +9999.0 +scratch .*unavailable", process.stdout)
    (line,) = re.findall(rf"^{PLAIN}==9999.0 scratch: .*", process.stdout, re.MULTILINE)
    assert f"{PLAIN}==9999.0" in line.partition(": ")[2]
    assert f"incomplete: {PLAIN}==9999.0 scratch (unavailable)" in process.stdout


def test_an_interpreter_of_ones_own_stands_for_a_version(tmp_path):
    own = interpreter(tmp_path / "own", "nothing", "exit 1")
    pinned = BACKENDS[PLAIN].pinned_version
    names = [f"{PLAIN}=={pinned}", f"{PLAIN}=={OLD}"]
    words = [word for name in names for word in ("--python", f"{name}={own}")]
    options = ["--implementation", "concise", *SMALL, "--out", tmp_path / "out"]
    process = run([*COMPARE, *names, *words, *options], tmp_path / "cache")
    assert process.returncode == 3, process.stderr
    right, wrong = Report.load(tmp_path / "out").runs
    assert (right["status"], right["grade"]) == ("done", "rounding")
    assert wrong["status"] == "unavailable"
    assert wrong["reason"] == f"{own}: has {pinned}, not {OLD}"
    assert not (tmp_path / "cache" / "environments").exists()


def test_an_interpreter_of_a_version_that_is_not_compared_is_refused(tmp_path):
    options = ["--python", f"{PLAIN}=={OLD}={sys.executable}", "--out", tmp_path / "out"]
    process = run([*COMPARE, PLAIN, *SMALL, *options], tmp_path / "cache")
    check_complaint(process, f"{PLAIN}=={OLD}", "among the backends")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_releases_that_is_none_is_refused(tmp_path):
    options = ["--find-links", tmp_path / "absent", "--out", tmp_path / "out"]
    process = run([*COMPARE, PLAIN, *SMALL, *options], tmp_path / "cache")
    check_complaint(process, "--find-links", tmp_path / "absent")


def test_a_report_of_versions_is_read_again(sides):
    _, out = sides
    assert json.loads((out / REPORT).read_text())["verdict"] == "incomplete"
    assert f"{PLAIN}==9999.0 scratch" in Report.load(out).sentence
