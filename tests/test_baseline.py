"""Golden records: the same bits, rounding, drift or more, against a file that a project commits."""

import dataclasses
import io
import json
import shlex
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework_parity.common.commands.golden_records import (
    MOST_BYTES,
    SCHEMA,
    Baseline,
    pack,
    unpack,
)
from framework_parity.common.commands.run_facts import run_facts
from framework_parity.common.core import device
from framework_parity.common.core.cache import CACHE_VARIABLE
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import Contender
from framework_parity.common.judging.baseline_difference import compare_with_golden
from framework_parity.common.judging.golden_record import golden_record, projections
from framework_parity.common.reference import variations
from framework_parity.common.reference.ensemble import member
from framework_parity.common.reference.replay import FORMS, Training
from framework_parity.common.report.report import Report
from framework_parity.common.report.wording import moved_sentence
from framework_parity.common.training.record import HISTORY
from framework_parity.compare import compare
from tests.conftest import BACKENDS
from tests.helpers import (
    COMPARE,
    FRAMEWORKS,
    PLAIN,
    SMALL,
    check_complaint,
    interpreter,
    off_by,
    run,
)
from tests.replays import digits_judge, record_of

AROUND = {"processor": "one", "system": "another", "threads": 1, "device": "cpu"}


# The archive


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4", "u1"])
def test_facts_and_arrays_survive_bit_for_bit(tmp_path, kind):
    array = np.random.default_rng(0).standard_normal((3, 5)).astype(kind)
    facts = {"because": "ünïcode", "losses": [0.1, 1e-300]}
    (tmp_path / "b.npz").write_bytes(pack(facts, {"a b/parameters/W": array}))
    again, arrays = unpack(tmp_path / "b.npz")
    assert again == facts
    (found,) = arrays.values()
    assert (list(arrays), found.dtype) == (["a b/parameters/W"], array.dtype)
    assert found.tobytes() == array.tobytes()


def test_projections_see_a_change_wherever_it_is():
    for place in np.ndindex(30, 4):
        values = np.zeros((1, 30, 4))
        values[(0, *place)] = 3.0
        np.testing.assert_array_equal(np.abs(projections(values))[0, :, place[1]], 3.0)


# Comparing with a golden record


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return digits_judge(tmp_path_factory.mktemp("digits"))


def trained(judge, training, version="1.0"):
    """Record and report row of a worker that trained so."""
    record = record_of(judge, training)
    facts = dict(record.facts) | {
        "versions": {"made-up": version},
        "fed_sha256": "0",
        "seconds": dict.fromkeys(("import", "compile", "fit", "evaluate"), 0.0),
        "peak_rss_bytes": 1,
    }
    record = dataclasses.replace(record, facts=facts)
    contender = Contender(Environment("made-up", None, version), "concise")
    outcome = {contender.name: Outcome("done", None, 1.0)}
    return record, run_facts(judge, contender, outcome, (record, judge.judge(record)))


def golden(judge, training):
    """The golden record of a worker that trained so, as it comes back from a file."""
    kept = golden_record(judge, *trained(judge, training), AROUND)
    return dataclasses.replace(kept, facts=json.loads(json.dumps(kept.facts)))


@pytest.fixture(scope="module")
def sound(judge):
    return golden(judge, member(judge.plan, judge.data, 0))


def moved(judge, kept, training, version="1.0"):
    return compare_with_golden(judge, kept, *trained(judge, training, version), AROUND)


def test_the_same_bits_are_exact(judge, sound):
    found = moved(judge, sound, member(judge.plan, judge.data, 0))
    assert (found.grade, found.envelopes, found.divergence, found.first_bits) == (
        "exact",
        0.0,
        None,
        None,
    )
    assert found.versions == found.surroundings == {}
    assert found.parameter_error == found.loss_error == found.predictions == 0


@pytest.mark.parametrize("block", [None, 8, 1])
@pytest.mark.parametrize("form", FORMS[1:])
def test_other_summation_orders_are_rounding(judge, sound, form, block):
    training = Training(judge.plan, judge.data, "float32", form=form, block=block)
    found = moved(judge, sound, training, "2.0")
    assert found.grade == "rounding"
    assert 0 < found.envelopes < 8
    assert found.first_bits
    assert found.versions == {"made-up": ["1.0", "2.0"]}


@pytest.mark.parametrize(
    ("kind", "value", "grade", "stage"),
    [
        (variations.LearningRate, 1 + 1e-5, "drift", "update"),
        (variations.LearningRate, 1.1, "disagree", "update"),
        (variations.Momentum, 0.9, "disagree", "update"),
        (variations.LabelSmoothing, 0.1, "disagree", "example loss"),
    ],
)
def test_a_change_is_located(judge, sound, kind, value, grade, stage):
    training = kind(judge.plan, judge.data, value, dtype="float32")
    found = moved(judge, sound, training)
    assert (found.grade, found.divergence.stage) == (grade, stage)
    assert found.envelopes > 8
    assert found.was == "rounding"
    # The way back is as long, and says what is gone.
    back = moved(judge, golden(judge, training), member(judge.plan, judge.data, 0))
    assert (back.grade, back.divergence.stage) == (grade, stage)
    assert back.divergence.step == found.divergence.step
    assert back.gone


def test_a_single_weight_between_the_snapshots_kept_whole_is_seen(judge, sound):
    record, row = trained(judge, member(judge.plan, judge.data, 0))
    W = record.arrays["parameters/W"].copy()
    W[2, 33, 4] += 1000 * judge.envelope.parameters["W"][2]
    record = dataclasses.replace(record, arrays={**record.arrays, "parameters/W": W})
    found = compare_with_golden(judge, sound, record, row, AROUND)
    assert found.grade == "drift"
    assert found.divergence.step == judge.plan.snapshots[2] - 1
    assert "updates" in found.first_bits


def test_predictions_and_losses_are_compared_with_those_of_the_golden_record(judge, sound):
    record, row = trained(judge, member(judge.plan, judge.data, 0))
    y_hat = record.arrays["val_y_hat"].copy()
    y_hat[:7] = np.roll(y_hat[:7], 1, axis=1)
    other = dataclasses.replace(record, arrays={**record.arrays, "val_y_hat": y_hat})
    found = compare_with_golden(judge, sound, other, row, AROUND)
    assert found.predictions == 7
    assert found.grade != "exact"
    assert found.first_bits == "losses or predictions as reported"


def test_a_missing_stage_and_another_length_are_never_passed_over(judge, sound):
    record, row = trained(judge, member(judge.plan, judge.data, 0))
    arrays = {k: a for k, a in record.arrays.items() if k != "probe/1/loss"}
    arrays["step_loss"] = arrays["step_loss"] + 1e-12
    found = compare_with_golden(
        judge, sound, dataclasses.replace(record, arrays=arrays), row, AROUND
    )
    assert found.grade == "disagree"
    assert found.divergence.statistic == "missing"
    arrays = dict(record.arrays) | {"step_loss": record.arrays["step_loss"][:-1]}
    found = compare_with_golden(
        judge, sound, dataclasses.replace(record, arrays=arrays), row, AROUND
    )
    assert found.grade == "disagree"
    assert found.divergence.tensor == "number of steps"


def test_what_changed_around_is_named(judge, sound):
    record, row = trained(judge, member(judge.plan, judge.data, 0))
    found = compare_with_golden(judge, sound, record, row, AROUND | {"threads": 2})
    assert found.surroundings == {"threads": [1, 2]}


# The file, from the command line


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


ONE = (PLAIN, *SMALL, "--quiet", "--implementation", "scratch")
SAVE = (*COMPARE, "baseline", "save")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, cache):
    """A saved baseline of both implementations, and its folder."""
    folder = tmp_path_factory.mktemp("saved")
    words = [*SAVE, folder / "b.npz", PLAIN, *SMALL, "--quiet", "--out", folder / "out"]
    process = run([*words, "--because", "the first: <b>ours</b> | ünïcode"], cache)
    assert process.returncode == 0, process.stderr
    assert "baseline saved, 2 runs" in process.stdout
    return folder / "b.npz"


def rows(out):
    return {row["implementation"]: row for row in Report.load(out).runs}


def facts_of(path):
    return unpack(path)[0]


def test_the_file_is_readable_and_says_what_it_is(saved):
    with zipfile.ZipFile(saved) as archive:
        text = archive.read("baseline.json").decode()
    facts = json.loads(text)
    assert facts["schema"] == SCHEMA
    assert facts["recipe"]["batch_size"] == 256
    (entry,) = facts["history"]
    assert entry["because"] == "the first: <b>ours</b> | ünïcode"
    for row in facts["runs"]:
        assert len(row["history"]["val_loss"]) == 2
        assert row["versions"]["numpy"] == np.__version__
        assert row["surroundings"]["threads"] == 1
    assert max(map(len, text.splitlines())) < 2000
    with np.load(saved, allow_pickle=False) as archive:  # NumPy alone reads it
        assert f"{PLAIN} {np.__version__} scratch/step_loss" in archive


def test_nothing_changed_is_exact_and_the_baseline_stays(saved, cache, tmp_path):
    before = saved.read_bytes()
    process = run([*COMPARE, *ONE, "--baseline", saved, "--out", tmp_path / "out"], cache)
    assert process.returncode == 0, process.stdout
    row = rows(tmp_path / "out")["scratch"]
    assert row["grade"] == row["baseline"]["grade"] == "exact"
    assert Report.load(tmp_path / "out").verdict == "agree"
    assert "Against the baseline: 1 exact." in process.stdout
    assert "not trained now" in process.stdout
    assert saved.read_bytes() == before


def test_another_version_is_named(saved, cache, tmp_path):
    """A real other NumPy: that of a framework's environment."""
    for name in FRAMEWORKS:
        python = find_environment(BACKENDS[name]).python
        version = next(iter(r for r in BACKENDS[name].requirements if r.name == "numpy"), None)
        if version is not None and np.__version__ not in version.specifier:
            break
    words = [*COMPARE, *ONE, "--python", f"{PLAIN}={python}", "--out", tmp_path / "out"]
    process = run([*words, "--baseline", saved], cache)
    assert process.returncode == 0, process.stdout + process.stderr
    found = rows(tmp_path / "out")["scratch"]["baseline"]
    assert found["grade"] in ("exact", "rounding")
    was, now = found["versions"]["numpy"]
    assert was == np.__version__ != now
    assert f"numpy {was} → {now}" in process.stdout


def test_another_device_is_named(saved, cache, tmp_path, monkeypatch):
    """A worker that says nothing and computes as ever."""
    for row in facts_of(saved)["runs"]:
        assert row["surroundings"]["device"] == "cpu"
    silent = f'unset {device.DEVICE_VARIABLE}; exec {shlex.quote(sys.executable)} "$@"'
    python = interpreter(tmp_path / "python", "*framework_parity.common.worker*", silent)
    monkeypatch.setattr(device, "DRIVERS", ("/dev/null",))
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    small = {"data": SMALL[1], "max_epochs": int(SMALL[3]), "implementations": ["scratch"]}
    common = {"pythons": {PLAIN: python}, "baseline": saved, **small}
    for kind, expected in (("cpu", {}), ("gpu", {"device": ["cpu", "gpu"]})):
        report = compare([PLAIN], device=kind, out=tmp_path / kind, **common)
        (row,) = report.runs
        assert (row["grade"], row["baseline"]["grade"]) == ("exact", "exact")
        assert row["baseline"]["surroundings"] == expected
    assert "device cpu → gpu" in moved_sentence(row, row["baseline"])


@pytest.fixture
def faulty(tmp_path):
    """An interpreter whose workers train with a learning rate that is off."""
    return lambda factor: off_by(tmp_path / f"python-{factor}", factor)


@pytest.mark.parametrize(("factor", "grade"), [("1.00001", "drift"), ("1.5", "disagree")])
def test_a_change_beyond_rounding_fails(saved, cache, tmp_path, faulty, factor, grade):
    words = [*COMPARE, *ONE, "--python", f"{PLAIN}={faulty(factor)}", "--baseline", saved]
    process = run([*words, "--out", tmp_path / "out"], cache)
    assert process.returncode == 1, process.stdout + process.stderr
    row = rows(tmp_path / "out")["scratch"]
    assert row["baseline"]["grade"] == row["grade"] == grade
    assert row["baseline"]["divergence"]["stage"] == "update"
    assert f"{PLAIN} scratch moved since the baseline ({grade})" in process.stdout
    assert "learning rate ×" in process.stdout


def test_saving_again_keeps_the_other_runs_and_the_history(saved, cache, tmp_path, faulty):
    file = tmp_path / "b.npz"
    file.write_bytes(saved.read_bytes())
    words = [*SAVE, file, *ONE, "--python", f"{PLAIN}={faulty('1.00001')}"]
    process = run([*words, "--because", "on purpose", "--out", tmp_path / "one"], cache)
    assert process.returncode == 0, process.stdout  # drift is shown, and nothing was compared
    old, new = map(facts_of, (saved, file))
    assert new["history"][:-1] == old["history"]
    entry = new["history"][-1]
    assert entry["because"] == "on purpose"
    moved = [change for change in entry["changes"] if "moved since the baseline" in change]
    assert any("update" in change for change in moved)
    concise, scratch = (
        next(row for row in new["runs"] if row["implementation"] == name)
        for name in ("concise", "scratch")
    )
    assert concise == next(row for row in old["runs"] if row["implementation"] == "concise")
    assert scratch["grade"] == "drift"
    process = run([*COMPARE, *ONE, "--baseline", file, "--out", tmp_path / "two"], cache)
    assert process.returncode == 1
    assert "gone since: learning rate ×" in process.stdout


def test_what_did_not_run_is_not_saved(saved, cache, tmp_path):
    file = tmp_path / "b.npz"
    file.write_bytes(saved.read_bytes())
    words = [*SAVE, file, PLAIN, FRAMEWORKS[0], *SMALL, "--quiet", "--out", tmp_path / "out"]
    process = run([*words, "--python", f"{FRAMEWORKS[0]}=/dev/null"], cache)
    assert process.returncode == 3
    assert "not saved" in process.stdout
    assert file.read_bytes() == saved.read_bytes()


def test_a_run_that_is_not_in_the_baseline_is_named_and_fails(cache, tmp_path):
    file, words = tmp_path / "b.npz", [PLAIN, *SMALL, "--quiet"]
    one = ["--implementation", "concise", "--out", tmp_path / "one"]
    process = run([*SAVE, file, *words, *one], cache)
    assert process.returncode == 0, process.stderr
    process = run([*COMPARE, *words, "--baseline", file, "--out", tmp_path / "two"], cache)
    assert process.returncode == 1
    assert f"{PLAIN} scratch: not in the baseline" in process.stdout
    *_, verdict, _ = process.stdout.splitlines()
    assert verdict.endswith(f"Failed: {PLAIN} scratch is not in the baseline.")


def test_a_run_that_was_taken_out_of_the_file_is_an_edit(saved, tmp_path):
    facts, arrays = unpack(saved)
    for rest in (facts["runs"][1:], facts["runs"][:1], []):
        file = tmp_path / "b.npz"
        file.write_bytes(pack(facts | {"runs": rest}, arrays))
        with pytest.raises(ParityError, match="the list of its runs was changed after"):
            Baseline.load(file)


# Edited files


def numbers(value, place=()):
    """The places of all that stands in a JSON value, containers apart."""
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, inner in pairs for found in numbers(inner, (*place, key))]
    return [place]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_edited_in_a_file_is_refused_by_name(saved, tmp_path, drawn):
    facts, arrays = unpack(saved)
    *names, last = drawn.draw(st.sampled_from(numbers(facts)))
    inner = facts
    for name in names:
        inner = inner[name]
    old = inner[last]
    edits = {str: lambda v: v[:-1] + chr(ord(v[-1:] or "a") ^ 1), type(None): lambda _: "other"}
    inner[last] = edits.get(type(old), lambda v: v + 1 if isinstance(v, int) else v * 1.5 + 1e-9)(
        old
    )
    file = tmp_path / "b.npz"
    file.write_bytes(pack(facts, arrays))
    with pytest.raises(ParityError, match="expected a baseline") as error:
        Baseline.load(file)
    if "was changed after it was saved" in str(error.value):
        name = [*names, last][2] if names[:1] == ["runs"] else [*names, last][0]
        assert last == name or str(name) in str(error.value) or name == "digests"


def test_an_array_that_is_edited_is_refused_by_its_run(saved, tmp_path):
    facts, arrays = unpack(saved)
    file = tmp_path / "b.npz"
    for name in arrays:
        spoilt = arrays[name].copy()
        spoilt.reshape(-1)[-1] += 1
        file.write_bytes(pack(facts, arrays | {name: spoilt}))
        implementation = name.partition("/")[0].split()[-1]
        with pytest.raises(ParityError, match=f"{implementation} arrays was changed after"):
            Baseline.load(file)


@pytest.mark.parametrize("name", HISTORY)
def test_a_metric_edited_in_a_golden_record_has_moved(judge, sound, name):
    *values, last = sound.facts["history"][name]
    history = sound.facts["history"] | {name: [*values, 9.9 if "loss" in name else last - 0.01]}
    edited = dataclasses.replace(sound, facts=sound.facts | {"history": history})
    found = moved(judge, edited, member(judge.plan, judge.data, 0))
    assert found.grade in ("drift", "disagree")
    assert (found.divergence.stage, found.divergence.tensor) == ("metric", name)


# Unusable files


def one(arrays, name):
    """The key of an array of the first run."""
    return next(key for key in arrays if key.endswith(f"/{name}"))


DAMAGES = {
    "newer": lambda f, a: f.update(schema=SCHEMA + 1),
    "no schema": lambda f, a: f.pop("schema"),
    "another kind": lambda f, a: f.update(kind="diary"),
    "no runs": lambda f, a: f.pop("runs"),
    "runs of words": lambda f, a: f.update(runs=["one"]),
    "no history": lambda f, a: f.pop("history"),
    "no digests": lambda f, a: f["runs"][0].pop("sha256"),
    "losses of words": lambda f, a: f["runs"][0]["history"].update(val_loss=["low", "lower"]),
    "no losses": lambda f, a: f["runs"][0].update(history={}),
    "no array": lambda f, a: a.pop(one(a, "parameters/b")),
    "another shape": lambda f, a: a.update({one(a, "parameters/b"): np.zeros((1, 1))}),
    "not finite": lambda f, a: a.update({one(a, "step_loss"): np.full(2, np.nan)}),
    "words": lambda f, a: a.update({one(a, "step_loss"): np.array(["low"])}),
    "a stage of nothing": lambda f, a: f["runs"][0]["stages"].append({}),
    "a short loss": lambda f, a: f["runs"][0]["history"].update(val_loss=[1.0]),
    "no rows": lambda f, a: a.update({one(a, "rows/W"): np.zeros(3)}),
    "too much of a number": lambda f, a: f["runs"][0].update(envelopes=10**400),
}


@pytest.mark.parametrize("option", [("--baseline",), ("baseline", "save")], ids=" ".join)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_baseline_is_refused_and_kept(saved, tmp_path, capfd, damage, option):
    from framework_parity.compare import main

    file = tmp_path / "b.npz"
    facts, arrays = unpack(saved)
    DAMAGES[damage](facts, arrays)
    file.write_bytes(pack(facts, arrays))
    before = file.read_bytes()
    words = [*option, str(file), *ONE, "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert str(file) in said.err
    assert file.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_baseline_is_refused(tmp_path, content):
    file = tmp_path / "b.npz"
    file.write_bytes(content)
    with pytest.raises(ParityError, match="expected a baseline"):
        Baseline.load(file)


def test_a_baseline_of_an_older_release_says_how_to_make_it_anew(saved, tmp_path):
    json_file, archive = tmp_path / "old.json", tmp_path / "old.npz"
    json_file.write_text('{\n "kind": "framework-parity baseline",\n "schema": 3\n}')
    facts, arrays = unpack(saved)
    archive.write_bytes(pack(facts | {"schema": 2}, arrays))
    for file, schema in ((json_file, 3), (archive, 2)):
        with pytest.raises(ParityError, match=rf"of an older release.*{schema}.*baseline save"):
            Baseline.load(file)


def archive_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)


def test_what_would_run_or_fill_the_memory_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    file, content = tmp_path / "b.npz", io.BytesIO()
    np.save(content, np.array([Trap()]), allow_pickle=True)
    for members in (
        {"baseline_json": "{}", "a_npy": content.getvalue()},
        {"baseline_json": "[" * 100_000},
        {"baseline_json": '{"kind": NaN}'},
        {"baseline_json": "{}", "a_npy": bytes(MOST_BYTES + 1)},
        {"a_npy": b""},
    ):
        archive_of(file, **members)
        with pytest.raises(ParityError, match="no archive of golden records") as error:
            Baseline.load(file)
        assert len(str(error.value).splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--baseline", "nowhere.npz"), "nowhere.npz"),
        (("baseline", "save", "/proc/nowhere.npz"), "/proc/nowhere.npz"),
        (("baseline", "save", "."), "a folder"),
        (("baseline", "save", PLAIN), f"baseline save FILE.npz {PLAIN}"),
        (("baseline", "save", f"{PLAIN}==2.0"), f"baseline save FILE.npz {PLAIN}==2.0"),
        (("baseline", "save", "golden.json"), "received golden.json; name golden.npz"),
        (("baseline", "save", "golden"), "received golden; name golden.npz"),
        (("--because", "no file"), "--because"),
    ],
)
def test_places_that_cannot_be(cache, tmp_path, arguments, part):
    process = run([*COMPARE, *arguments, *ONE, "--out", "out"], cache, cwd=tmp_path)
    check_complaint(process, part)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [("--baseline",), ("baseline", "save")], ids=" ".join)
@pytest.mark.parametrize(
    ("changed", "part"), [(("--lr", "0.2"), "lr 0.1, not 0.2"), (("--seed", "5"), "seed 0, not 5")]
)
def test_a_baseline_of_another_plan_is_refused(saved, cache, tmp_path, option, changed, part):
    before = saved.read_bytes()
    words = [*COMPARE, *option, saved, *ONE, *changed, "--out", tmp_path / "out"]
    check_complaint(run(words, cache), saved, "another plan", part)
    assert saved.read_bytes() == before
    assert not (tmp_path / "out").exists()
