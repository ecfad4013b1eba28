"""The network of two layers in two frameworks, one of which has a mistake in it.

    compare.py model docs/examples/two_layers_bug.py
    compare.py model docs/examples/two_layers_bug.py --reference jax

The file gives no NumPy model. In float64 the two part, so the first command says where and grades
nobody; the second goes by jax. The mistake: an optimizer copied from another project, with its
weight decay. Forward pass, loss and gradient are right, training looks healthy.
"""

HIDDEN = 32
PARAMETERS = {
    "W1": ("inputs", HIDDEN),
    "b1": (HIDDEN,),
    "W2": (HIDDEN, "outputs"),
    "b2": ("outputs",),
}


def jax_model(d2l, num_inputs, num_outputs, lr):
    from flax import linen as nn

    class TwoLayers(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            zeros = nn.initializers.zeros
            W1 = self.param("W1", zeros, (num_inputs, HIDDEN))
            b1 = self.param("b1", zeros, (HIDDEN,))
            W2 = self.param("W2", zeros, (HIDDEN, num_outputs))
            b2 = self.param("b2", zeros, (num_outputs,))
            return nn.tanh(X @ W1 + b1) @ W2 + b2

    return TwoLayers(lr)


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W1 = nn.Parameter(torch.zeros(num_inputs, HIDDEN))
            self.b1 = nn.Parameter(torch.zeros(HIDDEN))
            self.W2 = nn.Parameter(torch.zeros(HIDDEN, num_outputs))
            self.b2 = nn.Parameter(torch.zeros(num_outputs))

        def forward(self, X):
            return torch.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=5e-4)

    return TwoLayers()
