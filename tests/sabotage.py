"""A worker that comes to grief in one of its runs.

``python -m tests.sabotage DEED IMPLEMENTATION …`` is the worker that the further arguments name,
``-m common.worker`` among them, until the run of that implementation begins.
"""

import os
import signal
import sys
import time
from pathlib import Path

from common import worker


def kill(_):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(_):
    raise RuntimeError("a deed of sabotage")


def leave(_):
    os._exit(0)


def hang(out):
    (out.parent / "pid").write_text(f"{os.getpid()}\n")
    time.sleep(600)


def main():
    deed, implementation, *arguments = sys.argv[1:]
    run = worker.run

    def sabotaged(backend_name, chosen, plan, out, *rest):
        if chosen == implementation:
            print("last words", file=sys.stderr, flush=True)
            globals()[deed](Path(out))
        run(backend_name, chosen, plan, out, *rest)

    worker.run = sabotaged
    sys.argv = ["common.worker", *arguments[2:]]
    worker.main()


if __name__ == "__main__":
    main()
