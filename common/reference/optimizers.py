"""Optimizers by hand, in NumPy: what every framework's are held against.

Each computes in the type of the parameters that it is given: in float64 it is a reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.training.optimizer_state import Memory

Values = npt.NDArray[np.floating[Any]]


class Optimizer(ABC):
    """Changes parameters in place; a subclass says what by.

    Args:
        parameters: arrays by name.
        lr: learning rate.

    Attributes:
        state: what is remembered: an :data:`optimizer_state.Memory`.
    """

    def __init__(self, parameters: Mapping[str, Values], lr: float) -> None:
        self.parameters, self.lr = parameters, lr
        self.state: Memory = {"count": 0}

    def step(self, gradients: Mapping[str, Values]) -> None:
        """Update every parameter; ``gradients`` has an array for each, by the same name."""
        self.state["count"] += 1
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            parameter -= self.change(name, parameter, gradient)

    @abstractmethod
    def change(self, name: str, parameter: Values, gradient: Values) -> Values:
        """What is taken from a parameter; the memory is brought up to date."""

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
        parameters, lr: as of :class:`Optimizer`.
        momentum, dampening, nesterov: m, and how v is made and used.
        weight_decay: λ of ``g ← g + λ p``, which comes first.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov
        self.weight_decay = weight_decay

    def change(self, name: str, parameter: Values, gradient: Values) -> Values:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if self.momentum:
            new = 1 - self.dampening if name in self.state.get("velocity", {}) else 1.0
            velocity = self.average("velocity", name, gradient, self.momentum, new)
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        return np.asarray(self.lr * gradient)


class Adam(Optimizer):
    """``m ← β₁ m + (1 − β₁) g``, ``v ← β₂ v + (1 − β₂) g²``, both divided by ``1 − βᵗ``.

    ``p ← p − lr m̂ / (√v̂ + ε)``. Kingma, Ba: Adam, ICLR 2015, algorithm 1. Keras and MXNet have
    the order of computation at the end of its section 2, whose ε̂ stands beside √v.

    Args:
        parameters, lr: as of :class:`Optimizer`.
        betas, eps: β₁ and β₂, and ε.
        weight_decay: λ of ``g ← g + λ p``, which comes first.
        eps_hat: whether ``eps`` is ε̂.
    """

    decoupled = False

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        eps_hat: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps, self.eps_hat = betas, eps, eps_hat
        self.weight_decay = weight_decay

    def change(self, name: str, parameter: Values, gradient: Values) -> Values:
        (beta1, beta2), count = self.betas, self.state["count"]
        if self.weight_decay and not self.decoupled:
            gradient = gradient + self.weight_decay * parameter
        first = self.average("first_moment", name, gradient, beta1, 1 - beta1)
        second = self.average("second_moment", name, gradient**2, beta2, 1 - beta2)
        root = (1 - beta2**count) ** 0.5
        eps = self.eps / root if self.eps_hat else self.eps
        change = first / (1 - beta1**count) / (np.sqrt(second) / root + eps)
        if self.decoupled:
            change += self.weight_decay * parameter
        return np.asarray(self.lr * change)


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
        parameters, lr: as of :class:`Optimizer`.
        alpha, eps: α and ε.
        eps_inside: whether it is ``√(v + ε)``.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        eps_inside: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha, self.eps, self.eps_inside = alpha, eps, eps_inside

    def change(self, name: str, parameter: Values, gradient: Values) -> Values:
        second = self.average("second_moment", name, gradient**2, self.alpha, 1 - self.alpha)
        return self.lr * gradient / _root(second, self.eps, self.eps_inside)


class Adagrad(Optimizer):
    """``s ← s + g²``, ``p ← p − lr g / (√s + ε)``.

    Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic
    optimization, JMLR 12, 2011, its diagonal form. PyTorch has ε beside the root; Keras, Optax and
    MXNet have it inside, and the first two begin with a sum of 0.1.

    Args:
        parameters, lr: as of :class:`Optimizer`.
        initial_accumulator_value: s before the first step.
        eps, eps_inside: ε, and whether it is ``√(s + ε)``.
    """

    def __init__(
        self,
        parameters: Mapping[str, Values],
        lr: float = 1e-2,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_inside: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.eps, self.eps_inside = eps, eps_inside
        self.state["sum_of_squares"] = {
            name: np.full_like(value, initial_accumulator_value)
            for name, value in parameters.items()
        }

    def change(self, name: str, parameter: Values, gradient: Values) -> Values:
        sums = self.average("sum_of_squares", name, gradient**2, 1.0, 1.0)
        return self.lr * gradient / _root(sums, self.eps, self.eps_inside)


def _root(squares: Values, eps: float, inside: bool) -> Values:
    return np.asarray(np.sqrt(squares + eps) if inside else np.sqrt(squares) + eps)
