"""PyTorch's half of Trainer."""

import functools
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch.nn import functional

from framework_parity.backends.torch.classifier import evaluation, numpy
from framework_parity.backends.torch.device import GPU, in_use, use
from framework_parity.backends.torch.mixed_precision import Mixed
from framework_parity.backends.torch.optimizer import arguments, memory, remember
from framework_parity.backends.torch.schedule import configured, rates
from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.eager_trainer import EagerTrainer
from framework_parity.common.training.forward_checks import Pass


class Trainer(EagerTrainer):
    """Trains a PyTorch :class:`Classifier`, eagerly, on data that is in memory as one tensor.

    Every batch is gathered into the same memory: a model that keeps one must copy it. New memory
    costs a fault for every page of it, up to a third of an epoch's time.
    """

    mixed_formats = ("bfloat16", "float16")

    @staticmethod
    def use_device(device):
        if device == "gpu":
            if not torch.cuda.is_available():
                raise no_gpu("PyTorch", torch.__version__, "torch")
            use(GPU)
            one = torch.ones(1, 1, device=GPU)
            torch.mm(one, one)
            torch.cuda.synchronize()

    @staticmethod
    @contextmanager
    def layers_of(dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    @staticmethod
    def train_step(model, optimizer, X, y):
        y_hat = model(X)
        loss = model.loss(y_hat, y)
        optimizer.zero_grad()
        loss.backward()
        model.clip_gradients()
        optimizer.step()
        return y_hat.detach(), loss.detach(), None

    without_gradients = staticmethod(torch.no_grad)
    memory, remember = staticmethod(memory), staticmethod(remember)
    concatenate = staticmethod(torch.cat)

    def configured(self, model, step=0):
        optimizer, end_epoch = configured(model.configure_optimizers())
        if step and isinstance(optimizer, torch.optim.Optimizer):
            rates(optimizer, end_epoch, step, self.num_train_batches)
        return optimizer, end_epoch

    def optimizer_arguments(self, num_steps):
        with self.spare_model() as model:
            optimizer, end_epoch = self.configured(model)
            found = arguments(optimizer, model)
            if found and isinstance(optimizer, torch.optim.Optimizer):
                of_steps = rates(optimizer, end_epoch, num_steps - 1, self.num_train_batches)
                found["lr"] = of_steps if len({*of_steps}) > 1 else of_steps[0]
            return found

    def tensor(self, array):
        # On the CPU it shares the memory. Labels get the type that PyTorch indexes with.
        if array.dtype.kind != "f":
            array = array.astype(np.int64)
        return torch.as_tensor(array, device=in_use())

    def build(self, dtype):
        _move(self.model, self.X.device)
        for buffer in self.model.buffers():
            if buffer.is_floating_point() and dtype == "float64":
                buffer.data = buffer.data.double()
        super().build(dtype)

    evaluation = staticmethod(evaluation)

    @staticmethod
    @contextmanager
    def dropout_from(masks):
        drawing = functional.dropout

        def dropout(input, p=0.5, training=True, inplace=False):
            """As ``torch.nn.functional.dropout``, which layers call, too."""
            if not (training and masks.drops(p)):
                return drawing(input, p, training, inplace)
            noise = torch.as_tensor(masks.keep(input.shape, p), device=input.device)
            noise = noise.to(input.dtype).div_(1 - p)  # as in aten/src/ATen/native/Dropout.cpp
            return input.mul_(noise) if inplace else input * noise

        functional.dropout = dropout
        try:
            yield
        finally:
            functional.dropout = drawing

    def in_format(self, model):
        return Mixed(model, getattr(torch, self.mixed), self.loss_scale)

    def place(self, X, y):
        super().place(X, y)
        self.X_batch = self.X.new_empty(self.batch_size, *self.X.shape[1:])

    def gather(self, rows):
        return torch.index_select(self.X, 0, rows, out=self.X_batch[: len(rows)])

    def shuffle(self, num_examples):
        return numpy(torch.randperm(num_examples))

    def watched_pass(self, model, X, training):
        before = _states()
        told = nullcontext() if training else self.evaluation(model)
        with model.noting() as calls, told:
            handles = [
                module.register_forward_hook(functools.partial(_note, calls, name))
                for name, module in model.named_modules()
                if name and not isinstance(module, torch.nn.Sequential)
            ]
            try:
                y_hat = numpy(model(X))
            finally:
                for handle in handles:
                    handle.remove()
        return Pass(y_hat, calls, before, _states())


def _states():
    return {"PyTorch's random generator": torch.get_rng_state().numpy()}


def _note(calls, name, module, inputs, output):
    if isinstance(output, tuple) and output:  # and states, weights of an attention
        output = output[0]
    if isinstance(output, torch.Tensor) and inputs and isinstance(inputs[0], torch.Tensor):
        arrays = (numpy(tensor).copy() for tensor in (inputs[0], output))
        calls.append((name, type(module).__name__, *arrays))


def _move(model, device):
    """Bring what the model holds to a device: it was made on the processor."""
    model.to(device)
    for tensor in model.named_tensors().values():
        if tensor.device != device:  # made by hand, hence not registered
            tensor.data = tensor.data.to(device)
