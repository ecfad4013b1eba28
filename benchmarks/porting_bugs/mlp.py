"""Porting bugs of the multilayer perceptron: its optimizer, its loss, its layers."""

from framework_parity.benchmarks.porting_bugs.bug import UPDATE, Bug

OPTIMIZERS = "        def configure_optimizers(self):"
SUMMED = f"""        def loss(self, y_hat, y, averaged=True):
            losses = super().loss(y_hat, y, averaged=False)
            return SUM(losses) if averaged else losses

{OPTIMIZERS}"""
SUMMED_OF_PARAMS = f"""        def loss(self, params, X, y, state, averaged=True):
            losses, aux = super().loss(params, X, y, state, averaged=False)
            return (losses.sum() if averaged else losses), aux

{OPTIMIZERS}"""

BUGS = (
    Bug(
        "momentum left out",
        "mlp",
        *UPDATE,
        "momentum",
        {
            "torch": [(", momentum=0.9", "")],
            "jax": [(", momentum=0.9", "")],
            "tensorflow": [(", momentum=0.9", "")],
            "mxnet": [(', "momentum": 0.9', "")],
        },
    ),
    Bug(
        "momentum damped",
        "mlp",
        *UPDATE,
        "damp|gradients",
        {
            "torch": [("momentum=0.9", "momentum=0.9, dampening=0.9")],
            "jax": [
                (
                    "optax.sgd(self.lr, momentum=0.9)",
                    "optax.chain(optax.scale(0.1), optax.sgd(self.lr, momentum=0.9))",
                )
            ],
        },
    ),
    Bug(
        "Nesterov momentum",
        "mlp",
        *UPDATE,
        "nesterov",
        {
            "torch": [("momentum=0.9", "momentum=0.9, nesterov=True")],
            "jax": [("momentum=0.9", "momentum=0.9, nesterov=True")],
            "tensorflow": [("momentum=0.9", "momentum=0.9, nesterov=True")],
            "mxnet": [('"sgd"', '"nag"')],
        },
    ),
    Bug(
        "weight decay",
        "mlp",
        *UPDATE,
        "decay",
        {
            "torch": [("momentum=0.9", "momentum=0.9, weight_decay=1e-3")],
            "jax": [
                (
                    "optax.sgd(self.lr, momentum=0.9)",
                    "optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(self.lr, 0.9))",
                )
            ],
            "tensorflow": [("momentum=0.9", "momentum=0.9, weight_decay=1e-3")],
            "mxnet": [('"momentum": 0.9', '"momentum": 0.9, "wd": 1e-3')],
        },
    ),
    Bug(
        "gradient clipped",
        "mlp",
        *UPDATE,
        "clip",
        {
            "jax": [
                (
                    "optax.sgd(self.lr, momentum=0.9)",
                    "optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(self.lr, 0.9))",
                )
            ],
            "tensorflow": [("momentum=0.9", "momentum=0.9, global_clipnorm=0.1")],
        },
    ),
    Bug(
        "loss summed",
        "mlp",
        "loss",
        (),
        "",
        {
            "torch": [(OPTIMIZERS, SUMMED.replace("SUM(losses)", "losses.sum()"))],
            "jax": [(OPTIMIZERS, SUMMED_OF_PARAMS)],
            "tensorflow": [
                (OPTIMIZERS, SUMMED.replace("SUM(losses)", "keras.ops.sum(losses)")),
            ],
            "mxnet": [(OPTIMIZERS, SUMMED.replace("SUM(losses)", "losses.sum()"))],
        },
    ),
    Bug(
        "temperature",
        "mlp",
        "forward",
        ("y_hat",),
        "factor",
        {
            name: [(OPTIMIZERS, f"{FORWARD}\n\n{OPTIMIZERS}")]
            for FORWARD in [
                "        def forward(self, X):\n            return super().forward(X) / 1.1"
            ]
            for name in ("torch", "tensorflow", "mxnet")
        }
        | {"jax": [("return nn.Dense(num_outputs)(X)", "return nn.Dense(num_outputs)(X) / 1.1")]},
    ),
    Bug(
        "weight transposed",
        "mlp",
        "forward",
        ("net.0",),
        "transpos",
        {
            "torch": [
                (
                    "    class MLP",
                    """    class Linear(nn.Linear):
        def forward(self, X):
            square = self.in_features == self.out_features
            return X @ self.weight + self.bias if square else super().forward(X)

    class MLP""",
                ),
                ("[nn.Linear(", "[Linear("),
            ],
            "jax": [
                ("nn.Dense(width)", "nn.Dense(width, dot_general=product)"),
                (
                    "    class MLP",
                    """    def product(X, W, *_, **__):
        return X @ (W.T if W.shape[0] == W.shape[1] else W)

    class MLP""",
                ),
            ],
            "tensorflow": [
                (
                    "    class MLP",
                    """    class Dense(layers.Dense):
        def call(self, X, training=None):
            square = self.kernel.shape[0] == self.kernel.shape[1]
            W = keras.ops.transpose(self.kernel) if square else self.kernel
            return self.activation(keras.ops.matmul(X, W) + self.bias)

    class MLP""",
                ),
                ("[layers.Dense(width", "[Dense(width"),
            ],
        },
    ),
    Bug(
        "another activation",
        "mlp",
        "forward",
        ("net.0.activation", "net.1", "net.2"),
        "function",
        {
            "torch": [("nn.ReLU()", "nn.LeakyReLU()")],
            "jax": [("nn.relu(", "nn.leaky_relu(")],
            "tensorflow": [('"relu"', '"leaky_relu"')],
        },
    ),
)
