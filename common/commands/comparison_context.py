"""What every comparison begins and ends with: data, plan and display; report and page."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framework_parity.common.commands.model_targets import with_targets
from framework_parity.common.commands.options import Data, Running
from framework_parity.common.commands.report_folder import (
    check_folder,
    check_room,
    claim,
    prepare_folder,
    writing,
)
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import Backend, Environment
from framework_parity.common.environments.discovery import choose, find_environment
from framework_parity.common.execution.launcher import Tell
from framework_parity.common.execution.processes import Execution
from framework_parity.common.execution.progress import Display
from framework_parity.common.report.page import write_page
from framework_parity.common.report.report import Report
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan


@dataclass(frozen=True)
class ComparisonContext:
    """A comparison under way.

    Args:
        options: what is asked for.
        folder: the report's.
        display: shows how far it is.
        plan: what is trained.
        data: its examples.
        notice: what the report says on top, or None.
        ending: what is done when it is over.
    """

    options: Running
    folder: Path
    display: Display
    plan: Plan
    data: DataModule
    notice: str | None
    ending: contextlib.ExitStack

    def claim(self) -> None:
        """Take the folder, which is made, for this comparison alone.

        Raises:
            ParityError: if another one has it.
        """
        self.ending.callback(claim(self.folder))

    def prepare(
        self, backends: Sequence[Backend], overwrite: bool, pythons: Mapping[str, Path]
    ) -> dict[str, Environment]:
        """Make the folder, with the plan in it; find or build the environments."""
        self.claim()
        check_folder(self.folder, overwrite)  # again: another run may have ended by now
        prepare_folder(self.folder, overwrite)
        environments = prepare_environments(backends, pythons, self.display)
        self.plan.save(self.folder / "plan")
        return environments

    def execution(self, **more: Any) -> Execution:
        """Runs the processes of the plan, as the options say; ``more`` as of that class."""
        how = (self.options.slots, self.options.threads, self.options.timeout, self.display.tell)
        return Execution(self.plan, self.folder, *how, **more)

    def finish(self, facts: dict[str, Any], **more: Any) -> Report:
        """Write the report, which says how its processes ran, and its page."""
        facts["notices"] += [self.notice] if self.notice else []
        facts["settings"] = {
            "jobs": self.options.slots,
            "threads": self.options.threads,
            "timeout_seconds": self.options.timeout,
            **more,
        }
        report = Report(facts, self.folder)
        report.save()
        write_page(report)
        return report


@contextlib.contextmanager
def open_context(
    options: Running, folder: Path, model: OwnModel | None = None
) -> Iterator[ComparisonContext]:
    """Have the data, make the plan, and turn a full disk into one line while it lasts.

    The targets of a user's own ``model`` may be others than classes.

    Raises:
        ParityError: if the data cannot be had, or nothing can be written.
    """
    recipe = options.recipe
    with Display(options.quiet) as display, writing(folder), contextlib.ExitStack() as ending:
        data_folder, examples, notice = fetch(options, recipe.batch_size, display, model)
        if model is not None:
            model.check_memory(examples.num_inputs, examples.num_outputs)
        plan = Plan.make(replace(recipe, data=examples.name), examples, data_folder)
        check_room(plan, folder)
        yield ComparisonContext(options, folder, display, plan, examples, notice, ending)


def fetch(
    options: Data, batch_size: int, display: Display, model: OwnModel | None = None
) -> tuple[Path, DataModule, str | None]:
    """Find or fetch the data set; its targets may be those that a user's own ``model`` makes.

    Raises:
        ParityError: if there is none, or it has a single class: the loss is then 0 from the
            start, and no training moves anything that could be compared.
    """

    def tell(what: str, part: float) -> None:
        display.tell("data", {"event": what, "part": part})

    found, examples, notice = open_data(
        options.data, batch_size, options.data_dir, tell, any_targets=model is not None
    )
    if model:
        found, examples = with_targets(model, found, examples)
    if examples.has_classes and examples.num_outputs < 2:
        raise ParityError(
            options.data or examples.name,
            "examples of two classes or more",
            "one",
            "add examples of another class",
        )
    display.tell("data", {"event": "ready"})
    return found, examples, notice


def check_pythons(
    named: Mapping[str, Path], chosen: Sequence[Backend], found: Mapping[str, Backend]
) -> None:
    """Raise ParityError unless every interpreter is that of a backend, or of a version compared."""
    labels = [backend.label for backend in chosen]
    for backend in choose(named, found) if named else []:
        if backend.version is not None and backend.label not in labels:
            raise ParityError(
                "--python",
                f"an interpreter of {', '.join(labels)}",
                f"one of {backend.label}",
                f"name {backend.label} among the backends, too",
            )


def prepare_environment(
    backend: Backend,
    tell: Tell,
    python: Path | None = None,
    stop: threading.Event | None = None,
) -> Environment:
    """Find or build the environment of a backend, and tell what became of it."""

    def say(event: str) -> None:
        tell(backend.label, {"event": event})

    environment = find_environment(backend, python, tell=say, stop=stop)
    say("unavailable" if environment.python is None else "ready")
    return environment


def prepare_environments(
    backends: Sequence[Backend], pythons: Mapping[str, Path], display: Display
) -> dict[str, Environment]:
    """Find or build the environments of all backends, side by side."""
    stop = threading.Event()

    def prepare(backend: Backend) -> Environment:
        return prepare_environment(backend, display.tell, pythons.get(backend.label), stop)

    with ThreadPoolExecutor(max_workers=max(1, len(backends))) as pool:
        try:
            return {environment.label: environment for environment in pool.map(prepare, backends)}
        except BaseException:
            stop.set()
            raise
