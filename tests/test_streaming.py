"""Data larger than memory: the same comparison, chunk by chunk."""

import os

import numpy as np
import pytest

from framework_parity.common.core.archive import open_archive
from framework_parity.common.core.cache import CACHE_VARIABLE, MEMORY_VARIABLE
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import ARRAYS, DataModule
from framework_parity.common.data.datasets import Synthetic, load_npz
from framework_parity.common.reference.recording_data import RecordingData
from framework_parity.common.reference.replay import Training
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import Record
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, check_complaint, make_plan, run
from tests.test_own_model import PLAIN_MODEL

CHUNK = 16
MEMORY = str(32 * CHUNK * 8 * 4)
"""Bytes that make 700 examples of 8 features large, and a chunk two batches of 8."""

DATA = ("--data", "synthetic:700x8x3", "--batch-size", "8", "--max-epochs", "2")


def home():
    """The user's cache, which has the environments."""
    return {CACHE_VARIABLE: os.environ.get(CACHE_VARIABLE, "")}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """All backends on data in memory and on the same data in chunks."""
    folder = tmp_path_factory.mktemp("streaming")
    for name, changes in {"memory": {}, "streamed": {MEMORY_VARIABLE: MEMORY}}.items():
        words = [*COMPARE, *BACKENDS, *DATA, "--quiet", "--out", folder / name]
        process = run(words, folder, **home(), **changes)
        assert process.returncode in (0, 1), process.stderr
    return [Report.load(folder / name) for name in ("memory", "streamed")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_streamed_data_get_the_grades_that_data_in_memory_get(reports, backend):
    memory, streamed = (
        {row["implementation"]: row for row in report.runs if row["backend"] == backend}
        for report in reports
    )
    assert set(memory) == set(streamed) == set(BACKENDS[backend].implementations)
    for name, row in streamed.items():
        assert row["status"] == "done", row["reason"]
        assert row["grade"] == memory[name]["grade"]
        divergences = row["divergence"], memory[name]["divergence"]
        assert [d and d["stage"] for d in divergences[:1]] == [
            d and d["stage"] for d in divergences[1:]
        ]
        np.testing.assert_allclose(row["val_loss"], memory[name]["val_loss"], rtol=1e-4)
        probed = [
            Record.load(report.folder / "runs" / f"{backend}-{name}").arrays for report in reports
        ]
        assert set(probed[0]) == set(probed[1])
        for key, array in probed[0].items():
            if key.endswith(("data/X", "data/y", "data/X_error", "fed/y_train")):
                np.testing.assert_array_equal(probed[1][key], array, err_msg=key)


def test_the_reference_and_the_envelope_are_the_same(reports):
    for key in ("reference", "envelope", "verdict", "plan_sha256"):
        assert reports[0].facts[key] == reports[1].facts[key], key


def test_all_backends_were_given_the_same_chunks(reports):
    digests = [{row["fed_sha256"] for row in report.runs} for report in reports]
    assert [len(each) for each in digests] == [1, 1]
    assert digests[0] != digests[1], "one goes by rows, the other by the order of use"


def test_a_limit_that_is_no_number_is_a_clear_line(tmp_path):
    words = [*COMPARE, *DATA, "--out", tmp_path / "out"]
    check_complaint(run(words, tmp_path, **{MEMORY_VARIABLE: "4 GB"}), MEMORY_VARIABLE, "'4 GB'")


# A user's own, larger than memory


def own_data(path, save=np.savez, **changes):
    """Pixels in an archive, with their arrays."""
    random = np.random.default_rng(0)
    y = np.arange(900) % 3
    X = random.integers(0, 80, (900, 4, 2), dtype=np.uint8) + (60 * y[:, None, None]).astype("u1")
    arrays = {"X_train": X[:700], "y_train": y[:700], "X_val": X[700:], "y_val": y[700:]} | changes
    save(path, **arrays)
    return arrays


def test_an_archive_larger_than_memory_is_compared(tmp_path):
    own_data(tmp_path / "own.npz")
    found = []
    for name, changes in {"memory": {}, "streamed": {MEMORY_VARIABLE: MEMORY}}.items():
        words = [PLAIN, "--data", "own.npz", *DATA[2:], "--quiet", "--out", name]
        process = run([*COMPARE, *words], tmp_path / "cache", cwd=tmp_path, **changes)
        assert process.returncode == 0, process.stderr + process.stdout
        found.append(Report.load(tmp_path / name))
    for key in ("data", "reference", "envelope"):
        assert found[0].facts[key] == found[1].facts[key]
    assert [row["grade"] for row in found[1].runs] == ["rounding"] * 2


def test_a_model_of_ones_own_is_compared_on_data_larger_than_memory(tmp_path):
    (tmp_path / "mine.py").write_text(PLAIN_MODEL)
    words = [*COMPARE, "model", tmp_path / "mine.py", PLAIN, *DATA, "--quiet"]
    process = run([*words, "--out", tmp_path / "out"], tmp_path, **{MEMORY_VARIABLE: MEMORY})
    assert process.returncode == 0, process.stderr + process.stdout
    (row,) = Report.load(tmp_path / "out").runs
    assert row["grade"] == "rounding"
    # Every stage of the last step, too, which is far from the chunk that was placed last.
    assert all(stage["envelopes"] <= 4 for stage in row["stages"].values())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_large_archives_are_mapped_where_they_lie(streamed, tmp_path, dtype, order):
    path = tmp_path / "own.npz"
    X = np.asarray(own_data(path)["X_train"], dtype, order)
    arrays = own_data(path, X_train=X, X_val=X[:9], y_val=np.arange(9) % 3)
    with open_archive(path) as archive:
        mapped = {name: archive.map(name, path) for name in archive.names}
    assert set(mapped) == set(ARRAYS)
    for name, array in mapped.items():
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, arrays[name])
    data = load_npz(path)
    assert data.is_large
    np.testing.assert_array_equal(data.X_train, X.reshape(700, 8))
    if order == "C":
        assert not data.X_train.flags.owndata, "a view of the file"


def test_compressed_archives_are_read(streamed, tmp_path):
    path = tmp_path / "own.npz"
    arrays = own_data(path, np.savez_compressed)
    with open_archive(path) as archive:
        assert [archive.map(name, path) for name in ARRAYS] == [None] * 4
    np.testing.assert_array_equal(load_npz(path).y_train, arrays["y_train"])


@pytest.mark.parametrize("damage", ["cut off", "objects", "another header", "a shorter array"])
def test_broken_large_archives_are_refused(streamed, tmp_path, damage):
    path = tmp_path / "own.npz"
    objects = {"y_train": np.array([None] * 700, object)} if damage == "objects" else {}
    own_data(path, **objects)
    content = path.read_bytes()
    if damage == "cut off":
        content = content[:-3000]
    elif damage == "another header":
        content = b"rubbish" + content[7:]
    elif damage == "a shorter array":
        content = content.replace(b"(700, 4, 2)", b"(699, 4, 2)")
    path.write_bytes(content)
    with pytest.raises(ParityError, match=r"expected an \.npz archive of plain arrays; received"):
        load_npz(path)


# Its parts


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, MEMORY)
    plan, data = make_plan(data=Synthetic(700, 8, 3), batch_size=8)
    assert data.is_large
    assert data.chunk_rows == CHUNK
    return plan, data


def test_pieces_are_all_rows_once(streamed):
    _, data = streamed
    pieces = list(data.stored_pieces())
    assert max(map(len, pieces)) == CHUNK
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(700))
    data.memory_bytes = 10**9
    assert [len(piece) for piece in data.stored_pieces()] == [700]


def test_a_replay_of_streamed_data_keeps_no_copy_of_them(streamed):
    plan, data = streamed
    features = np.random.default_rng(0).permutation(8)
    losses = []
    for memory_bytes in (data.memory_bytes, 10**9):
        data.memory_bytes = memory_bytes
        training = Training(plan, data, dtype="float32", features=features)
        losses.append([step.loss for step, _, _ in training.steps()])
        assert (training.stored is None) == data.is_large
    assert losses[0] == losses[1]


def test_recorded_data_tell_wrong_labels_in_chunks(streamed):
    plan, data = streamed
    digests, order = [], plan.order[0]
    for wrong in (False, True):
        y = data.y_train.copy()
        y[5] ^= wrong
        recorded = RecordingData(
            data.X_train, y, data.X_val, data.y_val, batch_size=8, num_outputs=3
        )
        recorded.watch()
        for start in (0, 320):  # as segments come
            for _ in recorded.chunks(order[start : start + 320 if start == 0 else None]):
                pass
        digests.append((recorded.stop_watching(), recorded.labels_fed.tolist()))
        assert recorded.labels_fed.tolist() == y.tolist()
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_numbers_that_are_not_finite_are_counted_by_pieces(monkeypatch):
    monkeypatch.setattr("framework_parity.common.data.data_module.FINITE_PIECE", 16)
    X, y = np.ones((20, 3), np.float32), np.zeros(20, np.int64)
    X[[0, 7, 19], 1] = np.inf, np.nan, -np.inf
    with pytest.raises(ParityError, match="received 3 that are not finite"):
        DataModule(X, y, X[:1], y[:1])
