"""The standard streams: closed, full, or left by their readers; or claimed for progress."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

from framework_parity.common.core.errors import plain


class Stream(io.FileIO):
    """A stream that can always be written to; what its other end does not take is lost.

    Attributes:
        failure: why something was lost; None if nothing was.
    """

    def __init__(self, handle: int, failure: OSError | None = None) -> None:
        super().__init__(handle, "w", closefd=False)
        self.failure = failure

    def write(self, content: memoryview) -> int:  # type: ignore[override]
        while self.failure is None:
            try:
                if (written := super().write(content)) is not None:
                    return written
                select.select([], [self], [])  # somebody told it not to wait
            except OSError as error:
                self.failure = error
        return len(content)

    @property
    def was_left(self) -> bool:
        """Whether its reader has seen enough: ``compare.py show DIR | head -1``."""
        return self.failure is not None and self.failure.errno == errno.EPIPE


@contextlib.contextmanager
def lasting_streams() -> Iterator[Stream]:
    """Let standard output and standard error never fail, for the whole of a program.

    Afterwards the first one's ``failure`` says whether something was not printed.
    """
    closed = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError as error:
            # Else the next file that is opened takes its place.
            os.open(os.devnull, os.O_RDWR)
            closed.append((number, error))
    failures = dict(closed)
    streams = [Stream(number, failures.get(number)) for number in (1, 2)]
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(stream),  # type: ignore[type-var]
            encoding=getattr(old, "encoding", "utf-8"),
            errors="replace",  # some terminals have no ×
            line_buffering=stream.isatty() or stream is streams[1],
        )
        for stream, old in zip(streams, before, strict=True)
    )
    try:
        yield streams[0]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def say(line: object) -> None:
    """Print a line, in which nothing steers a terminal."""
    print(plain(line))


def claim_stdout() -> TextIO:
    """Keep standard output for progress; what anything else prints goes to standard error."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own
