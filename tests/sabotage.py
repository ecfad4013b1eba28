"""A worker that comes to grief in one of its runs.

``python -m tests.sabotage DEED IMPLEMENTATION …`` is the worker that the further arguments name,
until the run of that implementation begins.
"""

import os
import signal
import sys
import time

from framework_parity.common.worker.worker import begin_anew
from tests import workers


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


def say_done(_, worker):
    """As if it had trained; the run is left out."""
    worker.say("done")


def say_nothing(*_):
    """Neither train nor end."""


def half_a_record(out, _):
    out.mkdir(parents=True)
    (out / "record.json").write_text("{")
    os._exit(0)


LEFT_OUT = ("say_done", "say_nothing")
"""Deeds in place of the run."""

AFTER = "after_"
"""What a deed's name starts with if it is done once the record is written."""


def main():
    deed, implementation, *arguments = sys.argv[1:]

    def sabotaged(go_on, worker, request):
        ours = request.fields["implementation"] == implementation
        if ours and not deed.startswith(AFTER):
            begin_anew(request.log)
            print("last words", file=sys.stderr, flush=True)
            globals()[deed](request.record, worker)
        if not (ours and deed in LEFT_OUT):
            go_on()
        if ours and deed.startswith(AFTER):
            globals()[deed.removeprefix(AFTER)](request.record, worker)

    workers.run(arguments, sabotaged)


if __name__ == "__main__":
    main()
