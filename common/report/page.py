"""The report as a page: ``report.html``, one file that needs no network to be read."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.extras import lacking_packages
from framework_parity.common.core.files import write_whole
from framework_parity.common.environments.backend import IMPLEMENTATIONS
from framework_parity.common.environments.specifier import label
from framework_parity.common.judging.ladder import STAGES
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report import advice, findings, plots
from framework_parity.common.report.columns import COMPARED, chosen, is_own_metric
from framework_parity.common.report.details import Details
from framework_parity.common.report.figures import Figures
from framework_parity.common.report.pictures import Sheet, room, sheet, weight_picture
from framework_parity.common.report.style import GLYPHS, NEUTRAL, looks
from framework_parity.common.report.wording import (
    comparable_lines,
    lines_over_time,
    run_name,
    targets,
)

if TYPE_CHECKING:
    import jinja2

PAGE = "report.html"
MOST_BYTES = 6_000_000
TEMPLATES = Path(__file__).parent / "templates"

COLUMNS = (*COMPARED, "fit_seconds", "peak_rss_bytes")

NEEDED = ("itables", "jinja2", "PIL", "plotly")
"""What the page is made with: the extra ``page``."""

PLOTLY = "plotly/package_data/plotly.min.js"
DATATABLES = "itables/html/dt_bundle.js"
"""Scripts of others that the page holds: where they lie in the distributions that bring them."""

WRONG_SHOWN = 48
"""How many wrongly classified examples are shown."""

DIFFERENCES_SHOWN = 200
"""How many examples on which runs differ are shown."""

MOST_CLASSES = 30
"""Confusion matrices of more classes than this are not shown."""


def write_page(report: Figures) -> None:
    """Write the page beside the report: whole or not at all.

    Where the records are gone, what is drawn from them is left out, with a line that says so.
    Where there is no room for the page, the report stands without it, with a notice, and is
    saved again for that; where there is no room for this either, it stays as it was saved.
    """
    if lacking := lacking_packages(NEEDED):
        report.facts["notices"].append(
            f"{PAGE} was not written: expected {', '.join(NEEDED)}; received no "
            f"{', '.join(lacking)}; install framework-parity[page]."
        )
        with contextlib.suppress(OSError):
            report.save()
        return
    try:
        details, missing = report.details, report.details.missing
    except ParityError as error:
        # Of a model of a user's own there never was more to draw.
        details, missing = None, () if report.facts.get("model") else (str(error),)
    text = ""
    for pictures in (("examples", "weights"), ("examples",), ()):
        left_out = [name for name in ("weights", "examples") if name not in pictures]
        why = f"the page would exceed {MOST_BYTES:,} bytes."
        said = [f"Pictures of {' and '.join(left_out)} are left out: {why}"] * bool(left_out)
        text = render(report, details, (*missing, *said), pictures)
        if len(text.encode()) < MOST_BYTES:
            break
    try:
        write_whole(report.folder / PAGE, text)
    except OSError as error:
        report.facts["notices"].append(f"{PAGE} was not written: {told(error)}.")
        with contextlib.suppress(OSError):
            report.save()


def render(
    report: Figures, details: Details | None, missing: tuple[str, ...], pictures: Collection[str]
) -> str:
    """The page's HTML, with pictures of ``examples``, ``weights``, both or none."""
    scripts = {
        "plotly": _library("plotly", PLOTLY),
        # A module, for its exports; those after it have no other way to its names.
        "datatables": re.sub(
            r"export\{.*\b(\w+) as default\b.*?\}",
            r"window.DataTable=\1",
            _library("itables", DATATABLES),
        ),
        "script": (TEMPLATES / "report.js").read_text(encoding="utf-8"),
    }
    text = template("report.html").render(
        **shared(report),
        **scripts,
        allowed=" ".join(map(_allowed, scripts.values())),
        missing=missing,
        stages=STAGES,
        rungs=list(_rungs(report.facts)),
        matched=_matched(report.facts),
        neutral=NEUTRAL,
        command=advice.command(report.facts),
        plots=_plots(report.facts, details),
        metrics=_metrics(report.facts),
        agreement=details and _agreement(details),
        examples=details
        and details.y_val is not None
        and _examples(details, "examples" in pictures),
        weights=_weights(details) if details and "weights" in pictures else [],
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )
    return encodable(text)


def encodable(text: str) -> str:
    """A text with a question mark for each byte of a file's name that is not UTF-8."""
    return text.encode(errors="replace").decode()


def template(name: str) -> jinja2.Template:
    """A template of this folder; everything put into it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["times"] = findings.count
    return environment.get_template(name)


def shared(report: Figures) -> dict[str, Any]:
    """What ``parts.html`` says of a report, for the page and for a notebook."""
    facts = report.facts
    return {
        "report": report,
        "facts": facts,
        "thresholds": Thresholds(**facts["thresholds"]),
        "glyphs": GLYPHS,
        "inks": {},
        "looks": looks(facts["runs"]),
        "name": run_name,
        "targets": targets,
        "place": findings.where,
        "what": findings.what,
        "tile": findings.tile,
        "is_free": findings.is_free,
        "columns": chosen(COLUMNS, facts["reference"]),
        "next_steps": list(advice.next_steps(facts)),
        "grid": _grid(facts["runs"]),
        "done": [run for run in facts["runs"] if run["status"] == "done"],
        "comparable": list(comparable_lines(facts)),
        "since": list(lines_over_time(facts)),
    }


def _allowed(script: str) -> str:
    """What a page's policy says of a script that may run: this one, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _library(name: str, place: str) -> str:
    path = Path(str(distribution(name).locate_file(place)))
    # Inside a script element nothing else ends it; in JavaScript the two are the same.
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _grid(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs by backend and implementation."""
    present = {run["implementation"] for run in runs}
    implementations = [name for name in IMPLEMENTATIONS if name in present]
    implementations += sorted(present - set(IMPLEMENTATIONS))  # models of a user's own
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        backend = label(run["backend"], run.get("asked_version"))
        rows.setdefault(backend, {})[run["implementation"]] = run
    return {"implementations": implementations, "rows": rows}


def _plots(facts: dict[str, Any], details: Details | None) -> dict[str, plots.Plot]:
    drawn = {
        **{
            name.replace("_", "-"): plots.epoch_plot(
                facts, name, 4 if name.endswith("accuracy") else 6
            )
            for name in _metrics(facts)
        },
        "seconds": plots.seconds_plot(facts),
        "memory": plots.memory_plot(facts),
    }
    if details:
        drawn |= {
            f"error-{what}": plots.error_plot(facts, details, what) for what in ("loss", *"Wb")
        }
    return drawn


def _metrics(facts: dict[str, Any]) -> dict[str, str]:
    """What is drawn of each epoch, with its title: losses, and accuracies or a file's metrics."""
    names = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
    names += [name for name in facts["reference"] if is_own_metric(name)]
    return {
        name: name.replace("train_", "training ").replace("val_", "validation ", 1)
        for name in names
        if name in facts["reference"]
    }


def _matched(facts: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """By run, what it calls the parameters of a model of layers."""
    runs = (facts.get("model") or {}).get("matched") or {}
    return {run: names for run, names in runs.items() if names}


def _rungs(facts: dict[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any] | None]]]:
    """Of a model of a user's own, from input to update: stage, name and the finding of each run."""
    done = [run for run in facts["runs"] if run["status"] == "done"]
    found = [{(f["stage"], f["tensor"]): f for f in run.get("rungs") or ()} for run in done]
    layers = [("forward", name) for name in (facts.get("model") or {}).get("layers", ())]
    for rung in dict.fromkeys([*layers, *(rung for rungs in found for rung in rungs)]):
        yield *rung, [rungs.get(rung) for rungs in found]


def _agreement(details: Details) -> list[tuple[str, list[tuple[float, int] | None]]]:
    """For each run and the reference: how far each other one is apart; none from itself."""
    names = [None, *details.runs]
    return [
        (one or "reference", [None if one == o else details.pair(one, o) for o in names])
        for one in names
    ]


def _examples(details: Details, pictures: bool) -> dict[str, Any]:
    """Confusion matrices, wrongly classified examples, examples on which runs differ."""
    predicted = {"reference": details.predicted}
    predicted |= {name: run.predicted for name, run in details.runs.items()}
    matrices: list[dict[str, Any]] = []
    exact = details.confusion(details.predicted)
    for name, classes in predicted.items() if len(details.labels) <= MOST_CLASSES else ():
        counts = details.confusion(classes)
        for matrix in matrices:
            if np.array_equal(matrix["counts"], counts):
                matrix["names"].append(name)
                break
        else:
            matrices.append({"names": [name], "counts": counts, "change": counts - exact})
    most = max((int(matrix["counts"].max()) for matrix in matrices), default=1)
    for matrix in matrices:
        matrix["counts"], matrix["change"] = matrix["counts"].tolist(), matrix["change"].tolist()
    differences = details.differences[:DIFFERENCES_SHOWN]
    wrong = details.wrong(details.predicted)
    shown = wrong[:WRONG_SHOWN].tolist()
    picture: Sheet | None = None
    if details.images and pictures:
        wanted = [*(difference.example for difference in differences), *shown]
        picture = sheet(details.images, wanted)
        shown = shown[: max(0, room(details.images) - len(differences))]
    assert details.y_val is not None
    return {
        "labels": details.labels,
        "matrices": matrices,
        "most": most,
        "differences": differences,
        "num_differences": len(details.differences),
        "num_wrong": len(wrong),
        "wrong": [
            (i, details.labels[details.y_val[i]], details.labels[details.predicted[i]])
            for i in shown
        ],
        "wrong_of_runs": {
            name: int(np.count_nonzero(classes != details.y_val))
            for name, classes in predicted.items()
        },
        "sheet": picture,
    }


def _weights(details: Details) -> list[dict[str, Any]]:
    """The learned weights of the reference and of each run, and how those differ from it."""
    if details.images is None or details.images.image_shape is None:
        return []
    shape, exact = details.images.image_shape, details.oracle.parameters["W"][-1]
    if not (picture := weight_picture(exact, shape)):
        return []
    rows = [{"name": "reference", "picture": picture, "difference": None, "largest": 0.0}]
    return rows + [
        {
            "name": name,
            "picture": weight_picture(run.W, shape),
            "difference": weight_picture(run.W - exact, shape),
            "largest": float(np.abs(run.W - exact).max()),
        }
        for name, run in details.runs.items()
    ]
