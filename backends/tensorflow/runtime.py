"""TensorFlow, imported quietly and held to the threads that ``OMP_NUM_THREADS`` grants."""

import contextlib
import os

from framework_parity.backends.tensorflow.pictures import imported_later
from framework_parity.common.core.device import asked_device


@contextlib.contextmanager
def _quietly():
    """Silence TensorFlow's log, unless the user has chosen its level or asked for a GPU.

    Nothing else says why TensorFlow sees none.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or asked_device() == "gpu":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Lines logged while the library loads ignore the level (tensorflow/tensorflow#100442).
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


with _quietly(), imported_later():
    import tensorflow as tf

if threads := os.environ.get("OMP_NUM_THREADS"):
    num_threads = int(threads.split(",")[0])  # the first of OpenMP's nesting levels
    with contextlib.suppress(RuntimeError):  # it runs already: whoever started it has decided
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
