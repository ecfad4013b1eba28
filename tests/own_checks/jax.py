"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import os
from unittest import mock

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from framework_parity.backends.jax import Classifier, DataModule, Trainer

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


def layers_are_rungs_in_the_order_of_their_calls():
    class Mine(Classifier):
        lr: float

        def setup(self):
            self.one, self.two = nn.Dense(3), nn.Dense(5)
            self.net = nn.Sequential([self.two, nn.relu])

        def forward(self, X):
            self.sow("intermediates", "sown", X)
            y = self.one(self.two(self.named("two", self.two(X))))
            return self.one(self.net(jnp.pad(y, ((0, 0), (0, 2)))))

    random = np.random.default_rng(0)
    examples = random.random((10, 5), np.float32), np.arange(10, dtype=np.int32) % 3
    data = DataModule(*examples, *examples, num_outputs=3, batch_size=4)
    model, fit = Mine(0.1), Trainer(1, board=False)
    fit.fit(model, data)
    found = fit.activations(model.get_parameters(), examples[0])
    assert list(found) == ["two", "two#2", "two#3", "one", "two#4", "one#2", "sown"]
    np.testing.assert_array_equal(found["two"].values, found["two#2"].values)
    np.testing.assert_array_equal(found["sown"].values, examples[0])


CHECKS = [
    layers_are_rungs_in_the_order_of_their_calls,
    a_gpu_is_shared_unless_the_user_says_otherwise,
    a_worker_that_is_told_to_use_the_processor_asks_for_no_gpu,
]
