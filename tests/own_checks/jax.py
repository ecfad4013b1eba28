"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import os
from unittest import mock

import jax

from framework_parity.backends.jax import Trainer

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


def a_worker_that_is_told_to_use_the_processor_asks_for_no_gpu():
    Trainer.use_device("cpu")
    assert jax.config.jax_platforms == "cpu"


CHECKS = [
    a_gpu_is_shared_unless_the_user_says_otherwise,
    a_worker_that_is_told_to_use_the_processor_asks_for_no_gpu,
]
