"""A port of a network to Flax, for ``test_ported_models``."""

MODEL = """
def jax_model(d2l, num_inputs, num_outputs, lr):
    from flax import linen as nn

    class Mine(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            H = nn.Conv(6, (3, 3), 2, padding=((1, 1), (1, 1)))(X.reshape(-1, 8, 8, 1))
            H = nn.relu(nn.GroupNorm(2, epsilon=1e-5)(H))
            H = H.transpose(0, 3, 1, 2).reshape(len(H), -1)
            H = nn.LayerNorm(epsilon=0.00001)(nn.Dense(32)(H)).reshape(-1, 4, 8)
            Q, K, V = (nn.Dense(8, name=name)(H) for name in ("query", "key", "value"))
            A = nn.softmax(Q @ K.swapaxes(1, 2) / 8**0.5, -1) @ V
            H = nn.Dense(16)(A.reshape(len(A), -1))
            return nn.Dense(num_outputs)(nn.gelu(H, approximate=False))

    return Mine(lr)
"""
IS_REFERENCE = False
FAULTS = {
    "padding": ("((1, 1), (1, 1))", '"SAME"', "conv", "padding", None),
    "epsilon of groups": (", epsilon=1e-5", "", "norm", "epsilon", 1e-6),
    "flattening": (".transpose(0, 3, 1, 2)", "", "hidden", "order of axes", None),
    "epsilon": ("epsilon=0.00001", "", "layer_norm", "epsilon", 1e-6),
}
"""By name: what stands there, what would in a port that went wrong, the layer, cause and value."""
