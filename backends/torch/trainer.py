"""PyTorch's half of Trainer."""

import copy
import functools
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from framework_parity.backends.torch.arrays import numpy as read
from framework_parity.backends.torch.device import GPU, in_use, use
from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.forward_checks import Pass
from framework_parity.common.training.trainer import EpochMetrics, batch_means
from framework_parity.common.training.trainer import Trainer as AbstractTrainer


class Trainer(AbstractTrainer):
    """Trains a PyTorch :class:`Classifier`, eagerly, on data that is in memory as one tensor.

    Every batch is gathered into the same memory: a model that keeps one must copy it. New memory
    costs a fault for every page of it, up to a third of an epoch's time.
    """

    @staticmethod
    def use_device(device):
        if device == "gpu":
            if not torch.cuda.is_available():
                raise no_gpu("PyTorch", torch.__version__, "torch")
            use(GPU)
            one = torch.ones(1, 1, device=GPU)
            torch.mm(one, one)
            torch.cuda.synchronize()

    def prepare(self, model, data, dtype):
        self.model, self.data = model, data
        self.place(*self.training_examples(dtype))
        self.X_val, self.y_val = map(_tensor, data.examples(train=False, dtype=dtype))
        _move(model, self.X.device)
        with torch.no_grad(), _evaluating(model):
            model(self.X[:2])  # builds lazy layers; one row alone has no variance
        self.optim = model.configure_optimizers()

    def place(self, X, y):
        self.X, self.y = _tensor(X), _tensor(y)
        self.X_batch = self.X.new_empty(self.batch_size, *self.X.shape[1:])

    def fit_epoch(self, order):
        order = self._rows(order)
        y = self.y.index_select(0, order)
        losses, scores, fed = [], [], []
        v = None if self.watched is None else _tensor(self.watched)
        batches = zip(order.split(self.batch_size), y.split(self.batch_size), strict=True)
        for rows, y_batch in batches:
            X_batch = torch.index_select(self.X, 0, rows, out=self.X_batch[: len(rows)])
            if v is not None:
                fed.append((X_batch @ v, y_batch))
            y_hat, loss = self._step(self.model, self.optim, X_batch, y_batch)
            losses.append(loss)
            scores.append(y_hat)
        if fed:
            X, y_fed = (read(torch.cat(parts)) for parts in zip(*fed, strict=True))
            self.keep_fed(X, y_fed, [len(y_batch) for _, y_batch in fed])
        correct = self.model.accuracy(torch.cat(scores), y, averaged=False)
        return EpochMetrics(
            read(torch.stack(losses).double()), batch_means(read(correct), self.batch_size)
        )

    @staticmethod
    def _step(model, optim, X, y):
        y_hat = model(X)
        loss = model.loss(y_hat, y)
        optim.zero_grad()
        loss.backward()
        optim.step()
        return y_hat.detach(), loss.detach()

    def shuffle(self, num_examples):
        return read(torch.randperm(num_examples))

    def training_batch(self, rows):
        rows = self._rows(rows)
        X, y = self.X.index_select(0, rows), self.y.index_select(0, rows)
        return read(X), read(y).astype(np.int32)

    def _rows(self, rows):
        return torch.as_tensor(np.ascontiguousarray(rows), device=self.X.device)

    def validation_batches(self, size):
        yield from zip(self.X_val.split(size), self.y_val.split(size), strict=True)

    @torch.no_grad()
    def evaluate(self, X, y):
        y_hat = self.model(X)
        return float(self.model.loss(y_hat, y)), float(self.model.accuracy(y_hat, y))

    @torch.no_grad()
    def predict(self, X):
        return read(self.model(X))

    @torch.no_grad()
    def watched_pass(self, training):
        model, calls = self.model, []
        handles = [
            module.register_forward_hook(functools.partial(_note, calls, name))
            for name, module in model.named_modules()
            if name and not list(module.children())
        ]
        try:
            before = _states(model)
            with nullcontext() if training else _evaluating(model):
                y_hat = read(model(self.watched_examples()))
            return Pass(y_hat, calls, before, _states(model))
        finally:
            for handle in handles:
                handle.remove()

    def probe(self, parameters, X, y):
        model = copy.deepcopy(self.model)
        model.set_parameters(parameters)
        X, y = torch.tensor(X, device=in_use()), _tensor(y)
        y_hat, loss = self._step(model, model.configure_optimizers(), X, y)
        arrays = {
            "data/X": X,
            "data/y": y,
            "forward/y_hat": y_hat,
            "example_loss": model.loss(y_hat, y, averaged=False),
            "loss": loss,
            "metric/accuracy": model.accuracy(y_hat, y),
        }
        arrays = {name: read(value) for name, value in arrays.items()}
        for name, value in model.get_parameters().items():
            arrays[f"update/{name}"] = value
        for name, value in model.get_gradients().items():
            arrays[f"gradient/{name}"] = value
        return arrays


@contextmanager
def _evaluating(model):
    """Inside the block the model is in evaluation mode; then each module is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _states(model):
    """What a forward pass can move besides the parameters."""
    states = {name: buffer.cpu().numpy().copy() for name, buffer in model.named_buffers()}
    return states | {"PyTorch's random generator": torch.get_rng_state().numpy()}


def _note(calls, name, module, inputs, output):
    if isinstance(output, torch.Tensor) and inputs and isinstance(inputs[0], torch.Tensor):
        calls.append((f"{name} ({type(module).__name__})", *map(read, (inputs[0], output))))


def _move(model, device):
    """Bring what the model holds to a device: it was made on the processor."""
    model.to(device)
    for tensor in model.named_tensors().values():
        if tensor.device != device:  # made by hand, hence not registered
            tensor.data = tensor.data.to(device)


def _tensor(array):
    """The array as a tensor on the device in use, which shares its memory if that is the CPU.

    Labels get the type that PyTorch indexes with.
    """
    if array.dtype.kind != "f":
        array = array.astype(np.int64)
    return torch.as_tensor(array, device=in_use())
