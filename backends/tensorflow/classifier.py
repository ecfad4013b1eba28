"""TensorFlow's half of Classifier."""

import inspect
import math

import tensorflow as tf

from framework_parity.backends.tensorflow.layers import entries
from framework_parity.backends.tensorflow.optimizer import SGD
from framework_parity.common.training.eager_classifier import EagerClassifier


def tensor(values):
    """A tensor of ``values``: numbers, nested lists or an array.

    Fractions are float32 unless they say more.
    """
    return tf.constant(values)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy; of a narrow format as float32."""
    dtype = tf.as_dtype(tensor.dtype)  # a Keras variable names its type
    narrow = dtype.is_floating and dtype.size == 2
    return (tf.cast(tensor, tf.float32) if narrow else tensor).numpy()


GENERATOR = "seed_generator_state"
"""What Keras calls the state of a random generator, a variable like others."""


class Classifier(EagerClassifier):
    """A classifier in TensorFlow whose ``forward`` gives logits, until a subclass says otherwise.

    A subclass needs attributes that are variables, or layers in ``self.net``, and usually
    ``self.lr``.
    """

    tensor, numpy = staticmethod(tensor), staticmethod(numpy)

    def __call__(self, X):
        if X.ndim > 2:  # Keras layers, once built, take only the shape that the trainer gives
            X = tf.reshape(X, (-1, math.prod(X.shape[1:])))
        return self.forward(X)

    def loss(self, y_hat, y, averaged=True):
        fn = tf.keras.losses.SparseCategoricalCrossentropy(
            from_logits=True,
            reduction="sum_over_batch_size" if averaged else "none",
            dtype=y_hat.dtype.name,
        )
        return fn(tf.reshape(y, (-1,)), tf.reshape(y_hat, (-1, y_hat.shape[-1])))

    def accuracy(self, y_hat, y, averaged=True):
        if self.learns_numbers:
            return tf.fill(() if averaged else tf.shape(y)[:1], math.nan)
        y_hat = tf.reshape(y_hat, (-1, y_hat.shape[-1]))
        preds = tf.argmax(y_hat, axis=1, output_type=y.dtype)
        correct = tf.cast(preds == tf.reshape(y, (-1,)), tf.float32)
        return tf.reduce_mean(correct) if averaged else correct

    def configure_optimizers(self):
        if all(isinstance(variable, tf.Variable) for variable in self.trainable_variables):
            return SGD(self.lr)  # by hand, as the variables
        # Keras would keep a number in float32, also where it trains in float64.
        return tf.keras.optimizers.SGD(lambda: tf.constant(self.lr, tf.float64))

    @property
    def trainable_variables(self):
        """The trainable variables of the model and its layers."""
        return list(self.named_tensors().values())

    def named_tensors(self):
        """The trainable variables by name: an attribute's, or ``attribute.i.name`` inside one.

        Attributes that are lists are searched too. A model whose variables have better names
        overrides this.
        """
        named = {}
        for attribute, value in vars(self).items():
            for i, variable in enumerate(_variables(value)):
                inside = f"{attribute}.{i}.{variable.name.removesuffix(':0')}"
                name = attribute if variable is value else inside
                if not any(variable is other for other in named.values()):
                    named[name] = variable
        return named

    def entries(self, X):
        self(tf.constant(X))  # builds lazy layers
        return entries(self)

    def layers_by_name(self):
        """The Keras layers by their path, but for those that only call others in turn."""
        found = {}
        for path, layer in layers_inside(vars(self).items(), ""):
            sequential = isinstance(layer, tf.keras.Sequential)
            if not sequential and not any(layer is other for other in found.values()):
                found[path] = layer
        return found

    def told(self, X, training):
        """``self(X)`` as in training or in evaluation: a layer tells those that it calls."""
        layers = self.layers_by_name().values()
        has_modes = any(
            "training" in inspect.signature(type(layer).call).parameters for layer in layers
        )
        kept, self.training = self.training, training
        try:
            return AsTold(self, X.dtype.name)(X, training=training) if has_modes else self(X)
        finally:
            self.training = kept

    def untrained(self):
        """The variables besides what is trained, by name: ``layer.moving_mean``."""
        found = {}
        for attribute, value in vars(self).items():
            for i, variable in enumerate(_variables(value, trainable=False)):
                own = attribute if variable is value else f"{attribute}.{i}.{_last(variable)}"
                found[id(variable)] = own, variable
        for path, layer in self.layers_by_name().items():  # those inside others come after them
            for variable in layer.non_trainable_variables:
                found[id(variable)] = f"{path}.{_last(variable)}", variable
        return dict(found.values())

    def get_buffers(self):
        named = self.untrained().items()
        return {n: v.numpy().copy() for n, v in named if not n.endswith(GENERATOR)}

    def set_buffers(self, buffers):
        held = self.untrained()
        for name, value in buffers.items():
            held[name].assign(value)

    def set_tensor(self, name, value):
        held = self.named_tensors()[name]
        if name in vars(self) and held.dtype != value.dtype:
            setattr(self, name, tf.Variable(value))
        else:
            held.assign(value)


class AsTold(tf.keras.layers.Layer):
    """Calls a model; layers called inside another's call are told ``training`` as that one is."""

    def __init__(self, model, dtype):
        super().__init__(dtype=dtype)
        self.function = model.__call__

    def call(self, X, training=None):
        return self.function(X)


def _last(variable):
    """The last part of a variable's name."""
    return variable.name.removesuffix(":0").rpartition("/")[2]


def _variables(value, trainable=True):
    if isinstance(value, tf.Variable):
        return [value] if value.trainable == trainable else []
    if isinstance(value, list | tuple):
        return [variable for item in value for variable in _variables(item, trainable)]
    # a layer's, a module's
    return getattr(value, "trainable_variables" if trainable else "non_trainable_variables", [])


def layers_inside(named, path):
    """The layers among named values and inside them, each with its path."""
    for name, value in named:
        if isinstance(value, list | tuple):
            yield from layers_inside(enumerate(value), f"{path}{name}.")
        elif isinstance(value, tf.keras.layers.Layer):
            yield f"{path}{name}", value
            attributes = {n: held for n, held in vars(value).items() if not n.startswith("_")}
            inside = list(layers_inside(attributes.items(), f"{path}{name}."))
            numbered = enumerate(getattr(value, "layers", ()))  # of a Sequential, a Functional
            yield from inside or layers_inside(numbered, f"{path}{name}.")
