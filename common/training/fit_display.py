"""What is seen of a fit: the book's board in a notebook, a bar in a terminal, else nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from framework_parity.common.training.progress_board import ProgressBoard, can_draw

TRAIN_POINTS = 2
"""Points of the training loss per epoch, each the mean over its part of the epoch: the book's."""

BAR_SECONDS = 0.1
BAR_WIDTH = 12
"""Characters, so that the whole line fits into 80."""

SHOWN = {"train_loss": "train_loss", "val_loss": "val_loss", "val_acc": "val_accuracy"}
"""What is shown, by the book's names, and how the trainer's history calls it."""


class Progress(NamedTuple):
    """What a callback is told: where training stands.

    ``kind`` is ``compiling``, ``segment`` (part of an epoch done) or ``epoch`` (epoch done and
    validated); ``step`` counts updates from the start of the fit.
    """

    kind: str
    epoch: int
    step: int


class Shown(Protocol):
    """What is shown of a trainer."""

    max_epochs: int
    step_loss: npt.NDArray[np.float64]
    history: dict[str, list[float]]


class FitBoard:
    """Training loss, validation loss and validation accuracy against the epoch, on a board."""

    def __init__(self, board: ProgressBoard) -> None:
        self.board = board
        self._drawn_steps = 0

    def __call__(self, trainer: Shown, progress: Progress) -> None:
        if progress.kind != "epoch":
            return
        losses = trainer.step_loss[self._drawn_steps :]
        self._drawn_steps += len(losses)
        places = progress.epoch - 1 + (np.arange(len(losses)) + 0.5) / len(losses)
        parts = (np.array_split(values, TRAIN_POINTS) for values in (places, losses))
        for x, loss in zip(*parts, strict=True):
            if len(x):
                self.board.draw(float(x.mean()), float(loss.mean()), "train_loss")
        for name in ("val_loss", "val_acc"):
            self.board.draw(progress.epoch, trainer.history[SHOWN[name]][-1], name)

    def close(self) -> None:
        self.board.flush()


class TerminalBar:
    """A bar on one line of a terminal."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._line = self._shown = ""
        self._not_before = 0.0

    def __call__(self, trainer: Shown, progress: Progress) -> None:
        if progress.kind == "segment":
            return
        epoch, total = progress.epoch, trainer.max_epochs
        done = BAR_WIDTH * epoch // total
        self._line = f"epoch {epoch}/{total} [{'=' * done}{' ' * (BAR_WIDTH - done)}]"
        for name, key in SHOWN.items():
            if trainer.history[key]:
                self._line += f" {name} {trainer.history[key][-1]:.4f}"
        if time.monotonic() >= self._not_before:
            self._show()

    def close(self) -> None:
        self._show()
        self.out.write("\n")
        self.out.flush()

    def _show(self) -> None:
        if self._line == self._shown:
            return
        try:
            columns = os.get_terminal_size(self.out.fileno()).columns or 80
        except OSError:
            columns = 80
        # Not to the last column, where some terminals begin a new line; spaces cover the old text.
        self.out.write("\r" + self._line.ljust(len(self._shown))[: columns - 1])
        self.out.flush()
        self._shown = self._line
        self._not_before = time.monotonic() + BAR_SECONDS


@contextmanager
def shown(board: bool | ProgressBoard, max_epochs: int) -> Iterator[list[FitBoard | TerminalBar]]:
    """The callbacks that show a fit while the block runs; the last state is shown at its end.

    ``board`` says whether, or is a board of the user's own.
    """
    displays = _displays(board, max_epochs)
    try:
        yield displays
    finally:
        for display in displays:
            display.close()


def _displays(board: bool | ProgressBoard, max_epochs: int) -> list[FitBoard | TerminalBar]:
    if not board or not max_epochs:
        return []
    if isinstance(board, ProgressBoard):
        return [FitBoard(board)]
    if can_draw():
        return [FitBoard(ProgressBoard(xlabel="epoch", xlim=(0, max_epochs)))]
    if sys.stderr is not None and sys.stderr.isatty():
        return [TerminalBar(sys.stderr)]
    return []
