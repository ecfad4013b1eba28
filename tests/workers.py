"""The worker, with something done around its requests: for interpreters that fail."""

import sys

from framework_parity.common.worker import __main__ as worker
from framework_parity.common.worker.request import Request
from framework_parity.common.worker.worker import Worker

MODULE = "framework_parity.common.worker"


def run(arguments, around=None):
    """Be the worker that the arguments of an interpreter name.

    Args:
        arguments: of the interpreter.
        around: called in place of each request: with the function that carries it out, the
            worker and the request.
    """
    carry_out = Worker.carry_out

    def changed(self, file, find_kind):
        def go_on():
            carry_out(self, file, find_kind)

        around(go_on, self, Request.read(file))

    if around is not None:
        Worker.carry_out = changed
    sys.argv = list(arguments[arguments.index(MODULE) :])
    worker.main()
