"""Softmax regression from Flax's own layer and Optax's loss and optimizer."""

from flax import linen as nn

from framework_parity.backends.jax.classifier import Classifier


class SoftmaxRegression(Classifier):
    """Softmax regression; the model gives logits, and the first batch sets the input width.

    Attributes:
        num_outputs: classes.
        lr: learning rate.
    """

    num_outputs: int
    lr: float

    @nn.compact
    def __call__(self, X):
        X = X.reshape((X.shape[0], -1))
        return nn.Dense(self.num_outputs)(X)

    def name_leaves(self, tree):
        leaves = super().name_leaves(tree)
        return {"W": leaves["Dense_0/kernel"], "b": leaves["Dense_0/bias"]}

    def build_tree(self, parameters):
        return {"Dense_0": {"kernel": parameters["W"], "bias": parameters["b"]}}
