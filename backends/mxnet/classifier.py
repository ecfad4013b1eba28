"""MXNet's half of Classifier."""

import copy
from contextlib import contextmanager

import numpy as onp
from mxnet import gluon, np, npx

from framework_parity.backends.mxnet.layers import entries
from framework_parity.backends.mxnet.optimizer import SGD, array_of
from framework_parity.common.training.eager_classifier import EagerClassifier


def tensor(values):
    """An array of ``values``: numbers, nested lists or NumPy's array; fractions are float32.

    MXNet alone would make float32 of whole numbers, too, which are no classes then.
    """
    values = onp.asarray(values)
    return np.array(values, dtype="float32" if values.dtype.kind == "f" else values.dtype)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return tensor.asnumpy()


class Classifier(gluon.Block, EagerClassifier):
    """A classifier in MXNet whose ``forward`` gives logits, until a subclass says otherwise.

    A subclass needs layers in ``self.net`` (initialized), or arrays with an attached gradient as
    attributes, and usually ``self.lr``.
    """

    example_loss = gluon.loss.SoftmaxCrossEntropyLoss()
    example_loss.hybridize(static_alloc=True, static_shape=True)

    tensor, numpy = staticmethod(tensor), staticmethod(numpy)

    def __new__(cls, *_, **__):
        _as_numpy()
        return super().__new__(cls)

    def __call__(self, *arguments):
        _as_numpy()
        return super().__call__(*arguments)

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y, averaged=True):
        losses = self.example_loss(y_hat, y)
        return losses.mean() if averaged else losses

    def accuracy(self, y_hat, y, averaged=True):
        if self.learns_numbers:
            return np.full(() if averaged else (len(y),), onp.nan)
        y_hat = y_hat.reshape(-1, y_hat.shape[-1])
        correct = (y_hat.argmax(axis=1).astype(y.dtype) == y.reshape(-1)).astype("float32")
        return correct.mean() if averaged else correct

    def parameters(self):
        """Gluon's parameters; a list, if any array made by hand is among what is trained."""
        parameters = self.collect_params()  # a list already, where a model of the book says so
        if self._by_hand() and not isinstance(parameters, list):
            return list(self.named_tensors().values())
        return parameters

    def configure_optimizers(self):
        """SGD by hand for a list of arrays, gluon's for gluon's parameters, as in the book.

        Override it with anything that has ``step(batch_size)``; the loss is a mean, so it is
        called with 1. By hand for layers: ``SGD(self.collect_params(), lr)``. A ``gluon.Trainer``
        for a model by hand: keep its parameters as
        ``self.W = self.params.get("W", shape=…, init=…)``, initialize, compute with
        ``self.W.data()``.
        """
        parameters = self.parameters()
        if isinstance(parameters, list):
            return SGD(parameters, self.lr)
        return gluon.Trainer(parameters, "sgd", {"learning_rate": self.lr})

    def named_tensors(self):
        """What is trained, by name: gluon's parameters by their path, and attributes by hand."""
        registered = {
            name: parameter
            for name, parameter in self._collect_params_with_prefix().items()
            if parameter.grad_req != "null"
        }
        return registered | self._by_hand()

    def _by_hand(self):
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray) and value.grad is not None
        }

    def read(self, tensors):
        return super().read({name: array_of(tensor) for name, tensor in tensors.items()})

    def read_gradients(self, gradients=None):
        tensors = self.named_tensors().items()
        return self.read({name: array_of(tensor).grad for name, tensor in tensors})

    def entries(self, X):
        self.build(tensor(X))
        return entries(self)

    def get_buffers(self):
        return {n: array_of(parameter).asnumpy() for n, parameter in self._untrained().items()}

    def set_buffers(self, buffers):
        untrained = self._untrained()
        for name, value in buffers.items():
            untrained[name].set_data(np.array(value, dtype=untrained[name].dtype))

    def _untrained(self):
        registered = self._collect_params_with_prefix().items()
        return {name: parameter for name, parameter in registered if parameter.grad_req == "null"}

    def set_tensor(self, name, value):
        tensor = self.named_tensors()[name]
        if isinstance(tensor, gluon.Parameter):
            _set_data(tensor, value)
        elif (tensor.shape, tensor.dtype) == (value.shape, value.dtype):
            tensor[:] = value  # in place: an optimizer may hold the array
        else:
            self._attach(name, np.array(value, dtype=value.dtype))

    def build(self, X):
        """Give lazy layers their shapes from a batch, in the model's own floating-point type.

        MXNet's random initializers know float32 only: a model is built, then cast.

        Args:
            X: examples, shape ``(n, num_inputs)``.
        """
        self(X.astype(next((t.dtype for t in self.named_tensors().values()), X.dtype)))

    def cast(self, dtype):
        """Convert everything trained.

        Args:
            dtype: a floating-point type.
        """
        super().cast(dtype)
        for name, array in self._by_hand().items():
            if array.dtype != onp.dtype(dtype):
                self._attach(name, array.astype(dtype))

    @contextmanager
    def restored(self):
        """Put back, when the block ends, all that the model holds, running statistics included."""
        attributes = dict(vars(self))
        tensors = [*self._collect_params_with_prefix().values(), *self._by_hand().values()]
        copies = [array_of(tensor).copy() for tensor in tensors]
        try:
            yield self
        finally:
            vars(self).update(attributes)
            for tensor, value in zip(tensors, copies, strict=True):
                if isinstance(tensor, gluon.Parameter):
                    _set_data(tensor, value)
                else:
                    tensor[:] = value

    def __deepcopy__(self, memo):
        # MXNet copies the arrays, but not that they have gradients.
        copied = memo[id(self)] = type(self).__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        for parameter in copied._collect_params_with_prefix().values():
            parameter.cast(parameter.dtype)
        for name in self._by_hand():
            getattr(copied, name).attach_grad()
        return copied

    def _attach(self, name, array):
        array.attach_grad()
        setattr(self, name, array)


def _as_numpy():
    """Give MXNet NumPy's semantics in the thread at hand: it keeps a switch for each."""
    if not npx.is_np_array():
        npx.set_np()


def _set_data(parameter, value):
    if -1 in parameter.shape:  # a lazy layer takes its shape from the value
        parameter.shape = value.shape
        parameter.initialize(force_reinit=True)  # before the cast: see build
    if parameter.dtype != value.dtype:
        parameter.cast(value.dtype)
    parameter.set_data(value)
