"""Progress on standard error: a bar per worker on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from framework_parity.common.core.errors import plain

WAITING = "waiting for"
"""What is waited for is said also where it is to be quiet."""

MOST_CHARACTERS = 200
"""Of what a job is doing."""


class Display:
    """Shows what every job is doing, unless quiet; safe to be told from several threads.

    On standard error if no console is given.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, str] = {}
        self._bars: Progress | None = None
        if self.console.is_terminal and not quiet:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[doing]}", markup=False),
                TimeElapsedColumn(),
                console=self.console,
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _show(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table that a job made."""
        table = [[plain(cell, MOST_CHARACTERS) for cell in row] for row in (columns, *rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        text = "\n  ".join([f"{plain(name)}:", *lines])
        with self._lock:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tell(self, name: str, facts: dict[str, Any]) -> None:
        """Take note of one line of a job's progress."""
        if self.quiet and not str(facts["event"]).startswith(WAITING):
            return
        if pairs := facts.get("table"):
            self._show(name, facts["columns"], pairs)
            return
        event, completed, total = facts["event"], facts.get("epoch"), facts.get("max_epochs")
        name, doing = plain(name), plain(event, MOST_CHARACTERS)
        if completed is not None:
            doing += f", epoch {completed}/{total}"
        elif "part" in facts:  # of a download
            completed, total = facts["part"], 1.0
        if (loss := facts.get("loss")) is not None:
            doing += f", loss {loss:.4f}"
        with self._lock:
            if (bars := self._bars) is not None:
                if name not in self._tasks:
                    self._tasks[name] = bars.add_task(name, total=None, doing=doing)
                task = self._tasks[name]
                ended = event in ("done", "failed", "timeout", "unavailable", "ready")
                if ended:
                    bars.refresh()  # what was told since the last frame is seen, however short
                bars.update(task, doing=doing)
                if completed is not None:
                    bars.update(task, completed=completed, total=total)
                if ended:
                    bars.update(task, total=1, completed=1)
                    bars.stop_task(task)
            elif self._said.get(name) != event:
                self.console.print(
                    f"{name}: {doing}", highlight=False, markup=False, soft_wrap=True
                )
            self._said[name] = event
