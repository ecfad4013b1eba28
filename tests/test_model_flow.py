"""What every comparison has, a model of one's own has, too: golden records, a second look, …"""

import pytest

from framework_parity.common.core.errors import ParityError
from framework_parity.common.execution.processes import REFERENCE
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
