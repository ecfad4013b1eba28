"""A worker whose learning rate is off by a factor: ``python -m tests.other_rate FACTOR …``.

What follows the factor are the arguments of an interpreter that runs a worker.
"""

import sys

from framework_parity.common.worker import train
from tests import workers


def main():
    """The worker."""
    factor, *arguments = sys.argv[1:]
    build = train.build_model

    def build_faulty(*given):
        model = build(*given)
        model.lr *= float(factor)
        return model

    train.build_model = build_faulty
    workers.run(arguments)


if __name__ == "__main__":
    main()
