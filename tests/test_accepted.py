"""Known differences that a team accepts: only until their date, only up to their bound."""

from datetime import date, timedelta

import pytest

from framework_parity.common.commands.accepted_differences import KEYS, Accepted
from framework_parity.common.core.errors import ParityError
from framework_parity.common.judging.grades import SOUND as SOUND_GRADES
from framework_parity.common.report.report import Report
from tests.helpers import COMPARE, FRAMEWORKS, PLAIN, SMALL, check_complaint, off_by, run
from tests.test_exports import junit

TODAY = date(2026, 11, 21)
SOUND = {
    "backend": PLAIN,
    "implementation": "scratch",
    "stage": "update",
    "bound": 200.0,
    "reason": "known since the last release",
    "expires": TODAY,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def write(path, *entries):
    """A file of accepted differences."""

    def line(name, value):
        return (
            f"{name} = {value!r}" if isinstance(value, (str, float, int)) else f"{name} = {value}"
        )

    tables = ["[[accept]]\n" + "\n".join(line(*pair) for pair in e.items()) for e in entries]
    path.write_text("\n\n".join(tables) + "\n")
    return path


def row(grade="drift", stage="update", envelopes=168.0, baseline=None, **changes):
    divergence = None if grade in SOUND_GRADES else {"stage": stage, "step": 0}
    facts = {"backend": PLAIN, "implementation": "scratch", "status": "done", "accepted": None}
    return facts | {
        "grade": grade,
        "divergence": divergence,
        "envelopes": envelopes,
        "baseline": baseline,
        **changes,
    }


SOUND_ROW = row()


def applied(tmp_path, rows, *entries, today=TODAY):
    found = Accepted.load(write(tmp_path / "accepted.toml", *entries)).apply(rows, today)
    return [entry["state"] for entry in found]


# What an entry covers


@pytest.mark.parametrize(
    ("rows", "entry", "state"),
    [
        ([row()], {}, "accepted"),
        ([row("disagree")], {}, "accepted"),
        ([row()], {"bound": 168}, "accepted"),
        ([row()], {"bound": 167}, "exceeded"),
        ([row()], {"expires": TODAY - timedelta(days=1)}, "expired"),
        ([row()], {"expires": TODAY - timedelta(days=1), "bound": 1}, "expired"),
        ([row()], {"stage": "loss"}, "unmatched"),
        ([row()], {"implementation": "concise"}, "not compared"),
        ([row()], {"implementation": "slick"}, "unmatched"),
        ([row()], {"backend": FRAMEWORKS[0]}, "not compared"),
        ([row()], {"backend": "a backend that went"}, "unmatched"),
        ([row("rounding")], {}, "unmatched"),
        ([row("exact")], {"expires": TODAY - timedelta(days=1)}, "unmatched"),
        ([row(status="failed", grade=None, divergence=None)], {}, "not compared"),
        ([row(divergence=None)], {}, "unmatched"),
        ([row("rounding", baseline=row())], {}, "accepted"),
        ([row("chaotic")], {"stage": "chaotic"}, "accepted"),
        ([row("chaotic")], {"stage": "chaotic", "bound": 2}, "exceeded"),
        ([row("chaotic")], {}, "unmatched"),
        ([row()], {"stage": "chaotic"}, "unmatched"),
        ([row("chaotic", baseline=row())], {}, "accepted"),
        ([row(baseline=row(stage="loss"))], {}, "accepted"),
    ],
)
def test_states(tmp_path, rows, entry, state):
    grade = rows[0]["grade"]
    assert applied(tmp_path, rows, SOUND | entry) == [state]
    where = (rows[0]["baseline"] or rows[0])["divergence"]
    whole = state == "accepted" and (where is None or where["stage"] != "loss")
    assert (rows[0]["accepted"] is not None) == whole
    assert rows[0]["grade"] == grade


def test_every_difference_of_a_run_needs_an_entry_and_the_first_date_counts(tmp_path):
    rows = [row(baseline=row(stage="loss"))]
    other = SOUND | {"stage": "loss", "expires": TODAY + timedelta(days=9)}
    assert applied(tmp_path, rows, SOUND, other) == ["accepted", "accepted"]
    assert rows[0]["accepted"]["until"] == TODAY.isoformat()


# From the command line

ONE = (PLAIN, *SMALL, "--quiet", "--implementation", "scratch")


@pytest.fixture(scope="module")
def compared(tmp_path_factory, cache):
    """A comparison of a run that is off, with an accepted difference."""
    folder = tmp_path_factory.mktemp("off")
    python = off_by(folder / "python", "1.00001")

    def compare(name, *arguments, factor=None, **entry):
        used = python if factor is None else off_by(folder / f"python-{factor}", factor)
        future = date.today() + timedelta(days=30)
        file = write(folder / f"{name}.toml", SOUND | {"bound": 1e6, "expires": future} | entry)
        words = [*COMPARE, *ONE, "--python", f"{PLAIN}={used}", "--accept", file]
        process = run([*words, *arguments, "--out", folder / name], cache)
        return process, Report.load(folder / name), file

    return compare


def test_an_accepted_drift_passes_even_where_drift_fails(compared):
    process, report, _ = compared("passes", "--fail-on", "drift")
    assert process.returncode == 0, process.stdout
    assert report.verdict == report.runs[0]["grade"] == "drift"
    until = (date.today() + timedelta(days=30)).isoformat()
    assert f"(accepted until {until})" in report.sentence
    assert report.sentence in process.stdout
    assert report.exit_status("drift") == 0
    (suite,) = junit(report, "drift")
    assert (suite.tests, suite.failures) == (2, 0)


def test_an_accepted_disagreement_passes(compared):
    process, report, _ = compared("disagrees", factor="1.5", bound=1e12)
    assert report.verdict == "disagree", process.stdout
    assert process.returncode == 0, process.stdout


def test_past_its_date_an_entry_fails(compared):
    yesterday = date.today() - timedelta(days=1)
    process, report, _ = compared("expired", expires=yesterday)
    assert process.returncode == 1
    assert report.verdict == "drift"
    assert f"was accepted until {yesterday}, which is past" in process.stdout
    (suite,) = junit(report)
    assert suite.failures == 1


def test_beyond_its_bound_an_entry_fails(compared):
    process, _, _ = compared("exceeded", bound=5)
    assert process.returncode == 1
    assert "beyond what is accepted, 5 × rounding" in process.stdout


def test_an_entry_that_matches_nothing_is_reported(compared):
    process, report, _ = compared("nothing", stage="forward")
    assert process.returncode == 0
    assert "matches nothing any more" in process.stdout
    assert report.runs[0]["accepted"] is None
    assert compared("strict", "--fail-on", "drift", stage="forward")[0].returncode == 1


def test_a_movement_since_the_baseline_is_accepted_too(compared, cache, tmp_path):
    file = tmp_path / "b.npz"
    process = run([*COMPARE, "baseline", "save", file, *ONE, "--out", tmp_path / "out"], cache)
    assert process.returncode == 0
    assert compared("moved", "--baseline", file)[0].returncode == 0
    assert compared("moved-on", "--baseline", file, stage="loss")[0].returncode == 1


# Unusable files


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[[accept", "no TOML"),
        ("accepted = 1", "accepted"),
        ("accept = 1", "[[accept]]"),
        ("accept = [1]", "[[accept]]"),
        ("[[accept]]", "without backend"),
        ("[[accept]]\nbackends = 'x'", "with backends"),
    ],
)
def test_files_that_are_none(tmp_path, text, part):
    file = tmp_path / "accepted.toml"
    file.write_text(text)
    with pytest.raises(ParityError) as refused:
        Accepted.load(file)
    assert part in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"stage": "forwards"}, "forwards"),
        ({"bound": 0}, "bound 0"),
        ({"bound": "much"}, "much"),
        ({"reason": " "}, "reason"),
        ({"expires": "2027-01-31"}, "expires"),
        ({"expires": 2027}, "expires"),
    ],
)
def test_entries_that_cannot_be(tmp_path, changes, part):
    with pytest.raises(ParityError, match=part):
        Accepted.load(write(tmp_path / "accepted.toml", SOUND | changes))


@pytest.mark.parametrize("key", KEYS)
def test_nothing_may_be_left_out(tmp_path, key):
    entry = {name: value for name, value in SOUND.items() if name != key}
    with pytest.raises(ParityError, match=f"entry 2 without {key}"):
        Accepted.load(write(tmp_path / "accepted.toml", SOUND, entry))


def test_no_difference_twice(tmp_path):
    with pytest.raises(ParityError, match="two entries"):
        Accepted.load(write(tmp_path / "accepted.toml", SOUND, SOUND | {"bound": 1.0}))


def test_a_missing_file_is_refused_before_training(cache, tmp_path):
    words = [*COMPARE, *ONE, "--accept", tmp_path / "none.toml", "--out", tmp_path / "out"]
    check_complaint(run(words, cache), tmp_path / "none.toml")
    assert not list(tmp_path.iterdir())
