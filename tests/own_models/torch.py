"""Models of many kinds, for the tests of a user's own: read by them, and imported by nobody."""

FRAME = """
def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                zeros = torch.zeros([sizes.get(size, size) for size in shape])
                setattr(self, name, nn.Parameter(zeros))
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
"""A function of a file; ``LAYERS`` and ``FORWARD`` are put in."""

FORWARDS = {
    "convolution": """
H = F.pad(X.reshape(-1, 1, 8, 8), (1, 1, 1, 1))
H = torch.tanh(F.conv2d(H, self.K.permute(3, 2, 0, 1)))
return H.permute(0, 2, 3, 1).reshape(-1, 256) @ self.W + self.b
""",
    "attention": """
H = X.reshape(-1, 8, 8)
A = torch.softmax((H @ self.Q) @ (H @ self.K).transpose(1, 2) / 8**0.5, dim=-1)
return (A @ (H @ self.V)).reshape(-1, 64) @ self.W + self.b
""",
    "recurrence": """
h = torch.zeros(len(X), 8, dtype=X.dtype)
for row in X.reshape(-1, 8, 8).unbind(1): h = torch.tanh(
row @ self.U + h @ self.R + self.c)
return h @ self.W + self.b
""",
    "depthwise and pooling": """
H = F.conv2d(X.reshape(-1, 1, 8, 8), self.K.permute(3, 2, 0, 1), padding=1)
H = F.avg_pool2d(H, 3, 2, 1, count_include_pad=False)
return torch.tanh(H).permute(0, 2, 3, 1).reshape(-1, 64) @ self.W + self.b
""",
    "layers of all features": """
return F.gelu(X @ self.W1 + self.b1) @ self.W2
""",
}

MISTAKES = {
    "convolution": ("(1, 1, 1, 1)", "(0, 2, 0, 2)"),
    "depthwise and pooling": ("count_include_pad=False", "count_include_pad=True"),
}
"""By kind: what stands in its forward pass, and what would in a port that went wrong."""

SOMETIMES = """
H = torch.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2
size = (self.W2**2).sum()
return H * (1 + 0.01 * ((size > LOW) & (size < HIGH)))
"""
"""A network of two layers that is wrong while a parameter is of some size."""

LAYERED = (
    "self.act = FUNCTION; self.norm = nn.LayerNorm(16, eps=EPSILON, elementwise_affine=False)",
    """
H = self.named("hidden", (X @ self.W1 + self.b1) * FIRST)
H = self.act(H)
H = self.norm(H)
H = self.named("second", torch.sigmoid(H @ self.W2 + self.b2) * SECOND)
return self.named("scores", (H @ self.W3 + self.b3 * BIAS) * THIRD)
""",
    ("nn.Tanh()", "nn.Softsign()"),
)
"""What ``__init__`` makes, and a forward pass, of layers that are called alike everywhere; what
``FUNCTION`` is there, and in a port that went wrong."""

LINEAR = "return H @ self.W + self.b"

OPTIMIZED = FRAME.replace(
    "    return Mine",
    "        def configure_optimizers(self):\n            return OPTIMIZER\n\n    return Mine",
)
OPTIMIZERS = {
    "momentum": "torch.optim.SGD(self.parameters(), lr, momentum=0.9)",
    "nesterov": "torch.optim.SGD(self.parameters(), lr, momentum=0.9, nesterov=True)",
    "adam": "torch.optim.Adam(self.parameters(), lr, eps=1e-30)",
    "adamw": "torch.optim.AdamW(self.parameters(), lr, eps=1e-30, weight_decay=0.01)",
    "rmsprop": "torch.optim.RMSprop(self.parameters(), lr, alpha=0.9, eps=1e-30)",
    "adagrad": "torch.optim.Adagrad(self.parameters(), lr, eps=1e-30)",
}
"""By name; where the frameworks place an epsilon differs, hence one that is too small to matter."""
MORE_OPTIMIZERS = {
    "torch.optim.Adam(self.parameters(), lr, amsgrad=True)": None,
    "torch.optim.RMSprop(self.parameters(), lr, momentum=0.9, centered=True)": None,
    "torch.optim.SGD(self.parameters(), lr, 0.9, dampening=0.5, weight_decay=0.1)": None,
    "torch.optim.SGD([dict(params=[self.W], momentum=0.9), dict(params=[self.b])], lr)": None,
    "(lambda o: (o, torch.optim.lr_scheduler.StepLR(o, 1, 0.5)))"
    "(torch.optim.Adam(self.parameters(), lr))": None,
    '(lambda o: {"optimizer": o, "lr_scheduler": {"interval": "step", "scheduler": '
    "torch.optim.lr_scheduler.CosineAnnealingLR(o, 9)}})"
    "(torch.optim.SGD(self.parameters(), lr, momentum=0.9))": None,
    "(lambda o, s: (o.register_step_post_hook(lambda *_: s.step()), o)[1])(*(lambda o: (o, "
    "torch.optim.lr_scheduler.ExponentialLR(o, 0.8)))(torch.optim.SGD(self.parameters(), lr)))"
    "": None,
    "torch.optim.AdamW([dict(params=[self.W]), dict(params=[self.b], weight_decay=0)], lr)": None,
    "torch.optim.RMSprop(self.parameters(), lr, 0.9, weight_decay=0.1)": None,
    "torch.optim.Adagrad(self.parameters(), lr, initial_accumulator_value=0.1)": None,
    "torch.optim.Adadelta(self.parameters(), lr)": "Adadelta",
}
"""And by what they are called if there is no telling what they remember."""
NO_ARGUMENTS = [*MORE_OPTIMIZERS][:2] + [*MORE_OPTIMIZERS][3:4] + [*MORE_OPTIMIZERS][-1:]
"""Those of which a record says not what they are."""
OPTIMIZER_FAULTS = {
    "velocity cleared": (
        "momentum",
        "(lambda o: (o.register_step_pre_hook(lambda *_, steps=iter(range(99)): "
        "(k := next(steps)) and k % 6 == 0 and o.state.clear() or None), o)[1])"
        "(torch.optim.SGD(self.parameters(), lr, momentum=0.9))",
        (6, "velocity"),
        None,
    ),
    "momentum": (
        "momentum",
        "torch.optim.SGD(self.parameters(), lr, momentum=0.9001)",
        (1, "velocity of "),
        "momentum",
    ),
    "beta2": (
        "adam",
        "torch.optim.Adam(self.parameters(), lr, (0.9, 0.99), eps=1e-30)",
        (0, "second_moment of "),
        "β₂",
    ),
}
"""By name: the optimizer that it should be, what stands there, and step, what is off and why."""
KNOWN_NOT = 'type("Mine", (torch.optim.SGD,), {})(self.parameters(), lr, momentum=0.9)'
"""An optimizer of which there is no telling what it remembers, beside its velocity."""

UNEQUAL = {
    "dropout": (
        "self.net = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))",
        "self.net(X)",
        None,
    ),
    "rare alpha dropout": (
        "self.net = nn.AlphaDropout(1e-9)",
        "self.net(X)",
        "PyTorch's random generator",
    ),
    "alpha dropout": ("self.net = nn.AlphaDropout(0.1)", "self.net(X)", "net (AlphaDropout)"),
    "function": ("pass", "F.dropout(X, 0.5)", None),
    "function of channels": ("pass", "F.dropout1d(X[:, None])[:, 0]", "random numbers in forward"),
    "noise": ("pass", "X + 0.1 * torch.randn_like(X)", "random numbers in forward"),
    "numpy": ("import numpy; self.draw = numpy.random.rand", "X * self.draw()", "NumPy's random"),
    "batch norm": (
        "self.net = nn.BatchNorm1d(num_inputs, affine=False)",
        "self.net(X)",
        None,
    ),
    "batch norm of the batch": (
        "self.net = nn.BatchNorm1d(num_inputs, affine=False, track_running_stats=False)",
        "self.net(X)",
        None,
    ),
    "instance norm": (
        "self.net = nn.InstanceNorm1d(1, track_running_stats=True)",
        "self.net(X[:, None])[:, 0]",
        None,
    ),
    "slopes": ("self.net = nn.RReLU()", "self.net(X - 0.5)", "net (RReLU)"),
    "noise in a gradient": (
        "self.W.register_hook(lambda gradient: gradient * (1 + 0.1 * torch.rand(())))",
        "X",
        "from the same parameters",
    ),
    "mode": ("pass", "X * 2 if self.training else X", None),
    "noise in evaluation": (
        "pass",
        "X if self.training else X + torch.randn_like(X)",
        "random numbers in forward",
    ),
    "dropout of nothing": ("self.net = nn.Dropout(0.0)", "self.net(X)", None),
    "dropout never": ("self.net = nn.Dropout(0.5).eval()", "self.net(X)", None),
    "layer norm": (
        "self.net = nn.LayerNorm(num_inputs, elementwise_affine=False)",
        "self.net(X)",
        None,
    ),
}
"""By name: what ``__init__`` makes, what ``forward`` begins with, and a part of why it is refused,
None if it is not."""

LEARNED = {
    "regression": "return X @ self.W + self.b",
    "autoencoder": "return torch.tanh(X @ self.V) @ self.W + self.b",
    "sequence": "return (X @ self.W + self.b).reshape(-1, 2, 3)",
}
"""Forward passes of models that learn numbers, or sequences of classes."""
LOSS = """
        def loss(self, y_hat, y, averaged=True):
            losses = LOSSES
            return losses.mean() if averaged else losses
"""
TARGET_FAULTS = {"ROLLED": "torch.roll(y, 1, 0)", "SUM": "D.sum(-1)"}
"""What is put into ``model_files.TARGET_FAULTS``."""

STANDING = (
    """
def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    class Standing(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(num_inputs, 16), nn.Tanh(), nn.LayerNorm(16),
                nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, num_outputs, bias=BIAS),
            )

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr, momentum=0.9)

    return Standing()
""",
    "net.5.bias",
)
"""A network of layers as they stand, and what a last one without ``BIAS`` lacks."""

MODES = """
def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Always(nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(True)

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.first, self.norm1 = nn.Linear(num_inputs, 16, bias=False), NORM
            self.second, self.norm2 = nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16)
            self.third = nn.Linear(16, num_outputs)

        def forward(self, X):
            H = torch.tanh(self.norm1(self.first(X)))
            H = self.named("drop", DROPPED)
            return self.third(torch.tanh(self.norm2(self.second(H))))

    return Mine()
"""
"""A network with two modes, and what stands in it if it is sound, or what is wrong with it."""
MODES_SOUND = {"NORM": "nn.BatchNorm1d(16)", "DROPPED": "F.dropout(H, 0.25, self.training)"}
MODES_FAULTS = {
    "rotated": {"DROPPED": "F.dropout(H.roll(1, 0), 0.25, self.training).roll(-1, 0)"},
    "dropped in evaluation": {"DROPPED": "F.dropout(H, 0.25)"},
    "not updated": {"NORM": "nn.BatchNorm1d(16, momentum=0.0)"},
    "of the batch in evaluation": {"NORM": "Always(16)"},
}
UNBIASED = True
"""Whether the running variance is made of unbiased ones, unlike the reference's."""

MIXED = True
"""Whether it computes passes in bfloat16 and float16 while parameters stay float32."""
