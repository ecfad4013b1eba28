"""Report: what a comparison found, to be read, drawn, saved and shown in a notebook."""

from __future__ import annotations

from framework_parity.common.core.extras import lacking_packages
from framework_parity.common.report.figures import Figures
from framework_parity.common.report.notebook import notebook_html


class Report(Figures):
    """What a comparison found. Everything printed or drawn comes from ``facts``.

    Args:
        facts: the JSON object; ``docs/report.md`` describes it.
        folder: where the report and the records lie.
    """

    def _repr_html_(self) -> str | None:
        return None if lacking_packages(["jinja2"]) else notebook_html(self)
