"""Porting bugs of the GRU, of tied embeddings, of batch normalisation and of the autoencoder."""

from framework_parity.benchmarks.porting_bugs.bug import Bug

GRU = (
    Bug(
        "reset before the product",
        "gru",
        "forward",
        ("gru", "output"),
        "reset",
        {
            "jax": [
                ("reset * old_new)", "jnp.split(of_state(reset * state), 3, axis=-1)[2])"),
            ],
        },
    ),
    Bug(
        "gates in another order",
        "gru",
        "forward",
        ("gru", "output"),
        "order",
        {
            "jax": [
                ("reset, update, new =", "update, reset, new ="),
                ("old_reset, old_update, old_new =", "old_update, old_reset, old_new ="),
            ],
        },
    ),
    Bug(
        "update gate the other way",
        "gru",
        "forward",
        ("gru", "output"),
        "",
        {"jax": [("(1 - update) * new + update * state", "update * new + (1 - update) * state")]},
    ),
    Bug(
        "first row last",
        "gru",
        "forward",
        ("gru", "output"),
        "",
        {
            "torch": [
                (
                    "self.gru(X.reshape(-1, side, side))",
                    "self.gru(X.reshape(-1, side, side).flip(1))",
                )
            ],
            "jax": [("range(side)", "reversed(range(side))")],
            "tensorflow": [("layers.GRU(WIDTH)", "layers.GRU(WIDTH, go_backwards=True)")],
        },
    ),
)

TIED = (
    Bug(
        "untied where it ends",
        "tied_embedding",
        "gradient",
        ("embedding.weight",),
        "",
        {
            "torch": [
                (
                    "return self.output(torch.tanh(hidden))",
                    "return torch.tanh(hidden) @ self.embedding.weight.detach().T",
                ),
            ],
            "jax": [
                (
                    "embedding.attend(nn.tanh(hidden))",
                    "nn.tanh(hidden) @ lax.stop_gradient(embedding.embedding).T",
                ),
                (
                    "    from jax import numpy as jnp",
                    "    from jax import lax\n    from jax import numpy as jnp",
                ),
            ],
            "tensorflow": [
                ("self.embedding.embeddings, ", "tf.stop_gradient(self.embedding.embeddings), "),
            ],
        },
    ),
    Bug(
        "embedding scaled",
        "tied_embedding",
        "forward",
        ("hidden",),
        "",
        {
            "torch": [
                (
                    "self.embedding(tokens).flatten(1)",
                    "(self.embedding(tokens) * WIDTH**0.5).flatten(1)",
                )
            ],
            "jax": [("embedding(tokens).reshape", "(embedding(tokens) * WIDTH**0.5).reshape")],
            "tensorflow": [("self.embedding(tokens),", "self.embedding(tokens) * WIDTH**0.5,")],
        },
    ),
    Bug(
        "scores scaled",
        "tied_embedding",
        "forward",
        ("y_hat",),
        "factor",
        {
            "torch": [
                ("self.output(torch.tanh(hidden))", "self.output(torch.tanh(hidden)) / WIDTH**0.5")
            ],
            "jax": [
                (
                    "embedding.attend(nn.tanh(hidden))",
                    "embedding.attend(nn.tanh(hidden)) / WIDTH**0.5",
                )
            ],
            "tensorflow": [("transpose_b=True)", "transpose_b=True) / WIDTH**0.5")],
        },
    ),
)

RESNET = (
    Bug(
        "epsilon of batch normalisation",
        "resnet_block",
        "forward",
        ("bn1", "bn2"),
        "epsilon",
        {
            "torch": [("nn.BatchNorm2d(2 * CHANNELS)", "nn.BatchNorm2d(2 * CHANNELS, eps=1e-3)")],
            "jax": [("epsilon=1e-5", "epsilon=1e-3")],
            "tensorflow": [(", epsilon=1e-5", "")],
        },
    ),
    Bug(
        "momentum of batch normalisation",
        "resnet_block",
        "update",
        (),
        "momentum",
        {
            "torch": [
                ("nn.BatchNorm2d(2 * CHANNELS)", "nn.BatchNorm2d(2 * CHANNELS, momentum=0.9)")
            ],
            "jax": [("momentum=0.9, epsilon", "momentum=0.1, epsilon")],
            "tensorflow": [("momentum=0.9, epsilon", "momentum=0.99, epsilon")],
        },
    ),
    Bug(
        "padding behind alone",
        "resnet_block",
        "forward",
        ("conv1", "bn1"),
        "padding",
        {
            "torch": [
                ("3, stride=2, padding=1, bias=False)", "3, stride=2, bias=False)"),
                ("self.conv1(X)", "self.conv1(functional.pad(X, (0, 1, 0, 1)))"),
            ],
            "jax": [('2, same, use_bias=False, name="conv1"', '2, use_bias=False, name="conv1"')],
            "tensorflow": [("layers.ZeroPadding2D(1)", "layers.ZeroPadding2D(((0, 1), (0, 1)))")],
        },
    ),
    Bug(
        "shortcut left out",
        "resnet_block",
        "forward",
        ("output",),
        "",
        {
            "torch": [(" + self.shortcut(X))", " + 0 * self.shortcut(X))")],
            "jax": [("(H) + nn.Conv", "(H) + 0 * nn.Conv")],
            "tensorflow": [(" + self.shortcut(X))", " + 0 * self.shortcut(X))")],
        },
    ),
)

AUTOENCODER = (
    Bug(
        "error summed over the numbers",
        "autoencoder",
        "example loss",
        (),
        "",
        {
            "torch": [(".mean(dim=1)", ".sum(dim=1)")],
            "jax": [(".mean(axis=1)", ".sum(axis=1)")],
            "tensorflow": [
                ("mean_squared_error(y, y_hat)", "mean_squared_error(y, y_hat) * num_inputs")
            ],
        },
    ),
    Bug(
        "half the squared error",
        "autoencoder",
        "example loss",
        (),
        "",
        {
            "torch": [(".mean(dim=1)", ".mean(dim=1) / 2")],
            "jax": [("optax.squared_error", "optax.l2_loss")],
            "tensorflow": [("mean_squared_error(y, y_hat)", "mean_squared_error(y, y_hat) / 2")],
        },
    ),
    Bug(
        "a function at the end",
        "autoencoder",
        "forward",
        ("y_hat",),
        "function",
        {
            "torch": [
                ("nn.Linear(inputs, num_inputs))", "nn.Linear(inputs, num_inputs), nn.Sigmoid())")
            ],
            "jax": [
                ("return nn.Dense(num_inputs)(X)", "return nn.sigmoid(nn.Dense(num_inputs)(X))")
            ],
            "tensorflow": [
                ("layers.Dense(num_inputs)", 'layers.Dense(num_inputs, activation="sigmoid")')
            ],
        },
    ),
)

BUGS = (*GRU, *TIED, *RESNET, *AUTOENCODER)
