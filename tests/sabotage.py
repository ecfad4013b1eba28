"""A worker that comes to grief in one of its runs.

``python -m tests.sabotage DEED IMPLEMENTATION …`` is the worker that the further arguments name,
``-m framework_parity.common.worker.train`` among them, until the run of that implementation begins.
"""

import os
import signal
import sys
import time
from pathlib import Path

from framework_parity.common.core.child_process import NEXT
from framework_parity.common.worker import train as worker


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(*_):
    raise RuntimeError("a deed of sabotage")


def leave(*_):
    os._exit(0)


def hang(out, _):
    (out.parent / "pid").write_text(f"{os.getpid()}\n")
    time.sleep(600)


def end(*_):
    sys.exit(0)


def end_with_words(*_):
    raise SystemExit("all is well")


def interrupt(*_):
    raise KeyboardInterrupt


def become_another(*_):
    os.execv(sys.executable, [sys.executable, "-c", ""])  # noqa: S606


def close_stdout(*_):
    """Every descriptor, the launcher's line among them."""
    os.closerange(1, 64)
    os._exit(0)


def say_next(_, recorder):
    """As if it had trained; the run is left out."""
    recorder.say(NEXT)


def say_nothing(*_):
    """Neither train nor end."""


def half_a_record(out, _):
    out.mkdir(parents=True)
    (out / "record.json").write_text("{")
    os._exit(0)


LEFT_OUT = ("say_next", "say_nothing")
"""Deeds in place of the run."""

AFTER = "after_"
"""What a deed's name starts with if it is done once the record is written."""


def main():
    deed, implementation, *arguments = sys.argv[1:]
    run = worker.run

    def sabotaged(backend_name, chosen, plan, out, recorder, *rest):
        ours = chosen == implementation
        if ours and not deed.startswith(AFTER):
            print("last words", file=sys.stderr, flush=True)
            globals()[deed](Path(out), recorder)
        if not (ours and deed in LEFT_OUT):
            run(backend_name, chosen, plan, out, recorder, *rest)
        if ours and deed.startswith(AFTER):
            globals()[deed.removeprefix(AFTER)](Path(out), recorder)

    worker.run = sabotaged
    sys.argv = ["framework_parity.common.worker.train", *arguments[2:]]
    worker.main()


if __name__ == "__main__":
    main()
