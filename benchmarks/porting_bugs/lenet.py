"""Porting bugs of LeNet, and of Adam."""

from framework_parity.benchmarks.porting_bugs.bug import UPDATE, Bug

BUGS = (
    Bug(
        "flattened channels last",
        "lenet",
        "forward",
        ("net.7", "net.8"),
        "order of axes",
        {
            "torch": [
                ("nn.Flatten()", "Channels(), nn.Flatten()"),
                (
                    "    class LeNet",
                    """    class Channels(nn.Module):
        def forward(self, X):
            return X.permute(0, 2, 3, 1)

    class LeNet""",
                ),
            ],
            "jax": [("X.transpose(0, 3, 1, 2).reshape", "X.reshape")],
            "tensorflow": [
                ("layers.Permute((3, 1, 2)),  # channels first, as in PyTorch", ""),
            ],
        },
    ),
    Bug(
        "average pooling",
        "lenet",
        "forward",
        ("net.3", "net.4", "net.8"),
        "",
        {
            "torch": [("nn.MaxPool2d", "nn.AvgPool2d")],
            "jax": [("nn.max_pool", "nn.avg_pool")],
            "tensorflow": [("layers.MaxPooling2D", "layers.AveragePooling2D")],
        },
    ),
    Bug(
        "padding of another mode",
        "lenet",
        "forward",
        ("net.1", "net.8"),
        "circular",
        {
            "torch": [("padding=2", 'padding=2, padding_mode="circular"')],
            "jax": [("(5, 5))", '(5, 5), padding="CIRCULAR")')],
        },
    ),
    Bug(
        "padding off by one",
        "lenet",
        "forward",
        ("net.1", "net.8"),
        "padding",
        {
            "torch": [
                (
                    "nn.Conv2d(1, 6, kernel_size=5, padding=2)",
                    "nn.ZeroPad2d((1, 3, 1, 3)), nn.Conv2d(1, 6, kernel_size=5)",
                ),
            ],
            "jax": [("nn.Conv(6, (5, 5))", "nn.Conv(6, (5, 5), padding=((1, 3), (1, 3)))")],
            "tensorflow": [
                (
                    'layers.Conv2D(6, 5, padding="same"',
                    "layers.ZeroPadding2D(((1, 3), (1, 3))), layers.Conv2D(6, 5",
                ),
            ],
        },
    ),
    Bug(
        "Adam's epsilon",
        "lenet",
        *UPDATE,
        "ε|epsilon",
        {
            "torch": [("lr=self.lr)", "lr=self.lr, eps=1e-4)")],
            "jax": [("optax.adam(self.lr)", "optax.adam(self.lr, eps=1e-4)")],
            "tensorflow": [("epsilon=1e-8", "epsilon=1e-4")],
        },
    ),
    Bug(
        "Adam's second beta",
        "lenet",
        *UPDATE,
        "β₂",
        {
            "torch": [("lr=self.lr)", "lr=self.lr, betas=(0.9, 0.99))")],
            "jax": [("optax.adam(self.lr)", "optax.adam(self.lr, b2=0.99)")],
            "tensorflow": [("epsilon=1e-8", "epsilon=1e-8, beta_2=0.99")],
        },
    ),
    Bug(
        "Adam's first beta",
        "lenet",
        *UPDATE,
        "β₁",
        {
            "torch": [("lr=self.lr)", "lr=self.lr, betas=(0.95, 0.999))")],
            "jax": [("optax.adam(self.lr)", "optax.adam(self.lr, b1=0.95)")],
            "tensorflow": [("epsilon=1e-8", "epsilon=1e-8, beta_1=0.95")],
        },
    ),
)
