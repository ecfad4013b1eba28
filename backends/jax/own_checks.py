"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import os
from unittest import mock

import jax
import numpy as np

from framework_parity.backends.jax import DataModule, SoftmaxRegression, Trainer

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


def a_gpu_is_shared_unless_the_user_says_otherwise():
    """Before the GPU is asked for: JAX reads the variable when it starts there."""
    for given, expected in ((None, "false"), ("true", "true")):
        seen = []

        def backend(seen=seen):
            seen.append(os.environ.get(PREALLOCATE))
            return "gpu"

        kept = {name: value for name, value in os.environ.items() if name != PREALLOCATE}
        variables = kept | ({PREALLOCATE: given} if given else {})
        with (
            mock.patch.dict(os.environ, variables, clear=True),
            mock.patch.object(jax, "default_backend", backend),
        ):
            Trainer.use_device("gpu")
        assert seen[0] == expected


def what_spares_a_processor_time_is_not_asked_of_a_gpus_compiler():
    random = np.random.default_rng(0)
    examples = random.random((10, 5), np.float32), np.arange(10, dtype=np.int32) % 3
    data = DataModule(*examples, *examples, num_outputs=3, batch_size=4)
    jit = jax.jit
    for kind in ("cpu", "gpu"):
        asked = []

        def note(function, compiler_options=None, asked=asked, **options):
            asked.append(compiler_options)
            return jit(function, compiler_options=compiler_options, **options)

        with (
            mock.patch.object(jax, "default_backend", lambda kind=kind: kind),
            mock.patch.object(jax, "jit", note),
        ):
            Trainer(1, board=False).fit(SoftmaxRegression(3, 0.1), data)
        assert any(asked) == (kind == "cpu")


def a_worker_that_is_told_to_use_the_processor_asks_for_no_gpu():
    Trainer.use_device("cpu")
    assert jax.config.jax_platforms == "cpu"


CHECKS = [
    a_gpu_is_shared_unless_the_user_says_otherwise,
    what_spares_a_processor_time_is_not_asked_of_a_gpus_compiler,
    a_worker_that_is_told_to_use_the_processor_asks_for_no_gpu,
]
