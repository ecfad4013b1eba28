"""side_by_side: the same step in every framework, next to each other."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.environments.external import ExternalBackend
from framework_parity.common.notebook.step_code import Fragment, choose_step, cut_step

GAP = 3
"""Spaces between two columns of a terminal."""

# In the elements themselves, and no more than front ends let through that do not trust a notebook
# (those know no functions, hence the plain widths). Two columns or more stand next to each other,
# and scroll where they are too narrow; on a screen with no room for two they are as wide as it.
COLUMN = (
    "display: inline-block; vertical-align: top; box-sizing: border-box; text-align: left; "
    "min-width: 280px; max-width: 48%; max-width: max(48%, min(100%, 400px)); margin: 0 1% 12px 0"
)
CODE = (
    "margin: 0 0 12px 0; padding: 0; overflow: auto; white-space: pre; text-align: left; "
    "font-size: 11px; line-height: 1.4; background: transparent"
)
HEAD = "font-weight: bold; font-size: 14px; margin: 0 0 6px 0"
PLACE = "font-size: 11px; color: #7c7c7c"


@dataclass(frozen=True)
class Column:
    """One backend's code for a step.

    Args:
        backend: its name.
        fragments: its definitions, file by file.
        missing: why there are none, or None.
    """

    backend: str
    fragments: tuple[Fragment, ...]
    missing: str | None = None

    @property
    def text(self) -> str:
        """Everything in it, below its name."""
        parts = [f"# {place(fragment)}\n{fragment.code}" for fragment in self.fragments]
        return "\n\n".join(parts) if self.missing is None else self.missing

    @property
    def width(self) -> int:
        """Characters of its longest line."""
        return max(map(len, (self.backend, *self.text.splitlines())))


@dataclass(frozen=True, repr=False)
class SideBySide:
    """A step in several backends: columns in a notebook and, as text, in a terminal.

    Args:
        step: its name.
        implementations: those whose code this is.
        columns: one for each backend.
    """

    step: str
    implementations: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def title(self) -> str:
        """The step, and whose it is."""
        return f"{self.step}, {' and '.join(self.implementations)}"

    def __str__(self) -> str:
        width = shutil.get_terminal_size().columns
        console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
        with console.capture() as captured:
            console.print(self, soft_wrap=True)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    __repr__ = __str__

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="bold")
        for columns in self._rows_within(options.max_width):
            yield Text("")
            if len(columns) == 1:  # only here a line may be too long, and break
                for line in (columns[0].backend, "", *columns[0].text.splitlines()):
                    yield Text(line)
                continue
            table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
            for column in columns:
                table.add_column(Text(column.backend), no_wrap=True, min_width=column.width)
            table.add_row(*[Text(f"\n{column.text}") for column in columns])
            yield table

    def _rows_within(self, width: int) -> list[list[Column]]:
        """The columns in rows, each with as many as fit without breaking a line."""
        rows: list[list[Column]] = []
        for column in self.columns:
            if rows and sum(c.width + GAP for c in (*rows[-1], column)) <= width:
                rows[-1].append(column)
            else:
                rows.append([column])
        return rows

    def _repr_html_(self) -> str:
        from framework_parity.common.notebook.code_style import (
            highlighted,  # Pygments waits until something is shown
        )

        columns = []
        for column in self.columns:
            parts = [f'<div style="{HEAD}">{escape(column.backend)}</div>']
            for fragment in column.fragments:
                parts.append(f'<div style="{PLACE}">{escape(place(fragment))}</div>')
                parts.append(f'<pre style="{CODE}">{highlighted(fragment.code)}</pre>')
            if column.missing is not None:
                parts.append(f'<div style="{PLACE}">{escape(column.missing)}</div>')
            columns.append(f'<div style="{COLUMN}">{"".join(parts)}</div>')
        return f'<div style="{HEAD}">{escape(self.title)}</div>\n' + "\n".join(columns)


def side_by_side(
    step: str,
    backends: Sequence[str] = (),
    *,
    implementation: str | None = None,
    docstrings: bool = False,
) -> SideBySide:
    """The code of several backends for one step, cut from the files that run.

    Args:
        step: ``softmax``, ``model``, ``loss``, ``accuracy``, ``optimizer``, ``training`` or
            ``prediction``.
        backends: names of backends; every framework in Python if none is given.
        implementation: ``scratch`` or ``concise``; the first that has the step if not given.
        docstrings: show them, too.

    Returns:
        An object that shows itself: as HTML in a notebook, as text where it is printed.

    Raises:
        ParityError: if there is no such step, implementation or backend.
    """
    implementations = choose_step(step, implementation)
    columns = []
    known = discover(external=bool(backends))
    chosen = {backend.name: backend for backend in choose(backends, known)}
    for backend in chosen.values():
        folder = ROOT / "backends" / backend.name
        if isinstance(backend, ExternalBackend):
            missing = f"not in Python: read {folder.relative_to(ROOT)}/"
            columns.append(Column(backend.name, (), missing))
            continue
        found = tuple(cut_step(folder, step, implementations[0], docstrings))
        none = f"{folder.relative_to(ROOT)}/ has no step of that name"
        columns.append(Column(backend.name, found, None if found else none))
    return SideBySide(step, implementations, tuple(columns))


def place(fragment: Fragment) -> str:
    """Where a fragment is from: file, line, name."""
    path: Path = fragment.path.relative_to(ROOT)
    return f"{path.as_posix()}:{fragment.line} {fragment.name}"
