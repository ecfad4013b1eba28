"""Passes of a Keras model in a narrower format than that of its parameters."""

import tensorflow as tf

from framework_parity.backends.tensorflow.classifier import layers_inside


class Mixed:
    """A model whose forward and backward passes are computed in another format.

    Of each pass the parameters, which stay as they are, and the features are rounded to it (layers
    do so by their policy), and what ``forward`` gives is float32 again. The gradient is multiplied
    by the loss scale where it enters the format; :meth:`unscaled` divides by it: Micikevicius et
    al., Mixed Precision Training, arXiv 1710.03740. All else is the model's own.
    """

    def __init__(self, model, dtype, scale):
        self.model, self.dtype, self.scale = model, dtype, scale
        for _, layer in layers_inside(vars(model).items(), ""):
            layer.dtype_policy = f"mixed_{dtype}"

    def __call__(self, X):
        return self._computed(X, self.model)

    def told(self, X, training):
        """As the model's own."""
        return self._computed(X, lambda X: self.model.told(X, training))

    def _computed(self, X, forward):
        held = vars(self.model)
        by_hand = {name: value for name, value in held.items() if isinstance(value, tf.Variable)}
        try:
            held.update({name: tf.cast(value, self.dtype) for name, value in by_hand.items()})
            y_hat = forward(tf.cast(X, self.dtype))
        finally:
            held.update(by_hand)

        @tf.custom_gradient
        def result(y_hat):
            return tf.cast(y_hat, tf.float32), lambda g: tf.cast(g * self.scale, y_hat.dtype)

        return result(y_hat)

    def unscaled(self, gradients):
        """The gradients as the optimizer takes them."""
        return [None if g is None else g / self.scale for g in gradients]

    def __getattr__(self, name):
        return getattr(self.model, name)
