"""A worker: ``python -m framework_parity.common.worker REQUEST.json``.

Further requests are lines of standard input, each the JSON text of a path: it ends when that
closes. Standard output carries one JSON object a line, the progress; whatever else is printed goes
to the request's log. With ``--listen SOCKET PLACE`` it is asked by whoever connects.
"""

from __future__ import annotations

import socket
import sys
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

    server.serve(carry_out)


if __name__ == "__main__":
    main()
