"""MXNet's half of Trainer."""

import functools
from contextlib import contextmanager

import mxnet
from mxnet import autograd, np, npx
from mxnet.gluon import nn

from framework_parity.backends.mxnet.optimizer import arguments, memory, put_to, remember
from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.dropout import scaled
from framework_parity.common.training.eager_trainer import EagerTrainer
from framework_parity.common.training.forward_checks import Pass


class Trainer(EagerTrainer):
    """Trains an MXNet :class:`Classifier`, on data that is in memory as one array.

    Every call below only queues work for MXNet's engine; reading a value waits for that one.
    """

    @staticmethod
    def use_device(device):
        if device == "gpu":
            if not mxnet.context.num_gpus():
                raise no_gpu("MXNet", mxnet.__version__, "mxnet")
            mxnet.gpu().__enter__()  # and never leave it
            one = np.ones((1, 1))
            np.dot(one, one).wait_to_read()

    @staticmethod
    def train_step(model, optimizer, X, y):
        with autograd.record():
            y_hat = model(X)
            loss = model.loss(y_hat, y)
        loss.backward()
        model.clip_gradients()
        optimizer.step(1)  # the loss is a mean already
        return y_hat, loss, None

    def configured(self, model, step=0):
        optimizer = model.configure_optimizers()
        put_to(optimizer, step)
        return optimizer, lambda: None

    def optimizer_arguments(self, num_steps):
        with self.spare_model() as model:
            return arguments(self.configured(model)[0], model, num_steps)

    @staticmethod
    @contextmanager
    def dropout_from(masks):
        drawing = nn.Dropout.hybrid_forward

        def hybrid_forward(layer, F, X):
            rate, compiled = layer._rate, not isinstance(X, np.ndarray)
            if compiled or layer._axes or not (autograd.is_training() and masks.drops(rate)):
                return drawing(layer, F, X)
            return X * shared(scaled(masks.keep(X.shape, rate), rate, X.dtype))

        nn.Dropout.hybrid_forward = hybrid_forward
        try:
            yield
        finally:
            nn.Dropout.hybrid_forward = drawing

    memory, remember = staticmethod(memory), staticmethod(remember)
    concatenate = staticmethod(np.concatenate)

    def wait(self):
        mxnet.nd.waitall()  # no loss waits for the last update

    def tensor(self, array):
        return shared(array)

    def build(self, dtype):
        self.model.build(self.X[:1])
        self.model.cast(dtype)

    def spare_model(self):
        return self.model.restored()

    @staticmethod
    def take(array, rows):  # by an index MXNet warns of its own code
        return np.take(array, rows, axis=0)

    @staticmethod
    def project(X, v):
        # As a layer: three times as fast as np.dot with a vector.
        return npx.fully_connected(X, v[None], num_hidden=1, no_bias=True)

    def shuffle(self, num_examples):
        order = np.arange(num_examples, dtype="int32")
        np.random.shuffle(order)
        return order.asnumpy()

    def activations(self, *given, **options):
        # A compiled block calls none of those inside it, and no hook.
        blocks = [block for block in _inside(self.model) if getattr(block, "_active", False)]
        try:
            for block in blocks:
                block._active = False
            return super().activations(*given, **options)
        finally:
            for block in blocks:
                block._active = True

    def watched_pass(self, model, X, training):
        with model.noting() as calls, autograd.record(train_mode=training):
            handles = [
                (block.act if _has_function(block) else block).register_forward_hook(
                    functools.partial(_note, calls, name, block)
                )
                for name, block in _blocks(model)
            ]
            try:
                y_hat = model(X)
            finally:
                for handle in handles:
                    handle.detach()
        return Pass(y_hat.asnumpy(), calls)


def _inside(block):
    """All blocks inside a block."""
    for child in block._children.values():
        yield child
        yield from _inside(child)


def _blocks(block, path=""):
    """The blocks inside a block, with their paths; not those that only call others in turn."""
    for name, child in block._children.items():
        if not isinstance(child, nn.Sequential | nn.HybridSequential):
            yield f"{path}{name}", child
        if not _has_function(child):
            yield from _blocks(child, f"{path}{name}.")


def _has_function(block):
    """Whether a layer ends in a function of its own: it counts as two."""
    return isinstance(block, nn.Dense | nn.conv_layers._Conv) and block.act is not None


def _note(calls, name, layer, block, inputs, output):
    if isinstance(output, list | tuple) and output:  # and states
        output = output[0]
    if all(isinstance(array, np.ndarray) for array in (inputs[0], output)):
        X, y = inputs[0].asnumpy(), output.asnumpy()
        if block is not layer:  # but the function that it ends in
            calls.append((name, type(layer).__name__, X, X))
            name += ".activation"
        calls.append((name, getattr(block, "_act_type", type(block).__name__), X, y))


def shared(array):
    """The array on MXNet's device in use, of the same type.

    It shares the memory where that is the processor's own and may be written.
    """
    if not (array.flags.writeable and array.flags.c_contiguous):
        array = array.copy()
    # Of a view, since MXNet forbids writing to what it is given.
    array = mxnet.nd.from_numpy(array.view(), array_cls=np.ndarray)
    return array.as_in_ctx(mxnet.current_context())
