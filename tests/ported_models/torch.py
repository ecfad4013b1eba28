"""A network, for ``test_ported_models``: the one that is ported."""

MODEL = """
def torch_model(d2l, num_inputs, num_outputs, lr):
    from torch import nn
    from torch.nn import functional as F

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.norm = nn.GroupNorm(2, 6)
            self.hidden = nn.Linear(96, 32)
            self.layer_norm = nn.LayerNorm(32)
            self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
            self.mixed = nn.Linear(32, 16)
            self.scores = nn.Linear(16, num_outputs)

        def forward(self, X):
            H = F.relu(self.norm(self.conv(X.reshape(-1, 1, 8, 8)))).flatten(1)
            H = self.layer_norm(self.hidden(H)).reshape(-1, 4, 8)
            Q, K, V = self.query(H), self.key(H), self.value(H)
            A = F.softmax(Q @ K.transpose(1, 2) / 8**0.5, -1) @ V
            return self.scores(F.gelu(self.mixed(A.flatten(1))))

    return Mine()
"""
IS_REFERENCE = True
FAULTS = {}
"""By name: what stands there, what would in a port that went wrong, the layer, cause and value."""
