"""MXNet's half of Trainer."""

import functools

import mxnet
from mxnet import autograd, np, npx

from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.forward_checks import Pass
from framework_parity.common.training.trainer import EpochMetrics, batch_means
from framework_parity.common.training.trainer import Trainer as AbstractTrainer


class Trainer(AbstractTrainer):
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

    def prepare(self, model, data, dtype):
        self.model, self.data = model, data
        self.place(*self.training_examples(dtype))
        self.X_val, self.y_val = map(_array, data.examples(train=False, dtype=dtype))
        model.build(self.X[:1])
        model.cast(dtype)
        self.optim = model.configure_optimizers()

    def place(self, X, y):
        self.X, self.y = _array(X), _array(y)

    def fit_epoch(self, order):
        order = _array(order)
        y = np.take(self.y, order)
        losses, scores, fed = [], [], []
        v = None if self.watched is None else _array(self.watched[None])
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            X_batch, y_batch = self._gather(order[rows]), y[rows]
            if v is not None:
                # As a layer: three times as fast as np.dot with a vector.
                fed.append((npx.fully_connected(X_batch, v, num_hidden=1, no_bias=True), y_batch))
            y_hat, loss = self._step(self.model, self.optim, X_batch, y_batch)
            losses.append(loss)
            scores.append(y_hat)
        correct = self.model.accuracy(np.concatenate(scores), y, averaged=False)
        if fed:
            X, y_fed = (np.concatenate(parts).asnumpy() for parts in zip(*fed, strict=True))
            self.keep_fed(X.ravel(), y_fed, [len(y_batch) for _, y_batch in fed])
        mxnet.nd.waitall()  # no loss waits for the last update
        return EpochMetrics(
            np.stack(losses).asnumpy().astype("float64"),
            batch_means(correct.asnumpy(), self.batch_size),
        )

    @staticmethod
    def _step(model, optim, X, y):
        with autograd.record():
            y_hat = model(X)
            loss = model.loss(y_hat, y)
        loss.backward()
        optim.step(1)  # the loss is a mean already
        return y_hat, loss

    def _gather(self, rows):
        return np.take(self.X, rows, axis=0)

    def shuffle(self, num_examples):
        order = np.arange(num_examples, dtype="int32")
        np.random.shuffle(order)
        return order.asnumpy()

    def training_batch(self, rows):
        rows = _array(rows)
        return self._gather(rows).asnumpy(), np.take(self.y, rows).asnumpy()

    def validation_batches(self, size):
        for start in range(0, len(self.X_val), size):
            yield self.X_val[start : start + size], self.y_val[start : start + size]

    def evaluate(self, X, y):
        y_hat = self.model(X)
        return float(self.model.loss(y_hat, y)), float(self.model.accuracy(y_hat, y))

    def predict(self, X):
        return self.model(X).asnumpy()

    def watched_pass(self, training):
        model, calls = self.model, []
        handles = [
            block.register_forward_hook(functools.partial(_note, calls, name))
            for name, block in _innermost(model)
        ]
        try:
            before = model.get_states()
            with autograd.record(train_mode=training):
                y_hat = model(self.watched_examples())
            return Pass(y_hat.asnumpy(), calls, before, model.get_states())
        finally:
            for handle in handles:
                handle.detach()

    def probe(self, parameters, X, y):
        model, X, y = self.model, _array(X), _array(y)
        with model.restored():
            model.set_parameters(parameters)
            y_hat, loss = self._step(model, model.configure_optimizers(), X, y)
            arrays = {
                "data/X": X,
                "data/y": y,
                "forward/y_hat": y_hat,
                "example_loss": model.loss(y_hat, y, averaged=False),
                "loss": loss,
                "metric/accuracy": model.accuracy(y_hat, y),
            }
            arrays = {name: value.asnumpy() for name, value in arrays.items()}
            for name, value in model.get_parameters().items():
                arrays[f"update/{name}"] = value
            for name, value in model.get_gradients().items():
                arrays[f"gradient/{name}"] = value
        return arrays


def _innermost(block, path=""):
    """The blocks without blocks of their own inside a block, with their paths."""
    for name, child in block._children.items():
        below = list(_innermost(child, f"{path}{name}."))
        yield from below or [(f"{path}{name}", child)]


def _note(calls, name, block, inputs, output):
    arrays = inputs[0], output
    if all(isinstance(array, np.ndarray) for array in arrays):
        calls.append((f"{name} ({type(block).__name__})", *(a.asnumpy() for a in arrays)))


def _array(array):
    """The array on MXNet's device in use, of the same type.

    It shares the memory where that is the processor's own and may be written.
    """
    if not (array.flags.writeable and array.flags.c_contiguous):
        array = array.copy()
    # Of a view, since MXNet forbids writing to what it is given.
    array = mxnet.nd.from_numpy(array.view(), array_cls=np.ndarray)
    return array.as_in_ctx(mxnet.current_context())
