"""Standard output: its reader may leave (``compare.py show DIR | head -1``), or it is claimed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print as long as somebody reads; a reader who has seen enough changes nothing else."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich would end here
        # The interpreter flushes what is left at its end, and must not stumble over it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def claim_stdout() -> TextIO:
    """Keep standard output for progress; what anything else prints goes to standard error."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own
