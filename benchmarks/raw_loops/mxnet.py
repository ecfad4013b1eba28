"""Loops by hand in MXNet, to measure the trainer against: as users write them, and tuned.

Each one trains on the whole data, given as ``(X, y)`` in NumPy: ``epoch(order)`` returns the loss
of every step and whether each example was classified rightly, ``get_parameters()`` what came of it.
The idiomatic ones make the same public calls as the trainer. The tuned ones do what no trainer may.
"""

import mxnet
from mxnet import autograd, gluon, np, npx
from mxnet.gluon.data.vision import transforms

from framework_parity.backends.mxnet.trainer import shared


class Concise:
    """Gluon's layer, loss and trainer; nothing read until the epoch's end."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = shared(X), shared(y)
        self.lr, self.batch_size = lr, batch_size
        self.make(parameters)

    def make(self, parameters):
        self.net = gluon.nn.Dense(len(parameters["b"]), in_units=len(parameters["W"]))
        self.net.initialize()
        self.net.cast(parameters["W"].dtype)
        self.net.weight.set_data(np.array(parameters["W"].T.copy()))
        self.net.bias.set_data(np.array(parameters["b"]))
        self.cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
        self.cross_entropy.hybridize()
        self.trainer = gluon.Trainer(self.net.collect_params(), "sgd", {"learning_rate": self.lr})

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y):
        return self.cross_entropy(y_hat, y).mean()

    def update(self):
        self.trainer.step(1)  # the loss is a mean already

    def epoch(self, order):
        order, size = shared(order), self.batch_size
        y = np.take(self.y, order)
        losses, scores = [], []
        for start in range(0, len(order), size):
            X = np.take(self.X, order[start : start + size], axis=0)
            with autograd.record():
                y_hat = self.forward(X)
                loss = self.loss(y_hat, y[start : start + size])
            loss.backward()
            self.update()
            losses.append(loss)
            scores.append(y_hat)
        correct = np.concatenate(scores).argmax(axis=1).astype("int32") == y
        mxnet.nd.waitall()  # no loss waits for the last update
        return np.stack(losses).asnumpy(), correct.asnumpy()

    def updated(self):
        return [self.net.weight.data(), self.net.bias.data()]

    def get_parameters(self):
        W, b = self.updated()
        return {"W": W.asnumpy().T, "b": b.asnumpy()}


class Scratch(Concise):
    """Softmax, loss and update written out."""

    def make(self, parameters):
        self.W, self.b = np.array(parameters["W"]), np.array(parameters["b"])
        self.W.attach_grad()
        self.b.attach_grad()

    def forward(self, X):
        exp = np.exp(np.dot(X, self.W) + self.b)
        return exp / exp.sum(1, keepdims=True)

    def loss(self, y_hat, y):
        return -np.log(npx.pick(y_hat, y)).mean()

    def update(self):
        for param in (self.W, self.b):
            param -= self.lr * param.grad

    def updated(self):
        return [self.W, self.b]

    def get_parameters(self):
        return {"W": self.W.asnumpy(), "b": self.b.asnumpy()}


class Logits(Scratch):
    """Fully connected layer, log-softmax and a fused update; nothing read until the epoch's end."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = shared(X), shared(y)
        self.W, self.b = np.array(self.layout(parameters["W"])), np.array(parameters["b"])
        self.W.attach_grad()
        self.b.attach_grad()
        self.lr, self.batch_size = lr, batch_size

    def layout(self, W):
        return W.T.copy()

    def forward(self, X):
        return npx.fully_connected(X, self.W, self.b, num_hidden=len(self.b), flatten=False)

    def loss(self, y_hat, y):
        return -npx.pick(npx.log_softmax(y_hat), y).mean()

    def update(self):
        arrays = [a.as_nd_ndarray() for a in (self.W, self.W.grad, self.b, self.b.grad)]
        mxnet.nd.multi_sgd_update(
            *arrays, out=arrays[::2], num_weights=2, lrs=(self.lr, self.lr), wds=(0.0, 0.0)
        )

    def get_parameters(self):
        return {"W": self.layout(self.W.asnumpy()), "b": self.b.asnumpy()}


class Probabilities(Logits):
    """Softmax and loss written out."""

    def layout(self, W):
        return W

    forward, loss = Scratch.forward, Scratch.loss


class ByHand(Logits):
    """The gradient derived by hand: no autograd at all, and nothing that a model could change."""

    def epoch(self, order):
        order, size = shared(order), self.batch_size
        y = np.take(self.y, order)
        one_hot, logs = npx.one_hot(y, len(self.b)), []
        for start in range(0, len(order), size):
            X = np.take(self.X, order[start : start + size], axis=0)
            log_p = npx.log_softmax(self.forward(X))
            error = (np.exp(log_p) - one_hot[start : start + size]) * (self.lr / len(X))
            self.W -= np.dot(error.T, X)
            self.b -= error.sum(0)
            logs.append(log_p)
        losses = [-npx.pick(p, y[i * size : (i + 1) * size]).mean() for i, p in enumerate(logs)]
        correct = np.concatenate(logs).argmax(axis=1).astype("int32") == y
        mxnet.nd.waitall()
        return np.stack(losses).asnumpy(), correct.asnumpy()


class Loader(Logits):
    """The book's way: a data loader converts examples one by one, and each batch is one step."""

    def __init__(self, X, y, parameters, lr, batch_size, image_shape, divisor):
        super().__init__(X[:1], y[:1], parameters, lr, batch_size)
        with mxnet.cpu():  # where images are converted, whatever computes
            images = shared(X.reshape(len(X), *image_shape, 1))
        # The book's transforms; the labels stay in NumPy, as in gluon's own FashionMNIST.
        resize, to_tensor = transforms.Resize(image_shape[::-1]), transforms.ToTensor()
        if divisor == 255:
            transform = transforms.Compose([resize, to_tensor])
        else:
            transform = lambda image: to_tensor(resize(image)) * (255 / divisor)  # noqa: E731
        self.examples = gluon.data.ArrayDataset(images, y).transform_first(transform)

    def forward(self, X):
        return super().forward(X.reshape(len(X), -1))

    def epoch(self, order):
        sampler = gluon.data.BatchSampler(order.tolist(), self.batch_size, "keep")
        losses, correct = [], []
        for X, y in gluon.data.DataLoader(self.examples, batch_sampler=sampler, num_workers=0):
            X, y = X.as_in_ctx(self.W.ctx), y.as_in_ctx(self.W.ctx)
            with autograd.record():
                y_hat = self.forward(X)
                loss = self.loss(y_hat, y)
            loss.backward()
            self.update()
            losses.append(float(loss))
            correct.append(y_hat.argmax(axis=1).astype("int32") == y)
        mxnet.nd.waitall()
        return np.array(losses).asnumpy(), np.concatenate(correct).asnumpy()


LOOPS = {
    "idiomatic scratch": Scratch,
    "idiomatic concise": Concise,
    "tuned scratch": Probabilities,
    "tuned concise": Logits,
    "tuned by hand": ByHand,
    "loader": Loader,
}
