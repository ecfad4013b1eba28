"""The interactive figures of the page: Plotly's JSON, as plain objects.

Colours of text and of grids come from the page, so that one figure serves light and dark. Names
are escaped: Plotly reads ``<b>`` and its like in labels as markup.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from framework_parity.common.reference.replay import Floats
from framework_parity.common.report.details import Details, thinned
from framework_parity.common.report.style import NEUTRAL, Look, looks
from framework_parity.common.report.wording import run_name

Plot = dict[str, Any]

CLEAR = "rgba(0,0,0,0)"
BAND = "rgba(128,128,128,0.28)"
FEW_POINTS = 40
"""Lines of no more points than this show each of them."""

PHASES = {"import": "#595959", "compile": "#7d7d7d", "fit": "#a3a3a3", "evaluate": "#c9c9c9"}
"""What a run's seconds went to, and its grey: told apart in print, seen on white and on black."""


def epoch_plot(facts: dict[str, Any], metric: str, digits: int) -> Plot:
    """A number per epoch, all runs over the reference."""
    exact = facts["reference"][metric]
    epochs = list(range(1, len(exact) + 1))
    shown = f"%{{y:.{digits}f}}"
    traces = [_reference(epochs, exact, shown)]
    done = [run for run in facts["runs"] if run["status"] == "done"]
    for look, run in zip(_looks(facts, map(run_name, done)), done, strict=True):
        traces.append(_line(look, epochs, run[metric], shown))
    layout = _layout("epoch")
    layout["xaxis"] |= {"dtick": max(1, -(-len(epochs) // 6)), "tick0": 0}
    return {"data": traces, "layout": layout}


def error_plot(facts: dict[str, Any], details: Details, what: str) -> Plot:
    """Errors against the float64 reference per step, over the rounding envelope as a band."""
    limit = facts["thresholds"]["envelopes"]
    envelope: Floats = getattr(details, f"{what}_envelope")
    snapshots = np.array(details.plan.snapshots)
    x, band = thinned(envelope) if what == "loss" else (snapshots, envelope)
    places, low, high = x.tolist(), _short(band), _short(limit * band)
    shown = "%{y:.2e}"
    edge = {"x": places, "mode": "lines", "line": {"color": NEUTRAL, "width": 1}}
    edge |= {"type": "scatter", "hovertemplate": shown}
    traces: list[Plot] = [
        edge | {"y": low, "name": "1 × rounding"},
        edge | {"y": high, "name": f"{limit:g} × rounding", "fill": "tonexty", "fillcolor": BAND},
    ]
    for look in _looks(facts, details.runs):
        values: Floats = getattr(details.runs[look.name], f"{what}_error")
        at, error = thinned(values) if what == "loss" else (snapshots[: len(values)], values)
        traces.append(_line(look, at.tolist(), _short(error), shown))
    layout = _layout("step, counted from 1")
    layout["xaxis"] |= {"type": "log", "dtick": 1}
    drawn = [y for trace in traces for y in trace["y"] if y]
    decades = np.log10(max(drawn) / min(drawn)) if drawn else 0
    ticks = int(np.ceil(decades / 7)) if decades > 2 else "D2"  # 1, 2 and 5 of each decade
    layout["yaxis"] |= {"type": "log", "dtick": ticks, "exponentformat": "power"}
    return {"data": traces, "layout": layout}


def seconds_plot(facts: dict[str, Any]) -> Plot:
    """Seconds of each run by what they went to."""
    done = [run for run in facts["runs"] if run["status"] == "done"]
    names = [label(run_name(run)) for run in done]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": phase,
            "y": names,
            "x": [round(run["seconds"][phase], 3) for run in done],
            "marker": {"color": shade},
            "hovertemplate": "%{x:.2f} s",
        }
        for phase, shade in PHASES.items()
    ]
    layout = _bars("seconds", len(done))
    layout |= {"barmode": "stack", "showlegend": True, "hovermode": "y unified"}
    layout["legend"] = {"orientation": "h", "y": 1, "yanchor": "bottom", "traceorder": "normal"}
    layout["margin"] |= {"t": 32}
    return {"data": traces, "layout": layout}


def memory_plot(facts: dict[str, Any]) -> Plot:
    """The largest resident memory of each run."""
    done = [run for run in facts["runs"] if run["status"] == "done"]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [label(run_name(run)) for run in done],
        "x": [round(run["peak_rss_bytes"] / 1e6, 1) for run in done],
        "marker": {"color": [look.colour for look in _looks(facts, map(run_name, done))]},
        "hovertemplate": "%{x:,.0f} MB<extra></extra>",
    }
    layout = _bars("MB", len(done))
    layout["margin"] |= {"t": 32}
    return {"data": [trace], "layout": layout}


def label(text: str) -> str:
    """A text that Plotly shows as it is."""
    return html.escape(text, quote=False)


def _looks(facts: dict[str, Any], names: Iterable[str]) -> list[Look]:
    known = looks(facts["runs"])
    return [known[name] for name in names]


def _reference(x: Sequence[int], y: Sequence[float], shown: str) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) == 1 else "lines",
        "name": "reference",
        "x": x,
        "y": y,
        "line": {"color": NEUTRAL, "width": 7},
        "marker": {"size": 12},
        "opacity": 0.45,
        "hovertemplate": shown,
    }


def _line(look: Look, x: Sequence[int], y: Sequence[float | None], shown: str) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= FEW_POINTS else "lines",
        "name": label(look.name),
        "meta": look.name,
        "x": x,
        "y": y,
        "line": {"color": look.colour, "width": 1.6, "dash": look.line},
        "marker": {"symbol": look.marker, "size": 5},
        "connectgaps": True,
        "hovertemplate": shown,
    }


def _layout(xtitle: str, **yaxis: Any) -> Plot:
    axis = {"gridcolor": "rgba(128,128,128,0.18)", "zeroline": False, "automargin": True}
    return {
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": NEUTRAL},
        "margin": {"l": 56, "r": 10, "t": 8, "b": 44},
        "height": 300,
        "showlegend": False,
        "legend": {"traceorder": "normal"},
        "hovermode": "x unified",
        "hoverdistance": -1,  # the nearest step, however far
        "hoverlabel": {"namelength": -1},
        "xaxis": axis | {"title": {"text": xtitle}},
        "yaxis": axis | yaxis,
    }


def _bars(xtitle: str, count: int) -> Plot:
    layout = _layout(xtitle, autorange="reversed", type="category", ticksuffix="  ")
    return layout | {
        "height": 100 + 26 * count,
        "hovermode": "closest",
        "hoverdistance": 1,
        "bargap": 0.35,
    }


def _short(values: Floats) -> list[float | None]:
    """Numbers of four digits; none where a logarithmic axis has no place for them."""
    return [float(f"{value:.3e}") if value > 0 else None for value in values.tolist()]
