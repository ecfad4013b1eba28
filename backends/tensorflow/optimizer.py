"""Stochastic gradient descent by hand, in TensorFlow, and what Keras' optimizers remember."""

import numpy as np
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
ARGUMENTS = {
    tf.keras.optimizers.SGD: lambda o: {
        "momentum": float(o.momentum),
        "nesterov": bool(o.nesterov),
        "lagging": True,
    },
    tf.keras.optimizers.Adam: lambda o: {
        "betas": [float(o.beta_1), float(o.beta_2)],
        "eps": float(o.epsilon),
        "eps_hat": True,
    },
    tf.keras.optimizers.RMSprop: lambda o: {
        "alpha": float(o.rho),
        "eps": float(o.epsilon),
        "eps_inside": True,
    },
    tf.keras.optimizers.Adagrad: lambda o: {
        "initial_accumulator_value": float(o.initial_accumulator_value),
        "eps": float(o.epsilon),
        "eps_inside": True,
    },
}
"""By class: the arguments, as optimizers by hand have them."""
ARGUMENTS[tf.keras.optimizers.AdamW] = ARGUMENTS[tf.keras.optimizers.Adam]
OTHERS = ("amsgrad", "centered", "use_ema", "gradient_accumulation_steps", "loss_scale_factor")
"""Those which make it another optimizer."""


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
    lr = _rate(optimizer, max(int(optimizer.iterations) - 1, 0))  # of the last step
    return -lr if isinstance(optimizer, tf.keras.optimizers.SGD) else lr


def _rate(optimizer, step):
    """The learning rate of a step, counted from 0."""
    if _has_schedule(optimizer):
        return float(optimizer._learning_rate(step))
    return float(optimizer.learning_rate)


def _has_schedule(optimizer):
    schedules = tf.keras.optimizers.schedules
    held = getattr(optimizer, "_learning_rate", None)
    return isinstance(held, schedules.LearningRateSchedule)


def widened(optimizer):
    """An optimizer whose numbers, and those of its schedule, TensorFlow takes for float64.

    Of a Python number it makes float32 first, ``1 − 0.999`` is off by 1.3e-05 then.
    """
    schedule = getattr(optimizer, "_learning_rate", None)
    for held in (optimizer, *([schedule] if _has_schedule(optimizer) else [])):
        for name, value in list(vars(held).items()):
            if type(value) is float:
                setattr(held, name, np.float64(value))
            elif type(value) is list and value and all(type(item) is float for item in value):
                setattr(held, name, [np.float64(item) for item in value])
    return optimizer


def arguments(optimizer, num_steps):
    """What an optimizer is: see :data:`optimizer_state.ARGUMENTS`."""
    kind = type(optimizer)
    if kind is SGD:
        return {"kind": "SGD", "lr": float(optimizer.lr)}
    if kind not in ARGUMENTS or any(getattr(optimizer, name, None) for name in OTHERS):
        return None
    found = ARGUMENTS[kind](optimizer)
    if kind is tf.keras.optimizers.RMSprop and optimizer.momentum:
        return None
    clips = {"clipnorm": "norm", "global_clipnorm": "global norm", "clipvalue": "value"}
    for name, by in clips.items():  # the first alone counts
        if (limit := getattr(optimizer, name)) and "clip" not in found:
            found["clip"] = [float(limit), by, 0]
    rates = [_rate(optimizer, step) for step in range(num_steps)] if _has_schedule(optimizer) else 0
    return {
        "kind": "Adam" if kind is tf.keras.optimizers.AdamW else kind.__name__,
        "lr": rates or _rate(optimizer, 0),
        "weight_decay": float(optimizer.weight_decay or 0),
        "decoupled": True,
        **found,
    }
