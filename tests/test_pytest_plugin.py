"""The pytest plugin as another project uses it, with real frameworks."""

import re

import pytest

from framework_parity.common.commands.golden_records import _digests, _place, pack, unpack
from framework_parity.common.core.cache import CACHE_VARIABLE, cache_directory
from framework_parity.common.environments.backend import IMPLEMENTATIONS
from tests.helpers import COMPARE, DEFAULT, FRAMEWORKS, PLAIN, processes, run
from tests.test_own_model import PLAIN_MODEL

pytest_plugins = "pytester"

CACHE = cache_directory()
"""Before pytester changes where home is."""

SMALL = {"data": "synthetic:300x8x3", "max_epochs": 2}
FIRST = FRAMEWORKS[0]


@pytest.fixture
def project(pytester, monkeypatch):
    """Another project, whose tests use the plugin; run in a process of their own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(CACHE))

    def check(test, *arguments, **outcomes):
        pytester.makepyfile(test)
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *arguments)
        result.assert_outcomes(**outcomes)
        return result

    check.path = pytester.path
    check.makeini = pytester.makeini
    return check


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """Golden records of the plain backend on the small recipe, and of another learning rate."""
    folder = tmp_path_factory.mktemp("baseline")
    words = [PLAIN, "--data", SMALL["data"], "--max-epochs", "2", "--quiet"]
    for name, more in (("own", ()), ("other", ("--lr", "0.2"))):
        words_of_one = [*COMPARE, "baseline", "save", folder / f"{name}.npz", *words, *more]
        process = run([*words_of_one, "--out", folder / name], CACHE)
        assert process.returncode == 0, process.stderr
    facts, arrays = unpack(folder / "own.npz")
    for row in facts["runs"]:  # as if an older release had had another learning rate
        row["history"]["val_loss"][-1] *= 1.5
        row["stages"][-2]["gain"] += 1e-3
        place = _place(row)
        own = {n.removeprefix(place): a for n, a in arrays.items() if n.startswith(place)}
        row["digests"] = _digests(row, own)  # and signed it
    (folder / "moved.npz").write_bytes(pack(facts, arrays))
    return folder


def test_agreement_of_two_frameworks_on_digits_as_the_documentation_has_it(project):
    first, second = FRAMEWORKS[0], FRAMEWORKS[-1]
    project(
        f"""
        def test_frameworks_agree(parity):
            parity.compare("{first}", "{second}").assert_agreement()
        """,
        passed=1,
    )


SHARING = f"""
import pytest

def look(parity, *backends, **recipe):
    comparison = parity.compare(*backends, **{SMALL!r}, **recipe)
    comparison.assert_agreement()
    for run in comparison.report.runs:
        name = f"{{run['backend']}}-{{run['implementation']}}"
        place = comparison.report.folder / "runs" / name / "record.json"
        training = f"{{place.stat().st_ino}}-{{place.stat().st_mtime_ns}}"
        facts = (recipe, name, training, run["seconds"]["import"], len(run["earlier_in_process"]))
        with open("SEEN", "a") as file:
            print(*facts, sep="; ", file=file)

@pytest.mark.parametrize("number", range(2))
def test_one(parity, number):
    look(parity, "{PLAIN}", "{FIRST}")

def test_two(parity):
    look(parity, "{FIRST}")

def test_three(parity):
    look(parity, "{PLAIN}")

@pytest.mark.parametrize("recipe", [dict(lr=0.2), dict(dtype="float64")])
def test_other_plans(parity, recipe):
    look(parity, "{FIRST}", **recipe)
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_plan_is_trained_once_and_a_framework_imported_once(project, tmp_path, arguments):
    seen = tmp_path / "seen"
    project(SHARING.replace("SEEN", str(seen)), *arguments, passed=6)
    rows = [line.split("; ") for line in seen.read_text().splitlines()]
    assert len(rows) == 2 * (2 + 2 + 1 + 1) + 2 * 2
    runs = {(recipe, name) for recipe, name, *_ in rows}
    assert len(runs) == len({training for _, _, training, *_ in rows}) == 4 + 2 * 2
    framework = {tuple(facts) for _, name, *facts in rows if name.startswith(FIRST)}
    imports, earlier = {row[1] for row in framework}, [int(row[2]) for row in framework]
    assert len(imports) == 1
    assert sorted(earlier) == list(range(6))  # three plans in both implementations, one process
    assert not processes(str(project.path))


def test_backends_and_implementations_come_as_parameters(project):
    result = project(
        """
        def test_one(parity_backend, parity_implementation):
            print(f"saw {parity_backend}-{parity_implementation}.")
        """,
        "-s",
        passed=len(DEFAULT) * len(IMPLEMENTATIONS),
    )
    seen = re.findall(r"saw ([\w-]+)\.", result.stdout.str())
    assert sorted(seen) == sorted(f"{b}-{i}" for b in DEFAULT for i in IMPLEMENTATIONS)


def test_a_failure_tells_step_stage_tensor_in_a_few_lines(project, baseline):
    result = project(
        f"""
        def test_one(parity):
            parity.compare("{PLAIN}", implementations=["scratch"], **{SMALL!r}).assert_agreement()
        """,
        f"--parity-baseline={baseline / 'moved.npz'}",
        failed=1,
    )
    result.stdout.fnmatch_lines(["E * moved since the baseline*step *, stage *, *"])
    said = [line for line in result.stdout.lines if line.startswith("E ")]
    assert len(said) <= 5
    assert "common/" not in result.stdout.str()  # no traceback through the suite


OFF = f"""
import numpy as np

def test_one(parity):
    comparison = parity.compare("{PLAIN}", **{SMALL!r})
    assert comparison.report.facts["thresholds"]["envelopes"] == LIMIT
    comparison.assert_agreement()
    run = comparison.report.folder / "runs" / "{PLAIN}-scratch" / "arrays.npz"
    with np.load(run) as archive:
        arrays = dict(archive)
    for name in arrays:
        if name.startswith("probe/") and "/update/" in name:
            arrays[name] = arrays[name] * 1.01
    parity.assert_agreement(arrays, **{SMALL!r})
"""
"""A sound comparison, then other code whose updates are off."""


def test_arrays_of_other_code_are_judged(project):
    result = project(OFF.replace("LIMIT", "4.0"), failed=1)
    result.stdout.fnmatch_lines(["E *first divergence at step 0, stage update, W: *"])


def test_the_threshold_decides(project):
    project(OFF.replace("LIMIT", "1e9"), "--parity-threshold", "1e9", passed=1)
    result = project(OFF, "--parity-threshold", "much", failed=1)
    result.stdout.fnmatch_lines(["threshold: expected a number of envelopes; received 'much'*"])


def test_options_of_the_ini_file(project, baseline):
    (project.path / "golden.npz").write_bytes((baseline / "own.npz").read_bytes())
    project.makeini(
        f"""
        [pytest]
        parity_baseline = golden.npz
        parity_data = {SMALL["data"]}
        """
    )
    project(
        f"""
        def test_one(parity):
            comparison = parity.compare("{PLAIN}", max_epochs=2)
            assert {{row["grade"] for row in comparison.report.runs}} == {{"exact"}}
            comparison.assert_agreement()
        """,
        passed=1,
    )


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ('parity.compare("nonsense")', "nonsense"),
        (f'parity.compare("{PLAIN}", lr=-1)', "lr"),
        (f'parity.compare("{PLAIN}", speed=1)', "speed"),
        (f'parity.compare("{PLAIN}", implementations=["slick"])', "slick"),
        (f'parity.compare("{PLAIN}", threshold=0)', "threshold"),
        (f'parity.compare("{PLAIN}", baseline="nowhere.npz")', "nowhere.npz"),
        (f'parity.compare("{PLAIN}", accept="nowhere.toml")', "nowhere.toml"),
        (f'parity.compare("{PLAIN}", baseline="OTHER", **{SMALL!r})', "another plan"),
    ],
)
def test_unusable_input_is_one_line(project, baseline, call, part):
    call = call.replace("OTHER", str(baseline / "other.npz"))
    result = project(f"def test_one(parity):\n    {call}\n", failed=1)
    text = result.stdout.str()
    assert part in text
    assert "common/" not in text  # no traceback through the suite
    assert "During handling" not in text


def test_outcomes_that_cannot_be_compared_fail_only_if_one_asks(project):
    recipe = {"implementations": ["concise"], "lr": 6.0, "batch_size": 16, "max_epochs": 2}
    result = project(
        f"""
        def test_passes(parity):
            parity.compare("{PLAIN}", **{recipe!r}).assert_agreement()

        def test_fails(parity):
            parity.compare("{PLAIN}", **{recipe!r}).assert_agreement(fail_on="chaotic")
        """,
        passed=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(
        ["E*AssertionError: chaotic: 1 run within*", "E*lower --lr (6 here)*"]
    )


def test_a_model_of_ones_own_is_compared(project):
    (project.path / "mine.py").write_text(PLAIN_MODEL)
    project(
        f"""
        def test_it_agrees(parity):
            found = parity.compare_model("mine.py", "{PLAIN}", **{SMALL!r})
            found.assert_agreement()
            again = parity.compare_model("mine.py", "{PLAIN}", threshold=3, **{SMALL!r})
            assert [run["val_loss"] for run in again.report.runs] == [
                run["val_loss"] for run in found.report.runs
            ]

        def test_what_is_no_model_fails_in_one_line(parity):
            parity.compare_model("none.py", "{PLAIN}", **{SMALL!r})
        """,
        passed=1,
        failed=1,
    )
