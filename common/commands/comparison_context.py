"""What every comparison begins and ends with: data, plan and display; report and page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framework_parity.common.commands.setup import fetch, writing
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.progress import Display
from framework_parity.common.report.page import write_page
from framework_parity.common.report.report import Report
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe


@dataclass(frozen=True)
class Session:
    """A comparison under way.

    Args:
        folder: the report's.
        display: shows how far it is.
        plan: what is trained.
        data: its examples.
        notice: what the report says on top, or None.
    """

    folder: Path
    display: Display
    plan: Plan
    data: DataModule
    notice: str | None

    def finish(self, facts: dict[str, Any], **settings: Any) -> Report:
        """Write the report and its page.

        Args:
            facts: all but what follows.
            settings: how its processes ran.
        """
        facts["notices"] += [self.notice] if self.notice else []
        facts["settings"] = settings
        report = Report(facts, self.folder)
        report.save()
        write_page(report)
        return report


@contextlib.contextmanager
def open_session(
    recipe: Recipe, data: str | None, data_dir: str | Path | None, folder: Path, quiet: bool
) -> Iterator[Session]:
    """Have the data, make the plan, and turn a full disk into one line while it lasts.

    Args:
        recipe: what is asked for; its data set is then called as the data say.
        data: the data set that was named, if one was.
        data_dir: folder of the publisher's Fashion-MNIST files.
        folder: the report's.
        quiet: show no progress.

    Raises:
        ParityError: if the data cannot be had, or nothing can be written.
    """
    with Display(quiet) as display, writing(folder):
        data_folder, examples, notice = fetch(data, recipe.batch_size, data_dir, display)
        plan = Plan.make(replace(recipe, data=examples.name), examples, data_folder)
        yield Session(folder, display, plan, examples, notice)
