"""The figures of a report: what they hold, and what they say where there is nothing to draw."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.datasets import Digits, Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.judging.ladder import STAGES
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.replay import Trajectory
from framework_parity.common.report.report import Report
from framework_parity.common.training.plan import Plan
from tests.comparisons import finished

RUNS = {
    ("alpha", "scratch"): 1.0,
    ("alpha", "concise"): 3.0,
    ("gone", "scratch"): "it could not be had",
}
SOUND, TOO_FAST = "alpha scratch", "alpha concise"
NAMES = ("loss", "accuracy", "error", "stages", "agreement", "confusion", "timings")
PICTURES = ("wrong_images", "differences", "weights")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    made = finished(tmp_path_factory.mktemp("figures"), RUNS, Digits(), max_epochs=2, lr=0.1)
    return Report.load(made.folder)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    data = Synthetic(200, 6, 3)
    return finished(tmp_path_factory.mktemp("features"), RUNS, data, max_epochs=1)


def drawn(figure, name, axis=0):
    (line,) = [line for line in figure.axes[axis].lines if line.get_label() == name]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def pixels(figure):
    written = io.BytesIO()
    figure.savefig(written, format="rgba", dpi=40)
    return np.frombuffer(written.getvalue(), np.uint8)


@pytest.mark.parametrize("name", [*NAMES, *PICTURES])
def test_every_figure_can_be_drawn(report, name):
    figure = getattr(report, f"plot_{name}")()
    assert isinstance(figure, Figure)
    assert len(np.unique(pixels(figure))) > 10
    assert getattr(report, f"plot_{name}")() is not figure


@pytest.mark.parametrize("name", NAMES)
def test_features_have_every_figure_but_pictures(features, name):
    assert len(np.unique(pixels(getattr(features, f"plot_{name}")()))) > 10


@pytest.mark.parametrize("name", PICTURES)
def test_features_have_no_pictures(features, name):
    with pytest.raises(ParityError, match="expected a data set of images"):
        getattr(features, f"plot_{name}")()


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_epochs_are_those_of_the_report(report, metric):
    figure = getattr(report, f"plot_{metric}")()
    for axis, part in enumerate(("train", "val")):
        for run in report.runs[:2]:
            x, y = drawn(figure, f"{run['backend']} {run['implementation']}", axis)
            assert x.tolist() == [1, 2]
            assert y.tolist() == run[f"{part}_{metric}"]
        reference = drawn(figure, "reference", axis)[1]
        assert reference.tolist() == report.facts["reference"][f"{part}_{metric}"]


def test_errors_and_their_envelope_are_those_that_were_judged(report):
    figure = report.plot_error()
    worst = {SOUND: report.runs[0], TOO_FAST: report.runs[1]}
    for name, run in worst.items():
        largest = max(np.nanmax(drawn(figure, name, axis)[1]) for axis in (1, 2))
        assert largest == pytest.approx(run["parameter_error"], rel=1e-6)
        ratios = []
        for axis, envelope in ((1, report.details.W_envelope), (2, report.details.b_envelope)):
            ratios.append(np.nanmax(drawn(figure, name, axis)[1] / envelope))
        assert max(ratios) == pytest.approx(run["parameter_envelopes"], rel=1e-6)
    for axis in figure.axes:
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        (band,) = axis.collections
        edges = band.get_paths()[0].vertices[:, 1]
        assert edges.max() >= 4 * edges.min()


def test_the_envelope_is_that_of_the_judge(report):
    plan = Plan.load(report.folder / "plan")
    data = plan.data()
    files = sorted((report.folder / "reference").glob("rounding-?"))
    oracle = Trajectory.load(report.folder / "reference" / "reference")
    members = [Trajectory.load(path) for path in files]
    judged = SoftmaxJudge.measure(plan, data, oracle, members).envelope
    np.testing.assert_array_equal(report.details.loss_envelope, judged.loss)
    np.testing.assert_array_equal(report.details.W_envelope, judged.parameters["W"])
    np.testing.assert_array_equal(report.details.b_envelope, judged.parameters["b"])


def test_stages_are_those_of_the_report(report):
    figure = report.plot_stages()
    _, y = drawn(figure, TOO_FAST)
    for value, stage in zip(y, STAGES, strict=True):
        assert value == pytest.approx(max(report.runs[1]["stages"][stage]["envelopes"], 1e-2))
    assert y[STAGES.index("update")] > 4 > y[STAGES.index("gradient")]


def test_agreement_is_that_of_each_pair(report):
    details = report.details
    assert details.pair(SOUND, SOUND) == (0.0, 0)
    assert details.pair(SOUND, TOO_FAST) == details.pair(TOO_FAST, SOUND)
    apart, changed = details.pair(None, TOO_FAST)
    assert apart > 1000
    assert changed == report.runs[1]["prediction_flips"] > 0
    assert details.pair(None, SOUND)[0] < 4
    cells = {text.get_text() for text in report.plot_agreement().axes[0].texts}
    assert f"{apart:.2g} ×\n{changed}" in cells


def test_confusion_counts_every_example(report):
    data = Digits()
    for name in (None, TOO_FAST):
        predicted = (
            report.details.predicted if name is None else report.details.runs[name].predicted
        )
        counts = report.details.confusion(predicted)
        assert counts.sum() == data.num_val
        assert counts.sum(axis=1).tolist() == np.bincount(data.y_val, minlength=10).tolist()
        accuracy = report.facts["reference"] if name is None else report.runs[1]
        assert np.trace(counts) / data.num_val == pytest.approx(accuracy["val_accuracy"][-1])
        (image,) = report.plot_confusion(name).axes[0].images
        np.testing.assert_allclose(image.get_array() ** 2, counts)


def test_confusion_tells_where_a_run_differs(report):
    predicted = report.details.runs[TOO_FAST].predicted
    counts = [report.details.confusion(p) for p in (report.details.predicted, predicted)]
    changes = [int(change) for change in (counts[1] - counts[0]).ravel() if change]
    assert changes
    texts = [text.get_text() for text in report.plot_confusion(TOO_FAST).axes[0].texts]
    assert sorted(int(t.split("\n")[1]) for t in texts if "\n" in t) == sorted(changes)
    assert not any("\n" in t.get_text() for t in report.plot_confusion().axes[0].texts)


def test_differences_are_those_of_the_report(report):
    flips = {flip["example"]: flip for run in report.runs for flip in run["flips"] or ()}
    assert flips
    titles = [axis.get_title() for axis in report.plot_differences(len(flips)).axes]
    shown = [title for title in titles if title]
    assert len(shown) == len(flips)
    for title in shown:
        flip = flips.pop(int(re.search(r"example (\d+)", title)[1]))
        assert title.startswith(f"{flip['label']} ")
        assert f"\nreference: {flip['reference']}\n" in title
        assert f"\n{TOO_FAST}: {flip['run']}\n" in title
        said = "large enough" if flip["explained"] else "too small"
        assert title.endswith(f"margin {flip['margin']:.2g}, logit error {said}")


def test_wrong_images_are_the_wrong_ones(report):
    data, predicted = Digits(), report.details.runs[TOO_FAST].predicted
    wrong = np.flatnonzero(predicted != data.y_val)
    figure = report.plot_wrong_images(TOO_FAST, count=5)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 5
    stored = {data.X_val[i].tobytes(): i for i in wrong}
    for axis in shown:
        i = stored[np.asarray(axis.images[0].get_array()).astype(np.uint8).tobytes()]
        assert axis.get_title() == f"{data.y_val[i]}\nsaid {predicted[i]}"


def test_weights_are_those_of_the_run(report):
    figure = report.plot_weights(TOO_FAST)
    W = report.details.runs[TOO_FAST].W
    for axis, weights in zip(figure.axes, W.T, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), weights.reshape(8, 8))


def test_timings_add_up(report):
    seconds, memory = report.plot_timings().axes
    assert max(bar.get_x() + bar.get_width() for bar in seconds.patches) == pytest.approx(2.35)
    assert {bar.get_width() for bar in memory.patches} == {123.0}


@pytest.mark.parametrize("name", ["confusion", "wrong_images", "weights"])
def test_unknown_runs_are_refused(report, name):
    with pytest.raises(ParityError, match="expected one of alpha scratch, alpha concise"):
        getattr(report, f"plot_{name}")("gone scratch")


def test_gone_records_are_named(report):
    with pytest.raises(ParityError, match="run the comparison again"):
        Report(report.facts, report.folder / "nowhere").plot_error()


def test_matplotlib_waits_until_something_is_drawn(report):
    program = (
        "import sys; from pathlib import Path; "
        "from framework_parity.common.report.report import Report; "
        "report = Report.load(Path(sys.argv[1])); "
        "assert not any('matplotlib' in name for name in sys.modules); "
        "report.plot_error().savefig(sys.argv[2]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    picture = report.folder / "error.png"
    words = [sys.executable, "-W", "error", "-c", program, str(report.folder), str(picture)]
    subprocess.run(words, cwd=ROOT, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
