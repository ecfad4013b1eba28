"""A port of a network to Keras, for ``test_ported_models``."""

MODEL = """
def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf

    layers = tf.keras.layers

    class Mine(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.pad = layers.ZeroPadding2D(1)
            self.conv = layers.Conv2D(6, 3, 2, padding="valid")
            self.norm = layers.GroupNormalization(2, epsilon=1e-5)
            self.hidden = layers.Dense(32)
            self.layer_norm = layers.LayerNormalization(epsilon=0.00001)
            self.query, self.key, self.value = (layers.Dense(8) for _ in range(3))
            self.mixed = layers.Dense(16)
            self.scores = layers.Dense(num_outputs)

        def forward(self, X):
            H = self.conv(self.pad(tf.reshape(X, (-1, 8, 8, 1))))
            H = tf.transpose(tf.nn.relu(self.norm(H)), (0, 3, 1, 2))
            H = tf.reshape(self.layer_norm(self.hidden(tf.reshape(H, (-1, 96)))), (-1, 4, 8))
            Q, K, V = self.query(H), self.key(H), self.value(H)
            A = tf.nn.softmax(tf.matmul(Q, K, transpose_b=True) / 8**0.5, -1) @ V
            return self.scores(tf.nn.gelu(self.mixed(tf.reshape(A, (-1, 32)))))

    return Mine()
"""
IS_REFERENCE = False
FAULTS = {
    "padding": ("ZeroPadding2D(1)", "ZeroPadding2D(((0, 1), (0, 1)))", "conv", "padding", None),
    "epsilon": ("epsilon=0.00001", "", "layer_norm", "epsilon", 1e-3),
}
"""By name: what stands there, what would in a port that went wrong, the layer, cause and value."""
