"""A worker: ``python -m framework_parity.common.worker REQUEST.json``.

Further requests are lines of standard input, each the JSON text of a path: it ends when that
closes. Standard output carries one JSON object a line, the progress; whatever else is printed goes
to the request's log. With ``--listen SOCKET PLACE`` it is asked by whoever connects.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import TextIO

from framework_parity.common.core.standard_output import claim_stdout
from framework_parity.common.worker.kinds import find_kind
from framework_parity.common.worker.server import Server
from framework_parity.common.worker.worker import Worker


def main() -> None:
    """The command line."""
    server, words = Server(), sys.argv[1:]
    if words[:1] == ["--listen"]:
        worker = Worker(sys.stdout)
        server.accept(socket.socket(fileno=int(words[1])))
    else:
        worker = Worker(claim_stdout())
        server.hear(open(0, encoding="utf-8", closefd=False), worker.out)  # noqa: SIM115
        for word in words:
            server.ask(Path(word), worker.out)

    def carry_out(request: Path, out: TextIO) -> None:
        worker.out = out
        worker.carry_out(request, find_kind)

    try:
        server.serve(carry_out)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)  # a model may have left threads that go on


if __name__ == "__main__":
    main()
