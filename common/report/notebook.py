"""The report in a cell of a notebook: what the page's first screen and its tables say."""

from __future__ import annotations

import os
from urllib.parse import quote

from framework_parity.common.report.figures import Figures
from framework_parity.common.report.page import PAGE, encodable, shared, template

# Each has a contrast of 4 and more to white and to #111111: a notebook may be light or dark, and
# where it is not trusted its style sheets are dropped.
GOOD, WARN, BAD, MISS = "#008a5e", "#b36b00", "#e0382c", "#a35bc4"
INKS = {
    **dict.fromkeys(("agree", "exact", "rounding"), GOOD),
    **dict.fromkeys(("chaotic", "drift"), WARN),
    **dict.fromkeys(("not shown", "disagree"), BAD),
    **dict.fromkeys(("incomplete", "failed", "timeout", "unavailable", "unconfirmed"), MISS),
}


def notebook_html(report: Figures) -> str:
    """The verdict, the grades, the runs, the first divergences, and the way to the page."""
    page = report.folder / PAGE
    found = os.path.relpath(page) if page.exists() else ""
    address = quote(os.fsencode(found))
    facts = shared(report) | {"inks": INKS, "page": found, "address": address}
    return encodable(template("notebook.html").render(facts))
