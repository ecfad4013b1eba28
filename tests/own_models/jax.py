"""Models of many kinds, for the tests of a user's own: read by them, and imported by nobody."""

FRAME = """
def jax_model(d2l, num_inputs, num_outputs, lr):
    import jax
    from flax import linen as nn
    from jax import numpy as jnp

    class Mine(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            p = {
                name: self.param(
                    name, nn.initializers.zeros, [sizes.get(size, size) for size in shape]
                )
                for name, shape in PARAMETERS.items()
            }
            FORWARD

    return Mine(lr)
"""
"""A function of a file; ``FORWARD`` is put in."""

FORWARDS = {
    "convolution": """
H = jax.lax.conv_general_dilated(
X.reshape(-1, 8, 8, 1), p["K"], (1, 1), "SAME",
dimension_numbers=("NHWC", "HWIO", "NHWC"))
return jnp.tanh(H).reshape(-1, 256) @ p["W"] + p["b"]
""",
    "attention": """
H = X.reshape(-1, 8, 8)
A = nn.softmax((H @ p["Q"]) @ (H @ p["K"]).swapaxes(1, 2) / 8**0.5, axis=-1)
return (A @ (H @ p["V"])).reshape(-1, 64) @ p["W"] + p["b"]
""",
    "recurrence": """
h = jnp.zeros((len(X), 8), X.dtype)
for row in X.reshape(-1, 8, 8).swapaxes(0, 1): h = jnp.tanh(
row @ p["U"] + h @ p["R"] + p["c"])
return h @ p["W"] + p["b"]
""",
    "depthwise and pooling": """
H = jax.lax.conv_general_dilated(
X.reshape(-1, 8, 8, 1), p["K"], (1, 1), "SAME",
dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=1)
H = nn.avg_pool(H, (3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=False)
return jnp.tanh(H).reshape(-1, 64) @ p["W"] + p["b"]
""",
    "layers of all features": """
H = nn.gelu(X @ p["W1"] + p["b1"], approximate=False)
return H @ p["W2"]
""",
}

MISTAKES = {
    "attention": ("axis=-1", "axis=-2"),
    "recurrence": ('p["R"]', 'p["R"].T'),
    "layers of all features": ("approximate=False", "approximate=True"),
}
"""By kind: what stands in its forward pass, and what would in a port that went wrong."""

LAYERED = (
    "",
    """
H = self.named("hidden", (X @ p["W1"] + p["b1"]) * FIRST)
H = self.named("act", FUNCTION(H))
H = nn.LayerNorm(epsilon=EPSILON, use_scale=False, use_bias=False, name="norm")(H)
H = self.named("second", nn.sigmoid(H @ p["W2"] + p["b2"]) * SECOND)
return self.named("scores", (H @ p["W3"] + p["b3"] * BIAS) * THIRD)
""",
    ("nn.tanh", "nn.soft_sign"),
)
"""What ``__init__`` makes, and a forward pass, of layers that are called alike everywhere; what
``FUNCTION`` is there, and in a port that went wrong."""

LINEAR = 'return H @ p["W"] + p["b"]'

OPTIMIZED = FRAME.replace("    import jax", "    import jax, optax").replace(
    "    return Mine",
    "        def configure_optimizers(self):\n            return OPTIMIZER\n\n    return Mine",
)
OPTIMIZERS = {
    "momentum": "optax.sgd(lr, momentum=0.9)",
    "nesterov": "optax.sgd(lr, momentum=0.9, nesterov=True)",
    "adam": "optax.adam(lr, eps=1e-30)",
    "adamw": "optax.adamw(lr, eps=1e-30, weight_decay=0.01)",
    "rmsprop": "optax.rmsprop(lr, decay=0.9, eps=1e-30)",
    "adagrad": "optax.adagrad(lr, initial_accumulator_value=0.0, eps=1e-30)",
}
"""By name, as in the others' files."""
MORE_OPTIMIZERS = {
    "optax.chain(optax.clip_by_global_norm(0.1), optax.adam(lr))": None,
    'optax.adamw(lr, mask={"W": True, "b": False})': None,
    "optax.sgd(optax.linear_schedule(0.1, 0.01, 10), momentum=0.9)": None,
    "d2l.SGD(lr)": None,
    "optax.chain(optax.clip(0.01), optax.add_decayed_weights(0.1), optax.trace(0.9), "
    "optax.scale_by_schedule(lambda n: -0.1 / (n + 1)))": None,
    'optax.named_chain(("moments", optax.scale_by_adam()), ("rate", optax.scale(-lr)))': None,
    "optax.rmsprop(optax.cosine_decay_schedule(lr, 9), decay=0.9)": None,
    "optax.adagrad(lr)": None,
    "optax.inject_hyperparams(optax.adam)(optax.exponential_decay(lr, 1, 0.8))": None,
    "optax.rmsprop(lr, momentum=0.9)": "behind the learning rate",
    "optax.lion(lr)": "ScaleByLionState",
}
"""And by what they are called if there is no telling what they remember."""
NO_ARGUMENTS = [*MORE_OPTIMIZERS][-3:]
"""Those of which a record says not what they are."""
OPTIMIZER_FAULTS = {
    "count": (
        "adam",
        "(lambda o: optax.GradientTransformation(lambda p: jax.tree.map(lambda s: s + 1 "
        'if s.dtype == "int32" else s, o.init(p)), o.update))(optax.adam(lr, eps=1e-30))',
        (0, "count"),
        "steps counted from 1 and bias correction 1 − βᵗ in float32",
    ),
    "epsilon inside the root": (
        "rmsprop",
        "optax.rmsprop(lr, 0.9, eps=1e-6)",
        (0, "W"),
        "ε inside √(v + ε)",
    ),
}
"""By name: the optimizer that it should be, what stands there, and step, what is off and why."""

UNEQUAL = {
    "dropout of columns": (
        "",
        "nn.Dropout(0.5, broadcast_dims=(1,), deterministic=False)(X)",
        "Dropout_0 needs PRNG",
    ),
    "noise": ("", 'X + jax.random.normal(self.make_rng("noise"), X.shape)', 'PRNG for "noise"'),
    "numpy": ("", 'X * __import__("numpy").random.rand()', "NumPy's random"),
    "state": (
        "",
        'X + self.variable("cache", "seen", jnp.zeros, ()).value.astype(X.dtype)',
        None,
    ),
    "no dropout": ("", "nn.Dropout(0.5, deterministic=True)(X)", None),
    "layer norm": ("", "nn.LayerNorm(use_scale=False, use_bias=False)(X)", None),
}
"""By name: what ``__init__`` makes, what ``forward`` begins with, and a part of why it is refused,
None if it is not."""

LEARNED = {
    "regression": 'return X @ p["W"] + p["b"]',
    "autoencoder": 'return jnp.tanh(X @ p["V"]) @ p["W"] + p["b"]',
    "sequence": 'return (X @ p["W"] + p["b"]).reshape(-1, 2, 3)',
}
"""Forward passes of models that learn numbers, or sequences of classes."""
LOSS = """
        def loss(self, params, X, y, state, averaged=True):
            y_hat = state.apply_fn({"params": params}, *X)
            losses = LOSSES
            return (losses.mean() if averaged else losses), {}
"""
TARGET_FAULTS = {"ROLLED": "jnp.roll(y, 1, 0)", "SUM": "D.sum(-1)"}
"""What is put into ``model_files.TARGET_FAULTS``."""

STANDING = (
    """
def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    class Standing(d2l.Classifier):
        @nn.compact
        def __call__(self, X):
            X = nn.LayerNorm(epsilon=1e-5)(nn.tanh(nn.Dense(16)(X)))
            return nn.Dense(num_outputs, use_bias=BIAS)(nn.tanh(nn.Dense(16)(X)))

        def configure_optimizers(self):
            return optax.sgd(lr, momentum=0.9)

    return Standing()
""",
    "Dense_1/bias",  # made before the one inside its brackets
)
"""A network of layers as they stand, and what a last one without ``BIAS`` lacks."""

MODES = """
def jax_model(d2l, num_inputs, num_outputs, lr):
    from flax import linen as nn
    from jax import numpy as jnp

    class Mine(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X, training):
            def norm(name, off=not training, momentum=0.9):
                return nn.BatchNorm(use_running_average=off, momentum=momentum, name=name)

            H = jnp.tanh(NORM(nn.Dense(16, use_bias=False)(X)))
            H = self.named("drop", DROPPED)
            return nn.Dense(num_outputs)(jnp.tanh(norm("norm2")(nn.Dense(16, use_bias=False)(H))))

    return Mine(lr)
"""
"""A network with two modes, and what stands in it if it is sound, or what is wrong with it."""
MODES_SOUND = {
    "NORM": 'norm("norm1")',
    "DROPPED": "nn.Dropout(0.25)(H, deterministic=not training)",
}
MODES_FAULTS = {
    "of the batch in evaluation": {"NORM": 'norm("norm1", off=False)'},
}

MIXED = True
"""Whether it computes passes in bfloat16 and float16 while parameters stay float32."""
