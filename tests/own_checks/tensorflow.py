"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import os
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf

from framework_parity.backends.tensorflow import Classifier, DataModule, Trainer, runtime
from framework_parity.benchmarks.raw_loops.tensorflow import LOOPS
from framework_parity.common.core.arrays import aligned
from framework_parity.common.core.device import DEVICE_VARIABLE


def a_gpus_memory_is_taken_as_it_is_needed():
    config = tf.config
    with (
        mock.patch.object(config, "list_physical_devices", return_value=["one", "other"]),
        mock.patch.object(config.experimental, "set_memory_growth") as grow,
    ):
        Trainer.use_device("gpu")
    assert grow.mock_calls == [mock.call("one", True), mock.call("other", True)]


def the_loader_converts_on_the_processor():
    """What is brought to a GPU are the single example that has the shapes, and no images."""
    moved = []

    def identity(tensor):
        moved.append(tensor.shape[0])
        return tensor

    pixels, y = np.zeros((10, 5), np.uint8), np.zeros(10, np.int32)
    start = {"W": np.zeros((5, 3), np.float32), "b": np.zeros(3, np.float32)}
    with (
        mock.patch.object(tf.config, "get_visible_devices", return_value=["one"]),
        mock.patch.object(tf, "identity", identity),
    ):
        LOOPS["tuned"](aligned(pixels.astype(np.float32)), aligned(y), start, 0.1, 4)
        assert moved == [10, 10]
        loop = LOOPS["loader"](aligned(pixels), aligned(y), start, 0.1, 4, (1, 5), 255)
    assert moved == [10, 10, 1, 1]
    assert loop.X.shape == (10, 1, 5)
    assert loop.X.device.endswith("CPU:0")


def the_log_is_silent_unless_a_gpu_was_asked_for():
    level = "TF_CPP_MIN_LOG_LEVEL"
    kept = {name: value for name, value in os.environ.items() if name != level}
    for device, expected in (("cpu", b""), ("gpu", b"why")):
        with tempfile.TemporaryFile() as log:
            stderr = os.dup(2)
            os.dup2(log.fileno(), 2)
            try:
                with mock.patch.dict(os.environ, kept | {DEVICE_VARIABLE: device}, clear=True):
                    with runtime._quietly():
                        os.write(2, b"why")
                    assert (level in os.environ) == (device == "cpu")
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
            log.seek(0)
            assert log.read() == expected


def layers_are_rungs_by_their_paths():
    layers = tf.keras.layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = [layers.Dense(5, activation="relu"), layers.ReLU()]

        def call(self, X):
            return self.inner[1](self.inner[0](X)) + 1

    class Mine(Classifier):
        def __init__(self):
            self.lr = 0.1
            self.net = tf.keras.Sequential([Block(), layers.Dense(3)])

    random = np.random.default_rng(0)
    examples = random.random((10, 5), np.float32), np.arange(10, dtype=np.int32) % 3
    model, fit = Mine(), Trainer(1, board=False)
    fit.fit(model, DataModule(*examples, *examples, num_outputs=3, batch_size=4))
    found = fit.activations(model.get_parameters(), examples[0])
    inner = [f"net.0.inner.{name}" for name in ("0", "0.activation", "1")]
    assert list(found) == [*inner, "net.0", "net.1"]
    assert found[inner[0]].values.min() < 0
    np.testing.assert_array_equal(found[inner[1]].values, np.maximum(found[inner[0]].values, 0))
    np.testing.assert_array_equal(found["net.0"].values, found[inner[2]].values + 1)


CHECKS = [
    layers_are_rungs_by_their_paths,
    a_gpus_memory_is_taken_as_it_is_needed,
    the_loader_converts_on_the_processor,
    the_log_is_silent_unless_a_gpu_was_asked_for,
]
