"""Optimizers by hand, in NumPy: what every framework's are held against.

Each computes in the type of the parameters that it is given: in float64 it is a reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.training.optimizer_state import Memory

Values = npt.NDArray[np.floating[Any]]


Rate = float | Callable[[int], float]
"""A learning rate, or a schedule: the rate of each step, counted from 0."""
Decay = float | Mapping[str, float]
"""A weight decay, or that of some parameters by name; of others it is zero."""


class Optimizer(ABC):
    """Changes parameters in place; a subclass says what by.

    Args:
        parameters: arrays by name.
        lr: learning rate, or a function that gives the rate of a step, counted from 0.
        weight_decay: λ of ``g ← g + λ p``, which comes first; decoupled, of ``p ← p − lr λ p``.

    Attributes:
        state: what is remembered: an :data:`optimizer_state.Memory`.
        decoupled: whether the decay is.
    """

    decoupled = False

    def __init__(
        self, parameters: Mapping[str, Values], lr: Rate, weight_decay: Decay = 0.0
    ) -> None:
        self.parameters, self.lr, self.weight_decay = parameters, lr, weight_decay
        self.state: Memory = {"count": 0}

    @property
    def rate(self) -> float:
        """The learning rate of the step at hand, which is counted already."""
        return float(self.lr(self.state["count"] - 1) if callable(self.lr) else self.lr)

    def step(self, gradients: Mapping[str, Values]) -> None:
        """Update every parameter; ``gradients`` has an array for each, by the same name."""
        self.state["count"] += 1
        decays = self.weight_decay
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            decay = decays.get(name, 0.0) if isinstance(decays, Mapping) else decays
            if decay and not self.decoupled:
                gradient = gradient + decay * parameter
            change = self.change(name, gradient)
            if decay and self.decoupled:
                change = change + decay * parameter
            parameter -= self.rate * change

    @abstractmethod
    def change(self, name: str, gradient: Values) -> Values:
        """What is taken from a parameter, by the rate; the memory is brought up to date."""

    def average(self, kind: str, name: str, value: Values, old: float, new: float) -> Values:
        """Remember ``old × what was remembered + new × value``; that is zero at first."""
        kept = self.state.setdefault(kind, {})
        kept[name] = old * kept.get(name, np.zeros_like(value)) + new * value
        return np.asarray(kept[name])


class SGD(Optimizer):
    """Descent with momentum: ``v ← m v + (1 − dampening) g``, ``p ← p − lr v``.

    Nesterov's: ``p ← p − lr (g + m v)``. The first velocity is the gradient, without dampening.
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep
    learning, ICML 2013, with the learning rate outside the velocity, as PyTorch has it.

    Args:
        parameters, lr, weight_decay: as of :class:`Optimizer`.
        momentum, dampening, nesterov: m, and how v is made and used.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: Rate,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: Decay = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov

    def change(self, name: str, gradient: Values) -> Values:
        if self.momentum:
            new = 1 - self.dampening if name in self.state.get("velocity", {}) else 1.0
            velocity = self.average("velocity", name, gradient, self.momentum, new)
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        return gradient


class Adam(Optimizer):
    """``m ← β₁ m + (1 − β₁) g``, ``v ← β₂ v + (1 − β₂) g²``, both divided by ``1 − βᵗ``.

    ``p ← p − lr m̂ / (√v̂ + ε)``. Kingma, Ba: Adam, ICLR 2015, algorithm 1. Keras and MXNet have
    the order of computation at the end of its section 2, whose ε̂ stands beside √v.

    Args:
        parameters, lr, weight_decay: as of :class:`Optimizer`.
        betas, eps: β₁ and β₂, and ε.
        eps_hat: whether ``eps`` is ε̂.
        eps_inside: whether it is ``√(v̂ + ε)``, as ``eps_root`` of Optax.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: Decay = 0.0,
        eps_hat: bool = False,
        eps_inside: bool = False,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.betas, self.eps, self.eps_hat, self.eps_inside = betas, eps, eps_hat, eps_inside

    def change(self, name: str, gradient: Values) -> Values:
        beta1, beta2 = self.betas
        first = self.average("first_moment", name, gradient, beta1, self.rest(beta1))
        second = self.average("second_moment", name, gradient**2, beta2, self.rest(beta2))
        part = self.correction(beta2)
        eps = self.eps / part**0.5 if self.eps_hat else self.eps
        return first / self.correction(beta1) / _root(second / part, eps, self.eps_inside)

    def rest(self, beta: float) -> float:
        """What part of an average is new."""
        return 1 - beta

    def correction(self, beta: float) -> float:
        """What part of an average of so many steps is not its first value, zero."""
        return float(1 - beta ** self.state["count"])


class AdamW(Adam):
    """Adam with decay beside it: ``p ← p − lr (m̂ / (√v̂ + ε) + λ p)``.

    Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019, algorithm 2, with the
    learning rate in its schedule multiplier. Arguments as of :class:`Adam`.
    """

    decoupled = True


class RMSprop(Optimizer):
    """``v ← α v + (1 − α) g²``, ``p ← p − lr g / (√v + ε)``.

    Tieleman, Hinton: Neural networks for machine learning, lecture 6.5, 2012. PyTorch has ε beside
    the root; Keras, Optax and MXNet have it inside.

    Args:
        parameters, lr, weight_decay: as of :class:`Optimizer`.
        alpha, eps: α and ε.
        eps_inside: whether it is ``√(v + ε)``.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        eps_inside: bool = False,
        weight_decay: Decay = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.alpha, self.eps, self.eps_inside = alpha, eps, eps_inside

    def change(self, name: str, gradient: Values) -> Values:
        second = self.average("second_moment", name, gradient**2, self.alpha, 1 - self.alpha)
        return gradient / _root(second, self.eps, self.eps_inside)


class Adagrad(Optimizer):
    """``s ← s + g²``, ``p ← p − lr g / (√s + ε)``.

    Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic
    optimization, JMLR 12, 2011, its diagonal form. PyTorch has ε beside the root; Keras, Optax and
    MXNet have it inside, and the first two begin with a sum of 0.1.

    Args:
        parameters, lr, weight_decay: as of :class:`Optimizer`.
        initial_accumulator_value: s before the first step.
        eps, eps_inside: ε, and whether it is ``√(s + ε)``.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: Rate = 1e-2,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_inside: bool = False,
        weight_decay: Decay = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.eps, self.eps_inside = eps, eps_inside
        self.initial_accumulator_value = initial_accumulator_value
        self.state["sum_of_squares"] = {
            name: np.full_like(value, initial_accumulator_value)
            for name, value in parameters.items()
        }

    def change(self, name: str, gradient: Values) -> Values:
        sums = self.average("sum_of_squares", name, gradient**2, 1.0, 1.0)
        return gradient / _root(sums, self.eps, self.eps_inside)


def _root(squares: Values, eps: float, inside: bool) -> Values:
    return np.asarray(np.sqrt(squares + eps) if inside else np.sqrt(squares) + eps)


CLIPPINGS = ("global norm", "norm", "value")
"""What of gradients is kept at most: the norm of all together, of each, or each entry's size."""


def clipped(
    gradients: Mapping[str, Values], limit: float, by: str = "global norm", eps: float = 0.0
) -> dict[str, Values]:
    """Gradients, those made smaller that are too large.

    ``g ← g × min(1, limit / (‖g‖ + eps))``: Pascanu, Mikolov, Bengio: On the difficulty of training
    recurrent neural networks, ICML 2013, algorithm 1. PyTorch adds 1e-6 to the norm, Gluon 1e-8.

    Args:
        gradients: arrays by name.
        limit: the largest norm, or size of an entry.
        by: one of :data:`CLIPPINGS`.
        eps: what is added to the norm.
    """
    if by == "value":
        return {name: np.clip(gradient, -limit, limit) for name, gradient in gradients.items()}
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    factors = clip_factors(norms, limit, by, eps)
    return {name: factors[name] * gradient for name, gradient in gradients.items()}


def clip_factors(
    norms: Mapping[str, float], limit: float, by: str = "global norm", eps: float = 0.0
) -> dict[str, float]:
    """By what gradients of these norms are multiplied; see :func:`clipped`."""
    shared = float(np.linalg.norm([*norms.values()]))
    of = {name: shared if by == "global norm" else norm for name, norm in norms.items()}
    return {n: limit / (norm + eps) if norm + eps > limit else 1.0 for n, norm in of.items()}
