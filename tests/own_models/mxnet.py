"""Models of many kinds, for the tests of a user's own: read by them, and imported by nobody."""

FRAME = """
def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import np as mx, npx
    from mxnet.gluon import nn

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                array = mx.zeros([sizes.get(size, size) for size in shape])
                array.attach_grad()
                setattr(self, name, array)
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
"""A function of a file; ``LAYERS`` and ``FORWARD`` are put in."""

FORWARDS = {
    "recurrence": """
h = mx.zeros((len(X), 8), dtype=X.dtype)
for i in range(8): h = mx.tanh(
mx.dot(X[:, 8 * i : 8 * i + 8], self.U) + mx.dot(h, self.R) + self.c)
return mx.dot(h, self.W) + self.b
""",
}

MISTAKES = {}
"""By kind: what stands in its forward pass, and what would in a port that went wrong."""

LAYERED = (
    "self.act = nn.Activation(FUNCTION); "
    "self.norm = nn.LayerNorm(epsilon=EPSILON, center=False, scale=False, in_channels=16); "
    "self.norm.initialize()",
    """
H = self.named("hidden", (mx.dot(X, self.W1) + self.b1) * FIRST)
H = self.act(H)
H = self.norm(H)
H = self.named("second", npx.sigmoid(mx.dot(H, self.W2) + self.b2) * SECOND)
return self.named("scores", (mx.dot(H, self.W3) + self.b3 * BIAS) * THIRD)
""",
    ("'tanh'", "'softsign'"),
)
"""What ``__init__`` makes, and a forward pass, of layers that are called alike everywhere; what
``FUNCTION`` is there, and in a port that went wrong."""

LINEAR = "return mx.dot(H, self.W) + self.b"

OPTIMIZED = """
def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import gluon, np as mx

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                shape = [sizes.get(size, size) for size in shape]
                setattr(self, name, self.params.get(name, shape=shape, init="zeros"))
            self.initialize()

        def forward(self, X):
            return mx.dot(X, self.W.data()) + self.b.data()

        def configure_optimizers(self):
            return OPTIMIZER

    def gluon_trainer(model, name, **options):
        return gluon.Trainer(model.collect_params(), name, {"learning_rate": lr, **options})

    return Mine()
"""
OPTIMIZERS = {
    "momentum": 'gluon_trainer(self, "sgd", momentum=0.9)',
    "nesterov": 'gluon_trainer(self, "nag", momentum=0.9)',
    "adam": 'gluon_trainer(self, "adam", epsilon=1e-30)',
    "rmsprop": 'gluon_trainer(self, "rmsprop", gamma1=0.9, epsilon=1e-30)',
    "adagrad": 'gluon_trainer(self, "adagrad", eps=1e-30)',
}
"""By name, as in the others' files."""
MORE_OPTIMIZERS = {
    'gluon_trainer(self, "rmsprop", centered=True)': None,
    'gluon_trainer(self, "nag", momentum=0.9, wd=0.1)': None,
    "d2l.SGD(self.collect_params(), lr)": None,
    "gluon_trainer(self, 'sgd', momentum=0.9, lr_scheduler=__import__('mxnet').lr_scheduler."
    "PolyScheduler(4, base_lr=0.1, final_lr=0.01))": None,
    'gluon_trainer(self, "adam", wd=0.1)': None,
    'gluon_trainer(self, "adagrad", clip_gradient=0.01)': None,
    'gluon_trainer(self, "adadelta")': "AdaDelta",
}
"""And by what they are called if there is no telling what they remember."""
NO_ARGUMENTS = [*MORE_OPTIMIZERS][:1] + [*MORE_OPTIMIZERS][-1:]
"""Those of which a record says not what they are."""
OPTIMIZER_FAULTS = {
    "decay": (
        "momentum",
        'gluon_trainer(self, "sgd", momentum=0.9, wd=0.1)',
        (0, "velocity of "),
        "coupled weight decay",
    ),
}
"""By name: the optimizer that it should be, what stands there, and step, what is off and why."""

UNEQUAL = {
    "dropout": ("self.net = nn.Dropout(0.5)", "self.net(X)", None),
    "dropout of columns": (
        "self.net = nn.Sequential(); self.net.add(nn.Flatten(), nn.Dropout(0.5, axes=(0,)))",
        "self.net(X)",
        "net.1 (Dropout)",
    ),
    "dropout, compiled": (
        "self.net = nn.HybridSequential(); self.net.add(nn.Dropout(0.5)); self.net.hybridize()",
        "self.net(X)",
        "random numbers in forward",
    ),
    "function": ("pass", "npx.dropout(X, p=0.5)", "random numbers in forward"),
    "noise": ("pass", "X + mx.random.normal(size=X.shape)", "random numbers in forward"),
    "batch norm": (
        "self.net = nn.BatchNorm(center=False, scale=False); self.net.initialize()",
        "self.net(X)",
        None,
    ),
    "dropout of nothing": ("self.net = nn.Dropout(0.0)", "self.net(X)", None),
    "layer norm": (
        "self.net = nn.LayerNorm(center=False, scale=False); self.net.initialize()",
        "self.net(X)",
        None,
    ),
}
"""By name: what ``__init__`` makes, what ``forward`` begins with, and a part of why it is refused,
None if it is not."""

LEARNED = {
    "regression": "return mx.dot(X, self.W) + self.b",
    "autoencoder": "return mx.dot(mx.tanh(mx.dot(X, self.V)), self.W) + self.b",
    "sequence": "return (mx.dot(X, self.W) + self.b).reshape(-1, 2, 3)",
}
"""Forward passes of models that learn numbers, or sequences of classes."""
LOSS = """
        def loss(self, y_hat, y, averaged=True):
            losses = LOSSES
            return losses.mean() if averaged else losses
"""
TARGET_FAULTS = {"ROLLED": "mx.roll(y, 1, 0)", "SUM": "D.sum(-1)"}
"""What is put into ``model_files.TARGET_FAULTS``."""

STANDING = (
    """
def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import gluon
    from mxnet.gluon import nn

    class Standing(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential()
            self.net.add(
                nn.Dense(16, activation="tanh"), nn.LayerNorm(), nn.Dense(16, activation="tanh"),
                nn.Dense(num_outputs, use_bias=BIAS),
            )
            self.net.initialize()

        def configure_optimizers(self):
            options = {"learning_rate": lr, "momentum": 0.9}
            return gluon.Trainer(self.collect_params(), "sgd", options)

    return Standing()
""",
    "net.3.bias",
)
"""A network of layers as they stand, and what a last one without ``BIAS`` lacks."""

MODES = """
def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import autograd, np as mx
    from mxnet.gluon import nn

    def trained(layer, X):
        with autograd.train_mode():
            return layer(X)

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.first = nn.Dense(16, use_bias=False)
            self.norm1 = nn.BatchNorm(momentum=MOMENTUM)
            self.dropout = nn.Dropout(0.25)
            self.second, self.norm2 = nn.Dense(16, use_bias=False), nn.BatchNorm()
            self.third = nn.Dense(num_outputs)
            self.initialize()

        def forward(self, X):
            H = mx.tanh(NORM)
            H = self.named("drop", DROPPED)
            return self.third(mx.tanh(self.norm2(self.second(H))))

    return Mine()
"""
"""A network with two modes, and what stands in it if it is sound, or what is wrong with it."""
MODES_SOUND = {
    "MOMENTUM": "0.9",
    "NORM": "self.norm1(self.first(X))",
    "DROPPED": "self.dropout(H)",
}
MODES_FAULTS = {
    "rotated": {"DROPPED": "mx.roll(self.dropout(mx.roll(H, 1, 0)), -1, 0)"},
    "dropped in evaluation": {"DROPPED": "trained(self.dropout, H)"},
    "not updated": {"MOMENTUM": "1.0"},
    "of the batch in evaluation": {"NORM": "trained(self.norm1, self.first(X))"},
}
