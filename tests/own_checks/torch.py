"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from framework_parity.backends.torch import (
    Classifier,
    DataModule,
    SoftmaxRegression,
    SoftmaxRegressionScratch,
    Trainer,
    tensor,
    trainer,
)
from framework_parity.backends.torch import device as place
from framework_parity.backends.torch.optimizer import memory
from framework_parity.benchmarks.raw_loops.torch import LOOPS
from framework_parity.common.reference import optimizers

ORDER = np.arange(10, dtype=np.int32)
W, B = np.zeros((5, 3), np.float32), np.zeros(3, np.float32)


class _OneDevice(TorchDispatchMode):
    """Refuses to compute with tensors of two devices, as a GPU does; copies may."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        kinds = {tensor.device.type for tensor in tensors if tensor.ndim}
        assert len(kinds) <= 1 or function.overloadpacket is torch.ops.aten.copy_, function
        return function(*args, **(kwargs or {}))


@contextmanager
def _without_memory():
    """PyTorch's ``meta`` device in place of a GPU: it has shapes, and no values.

    Gives the kinds of device that tensors are read back from.
    """
    read = []

    def zeros(tensor):
        read.append(tensor.device.type)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    place.use("meta")
    try:
        with mock.patch.object(torch.Tensor, "cpu", zeros), _OneDevice():
            yield read
    finally:
        place.use(None)


def tensors_follow_the_device_in_use():
    data = _data()
    with _without_memory() as read:
        for model in (SoftmaxRegression(3, 0.1), _scratch()):
            model.set_parameters({"W": W, "b": B})
            fit = Trainer(1)
            fit.batch_size = data.batch_size
            fit.prepare(model, data, "float32")
            fit.fit_epoch(ORDER)
            fit.training_batch(ORDER[:3])
            fit.predict(fit.X_val)
            fit.probe({"W": W, "b": B}, *data.examples(train=False))
            read += [tensor.device.type for tensor in model.named_tensors().values()]
        read += [tensor.device.type for tensor in data.tensors(*data.examples(train=True))]
        read.append(tensor([1.0]).device.type)
    assert set(read) == {"meta"}


def loops_by_hand_follow_it_and_the_loader_converts_on_the_processor():
    X, y = _data().examples(train=True)
    pixels = np.zeros((10, 5), np.uint8)
    for name, make in LOOPS.items():
        with _without_memory() as read:
            start = {"W": W.copy(), "b": B.copy()}
            if name == "loader":
                loop = make(pixels, y, start, 0.1, 4, (1, 5), 255)
                assert loop.examples[0][0].device.type == "cpu"
            else:
                loop = make(X, y, start, 0.1, 4)
                loop.epoch(ORDER)
            loop.get_parameters()
        assert set(read) == {"meta"}, name


def a_gpu_is_waited_for_and_leaves_pytorchs_own_default_alone():
    """A default device would lead every call through Python, and Keras' shuffling needs another."""
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        mock.patch.object(torch.cuda, "synchronize") as wait,
        mock.patch.object(trainer, "GPU", "meta"),
    ):
        Trainer.use_device("gpu")
    try:
        wait.assert_called_once()
        assert tensor([1.0]).device.type == "meta"
        assert torch.get_default_device().type == "cpu"
    finally:
        place.use(None)


class _OnGPU(torch.Tensor):
    """A tensor that NumPy cannot read, as a GPU's."""

    def __array__(self, *_):
        raise TypeError("can't convert a GPU's tensor")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def pictures_are_drawn_of_a_gpus_tensors():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    X, y = (torch.as_tensor(part).as_subclass(_OnGPU) for part in _data().examples(train=True))
    axes = _data().visualize([X, y], ncols=2)
    assert [axis.get_title() for axis in axes.flat] == ["0", "1"]
    pyplot.close("all")


def layers_are_rungs_by_their_paths():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ReLU(inplace=True)

        def forward(self, X):
            return self.inner(self.inner(X + 1)) + 1

    class Mine(Classifier):
        def __init__(self):
            super().__init__()
            self.lr = 0.1
            self.net = nn.Sequential(Block(), nn.Linear(5, 3))

    fit, model = Trainer(1, board=False), Mine()
    fit.fit(model, _data())
    X = _data().examples(train=True)[0]
    found = fit.activations(model.get_parameters(), X)
    assert list(found) == ["net.0.inner", "net.0.inner#2", "net.0", "net.1"]
    np.testing.assert_array_equal(found["net.0.inner"].values, X + 1)
    np.testing.assert_array_equal(found["net.0"].values, X + 2)


def _data():
    random = np.random.default_rng(0)
    examples = random.random((10, 5), np.float32), np.arange(10, dtype=np.int32) % 3
    return DataModule(*examples, *examples, num_outputs=3, batch_size=4)


def _scratch():
    model = SoftmaxRegressionScratch(5, 3, 0.1)
    for name in ("W", "b"):  # ``_move`` cannot: there are no values to bring
        setattr(model, name, getattr(model, name).detach().to("meta").requires_grad_())
    return model


OPTIMIZERS = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.1}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3}),
    ("Adagrad", {"initial_accumulator_value": 0.1, "eps": 1e-3}),
]


def optimizers_by_hand_are_pytorchs():
    generator = np.random.default_rng(0)
    for name, options in OPTIMIZERS:
        start, factors = generator.standard_normal((2, 5, 4))
        ours = {"W": start.copy()}
        by_hand = getattr(optimizers, name)(ours, 0.05, **options)
        theirs = torch.tensor(start, requires_grad=True)
        optimizer = getattr(torch.optim, name)([theirs], 0.05, **options)
        for step in range(50):
            by_hand.step({"W": np.sin(ours["W"] * factors + step)})
            theirs.grad = torch.sin(theirs.detach() * torch.tensor(factors) + step)
            optimizer.step()
            exact = theirs.detach().numpy()
            assert np.abs(ours["W"] - exact).max() <= 1e-12 * np.abs(exact).max(), name
        kept = memory(optimizer, {"W": theirs})
        for kind in kept.keys() - {"count"}:
            np.testing.assert_allclose(by_hand.state[kind]["W"], kept[kind]["W"], rtol=1e-12)


CHECKS = [
    optimizers_by_hand_are_pytorchs,
    tensors_follow_the_device_in_use,
    loops_by_hand_follow_it_and_the_loader_converts_on_the_processor,
    a_gpu_is_waited_for_and_leaves_pytorchs_own_default_alone,
    pictures_are_drawn_of_a_gpus_tensors,
    layers_are_rungs_by_their_paths,
]
