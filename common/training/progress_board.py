"""ProgressBoard: curves that grow in a notebook while something runs, as in the book."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import io
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

LEAST_SECONDS = 0.25
"""Between two pictures, so that a fast loop is not slowed down by them."""

SHARE = 0.1
"""Of the time that drawing may take: the longer a picture took, the later the next one."""

DPI = 160
"""Pixels per inch of the picture, which is shown at half as many: sharp on fine screens."""

Point = tuple[float, float]


def notebook_shell() -> Any:
    """The shell of the Jupyter kernel that runs this code; None anywhere else."""
    ipython = sys.modules.get("IPython")  # whoever runs in it has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell if shell is not None and "IPKernelApp" in shell.config else None


def can_draw() -> bool:
    """Whether this code runs in a notebook, and Matplotlib is there."""
    return notebook_shell() is not None and importlib.util.find_spec("matplotlib") is not None


class ProgressBoard:
    """Points, added one by one, as curves in one output of a notebook, updated in place.

    Outside a notebook nothing is drawn; :meth:`figure` gives the picture anywhere.

    Args:
        xlabel: label of the horizontal axis.
        ylabel: label of the vertical axis.
        xlim: its ends, if they are known.
        ylim: likewise.
        xscale: ``linear`` or ``log``.
        yscale: likewise.
        ls: line styles of the curves, used in turn.
        colors: colours of the curves, used in turn.
        figsize: width and height in inches.
        display: whether to draw at all.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        xlim: tuple[float, float] | None = None,
        ylim: tuple[float, float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        ls: Sequence[str] = ("-", "--", "-.", ":"),
        colors: Sequence[str] = ("C0", "C1", "C2", "C3"),
        figsize: tuple[float, float] = (3.5, 2.5),
        display: bool = True,
    ) -> None:
        axes = {"xlabel": xlabel, "ylabel": ylabel, "xlim": xlim, "ylim": ylim}
        self.axes = {name: value for name, value in axes.items() if value is not None}
        self.axes |= {"xscale": xscale, "yscale": yscale}
        self.ls, self.colors, self.figsize, self.display = ls, colors, figsize, display
        self.curves: dict[str, list[Point]] = {}
        self._gathered: dict[str, list[Point]] = {}
        self._undrawn = False
        self._not_before = 0.0
        self._handle: Any = None
        self._cell: int | None = None

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add a point to a curve.

        Args:
            x: where; any number that ``float`` takes, a framework's scalar too.
            y: likewise.
            label: the curve's name in the legend.
            every_n: the curve gets one point, their mean, for every so many.
        """
        gathered = self._gathered.setdefault(label, [])
        gathered.append((float(x), float(y)))
        if len(gathered) < every_n:
            return
        n = len(gathered)
        mean = sum(x for x, _ in gathered) / n, sum(y for _, y in gathered) / n
        gathered.clear()
        self.curves.setdefault(label, []).append(mean)
        if self.display and can_draw():
            self._draw_in_time()

    def flush(self) -> None:
        """Draw the points that came since the last picture, if there are any."""
        if self._undrawn:
            self._show()

    def figure(self) -> Any:
        """The curves as a new :class:`matplotlib.figure.Figure`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.figsize, layout="constrained")
        axes = figure.subplots()
        looks = zip(itertools.cycle(self.ls), itertools.cycle(self.colors), strict=True)
        for (label, points), (line, colour) in zip(self.curves.items(), looks, strict=False):
            marker = "." if len(points) == 1 else None  # a line has two points or more
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, linestyle=line, color=colour, label=label, marker=marker)
        axes.set(**self.axes)
        if self.curves:
            axes.legend()
        return figure

    def _draw_in_time(self) -> None:
        if not self._undrawn:
            # So that the last points show, also if the loop ends early or by an error.
            notebook_shell().events.register("post_run_cell", self._end_of_cell)
        self._undrawn = True
        if time.monotonic() >= self._not_before:
            self._show()

    def _end_of_cell(self, _: object) -> None:
        self.flush()

    def _show(self) -> None:
        started = time.monotonic()
        shell = notebook_shell()
        shell.events.unregister("post_run_cell", self._end_of_cell)
        self._undrawn = False
        figure, file = self.figure(), io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
        last = (f"{label} {points[-1][1]:.4g}" for label, points in self.curves.items())
        bundle = {
            "image/png": base64.b64encode(file.getvalue()).decode("ascii"),
            "text/plain": ", ".join(last),
        }
        width, height = (int(DPI / 2 * inches) for inches in self.figsize)
        options = {"raw": True, "metadata": {"image/png": {"width": width, "height": height}}}
        if self._handle is None or self._cell != shell.execution_count:
            display = importlib.import_module("IPython.display").display
            self._handle = display(bundle, display_id=True, **options)
            self._cell = shell.execution_count
        else:
            self._handle.update(bundle, **options)
        now = time.monotonic()
        self._not_before = now + max(LEAST_SECONDS, (now - started) / SHARE)
