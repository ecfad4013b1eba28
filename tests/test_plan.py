"""Plans: decided by the seed, kept in files, refused when touched."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.training.plan import MAX_EPOCH_SNAPSHOTS, Plan
from framework_parity.common.training.recipe import Recipe
from tests.helpers import make_plan

quick = settings(deadline=None)


@given(
    batch_size=st.integers(1, 70),
    lr=st.floats(0, 10),
    max_epochs=st.integers(1, 5),
    sigma=st.floats(0, 10),
    seed=st.integers(0, 2**70),
    dtype=st.sampled_from(["float32", "float64"]),
)
@quick
def test_recipes_go_through_json(**facts):
    recipe = Recipe("some.npz", **facts)
    assert Recipe(**json.loads(json.dumps(recipe.to_json()))) == recipe


@given(seed=st.integers(0, 2**70), max_epochs=st.integers(1, 4), num_train=st.integers(1, 40))
@quick
def test_the_seed_decides_every_byte(seed, max_epochs, num_train):
    data = Synthetic(num_train, 3, 2)
    one, same = (make_plan(data=data, seed=seed, max_epochs=max_epochs)[0] for _ in range(2))
    other, _ = make_plan(data=data, seed=seed + 1, max_epochs=max_epochs)
    for name in ("W", "b", "order"):
        assert getattr(one, name).tobytes() == getattr(same, name).tobytes()
    assert one.sha256 == same.sha256 != other.sha256
    assert one.W.tobytes() != other.W.tobytes()
    assert not one.b.any()
    for epoch in one.order:
        assert sorted(epoch) == list(range(num_train))


def test_more_epochs_begin_like_fewer():
    short, long = (make_plan(max_epochs=epochs)[0] for epochs in (2, 5))
    assert long.W.tobytes() == short.W.tobytes()
    assert long.order[:2].tobytes() == short.order.tobytes()
    assert long.order[0].tobytes() != long.order[1].tobytes()


def test_float64_starts_where_float32_does():
    single, double = (make_plan(dtype=dtype)[0] for dtype in ("float32", "float64"))
    assert single.W.dtype == np.float32
    assert double.W.dtype == np.float64
    assert double.W.astype(np.float32).tobytes() == single.W.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lr": 0.25},
        {"batch_size": 65},
        {"max_epochs": 4},
        {"sigma": 0.02},
        {"dtype": "float64"},
        {"data": Synthetic(300, 8, 3, seed=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_training_changes_the_digest(change):
    assert make_plan(**change)[0].sha256 != make_plan()[0].sha256


@pytest.mark.parametrize("name", ["lr", "sigma"])
def test_whole_numbers_are_the_same_rate_however_they_are_written(name):
    assert make_plan(**{name: 1})[0].sha256 == make_plan(**{name: 1.0})[0].sha256
    assert repr(getattr(Recipe(**{name: 1}), name)) == "1.0"


@pytest.mark.parametrize(
    "value",
    [True, "0.1", None, -1, float("nan"), float("inf"), pytest.param(10**400, id="huge")],
)
@pytest.mark.parametrize("name", ["lr", "sigma"])
def test_what_is_no_rate_is_refused(name, value):
    with pytest.raises(ParityError, match=f"{name}: expected a finite number"):
        Recipe(**{name: value})


def test_names_do_not_change_the_digest():
    plan, data = make_plan()
    data.name = "another name"
    assert make_plan(data=data)[0].sha256 == plan.sha256


@given(
    num_train=st.integers(1, 300), batch_size=st.integers(1, 300), max_epochs=st.integers(1, 250)
)
@quick
def test_snapshots_and_probes_are_steps_of_the_plan(num_train, batch_size, max_epochs):
    recipe = Recipe("some", batch_size, max_epochs=max_epochs)
    order = np.broadcast_to(np.arange(num_train, dtype=np.int32), (max_epochs, num_train))
    plan = Plan(recipe, None, "", np.zeros((1, 1)), np.zeros(1), order)
    per_epoch = plan.steps_per_epoch
    assert (per_epoch - 1) * batch_size < num_train <= per_epoch * batch_size
    assert plan.num_steps == max_epochs * per_epoch
    assert [len(rows) for rows in plan.batches(0)][:-1] == [batch_size] * (per_epoch - 1)
    assert sum(len(rows) for rows in plan.batches(max_epochs - 1)) == num_train
    snapshots = plan.snapshots
    assert list(snapshots) == sorted(set(snapshots))
    assert 1 in snapshots
    assert 1 <= snapshots[0] <= snapshots[-1] == plan.num_steps
    assert per_epoch in snapshots
    assert len(snapshots) <= MAX_EPOCH_SNAPSHOTS + per_epoch.bit_length() + 1
    if max_epochs <= MAX_EPOCH_SNAPSHOTS:
        assert set(range(per_epoch, plan.num_steps + 1, per_epoch)) <= set(snapshots)
    probes = plan.probes
    assert list(probes) == sorted(set(probes))
    assert {0, per_epoch - 1, plan.num_steps - 1} <= set(probes)
    assert probes[-1] < plan.num_steps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded(tmp_path, dtype):
    plan, data = make_plan(tmp_path, dtype=dtype)
    loaded = Plan.load(tmp_path / "plan")
    assert loaded.sha256 == plan.sha256
    assert loaded.recipe == plan.recipe
    for name in ("W", "b", "order"):
        assert getattr(loaded, name).tobytes() == getattr(plan, name).tobytes()
    assert loaded.data().sha256() == data.sha256() == plan.data_sha256
    assert loaded.data().batch_size == plan.recipe.batch_size


def tampered(name, change):
    def tamper(folder):
        if name == "plan.json":
            facts = json.loads((folder / name).read_text())
            change(facts)
            (folder / name).write_text(json.dumps(facts))
        else:
            array = np.load(folder / name)
            np.save(folder / name, change(array))

    return pytest.param(tamper, id=name)


@pytest.mark.parametrize(
    "tamper",
    [
        tampered("W.npy", lambda W: np.nextafter(W, 1)),
        tampered("W.npy", lambda W: W.astype(np.float64)),
        tampered("b.npy", lambda b: b + 1),
        tampered("order.npy", lambda order: order[:, ::-1]),
        tampered("order.npy", lambda order: order[:-1]),
        tampered("plan.json", lambda facts: facts["recipe"].update(lr=0.2)),
        tampered("plan.json", lambda facts: facts["recipe"].update(lr=-1)),
        tampered("plan.json", lambda facts: facts["recipe"].update(momentum=0.9)),
        tampered("plan.json", lambda facts: facts.update(data_sha256="0" * 64)),
        tampered("plan.json", lambda facts: facts.pop("sha256")),
        pytest.param(lambda folder: (folder / "W.npy").unlink(), id="missing"),
        pytest.param(lambda folder: (folder / "W.npy").write_bytes(b"rubbish"), id="rubbish"),
        pytest.param(lambda folder: (folder / "W.npy").write_bytes(b""), id="empty"),
        pytest.param(lambda folder: (folder / "plan.json").write_text("[]"), id="no object"),
        pytest.param(lambda folder: (folder / "plan.json").write_text("{"), id="no json"),
    ],
)
def test_a_tampered_plan_is_refused(tmp_path, tamper):
    make_plan(tmp_path)
    tamper(tmp_path / "plan")
    with pytest.raises(ParityError) as error:
        Plan.load(tmp_path / "plan")
    assert "expected" in str(error.value)
    assert "received" in str(error.value)
