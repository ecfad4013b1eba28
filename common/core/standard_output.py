"""Standard output whose reader may leave: ``compare.py show DIR | head -1``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print as long as somebody reads; a reader who has seen enough changes nothing else."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich would end here
        # The interpreter flushes what is left at its end, and must not stumble over it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
