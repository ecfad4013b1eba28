"""Stochastic gradient descent by hand, in MXNet, and what MXNet's optimizers remember."""

from mxnet import gluon, optimizer

from framework_parity.common.training.optimizer_state import by_hand

KINDS = {
    optimizer.SGD: ("velocity",),
    optimizer.NAG: ("velocity",),
    optimizer.Adam: ("first_moment", "second_moment"),
    optimizer.RMSProp: ("second_moment", "first_moment", "velocity"),
    optimizer.AdaGrad: ("sum_of_squares",),
}
"""By class: what a state has of a parameter, by canonical name; nothing of SGD without momentum."""


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        params: arrays with an attached gradient, gluon's parameters, or a dictionary of those.
        lr: learning rate.
    """

    def __init__(self, params, lr):
        self.params = list(params.values() if hasattr(params, "values") else params)
        self.lr = lr
        self.state = {}  # what it remembers

    def step(self, batch_size):
        """Update every parameter from its gradient.

        Args:
            batch_size: as gluon's trainer takes it; not needed, since the loss is a mean.
        """
        for param in map(array_of, self.params):
            param -= self.lr * param.grad


def array_of(parameter):
    """The array that a parameter of gluon holds; an array made by hand is its own."""
    return parameter.data() if isinstance(parameter, gluon.Parameter) else parameter


def memory(optimizer, tensors):
    """What an optimizer remembers of ``tensors`` by name: see :mod:`optimizer_state`."""
    rule = getattr(optimizer, "_optimizer", optimizer)
    if type(rule) not in KINDS:
        return by_hand(rule)
    found = {"count": rule.num_update}
    for name, _, factor, states in _states(optimizer, tensors):
        for kind, array in states.items():
            found.setdefault(kind, {})[name] = array / (factor if kind == "velocity" else 1)
    return found


def remember(optimizer, tensors, memory):
    """Give an optimizer that made no step yet the ``memory`` of another."""
    rule = getattr(optimizer, "_optimizer", optimizer)
    if type(rule) not in KINDS:
        rule.state = memory
        return
    rule.begin_num_update = rule.num_update = memory["count"]
    for name, index, factor, states in _states(optimizer, tensors):
        rule._index_update_count[index] = memory["count"]
        for kind, array in states.items():
            array[:] = memory[kind][name].asnumpy() * (factor if kind == "velocity" else 1)


def _states(trainer, tensors):
    """Of each parameter its name, its place in the trainer, and its states by kind, made if new.

    And what its state is of the velocity: the learning rate is in it, ``v ← m v − lr g``,
    ``p ← p + v``, in src/operator/optimizer_op-inl.h.
    """
    rule, (updater,) = trainer._optimizer, trainer._updaters
    places = {id(parameter): index for index, parameter in enumerate(trainer._params)}
    for name, tensor in tensors.items():
        if (index := places.get(id(tensor))) is None:  # it stays as it is
            continue
        if index not in updater.states:
            state = rule.create_state_multi_precision(index, tensor.data())
            updater.states[index], updater.states_synced[index] = state, True
        states = updater.states[index]
        states = states if isinstance(states, tuple) else () if states is None else (states,)
        yield name, index, -rule._get_lr(index), dict(zip(KINDS[type(rule)], states, strict=False))
