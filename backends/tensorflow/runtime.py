"""TensorFlow, imported quietly and held to the threads that ``OMP_NUM_THREADS`` grants."""

import contextlib
import importlib
import os


@contextlib.contextmanager
def _without_stderr():
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
    tf = importlib.import_module("tensorflow")
else:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Lines logged while the library loads ignore the level (tensorflow/tensorflow#100442).
    with _without_stderr():
        tf = importlib.import_module("tensorflow")

if threads := os.environ.get("OMP_NUM_THREADS"):
    with contextlib.suppress(RuntimeError):  # it runs already: whoever started it has decided
        num_threads = int(threads.split(",")[0])  # the first of OpenMP's nesting levels
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)
