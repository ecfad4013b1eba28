"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import importlib.metadata
from contextlib import contextmanager
from unittest import mock

import mxnet
import numpy
from mxnet import gluon, np

from framework_parity.backends.mxnet import (
    Classifier,
    DataModule,
    SoftmaxRegression,
    SoftmaxRegressionScratch,
    Trainer,
    versions,
)
from framework_parity.backends.mxnet.optimizer import array_of
from framework_parity.benchmarks.raw_loops.mxnet import LOOPS


def a_post_release_is_named_as_it_is_installed():
    """The library calls 1.7.0.post2 1.7.0, and a row that names the one is not the other's."""
    for error, release, expected in (
        (None, "1.7.0.post2", "1.7.0.post2"),
        (importlib.metadata.PackageNotFoundError, None, mxnet.__version__),
    ):
        said = {"side_effect": error} if error else {"return_value": release}
        with mock.patch.object(importlib.metadata, "version", **said):
            assert versions() == {"mxnet": expected}


def tensors_follow_the_device_in_use():
    """With a second processor of MXNet's in place of a GPU."""
    data = DataModule(*_examples(), *_examples(), num_outputs=3, batch_size=4)
    with mxnet.cpu(1):
        for model in (SoftmaxRegression(3, 0.1), SoftmaxRegressionScratch(5, 3, 0.1)):
            trainer = Trainer(1)
            trainer.fit(model, data)
            probed = trainer.probe(model.get_parameters(), *data.examples(train=False))
            assert np.isfinite(np.array(probed["loss"]))
            arrays = [array_of(tensor) for tensor in model.named_tensors().values()]
            assert {array.ctx for array in [*arrays, trainer.X, trainer.y]} == {mxnet.cpu(1)}


def a_gpu_is_used_from_then_on():
    """With the second processor as the GPU that MXNet sees."""
    other, usual = mxnet.cpu(1), mxnet.current_context()
    with (
        mock.patch.object(mxnet.context, "num_gpus", return_value=1),
        mock.patch.object(mxnet, "gpu", return_value=other),
    ):
        Trainer.use_device("gpu")
    try:
        assert np.ones(1).ctx == other != usual
    finally:
        other.__exit__(None, None, None)


def the_last_update_is_waited_for():
    """By the trainer and by each loop it is compared with: the engine has no work left."""
    X, y = _examples()
    order = numpy.arange(10, dtype=numpy.int32)
    data = DataModule(X, y, X, y, num_outputs=3, batch_size=4)
    for model in (SoftmaxRegression(3, 0.1), SoftmaxRegressionScratch(5, 3, 0.1)):
        trainer = Trainer(1)
        trainer.batch_size = data.batch_size
        trainer.prepare(model, data, "float32")
        with _waited(model.named_tensors().values()):
            trainer.fit_epoch(order)
    start = {"W": numpy.zeros((5, 3), numpy.float32), "b": numpy.zeros(3, numpy.float32)}
    for name, make in LOOPS.items():
        if name == "loader":
            loop = make(numpy.zeros((10, 5), numpy.uint8), y, start, 0.1, 4, (1, 5), 255)
        else:
            loop = make(X, y, start, 0.1, 4)
        with _waited(loop.updated()):
            loop.epoch(order)


@contextmanager
def _waited(updated):
    """Asserts that there is a wait for all work in the block, and no update behind it."""
    versions = []

    def wait():
        wait_for_all()
        versions.append([array_of(tensor).asnumpy() for tensor in updated])

    wait_for_all = mxnet.nd.waitall
    with mock.patch.object(mxnet.nd, "waitall", wait):
        yield
    assert versions
    after = [array_of(tensor).asnumpy() for tensor in updated]
    assert all((a == b).all() for a, b in zip(versions[-1], after, strict=True))


def the_loader_converts_on_the_processor():
    X, y = numpy.zeros((10, 5), numpy.uint8), _examples()[1]
    start = {"W": numpy.zeros((5, 3), numpy.float32), "b": numpy.zeros(3, numpy.float32)}
    with mxnet.cpu(1):
        loop = LOOPS["loader"](X, y, start, 0.1, 4, (1, 5), 255)
        assert loop.W.ctx == mxnet.cpu(1)
        assert loop.examples[0][0].ctx == mxnet.cpu(0)
        with mock.patch.object(loop, "loss", wraps=loop.loss) as loss:
            loop.epoch(numpy.arange(10, dtype=numpy.int32))
    assert loss.call_count == 3
    assert {part.ctx for call in loss.call_args_list for part in call.args} == {mxnet.cpu(1)}


def _examples():
    random = numpy.random.default_rng(0)
    return random.random((10, 5), numpy.float32), numpy.arange(10, dtype=numpy.int32) % 3


def layers_are_rungs_by_their_paths():
    class Block(gluon.Block):
        def __init__(self):
            super().__init__()
            self.inner = gluon.nn.Dense(5, activation="relu")

        def forward(self, X):
            return self.inner(X) + 1

    class Mine(Classifier):
        def __init__(self):
            super().__init__()
            self.lr = 0.1
            self.net = gluon.nn.Sequential()
            self.net.add(Block(), gluon.nn.Dense(3))
            self.net.initialize()

    X, y = _examples()
    model, fit = Mine(), Trainer(1, board=False)
    fit.fit(model, DataModule(X, y, X, y, num_outputs=3, batch_size=4))
    found = fit.activations(model.get_parameters(), X)
    assert list(found) == ["net.0.inner", "net.0.inner.activation", "net.0", "net.1"]
    assert found["net.0.inner"].values.min() < 0
    numpy.testing.assert_array_equal(
        found["net.0"].values, numpy.maximum(found["net.0.inner"].values, 0) + 1
    )


CHECKS = [
    layers_are_rungs_by_their_paths,
    a_post_release_is_named_as_it_is_installed,
    tensors_follow_the_device_in_use,
    a_gpu_is_used_from_then_on,
    the_last_update_is_waited_for,
    the_loader_converts_on_the_processor,
]
