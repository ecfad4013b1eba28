"""The figures of a report for papers, notebooks and slides: each a method, drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.extras import check_extra
from framework_parity.common.judging.ladder import STAGES
from framework_parity.common.reference.replay import WORST
from framework_parity.common.report.details import Details, load_details, thinned
from framework_parity.common.report.facts import ReportFacts
from framework_parity.common.report.style import NEUTRAL, Look, looks
from framework_parity.common.report.wording import run_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib takes longer to import than a small comparison: it is, when something is drawn. Figures
# are made without pyplot, which keeps state and may want a display.

LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {"circle": "o", "diamond": "D", "square": "s", "cross": "X"}
LEAST_RATIO = 1e-2
"""Fewer envelopes are drawn as this many: 0 has no place on a logarithmic axis."""

SECONDS = ("import", "compile", "fit", "evaluate")


class Figures(ReportFacts):
    """What a report can draw. Every method returns a new :class:`matplotlib.figure.Figure`."""

    @cached_property
    def details(self) -> Details:
        """What is drawn and not in ``facts``, read from the folder when first asked for.

        Raises:
            ParityError: if the records are gone, or are those of a model of a user's own.
        """
        if model := self.facts.get("model"):
            raise ParityError(
                model["file"],
                "the classifier of this suite",
                "a model of one's own, of which only losses, accuracies and timings are drawn",
                "look at its table",
            )
        return load_details(self.folder, self.facts["runs"])

    def plot_loss(self) -> Figure:
        """Training and validation loss per epoch, all runs over the reference."""
        return self._epochs("loss")

    def plot_accuracy(self) -> Figure:
        """Training and validation accuracy per epoch, all runs over the reference."""
        return self._epochs("accuracy")

    def plot_error(self) -> Figure:
        """Errors against the float64 reference per step, over the rounding envelope as a band."""
        details = self.details
        limit = self.facts["thresholds"]["envelopes"]
        figure, axes = _panels(3, "error against float64", width=13)
        snapshots = np.array(details.plan.snapshots)
        panels = (
            ("loss", details.loss_envelope, "loss_error"),
            ("weights", details.W_envelope, "W_error"),
            ("biases", details.b_envelope, "b_error"),
        )
        for axis, (title, envelope, error) in zip(axes, panels, strict=True):
            x, band = thinned(envelope) if title == "loss" else (snapshots, envelope)
            shade: dict[str, Any] = {"color": NEUTRAL, "alpha": 0.3, "linewidth": 0}
            name = f"rounding, 1 to {limit:g} ×"
            axis.fill_between(x, band, limit * band, label=name, **shade)
            axis.plot(x, band, color=NEUTRAL, linewidth=1)
            for look in self._looks(details.runs):
                values = getattr(details.runs[look.name], error)
                places = (snapshots[: len(values)], values) if title != "loss" else thinned(values)
                axis.plot(places[0], np.where(places[1] > 0, places[1], np.nan), **_line(look))
            axis.set(title=title, xscale="log", yscale="log", xlabel="step, counted from 1")
        _legend(figure, axes[0])
        return figure

    def plot_stages(self) -> Figure:
        """The worst finding of each stage of the lock-step probes, per run, in envelopes."""
        figure, (axis,) = _panels(1, "× rounding", width=8)
        limit = self.facts["thresholds"]["envelopes"]
        axis.axhspan(LEAST_RATIO, limit, color=NEUTRAL, alpha=0.15, linewidth=0)
        axis.axhline(limit, color=NEUTRAL, linewidth=1, label=f"limit, {limit:g} ×")
        done = [run for run in self.facts["runs"] if run["status"] == "done"]
        found = [[(run["stages"] or {}).get(stage) for stage in STAGES] for run in done]
        values = np.array([[f["envelopes"] if f else np.nan for f in row] for row in found])
        values = values.reshape(len(done), len(STAGES))
        infinite = values >= WORST / 10
        top = 10 * max([limit, *values[np.isfinite(values) & ~infinite]])
        values = np.where(infinite, top, np.maximum(values, LEAST_RATIO))
        for look, row in zip(self._looks(map(run_name, done)), values, strict=True):
            axis.plot(range(len(STAGES)), row, **_line(look), marker=MARKERS[look.marker])
        for place in np.unique(np.argwhere(infinite)[:, 1]):
            axis.annotate("∞", (place, top), (0, 6), textcoords="offset points", ha="center")
        axis.set(yscale="log", xticks=range(len(STAGES)), xticklabels=STAGES)
        _legend(figure, axis)
        return figure

    def plot_agreement(self) -> Figure:
        """How far each two runs end apart, in envelopes of the parameters, and predictions."""
        details = self.details
        names = [None, *details.runs]
        pairs = [[details.pair(one, other) for other in names] for one in names]
        ratios = np.array([[pair[0] for pair in row] for row in pairs])
        figure, (axis,) = _panels(
            1, "", width=1.6 + 0.85 * len(names), height=1.6 + 0.6 * len(names)
        )
        limit = self.facts["thresholds"]["envelopes"]
        shades = np.log10(np.maximum(ratios, LEAST_RATIO) / limit)
        axis.imshow(shades, cmap="coolwarm", vmin=-3, vmax=3)
        for i, row in enumerate(pairs):
            for j, (ratio, changed) in enumerate(row):
                if i != j:
                    text = f"{ratio:.2g} ×\n{changed:,}"
                    axis.text(j, i, text, ha="center", va="center", fontsize="small")
        labels = [name or "reference" for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=40, ha="right")
        axis.set_yticks(range(len(names)), labels)
        axis.set_title("final parameters apart (× rounding), predictions that differ", loc="left")
        return figure

    def plot_confusion(self, run: str | None = None) -> Figure:
        """Validation examples by true and predicted class, and where that differs.

        Below a count of a run stands its difference from the reference's, if there is one.

        Args:
            run: the name of a run, such as ``numpy scratch``; the reference if not given.
        """
        details = self.details
        counts = details.confusion(self._predicted(run))
        changes = counts - details.confusion(details.predicted)
        size = 2 + 0.5 * len(counts)
        figure, (axis,) = _panels(1, "true", width=size, height=size)
        axis.imshow(np.sqrt(counts), cmap="Blues")
        dark = counts > counts.max() / 4
        for i, j in np.ndindex(counts.shape):
            if counts[i, j] or changes[i, j]:
                colour = "white" if dark[i, j] else "black"
                text = f"{counts[i, j]}\n{changes[i, j]:+d}" if changes[i, j] else f"{counts[i, j]}"
                axis.text(j, i, text, ha="center", va="center", color=colour, size=7)
        axis.set_xticks(range(len(counts)), details.labels, rotation=40, ha="right")
        axis.set_yticks(range(len(counts)), details.labels)
        axis.set(title=run or "reference", xlabel="predicted")
        return figure

    def plot_wrong_images(self, run: str | None = None, count: int = 24) -> Figure:
        """Wrongly classified validation images, each with its true and its predicted class.

        Args:
            run: the name of a run; the reference if not given.
            count: at most so many, those with the widest margins first.

        Raises:
            ParityError: if the data set has no images, or is gone.
        """
        predicted = self._predicted(run)
        data = self._images()
        titles = {}
        for i in self.details.wrong(predicted)[:count]:
            label, said = data.text_labels([data.y_val[i], predicted[i]])
            titles[i] = f"{label}\nsaid {said}"
        return _gallery(data, titles, columns=8)

    def plot_differences(self, count: int = 24) -> Figure:
        """The validation images on which runs differ, with what each said, and the margins.

        Each margin is the reference's logit of its own class less that of the other; beside it
        stands whether the error of the run's logits is large enough to change the prediction.
        Empty if all runs agree.

        Args:
            count: at most so many, those with the widest margins first.

        Raises:
            ParityError: if the data set has no images, or is gone.
        """
        data, titles = self._images(), {}
        words = {None: "", True: ", logit error large enough", False: ", logit error too small"}
        for found in self.details.differences[:count]:
            label, reference, *said = data.text_labels(
                [found.label, found.reference, *found.groups]
            )
            runs = [", ".join(names) for names in found.groups.values()]
            titles[found.example] = "\n".join(
                (
                    f"{label} (example {found.example})",
                    f"reference: {reference}",
                    *(f"{names}: {other}" for names, other in zip(runs, said, strict=True)),
                    f"margin {found.margin:.2g}{words[found.explained]}",
                )
            )
        return _gallery(data, titles, columns=4)

    def plot_weights(self, run: str | None = None) -> Figure:
        """The learned weights of each class as a picture; red is positive, blue is negative.

        Args:
            run: the name of a run; the reference if not given.

        Raises:
            ParityError: if the data set has no images, or is gone.
        """
        details, data = self.details, self._images()
        assert data.image_shape is not None
        W = details.oracle.parameters["W"][-1] if run is None else details.runs[self._known(run)].W
        columns = min(len(details.labels), 10)
        lines = -(-len(details.labels) // columns)
        figure, axes = _panels(lines * columns, "", width=12, height=1.6 * lines, columns=columns)
        most = float(np.abs(W).max())
        for axis in axes:
            axis.set_axis_off()
        for axis, weights, label in zip(axes, W.T, details.labels, strict=False):
            picture = weights.reshape(data.image_shape)
            axis.imshow(picture, cmap="RdBu_r", vmin=-most, vmax=most)
            axis.set_title(label, fontsize="small")
        return figure

    def plot_timings(self) -> Figure:
        """Seconds of each run by what they went to, and its largest resident memory."""
        done = [run for run in self.facts["runs"] if run["status"] == "done"]
        figure, (seconds, memory) = _panels(2, "", width=11, height=1.2 + 0.32 * len(done))
        names, ends = [run_name(run) for run in done], np.zeros(len(done))
        for i, phase in enumerate(SECONDS):
            values = np.array([run["seconds"][phase] for run in done])
            shade = str(0.25 + 0.2 * i)
            seconds.barh(names, values, left=ends, color=shade, label=phase)
            ends += values
        megabytes = [run["peak_rss_bytes"] / 1e6 for run in done]
        memory.barh(names, megabytes, color=[look.colour for look in self._looks(names)])
        seconds.set(title="seconds")
        memory.set(title="peak memory, MB", yticks=[])
        for axis in (seconds, memory):
            axis.invert_yaxis()
        _legend(figure, seconds)
        return figure

    # What they share

    def _epochs(self, metric: str) -> Figure:
        figure, axes = _panels(2, metric, width=10)
        done = [run for run in self.facts["runs"] if run["status"] == "done"]
        for axis, part in zip(axes, ("train", "val"), strict=True):
            key = f"{part}_{metric}"
            if key not in self.facts["reference"]:
                raise ParityError(
                    "plot_accuracy", "targets that are classes", "numbers", "plot the loss"
                )
            exact = self.facts["reference"][key]
            epochs = range(1, len(exact) + 1)
            axis.plot(epochs, exact, color=NEUTRAL, linewidth=5, alpha=0.4, label="reference")
            for look, run in zip(self._looks(map(run_name, done)), done, strict=True):
                axis.plot(epochs, run[key], **_line(look))
            axis.set(title="training" if part == "train" else "validation", xlabel="epoch")
        _legend(figure, axes[0])
        return figure

    def _looks(self, names: Any) -> Iterator[Look]:
        known = looks(self.facts["runs"])
        return (known[name] for name in names)

    def _known(self, run: str) -> str:
        if run not in self.details.runs:
            raise ParityError(
                "run",
                f"one of {', '.join(self.details.runs) or 'none, all failed'}",
                repr(run),
                "choose among them",
            )
        return run

    def _predicted(self, run: str | None) -> Any:
        if self.details.y_val is None:
            self.details.plan.data()  # raises what is amiss
        return (
            self.details.predicted if run is None else self.details.runs[self._known(run)].predicted
        )

    def _images(self) -> Any:
        if self.details.images is None:
            raise ParityError(
                self.facts["data"]["name"],
                "a data set of images",
                f"{self.facts['data']['num_inputs']} features",
                "there are no pictures to draw",
            )
        return self.details.images


def _gallery(data: Any, titles: Mapping[int, str], columns: int) -> Figure:
    """Validation images in rows of so many, each under its title; None is said of none."""
    lines = max(1, -(-len(titles) // columns))
    height = 1.7 * lines if columns > 4 else 2.3 * lines
    figure, axes = _panels(lines * columns, "", width=11, height=height, columns=columns)
    for axis in axes:
        axis.set_axis_off()
    if not titles:
        figure.suptitle("None")
    for axis, (i, title) in zip(axes, titles.items(), strict=False):
        axis.imshow(data.X_val[i].reshape(data.image_shape), cmap="gray")
        axis.set_title(title, fontsize="small")
    return figure


def _panels(
    count: int, ylabel: str, *, width: float, height: float = 4.2, columns: int | None = None
) -> tuple[Figure, Sequence[Axes]]:
    check_extra("figure", ["matplotlib"], "page")
    from framework_parity.common.report.drawing import Drawing

    figure = Drawing(figsize=(width, height), layout="constrained")
    columns = columns or count
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).ravel().tolist()
    axes[0].set_ylabel(ylabel)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    columns = max(1, int(figure.get_figwidth() // 2.5))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _line(look: Look) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linestyle": LINES[look.line],
        "label": look.name,
        "linewidth": 1.5,
    }
