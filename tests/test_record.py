"""Records: written whole or not at all; a damaged one is refused, never half believed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from framework_parity.common.training.record import FACTS, Record, RecordError
from tests.damage import DAMAGES

SHA256 = "1" * 64


def make_record(**arrays):
    facts = {name: kind() for name, kind in FACTS.items()}
    facts |= {
        "plan_sha256": SHA256,
        "history": {"val_loss": [0.5, 0.25]},
        "seconds": dict.fromkeys(("import", "compile", "fit", "evaluate"), 0.5),
    }
    return Record(facts, {"step_loss": np.ones(4), "parameters/W": np.ones((2, 3, 2)), **arrays})


@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.uint8]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.integers(0, 100),
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_saved_and_loaded(tmp_path, array):
    record = make_record(**{"parameters/b": array})
    shutil.rmtree(tmp_path / "record", ignore_errors=True)
    record.save(tmp_path / "record")
    loaded = Record.load(tmp_path / "record", SHA256)
    assert dict(loaded.facts) == record.facts
    assert set(loaded.arrays) == set(record.arrays)
    assert loaded.arrays["parameters/b"].dtype == array.dtype
    assert loaded.arrays["parameters/b"].shape == array.shape
    assert loaded.arrays["parameters/b"].tobytes() == array.tobytes()
    assert os.listdir(tmp_path) == ["record"]


@pytest.mark.parametrize("place", ["arrays", "facts", "rename"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch, place, error):
    def fail(*_, **__):
        raise error

    if place == "arrays":
        monkeypatch.setattr(np, "savez", fail)
    elif place == "facts":
        monkeypatch.setattr(Path, "write_text", fail)
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        make_record().save(tmp_path / "runs" / "record")
    assert not os.listdir(tmp_path / "runs")
    with pytest.raises(RecordError, match="no record"):
        Record.load(tmp_path / "runs" / "record")


def test_a_record_that_is_there_is_not_replaced(tmp_path):
    make_record(step_loss=np.zeros(4)).save(tmp_path / "record")
    with pytest.raises(OSError, match="record"):
        make_record().save(tmp_path / "record")
    assert not Record.load(tmp_path / "record").arrays["step_loss"].any()
    assert os.listdir(tmp_path) == ["record"]


def test_objects_are_never_written(tmp_path):
    with pytest.raises(TypeError, match="objects"):
        make_record(step_loss=np.array([{}])).save(tmp_path / "record")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused(tmp_path, damage):
    make_record().save(tmp_path / "record")
    Record.load(tmp_path / "record", SHA256)
    DAMAGES[damage](tmp_path / "record")
    with pytest.raises(RecordError) as error:
        Record.load(tmp_path / "record", SHA256)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) > 15


class Trap:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_nothing_is_unpickled(tmp_path):
    make_record().save(tmp_path / "record")
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "record" / "arrays.npz", step_loss=trap)
    with pytest.raises(RecordError, match="unreadable"):
        Record.load(tmp_path / "record")
    assert not (tmp_path / "sprung").exists()
