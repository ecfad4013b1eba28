"""Stochastic gradient descent in MXNet: by hand, and gluon's own without its detours."""

from mxnet import gluon


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        params: arrays with an attached gradient, gluon's parameters, or a dictionary of those.
        lr: learning rate.
    """

    def __init__(self, params, lr):
        self.params = list(params.values() if hasattr(params, "values") else params)
        self.lr = lr

    def step(self, batch_size):
        """Update every parameter from its gradient.

        Args:
            batch_size: as gluon's trainer takes it; not needed, since the loss is a mean.
        """
        for param in map(array_of, self.params):
            param -= self.lr * param.grad


class FrameworkTrainer(gluon.Trainer):
    """``gluon.Trainer``: its own update, without looking everything up again in every step.

    With one device, no store and one type, what a step reads stays the same until a parameter
    gets other arrays. That a gradient is new is checked as ever.
    """

    _held = None

    def _update(self, ignore_stale_grad=False):
        held = self._held
        if held is None or not held.is_current():
            super()._update(ignore_stale_grad)  # it makes the optimizer's states
            self._held = _Held(self) if _is_plain(self) else None
            return
        if not all(weight._fresh_grad for weight in held.weights):
            super()._update(ignore_stale_grad)
            return
        for weight in held.weights:
            weight._fresh_grad = False
        for arguments in held.groups:
            self._optimizer.update_multi_precision(*arguments)


class _Held:
    """The arrays of a trainer's parameters, and what its optimizer is called with."""

    def __init__(self, trainer):
        trained = [(i, p) for i, p in enumerate(trainer._params) if p.grad_req != "null"]
        self.updater, self.states = trainer._updaters[0], trainer._updaters[0].states
        self.holders = [(p, p._data, p._grad) for p in trainer._params]
        self.weights = [p._data[0] for _, p in trained]
        self.groups = []
        count = max(1, trainer._optimizer.aggregate_num)
        for start in range(0, len(trained), count):
            indices, parameters = zip(*trained[start : start + count], strict=True)
            weights = [p._data[0].as_nd_ndarray() for p in parameters]
            gradients = [p._grad[0].as_nd_ndarray() for p in parameters]
            states = [self.states[i] for i in indices]
            self.groups.append((indices, weights, gradients, states))

    def is_current(self):
        if self.updater.states is not self.states:  # those of a file were loaded
            return False
        return all(p._data is data and p._grad is grad for p, data, grad in self.holders)


def _is_plain(trainer):
    trained = [p for p in trainer._params if p.grad_req != "null"]
    return (
        trainer._kvstore is None
        and len(trainer._updaters) == 1
        and trainer._optimizer.aggregate_num > 0
        and not hasattr(trainer, "_amp_loss_scaler")
        and all(p._stype == p._grad_stype == "default" for p in trained)
        and len({p.dtype for p in trained}) == 1
    )


def array_of(parameter):
    """The array that a parameter of gluon holds; an array made by hand is its own."""
    return parameter.data() if isinstance(parameter, gluon.Parameter) else parameter
