"""Stochastic gradient descent by hand, in MXNet, and what MXNet's optimizers remember."""

from mxnet import gluon, np, optimizer

from framework_parity.common.training.optimizer_state import by_hand

KINDS = {
    optimizer.SGD: ("velocity",),
    optimizer.NAG: ("velocity",),
    optimizer.Adam: ("first_moment", "second_moment"),
    optimizer.RMSProp: ("second_moment", "first_moment", "velocity"),
    optimizer.AdaGrad: ("sum_of_squares",),
}
"""By class: what a state has of a parameter, by canonical name; nothing of SGD without momentum."""
ARGUMENTS = {
    optimizer.SGD: lambda o: {"momentum": o.momentum, "lagging": True},
    optimizer.NAG: lambda o: {"momentum": o.momentum, "nesterov": True, "lagging": True},
    optimizer.Adam: lambda o: {"betas": [o.beta1, o.beta2], "eps": o.epsilon, "eps_hat": True},
    optimizer.RMSProp: lambda o: {"alpha": o.gamma1, "eps": o.epsilon, "eps_inside": True},
    optimizer.AdaGrad: lambda o: {"eps": o.float_stable_eps, "eps_inside": True},
}
"""By class: the arguments, as optimizers by hand have them."""
NAMES = {optimizer.NAG: "SGD", optimizer.RMSProp: "RMSprop", optimizer.AdaGrad: "Adagrad"}
"""By class: what those are called that are called otherwise."""


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


def put_to(trainer, step):
    """Ask a new trainer's schedule for the rates of the steps before: some go on by being asked."""
    schedule = getattr(getattr(trainer, "_optimizer", None), "lr_scheduler", None)
    return [float(schedule(update)) for update in range(1, step + 1)] if schedule else []


def arguments(trainer, model, num_steps):
    """What an optimizer is: see :data:`optimizer_state.ARGUMENTS`."""
    if type(trainer) is SGD:
        return {"kind": "SGD", "lr": float(trainer.lr)}
    rule = getattr(trainer, "_optimizer", trainer)
    if type(rule) not in ARGUMENTS or getattr(rule, "centered", False):
        return None
    places = {id(parameter): index for index, parameter in enumerate(trainer._params)}
    tensors = model.named_tensors()
    indices = {name: places.get(id(tensor)) for name, tensor in tensors.items()}
    if None in indices.values():
        return None
    rates = put_to(trainer, num_steps) or float(rule.lr)
    if len({rule._get_lr(index) for index in indices.values()}) > 1:
        return None
    full = {n: np.full(t.shape, rule._get_wd(indices[n])) for n, t in tensors.items()}
    decays = {name: float(values.flat[0]) for name, values in model.read(full).items()}
    found = ARGUMENTS[type(rule)](rule)
    if rule.clip_gradient:
        found["clip"] = [float(rule.clip_gradient), "value", 0]
    return {
        "kind": NAMES.get(type(rule), type(rule).__name__),
        "lr": rates,
        "weight_decay": decays if len({*decays.values()}) > 1 else next(iter(decays.values())),
        **found,
    }
