"""What every comparison has, a model of one's own has, too: golden records, a second look, …"""

import numpy as np
import pytest

from framework_parity.common.core.errors import ParityError
from framework_parity.common.execution.processes import EVALUATION, MEMBERS, REFERENCE
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.recomputed import with_recomputed
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.compare import compare_model, save_baseline
from tests.helpers import PLAIN
from tests.model_files import FOUND
from tests.test_own_model import PLAIN_MODEL

SMALL = {"data": "synthetic:300x8x3", "max_epochs": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    (folder / "mine.py").write_text(PLAIN_MODEL)
    return folder


# Golden records, repeats


@pytest.fixture(scope="module")
def saved(folder):
    """A comparison of a NumPy model, trained twice, whose golden records are kept."""
    golden = folder / "golden.npz"
    options = SMALL | {"out": folder / "saved", "repeat": 2}
    return save_baseline(
        golden, [PLAIN], model=folder / "mine.py", because="mine", **options
    ), golden


def test_repeated_trainings_of_a_model_are_compared(saved):
    (row,) = saved[0].runs
    assert row["repeats"] == {
        "asked": 2,
        "trained": 2,
        "identical": True,
        "parameter_error": 0.0,
        "parameter_envelopes": 0.0,
    }


def test_a_model_that_did_not_move_is_exact(saved, folder, tmp_path):
    report = compare_model(folder / "mine.py", [PLAIN], baseline=saved[1], out=tmp_path, **SMALL)
    (row,) = report.runs
    assert (row["grade"], row["baseline"]["grade"]) == ("exact", "exact")
    assert report.exit_status() == 0


@pytest.fixture(scope="module")
def moved(saved, folder):
    """The same model with another learning rate, against the golden records."""
    place = folder / "other" / "mine.py"
    place.parent.mkdir()
    place.write_text(PLAIN_MODEL.replace("self.lr = lr", "self.lr = 1.001 * lr"))
    accepted = folder / "accepted.toml"
    accepted.write_text(
        f'[[accept]]\nbackend = "{PLAIN}"\nimplementation = "mine"\nstage = "update"\n'
        'bound = 1e9\nreason = "on purpose"\nexpires = 2999-12-31\n'
    )
    options = SMALL | {"baseline": saved[1], "accept": accepted, "out": folder / "moved"}
    return compare_model(place, [PLAIN], **options)


def test_a_model_that_moved_is_located(moved):
    (row,) = moved.runs
    assert row["grade"] == "rounding"  # its own reference moved with it
    found = row["baseline"]
    assert found["grade"] in ("drift", "disagree")
    assert (found["divergence"]["step"], found["divergence"]["stage"]) == (0, "update")


def test_what_a_model_does_is_accepted_by_its_name(moved):
    assert moved.exit_status() == 0
    (entry,) = moved.facts["accepted"]["entries"]
    assert entry["reason"] == "on purpose"


def test_golden_records_of_another_network_are_refused(saved, folder, tmp_path):
    place = tmp_path / "mine.py"
    place.write_text(PLAIN_MODEL.replace("6", "5"))
    with pytest.raises(ParityError, match="one of a model of other parameters"):
        compare_model(place, [PLAIN], baseline=saved[1], out=tmp_path / "out", **SMALL)


# What parameters give in float64


@pytest.fixture(scope="module")
def judged(saved):
    """The judge of the saved comparison, and its run's record, with what its parameters give."""
    folder = saved[0].folder
    plan = Plan.load(folder / "plan")
    known = {}
    for key, array in Record.read(folder / "reference" / EVALUATION).arrays.items():
        known.setdefault(key.rpartition("/")[0], {})[key.rpartition("/")[2]] = array
    names = (REFERENCE, *MEMBERS)
    records = [Record.load(folder / "reference" / name) for name in names]
    records = [with_recomputed(r, known.get(n, {})) for n, r in zip(names, records, strict=True)]
    judge = ModelJudge.measure(plan, plan.data(), records[0], records[1:])
    run = f"{PLAIN}-mine"
    return judge, with_recomputed(Record.load(folder / "runs" / run), known[run])


def changed(record, **changes):
    """A record with other arrays, or another last value of a metric."""
    history = {name: [*values] for name, values in record.facts["history"].items()}
    for name in history.keys() & changes.keys():
        history[name][-1] += changes.pop(name)
    return Record({**record.facts, "history": history}, {**record.arrays, **changes})


def test_sound_numbers_are_those_of_the_parameters(judged):
    judge, record = judged
    found = judge.judge(record)
    assert found.grade == "rounding"
    assert found.stages["metric"].envelopes <= 4
    exact = record.arrays["recomputed/losses"][-1]
    assert record.facts["history"]["val_loss"][-1] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy", "val_y_hat"])
def test_a_number_that_its_parameters_do_not_give_is_found(judged, name):
    judge, record = judged
    last = judge.plan.num_steps - 1
    if name == "val_y_hat":
        other = changed(record, val_y_hat=record.arrays["val_y_hat"] + np.float32(1e-3))
    else:
        other = changed(record, **{name: 1e-2 if name == "val_loss" else 0.2})
    found = next(f for f in judge.metric_findings(other) if f.tensor == name and f.envelopes > 4)
    assert found.step == last


def test_a_flip_is_explained_by_the_error_of_the_scores_alone(judged):
    """Two of the reference's scores are nearly a tie: a run may see them in the other order."""
    judge, record = judged
    exact = judge.oracle.val_logits
    ours, theirs = exact[0].argsort()[-2:][::-1]
    margin = exact[0, ours] - exact[0, theirs]
    scores = record.arrays["recomputed/scores"].copy()
    for far, explained in ((1.001 * margin, True), (0.0, False)):
        moved = scores.copy()
        moved[0, theirs] += far
        reported = record.arrays["val_y_hat"].copy()
        reported[0, theirs] += np.float32(1.01 * margin)
        arrays = {"recomputed/scores": moved, "val_y_hat": reported}
        other = Record(record.facts, {**record.arrays, **arrays})
        (flip,) = judge.flips(other, judge.scores(other))
        assert (flip["example"], flip["explained"]) == (0, explained)


# What two frameworks show


STEPS = {"data": "synthetic:300x8x3", "max_epochs": 2, "batch_size": 16}
"""Probed are steps 0, 1, 4, 16 and some behind it; on record is what is there after 8 and 16."""


@pytest.fixture(scope="module")
def looked_again(folder):
    """A framework whose forward pass is wrong in a few steps, none of which is probed."""
    place = folder / "pair" / "mine.py"
    place.parent.mkdir()
    place.write_text(PLAIN_MODEL)
    sound = compare_model(place, [PLAIN], out=folder / "sound", **STEPS)
    oracle = Record.load(sound.folder / "reference" / REFERENCE)
    sizes = [float((oracle.states()[step]["W2"] ** 2).sum()) for step in (8, 16)]
    low, high = (sizes[0] + part * (sizes[1] - sizes[0]) for part in (0.25, 0.75))
    (fault,) = (found for found in FOUND.values() if "SOMETIMES" in found)
    forward = fault["SOMETIMES"].replace("LOW", repr(low)).replace("HIGH", repr(high))
    frame = fault["FRAME"].replace("LAYERS", "pass")
    lines = "\n            ".join(forward.strip().splitlines())
    place.write_text(PLAIN_MODEL + frame.replace("FORWARD", lines))
    return compare_model(place, out=folder / "pair-out", **STEPS)


def test_a_second_look_finds_the_step_between_the_probed_ones(looked_again):
    (row,) = looked_again.runs
    found = row["divergence"]
    assert 8 <= found["step"] < 16
    assert (found["stage"], found["tensor"]) == ("forward", "y_hat")
    assert row["stages"]["forward"]["envelopes"] > 4  # a single step shows it
    assert row["grade"] == "disagree"
