"""Porting bugs of the Transformer, and of AdamW."""

from framework_parity.benchmarks.porting_bugs.bug import UPDATE, Bug

NORM = ("blocks.0.norm1",)
MIXED = ("blocks.0.attention", "blocks.0.norm2")
BUGS = (
    Bug(
        "epsilon of a norm",
        "transformer",
        "forward",
        NORM,
        "epsilon",
        {
            "torch": [("nn.LayerNorm(WIDTH)", "nn.LayerNorm(WIDTH, eps=1e-3)")],
            "jax": [("nn.LayerNorm(epsilon=1e-5, ", "nn.LayerNorm(")],
            "tensorflow": [("LayerNormalization(epsilon=1e-5)", "LayerNormalization()")],
        },
    ),
    Bug(
        "variance with n − 1",
        "transformer",
        "forward",
        NORM,
        "variance",
        {
            "torch": [
                ("nn.LayerNorm(WIDTH)", "LayerNorm(WIDTH)"),
                (
                    "    class Block",
                    """    class LayerNorm(nn.LayerNorm):
        def forward(self, X):
            centred = X - X.mean(dim=-1, keepdim=True)
            variance = X.var(dim=-1, keepdim=True)
            return centred / (variance + self.eps).sqrt() * self.weight + self.bias

    class Block""",
                ),
            ],
        },
    ),
    Bug(
        "GELU by tanh",
        "transformer",
        "forward",
        ("blocks.0.up.activation", "blocks.0.down"),
        "function",
        {
            "torch": [
                (
                    "functional.gelu(self.up(self.norm2(X)))",
                    'functional.gelu(self.up(self.norm2(X)), approximate="tanh")',
                ),
            ],
            "jax": [(", approximate=False", "")],
            "tensorflow": [
                (
                    'activation="gelu"',
                    "activation=lambda X: keras.activations.gelu(X, approximate=True)",
                ),
            ],
        },
    ),
    Bug(
        "mask forgotten",
        "transformer",
        "forward",
        MIXED,
        "mask",
        {
            "torch": [("key_padding_mask=empty, ", "")],
            "jax": [("(H, mask=mask)", "(H)")],
            "tensorflow": [(", attention_mask=mask", "")],
        },
    ),
    Bug(
        "mask turned around",
        "transformer",
        "forward",
        MIXED,
        "mask",
        {
            "jax": [("(X != 0).any(axis=-1)", "(X == 0).all(axis=-1)")],
            "tensorflow": [("tf.reduce_any(X != 0", "tf.reduce_all(X == 0")],
        },
    ),
    Bug(
        "attention scaled by the whole width",
        "transformer",
        "forward",
        MIXED,
        "scale",
        {
            "jax": [
                (
                    "nn.MultiHeadDotProductAttention(HEADS, ",
                    "nn.MultiHeadDotProductAttention(HEADS, attention_fn=attention, ",
                ),
                (
                    "    class Block",
                    """    def attention(query, *given, **settings):
        return nn.dot_product_attention(query * HEADS**-0.5, *given, **settings)

    class Block""",
                ),
            ],
            "tensorflow": [
                (
                    "            self.norm2 = ",
                    "            self.attention._inverse_sqrt_key_dim = WIDTH**-0.5\n"
                    "            self.norm2 = ",
                ),
            ],
        },
    ),
    Bug(
        "decay of another size",
        "transformer",
        *UPDATE,
        "decay",
        {
            "torch": [("lr=self.lr)", "lr=self.lr, weight_decay=0.004)")],
            "jax": [(", weight_decay=0.01", "")],
            "tensorflow": [(", weight_decay=0.01", "")],
        },
    ),
    Bug(
        "decay coupled",
        "transformer",
        *UPDATE,
        "decay",
        {
            "torch": [
                (
                    "AdamW(self.parameters(), lr=self.lr)",
                    "Adam(self.parameters(), lr=self.lr, weight_decay=0.01)",
                )
            ],
            "jax": [
                (
                    "optax.adamw(self.lr, weight_decay=0.01)",
                    "optax.chain(optax.add_decayed_weights(0.01), optax.adam(self.lr))",
                ),
            ],
        },
    ),
    Bug(
        "decay left out",
        "transformer",
        *UPDATE,
        "decay",
        {
            "torch": [("AdamW(", "Adam(")],
            "jax": [("optax.adamw(self.lr, weight_decay=0.01)", "optax.adam(self.lr)")],
            "tensorflow": [("AdamW(self.lr, weight_decay=0.01, ", "Adam(self.lr, ")],
        },
    ),
)
