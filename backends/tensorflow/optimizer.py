"""Stochastic gradient descent by hand, in TensorFlow, and what Keras' optimizers remember."""

import tensorflow as tf

from framework_parity.common.training.optimizer_state import UnknownOptimizerError, by_hand

SLOTS = {
    tf.keras.optimizers.SGD: {"velocity": "momentums"},
    tf.keras.optimizers.Adagrad: {"sum_of_squares": "_accumulators"},
    tf.keras.optimizers.RMSprop: {
        "first_moment": "_average_gradients",
        "second_moment": "_velocities",
        "velocity": "_momentums",
    },
}
"""By class and canonical name: Keras' attribute, a list of variables in the order of training."""
SLOTS[tf.keras.optimizers.Adam] = SLOTS[tf.keras.optimizers.AdamW] = {
    "first_moment": "_momentums",
    "second_moment": "_velocities",
    "largest_second_moment": "_velocity_hats",
}


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        lr: learning rate.
    """

    def __init__(self, lr):
        self.lr = lr
        self.state = {}  # what it remembers

    def apply_gradients(self, grads_and_vars):
        """Update variables.

        Args:
            grads_and_vars: pairs of a gradient and its variable.
        """
        for grad, param in grads_and_vars:
            param.assign_sub(self.lr * grad)


def memory(optimizer, tensors):
    """What an optimizer remembers of ``tensors`` by name: see :mod:`optimizer_state`."""
    if type(optimizer) not in SLOTS:
        return by_hand(optimizer)
    if optimizer.use_ema or getattr(optimizer, "gradient_accumulation_steps", None):
        raise UnknownOptimizerError(f"{type(optimizer).__name__} of Keras that averages over steps")
    found = {"count": optimizer.iterations}
    for kind, variables in _slots(optimizer, tensors).items():
        found[kind] = {
            name: tf.convert_to_tensor(variable) / _factor(optimizer, kind)
            for name, variable in variables.items()
        }
    return found


def remember(optimizer, tensors, memory):
    """Give an optimizer that made no step yet the ``memory`` of another."""
    if type(optimizer) not in SLOTS:
        optimizer.state = memory
        return
    optimizer.iterations.assign(memory["count"])
    for kind, variables in _slots(optimizer, tensors).items():
        for name, variable in variables.items():
            variable.assign(memory[kind][name] * _factor(optimizer, kind))


def _slots(optimizer, tensors):
    """Keras' variables by kind and name."""
    if not optimizer.built:
        optimizer.build(list(tensors.values()))
    slots = SLOTS[type(optimizer)]
    lists = {kind: getattr(optimizer, attribute, ()) for kind, attribute in slots.items()}
    return {kind: dict(zip(tensors, kept, strict=True)) for kind, kept in lists.items() if kept}


def _factor(optimizer, kind):
    """What Keras' number is of the canonical one.

    The velocity has the learning rate in it: ``v ← m v − lr g``, ``p ← p + v`` in
    keras/src/optimizers/sgd.py, ``v ← m v + lr g / √…``, ``p ← p − v`` in rmsprop.py.
    """
    if kind != "velocity":
        return 1
    lr = float(optimizer.learning_rate)
    return -lr if isinstance(optimizer, tf.keras.optimizers.SGD) else lr
