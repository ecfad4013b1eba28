"""A worker whose learning rate is off by a factor: ``python -m tests.other_rate FACTOR …``.

What follows the factor are the arguments of an interpreter that runs :mod:`worker.train`.
"""

import sys

from framework_parity.common.worker import train as worker


def main():
    """The worker."""
    factor, *arguments = sys.argv[1:]
    build = worker.build_model

    def build_faulty(*given):
        model = build(*given)
        model.lr *= float(factor)
        return model

    worker.build_model = build_faulty
    sys.argv = ["worker", *arguments[arguments.index("--plan") :]]
    worker.main()


if __name__ == "__main__":
    main()
