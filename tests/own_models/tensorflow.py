"""Models of many kinds, for the tests of a user's own: read by them, and imported by nobody."""

FRAME = """
def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf

    class Mine(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                zeros = tf.zeros([sizes.get(size, size) for size in shape])
                setattr(self, name, tf.Variable(zeros))
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
"""A function of a file; ``LAYERS`` and ``FORWARD`` are put in."""

FORWARDS = {
    "convolution": """
H = tf.nn.conv2d(tf.reshape(X, (-1, 8, 8, 1)), self.K, 1, "SAME")
return tf.reshape(tf.tanh(H), (-1, 256)) @ self.W + self.b
""",
}

MISTAKES = {}
"""By kind: what stands in its forward pass, and what would in a port that went wrong."""

LAYERED = (
    "self.act = tf.keras.layers.Activation(FUNCTION); "
    "self.norm = tf.keras.layers.LayerNormalization(epsilon=EPSILON, center=False, scale=False)",
    """
H = self.named("hidden", (X @ self.W1 + self.b1) * FIRST)
H = self.act(H)
H = self.norm(H)
H = self.named("second", tf.sigmoid(H @ self.W2 + self.b2) * SECOND)
return self.named("scores", (H @ self.W3 + self.b3 * BIAS) * THIRD)
""",
    ("'tanh'", "'softsign'"),
)
"""What ``__init__`` makes, and a forward pass, of layers that are called alike everywhere; what
``FUNCTION`` is there, and in a port that went wrong."""

LINEAR = "return H @ self.W + self.b"

OPTIMIZED = FRAME.replace(
    "    return Mine",
    "        def configure_optimizers(self):\n            return OPTIMIZER\n\n    return Mine",
)
OPTIMIZERS = {
    "momentum": "tf.keras.optimizers.SGD(lr, momentum=0.9)",
    "nesterov": "tf.keras.optimizers.SGD(lr, momentum=0.9, nesterov=True)",
    "adam": "tf.keras.optimizers.Adam(lr, epsilon=1e-30)",
    "adamw": "tf.keras.optimizers.AdamW(lr, epsilon=1e-30, weight_decay=0.01)",
    "rmsprop": "tf.keras.optimizers.RMSprop(lr, rho=0.9, epsilon=1e-30)",
    "adagrad": "tf.keras.optimizers.Adagrad(lr, initial_accumulator_value=0.0, epsilon=1e-30)",
}
"""By name, as in the others' files."""
MORE_OPTIMIZERS = {
    "tf.keras.optimizers.Adam(lr, amsgrad=True)": None,
    "tf.keras.optimizers.RMSprop(lr, momentum=0.9, centered=True)": None,
    "tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9))": None,
    "d2l.SGD(lr)": None,
    "tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.CosineDecay(0.1, 9), 0.9)": None,
    "tf.keras.optimizers.AdamW(lr, global_clipnorm=0.1)": None,
    "tf.keras.optimizers.RMSprop(lr, clipnorm=0.1)": None,
    "tf.keras.optimizers.Adagrad(lr, clipvalue=0.01)": None,
    "tf.keras.optimizers.SGD(lr, use_ema=True)": "averages over steps",
    "tf.keras.optimizers.Lion(lr)": "Lion",
}
"""And by what they are called if there is no telling what they remember."""
NO_ARGUMENTS = [*MORE_OPTIMIZERS][:2] + [*MORE_OPTIMIZERS][-2:]
"""Those of which a record says not what they are."""
OPTIMIZER_FAULTS = {
    "first sum": (
        "adagrad",
        "tf.keras.optimizers.Adagrad(lr, epsilon=1e-30)",
        (0, "sum_of_squares of "),
        "first sum of squares",
    ),
    "no nesterov": (
        "nesterov",
        "tf.keras.optimizers.SGD(lr, momentum=0.9)",
        (0, "W"),
        "momentum without Nesterov's look ahead",
    ),
}
"""By name: the optimizer that it should be, what stands there, and step, what is off and why."""

UNEQUAL = {
    "alpha dropout": (
        "self.net = tf.keras.layers.AlphaDropout(0.5)",
        "self.net(X)",
        "seed_generator_state changed by a forward pass; random numbers in net (AlphaDropout)",
    ),
    "dropout inside": (
        "self.net = tf.keras.Sequential([tf.keras.layers.Dropout(0.5)])",
        "self.net(X)",
        None,
    ),
    "noise": (
        "self.net = [tf.keras.layers.GaussianNoise(0.1)]",
        "self.net[0](X)",
        "(GaussianNoise)",
    ),
    "function": ("pass", "tf.nn.dropout(X, 0.5)", "random numbers in forward"),
    "normal": ("pass", "X + tf.random.normal(tf.shape(X))", "random numbers in forward"),
    "batch norm of always": (
        "self.net = tf.keras.layers.BatchNormalization(center=False, scale=False)",
        "self.net(X, training=True)",
        None,
    ),
    "layer norm": (
        "self.net = tf.keras.layers.LayerNormalization(center=False, scale=False)",
        "self.net(X)",
        None,
    ),
    "dropout of nothing": ("self.net = tf.keras.layers.Dropout(0.0)", "self.net(X)", None),
}
"""By name: what ``__init__`` makes, what ``forward`` begins with, and a part of why it is refused,
None if it is not."""

LEARNED = {
    "regression": "return X @ self.W + self.b",
    "autoencoder": "return tf.tanh(X @ self.V) @ self.W + self.b",
    "sequence": "return tf.reshape(X @ self.W + self.b, (-1, 2, 3))",
}
"""Forward passes of models that learn numbers, or sequences of classes."""
LOSS = """
        def loss(self, y_hat, y, averaged=True):
            losses = LOSSES
            return tf.reduce_mean(losses) if averaged else losses
"""
TARGET_FAULTS = {"ROLLED": "tf.roll(y, 1, 0)", "SUM": "tf.reduce_sum(D, -1)"}
"""What is put into ``model_files.TARGET_FAULTS``."""

STANDING = (
    """
def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf
    from tensorflow.keras import layers

    class Standing(d2l.Classifier):
        def __init__(self):
            self.net = tf.keras.Sequential([
                layers.Dense(16, "tanh"), layers.LayerNormalization(epsilon=1e-5),
                layers.Dense(16, "tanh"), layers.Dense(num_outputs, use_bias=BIAS),
            ])

        def forward(self, X):
            return self.net(X)

        def configure_optimizers(self):
            return tf.keras.optimizers.SGD(lambda: tf.constant(lr, tf.float64), momentum=0.9)

    return Standing()
""",
    "net.3.bias",
)
"""A network of layers as they stand, and what a last one without ``BIAS`` lacks."""

MODES = """
def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf
    from tensorflow.keras.layers import BatchNormalization, Dense, Dropout

    class Mine(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.first = Dense(16, use_bias=False)
            self.norm1 = BatchNormalization(momentum=MOMENTUM, epsilon=1e-5)
            self.dropout = Dropout(0.25)
            self.second = Dense(16, use_bias=False)
            self.norm2 = BatchNormalization(momentum=0.9, epsilon=1e-5)
            self.third = Dense(num_outputs)

        def forward(self, X):
            H = tf.tanh(self.norm1(self.first(X)))
            H = self.named("drop", DROPPED)
            return self.third(tf.tanh(self.norm2(self.second(H))))

    return Mine()
"""
"""A network with two modes, and what stands in it if it is sound, or what is wrong with it."""
MODES_SOUND = {"MOMENTUM": "0.9", "DROPPED": "self.dropout(H)"}
MODES_FAULTS = {
    "rotated": {"DROPPED": "tf.roll(self.dropout(tf.roll(H, 1, 0)), -1, 0)"},
    "not updated": {"MOMENTUM": "1.0"},
}

MIXED = True
"""Whether it computes passes in bfloat16 and float16 while parameters stay float32."""
