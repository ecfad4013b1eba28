"""TensorFlow's half of Trainer."""

import functools
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from framework_parity.backends.tensorflow.classifier import GENERATOR, numpy
from framework_parity.backends.tensorflow.mixed_precision import Mixed
from framework_parity.backends.tensorflow.optimizer import arguments, memory, remember, widened
from framework_parity.common.core.device import no_gpu
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.dropout import EVALUATION, kept
from framework_parity.common.training.forward_checks import Activation, Pass
from framework_parity.common.training.optimizer_state import by_kind, named
from framework_parity.common.training.trainer import EVALUATION_EXAMPLES, EpochMetrics
from framework_parity.common.training.trainer import Trainer as AbstractTrainer


class Trainer(AbstractTrainer):
    """Trains a TensorFlow :class:`Classifier`; a graph runs the batches of an epoch."""

    mixed_formats = ("bfloat16", "float16")

    @staticmethod
    def use_device(device):
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
            return
        if not (gpus := tf.config.list_physical_devices("GPU")):
            raise no_gpu("TensorFlow", tf.__version__, "tensorflow")
        for gpu in gpus:  # else it takes all memory, whoever else computes there
            tf.config.experimental.set_memory_growth(gpu, True)
        one = tf.ones((1, 1))
        tf.matmul(one, one).numpy()

    @staticmethod
    @contextmanager
    def layers_of(dtype):
        before = tf.keras.config.floatx()
        tf.keras.config.set_floatx(dtype)
        try:
            yield
        finally:
            tf.keras.config.set_floatx(before)

    def prepare(self, model, data, dtype):
        self.model, self.data = model, data
        self.place(*self.training_examples(dtype))
        self.X_val, self.y_val = map(put, data.examples(train=False, dtype=dtype))
        received = model(self.X[:1]).dtype  # builds lazy layers, as in evaluation
        if received != dtype:
            raise ParityError(
                "fit",
                f"a model that computes in {dtype}",
                received.name,
                f"give parameters of dtype {dtype}, or make the model's layers with it",
            )
        self.optim = self._configured()
        if self.mixed:
            self.model = Mixed(model, self.mixed, self.loss_scale)
        self._train_functions = {}
        self._evaluate = tf.function(functools.partial(_evaluate, self), autograph=False)

    def _configured(self):
        """A new optimizer; in float64 with all its numbers in that, which Keras would round."""
        if self.dtype != "float64":
            return self.model.configure_optimizers()
        with self.layers_of("float64"):
            return widened(self.model.configure_optimizers())

    def compile(self):
        num_train = self.data.num_train
        for size in {min(self.batch_size, num_train), num_train % self.batch_size} - {0}:
            self._train(np.empty((0, size), np.int32))
        sizes = {len(y): (X, y) for X, y in self.validation_batches(EVALUATION_EXAMPLES)}
        kept = self.buffers()
        for X, y in sizes.values():
            self.evaluate(X, y)
        self.set_buffers(kept)  # a layer that is told otherwise by the model moves them

    def place(self, X, y):
        self.X, self.y = put(X), put(y)

    def fit_epoch(self, order):
        full = len(order) - len(order) % self.batch_size
        batches = order[:full].reshape(-1, self.batch_size), order[full:].reshape(1, -1)
        metrics, step = [], self.step
        for rows in batches:
            if rows.size:
                losses, accuracies, *fed = self._train(rows, step)
                step += len(rows)
                metrics.append((losses, accuracies))
                if fed:
                    X, y = fed
                    self.keep_fed(X.ravel(), y.reshape(-1, *y.shape[2:]), [X.shape[1]] * len(X))
        return EpochMetrics(*map(np.concatenate, zip(*metrics, strict=True)))

    def _train(self, rows, first=0):
        """One update per row of examples: losses and accuracies, by the graph for that width.

        ``first`` is the number of updates before.
        """
        size = rows.shape[1]
        if size not in self._train_functions:
            self._train_functions[size] = tf.function(
                functools.partial(_train, self, self.watched),
                autograph=False,
                input_signature=[
                    tf.TensorSpec(self.X.shape, self.X.dtype),
                    tf.TensorSpec(self.y.shape, self.y.dtype),
                    tf.TensorSpec([None, size], tf.int32),
                    tf.TensorSpec([None, size], tf.int32),
                    tf.TensorSpec([None, 1], tf.int32),
                ],
            )
        steps = np.arange(first, first + len(rows), dtype=np.int32)[:, None]
        given = rows.astype(np.int32), self.rows_of(rows).astype(np.int32), steps
        found = self._train_functions[size](self.X, self.y, *given)
        return tuple(values.numpy() for values in found)

    def shuffle(self, num_examples):
        return tf.random.shuffle(tf.range(num_examples)).numpy()

    def training_batch(self, rows):
        X, y = _gather(self.X, self.y, rows)
        return X.numpy(), y.numpy()

    def validation_batches(self, size):
        for start in range(0, len(self.X_val), size):
            yield self.X_val[start : start + size], self.y_val[start : start + size]

    def evaluate(self, X, y):
        loss, accuracy = self._evaluate(X, y)
        return float(loss), float(accuracy)

    def predict(self, X):
        with self.masked(EVALUATION, np.arange(len(X))):
            return self.model.told(X, training=False).numpy()

    @staticmethod
    @contextmanager
    def dropout_from(masks):
        drawing = tf.keras.layers.Dropout.call

        def call(layer, inputs, training=False):
            """As Keras does it, by ``tf.nn.experimental.stateless_dropout``, but for the mask."""
            rate, shape = layer.rate, inputs.shape
            if layer.noise_shape is not None or not (training and masks.drops(rate)):
                return drawing(layer, inputs, training)
            drawn = functools.partial(
                kept, masks.seed, layer=masks.next_layer(shape), shape=tuple(shape), rate=rate
            )
            mask = tf.numpy_function(
                lambda step, rows: drawn(step=step, rows=rows), [masks.step, masks.rows], tf.bool
            )
            mask = tf.ensure_shape(mask, shape)
            return tf.where(mask, inputs * tf.cast(1 / (1 - rate), inputs.dtype), 0)

        tf.keras.layers.Dropout.call = call
        try:
            yield
        finally:
            tf.keras.layers.Dropout.call = drawing

    def buffers(self):
        return self.model.get_buffers()

    def set_buffers(self, buffers):
        self.model.set_buffers(buffers)

    def watched_pass(self, model, X, training):
        layers, before = model.layers_by_name(), _generators(model)
        with model.noting() as calls:
            for name, layer in layers.items():
                noted = functools.partial(_noted, calls, name, layer, layer.call)
                object.__setattr__(layer, "call", noted)
            try:
                y_hat = model.told(X, training).numpy()
            finally:
                for layer in layers.values():
                    vars(layer).pop("call")
        return Pass(y_hat, calls, before, _generators(model))

    def activations(self, parameters, X, step=0, buffers=None, rows=None, training=True):
        with self._lent(parameters, step, buffers, rows, len(X)) as model:
            found = self.watched_pass(model, tf.constant(X), training)
            y_hat = {} if training else {"y_hat": Activation("", found.y_hat)}
            return found.activations() | y_hat

    @contextmanager
    def _lent(self, parameters, step, buffers, rows, examples):
        """The model itself, for a probe: copying Keras layers means saving and loading them."""
        model, rows = self.model, np.arange(examples) if rows is None else rows
        own = model.get_parameters(), model.get_buffers()
        model.set_parameters({n: parameters[n].astype(value.dtype) for n, value in own[0].items()})
        model.set_buffers(buffers or {})
        try:
            with self.masked(step, rows):
                yield model
        finally:
            model.set_parameters(own[0])
            model.set_buffers(own[1])

    def optimizer_arguments(self, num_steps):
        return arguments(self.optim, num_steps)

    def optimizer_state(self):
        return self._state(self.optim)

    def _state(self, optim):
        return named(memory(optim, self.model.named_tensors()), self.model.read)

    def probe(self, parameters, X, y, state=None, step=0, buffers=None, rows=None):
        with self._lent(parameters, step, buffers, rows, len(X)):
            return self._probe(tf.constant(X), tf.constant(y), state)

    def _probe(self, X, y, state):
        model, optim = self.model, self._configured()
        if state:
            remember(optim, model.named_tensors(), by_kind(state, model.arrange))
        step = tf.function(functools.partial(_step, model, optim), autograph=False)
        y_hat, loss, gradients = step(X, y)
        arrays = {
            "data/X": X,
            "data/y": y,
            "forward/y_hat": y_hat,
            "example_loss": model.loss(y_hat, y, averaged=False),
            "loss": loss,
            "metric/accuracy": model.accuracy(y_hat, y),
        }
        found = {name: np.array(value.numpy()) for name, value in arrays.items()}
        gradients = map(tf.convert_to_tensor, gradients)  # an embedding's are slices
        gradients = dict(zip(model.named_tensors(), gradients, strict=True))
        after = {"update": model.get_parameters(), "gradient": model.read(gradients)}
        after["buffer"] = model.get_buffers()
        for kind, values in after.items():
            found |= {f"{kind}/{name}": value for name, value in values.items()}
        remembered = {} if state is None else self._state(optim)
        return found | {f"optimizer/{name}": value for name, value in remembered.items()}


def _generators(model):
    """The states of Keras' random generators by name."""
    named = model.untrained().items()
    return {name: variable.numpy().copy() for name, variable in named if name.endswith(GENERATOR)}


def _noted(calls, name, layer, call, X, *arguments, **options):
    """Call a layer; one that ends in a function of its own counts as two."""
    function, ended, kind = getattr(layer, "activation", None), [X, None], type(layer).__name__

    def noted(Z):
        ended[:] = Z, function(Z)
        return ended[1]

    if function is not None:
        object.__setattr__(layer, "activation", noted)
    try:
        output = call(X, *arguments, **options)
    finally:
        if function is not None:
            object.__setattr__(layer, "activation", function)
    Z, end = ended
    steps = [(name, kind, X, output)]
    if end is output and Z is not X and Z is not output:
        steps = [(name, kind, X, Z), (f"{name}.activation", function.__name__, Z, output)]
    for *whose, X, output_ in steps:
        if isinstance(output_, list | tuple) and output_:  # and states, weights of an attention
            output_ = output_[0]
        if all(isinstance(t, tf.Tensor) and hasattr(t, "numpy") for t in (X, output_)):
            calls.append((*whose, numpy(X), numpy(output_)))
    return output


def _step(model, optim, X, y):
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        y_hat = model.told(X, training=True)
        loss = model.loss(y_hat, y)
    gradients = tape.gradient(loss, variables)
    if isinstance(model, Mixed):
        gradients = model.unscaled(gradients)
    optim.apply_gradients(zip(gradients, variables, strict=True))
    return y_hat, loss, gradients


def _train(trainer, v, X, y, rows, ids, steps):
    model = trainer.model

    def step(given):
        batch, all_rows, number = given
        X_batch, y_batch = _gather(X, y, batch)
        with trainer.masked(number, all_rows):
            y_hat, loss, _ = _step(model, trainer.optim, X_batch, y_batch)
        accuracy = model.accuracy(y_hat, y_batch)
        values = tf.cast(loss, tf.float64), tf.cast(accuracy, tf.float64)
        if v is None:
            return values
        return *values, _projected(X_batch, v), y_batch

    # One at a time: each update needs the one before it.
    types = (tf.float64, tf.float64) + (() if v is None else (X.dtype, y.dtype))
    given = rows, ids, steps
    return tf.map_fn(step, given, fn_output_signature=types, parallel_iterations=1)


def _projected(X, v):
    if tf.config.get_visible_devices("GPU"):  # where a product would be rounded to TF32
        return tf.reduce_sum(X * v, axis=1)
    return tf.linalg.matvec(X, v)


def _evaluate(trainer, X, y):
    model = trainer.model
    with trainer.masked(EVALUATION, np.arange(y.shape[0])):
        y_hat = model.told(X, training=False)
    return model.loss(y_hat, y), model.accuracy(y_hat, y)


def _gather(X, y, rows):
    return tf.gather(X, rows), tf.gather(y, rows)


def shared(array):
    """The array as a tensor on the processor, which shares its memory."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def put(array):
    """The array as a tensor on the device in use; on the CPU it shares the memory.

    It is aligned as TensorFlow asks.
    """
    tensor = shared(array)
    if not tf.config.get_visible_devices("GPU"):
        return tensor
    with tf.device("GPU:0"):  # else each call of a graph would copy it there
        return tf.identity(tensor)
