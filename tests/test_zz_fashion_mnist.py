"""The comparison that the project is for: every framework, Fashion-MNIST, the book's recipe.

The slowest test, hence last. Environments that are missing are built.
"""

import numpy as np
import pytest

from framework_parity.common.commands.golden_records import Baseline
from framework_parity.common.core.cache import cache_directory
from framework_parity.common.report.report import Report
from framework_parity.common.training.plan import Plan
from tests.helpers import DEFAULT, start

EXIT_STATUS = {"agree": 0, "drift": 0, "disagree": 1}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("fashion-mnist") / "out"
    words = ["baseline", "save", out / "golden.npz", "--out", out]
    with start(words, cache_directory()) as process:
        output, errors = process.communicate()
    assert process.returncode in (0, 1), errors
    return process.returncode, output, Report.load(out)


def test_every_framework_ran_in_both_implementations(compared):
    status, output, report = compared
    expected = [(name, kind) for name in DEFAULT for kind in ("scratch", "concise")]
    assert [(row["backend"], row["implementation"]) for row in report.runs] == expected
    assert len(expected) >= 8
    assert {row["status"] for row in report.runs} == {"done"}
    assert status == EXIT_STATUS[report.verdict]
    assert report.sentence in output
    assert report.facts["notices"] == []
    data = report.facts["data"]
    assert (data["name"], data["num_train"], data["num_val"]) == ("fashion-mnist", 60_000, 10_000)


def test_all_were_given_the_same(compared):
    report = compared[2]
    assert len({row["fed_sha256"] for row in report.runs}) == 1
    recipe = report.facts["recipe"]
    assert (recipe["batch_size"], recipe["lr"], recipe["max_epochs"]) == (256, 0.1, 10)


def test_every_run_learned(compared):
    report = compared[2]
    for row in [*report.runs, report.facts["reference"]]:
        for name in ("train_loss", "val_loss", "val_accuracy"):
            assert len(row[name]) == 10
            assert np.isfinite(row[name]).all()
        assert row["train_loss"][-1] < 0.5 < row["train_loss"][0]
        assert row["val_accuracy"][-1] > 0.8


def test_outcomes_are_near_the_reference_and_grades_have_reasons(compared):
    report = compared[2]
    reference = report.facts["reference"]
    for row in report.runs:
        assert row["grade"] in ("exact", "rounding", "drift", "disagree")
        assert (row["reason"] is None) == (row["grade"] in ("exact", "rounding"))
        np.testing.assert_allclose(row["train_loss"], reference["train_loss"], rtol=1e-3)
        np.testing.assert_allclose(row["val_loss"], reference["val_loss"], rtol=1e-3)
        assert row["prediction_flips"] <= 10


def test_no_worker_needs_much_memory(compared):
    for row in compared[2].runs:
        assert row["peak_rss_bytes"] < 1.5e9, (row["backend"], row["implementation"])


def test_its_golden_records_can_be_committed(compared):
    report = compared[2]
    file = report.folder / "golden.npz"
    assert file.stat().st_size < 1e6
    baseline = Baseline.load(file)
    baseline.check_plan(Plan.load(report.folder / "plan"))
    assert len(baseline.runs) == len(report.runs)
