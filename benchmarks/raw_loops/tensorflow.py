"""Loops by hand in TensorFlow, to measure the trainer against: as users write them, and tuned.

Each one trains on the whole data, given as ``(X, y)`` in NumPy: ``epoch(order)`` returns the loss
of every step and whether each example was classified rightly, ``get_parameters()`` what came of it.
The idiomatic ones make the same public calls as the trainer. The tuned ones do what no trainer may.
"""

import numpy as np
import tensorflow as tf

from framework_parity.backends.tensorflow.trainer import put, shared


class Concise:
    """The batches of an epoch in one loop of one graph, with Keras' layer, loss and optimizer."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = put(X), put(y)
        self.batch_size = batch_size
        self.make(parameters, lr)
        self.run = tf.function(self._run, autograph=False)

    def make(self, parameters, lr):
        self.net = tf.keras.layers.Dense(len(parameters["b"]), dtype=parameters["W"].dtype.name)
        self.net.build(self.X.shape)
        self.net.set_weights([parameters["W"], parameters["b"]])
        self.variables = self.net.trainable_variables
        self.optimizer = tf.keras.optimizers.SGD(lr)
        self.cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y):
        return self.cross_entropy(y, y_hat)

    def update(self, gradients):
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))

    def _run(self, X, y, batches):
        def step(rows):
            X_batch, y_batch = tf.gather(X, rows), tf.gather(y, rows)
            with tf.GradientTape() as tape:
                y_hat = self.forward(X_batch)
                loss = self.loss(y_hat, y_batch)
            self.update(tape.gradient(loss, self.variables))
            return loss, tf.argmax(y_hat, 1, output_type=tf.int32) == y_batch

        kinds = (self.variables[0].dtype, tf.bool)
        return tf.map_fn(step, batches, fn_output_signature=kinds, parallel_iterations=1)

    def epoch(self, order):
        full = len(order) - len(order) % self.batch_size
        results = []
        for rows in (order[:full].reshape(-1, self.batch_size), order[full:].reshape(1, -1)):
            if rows.size:
                values = self.run(self.X, self.y, tf.constant(rows))
                results.append([value.numpy().reshape(-1) for value in values])
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    def get_parameters(self):
        W, b = (variable.numpy() for variable in self.variables)
        return {"W": W, "b": b}


class Scratch(Concise):
    """The same with softmax, loss and update written out."""

    def make(self, parameters, lr):
        self.variables = [tf.Variable(parameters["W"]), tf.Variable(parameters["b"])]
        self.lr = lr

    def forward(self, X):
        W, b = self.variables
        exp = tf.exp(tf.matmul(X, W) + b)
        return exp / tf.reduce_sum(exp, 1, keepdims=True)

    def loss(self, y_hat, y):
        return -tf.reduce_mean(tf.math.log(tf.gather(y_hat, y, batch_dims=1)))

    def update(self, gradients):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.assign_sub(self.lr * gradient)


class Graph(Concise):
    """The batches of an epoch in one loop of one graph, the parameters updated in place."""

    jit_compile = False

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = put(X), put(y)
        self.W, self.b = tf.Variable(parameters["W"].T.copy()), tf.Variable(parameters["b"])
        self.lr, self.batch_size = lr, batch_size
        self.run = tf.function(self._run, autograph=False, jit_compile=self.jit_compile)

    def gradients(self, W, b, X, y):
        with tf.GradientTape() as tape:
            logits = tf.matmul(X, W, transpose_b=True) + b
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(losses)
        correct = tf.argmax(logits, 1, output_type=tf.int32) == y
        return loss, correct, tape.gradient(loss, (W, b))

    def _run(self, X, y, batches):
        def step(rows):
            loss, correct, (gW, gb) = self.gradients(
                self.W, self.b, tf.gather(X, rows), tf.gather(y, rows)
            )
            self.W.assign_sub(self.lr * gW)
            self.b.assign_sub(self.lr * gb)
            return loss, correct

        kinds = (self.W.dtype, tf.bool)
        return tf.map_fn(step, batches, fn_output_signature=kinds, parallel_iterations=1)

    def get_parameters(self):
        return {"W": self.W.numpy().T, "b": self.b.numpy()}


class Compiled(Graph):
    """The same, compiled by XLA."""

    jit_compile = True


class Loader(Graph):
    """A data loader's way: ``tf.data`` converts examples one by one; each batch is an eager step.

    The book's own TensorFlow code converts all examples at once before it batches them: this is
    the pipeline of TensorFlow's documentation, ``map`` before ``batch``.
    """

    def __init__(self, X, y, parameters, lr, batch_size, image_shape, divisor):
        super().__init__(X[:1], y[:1], parameters, lr, batch_size)
        # Converted on the processor, whatever computes.
        self.X, self.y = shared(X.reshape(len(X), *image_shape)), shared(y)
        self.divisor = divisor

    def convert(self, index):
        image, label = self.X[index], self.y[index]
        return tf.reshape(tf.cast(image, self.W.dtype) / self.divisor, (-1,)), label

    def epoch(self, order):
        examples = tf.data.Dataset.from_tensor_slices(order).map(self.convert)
        losses, corrects = [], []
        for X, y in examples.batch(self.batch_size):
            loss, correct, (gW, gb) = self.gradients(self.W, self.b, X, y)
            self.W.assign_sub(self.lr * gW)
            self.b.assign_sub(self.lr * gb)
            losses.append(float(loss))
            corrects.append(correct.numpy())
        return np.array(losses), np.concatenate(corrects)


LOOPS = {
    "idiomatic scratch": Scratch,
    "idiomatic concise": Concise,
    "tuned": Graph,
    "tuned compiled": Compiled,
    "loader": Loader,
}
