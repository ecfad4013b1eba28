"""JAX's half of Classifier: a Flax module."""

import dataclasses
import inspect
import random
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.training import train_state
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp

from framework_parity.backends.jax.layers import entries
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.classifier import Classifier as AbstractClassifier

MODES = {"training": True, "train": True, "deterministic": False}
"""What a module may be told its mode by, an argument or a field; and what that is in training."""


class TrainState(train_state.TrainState):
    """Flax's, and what the model keeps besides its parameters.

    Attributes:
        collections: of Flax's variables, by name (``batch_stats``), all but ``params``.
    """

    collections: Any = None


def tensor(values):
    """An array of ``values``: numbers, nested lists or NumPy's array; fractions are float32."""
    return jnp.array(values)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return np.asarray(tensor)


class Classifier(nn.Module, AbstractClassifier):
    """A classifier in Flax whose ``forward`` gives logits, until a subclass says otherwise.

    A subclass declares its hyperparameters as dataclass fields, usually with ``lr``. It makes its
    layers or parameters in ``setup``, as ``self.net`` or for a ``forward`` of its own, or both in
    a compact ``__call__``. It is told whether it is trained if ``forward`` or ``__call__`` has an
    argument for it, or the class a field: ``training``, ``train`` or ``deterministic``.

    The contract differs here in three ways, each as in the book:

    - JAX differentiates functions of the parameters, so ``loss`` and ``accuracy`` take
      ``(params, X, y, state, averaged=True)`` in place of ``(y_hat, y, averaged=True)``: ``params``
      a tree of arrays, ``X`` the tuple of the model's inputs, ``state`` the train state whose
      ``apply_fn({"params": params}, *X)`` is ``forward``.
    - ``loss`` returns a pair: the loss, and a dictionary of auxiliary data, which is left unread.
    - A module holds no parameters. Those last set or trained are noted on the instance, for
      :meth:`get_parameters` and the next fit; ``model(X)`` does not see them, ``model.apply`` does.
    """

    noted = []  # what a pass of :func:`trainer.activations` named, in order
    held = None  # not annotated, so no field of the dataclass: no part of equality and hash
    converter = None

    def __call__(self, X, **mode):
        return self.forward(X, **mode)

    def forward(self, X):
        return self.net(X)

    def named(self, name, X):
        if self.sow("intermediates", f"{name}()", X):  # a layer may be called as it is
            self.noted.append((f"{name}()", ""))
        return X

    def loss(self, params, X, y, state, averaged=True):
        """Cross-entropy of the model's logits; see the class for why it takes parameters.

        Args:
            params: a tree of arrays.
            X: the tuple of the model's inputs.
            y: classes, integers, shape ``(n,)``.
            state: the train state, whose ``apply_fn`` is ``forward``.
            averaged: the mean over examples, a scalar; else the loss of each, shape ``(n,)``.

        Returns:
            A pair, the loss and a dictionary of auxiliary data.
        """
        y_hat = state.apply_fn({"params": params}, *X)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            y_hat.reshape(-1, y_hat.shape[-1]), y.reshape(-1)
        )
        return (losses.mean() if averaged else losses), {}

    def accuracy(self, params, X, y, state, averaged=True):
        """Part of the examples whose largest score is that of their class.

        Arguments as of :meth:`loss`; a tie goes to the lowest class.
        """
        if self.learns_numbers:
            return jnp.full(() if averaged else y.shape[:1], jnp.nan)
        y_hat = state.apply_fn({"params": params}, *X)
        y_hat = y_hat.reshape(-1, y_hat.shape[-1])
        correct = (y_hat.argmax(axis=1).astype(y.dtype) == y.reshape(-1)).astype(jnp.float32)
        return correct.mean() if averaged else correct

    def configure_optimizers(self):
        return optax.sgd(self.lr)

    def told(self, training):
        """The module as it is in training or in evaluation, and the argument that says so to it.

        Args:
            training: which of the two.
        """
        field = next((f.name for f in dataclasses.fields(self) if f.name in MODES), None)
        call = type(self).__call__
        if call is Classifier.__call__:
            call = type(self).forward
        argument = next((n for n in inspect.signature(call).parameters if n in MODES), None)
        mode = {name: MODES[name] == training for name in (argument or field,) if name}
        return (self, mode) if argument or not field else (self.clone(**mode), {})

    def train_state(self, params, collections=None):
        """A train state with a new optimizer.

        Args:
            params: the tree of parameters that it starts from.
            collections: what the model keeps besides.
        """
        optimizer = self.configure_optimizers()
        state = TrainState.create(
            apply_fn=self.apply, params=params, tx=optimizer, collections=collections
        )
        return state.replace(step=np.int32(0))  # its default, an int, is another type than step + 1

    def entries(self, X):
        return entries(self, X)

    def name_leaves(self, tree):
        """A tree of arrays as NumPy by name: its path, or the canonical one.

        Args:
            tree: parameters, or their gradients.

        A model whose parameters have better names overrides this and :meth:`build_tree`.
        """
        leaves = {name: np.array(leaf) for name, leaf in flatten_dict(tree, sep="/").items()}
        return leaves if self.converter is None else self.converter.read(leaves)

    def build_tree(self, parameters):
        """The tree of parameters; undoes :meth:`name_leaves`.

        Args:
            parameters: arrays by name.
        """
        if self.converter is not None:
            parameters = self.converter.arrange(parameters)
        return unflatten_dict(parameters, sep="/")

    def hold(self, params):
        """Note parameters on the instance, which is frozen.

        Args:
            params: a tree of arrays.
        """
        object.__setattr__(self, "held", params)

    def get_parameters(self):
        if self.held is None:
            raise ParityError(
                type(self).__name__,
                "a model with parameters",
                "one neither trained nor set",
                "call set_parameters or Trainer.fit first",
            )
        return self.name_leaves(self.held)

    def set_parameters(self, parameters):
        held = {} if self.held is None else self.get_parameters()
        new = {name: np.array(value) for name, value in parameters.items()}
        self.hold(self.build_tree(held | new))


def evaluate_accuracy(model, data):
    """Accuracy of a model on the validation examples of a data module.

    Args:
        model: a :class:`Classifier` that has parameters.
        data: gives the batches.

    Returns:
        The part of the examples that is classified rightly, 0 to 1.
    """
    params = model.build_tree(model.get_parameters())
    state = model.train_state(params)
    accuracy = jax.jit(lambda X, y: model.accuracy(params, (X,), y, state, averaged=False))
    return float(np.concatenate([accuracy(X, y) for X, y in data.val_dataloader()]).mean())


def get_seed():
    """A seed at random, from Python's own generator."""
    return random.randint(0, 1_000_000)  # noqa: S311 (no secret)


def get_key():
    """A key for JAX's generators, at random."""
    return jax.random.PRNGKey(get_seed())
