"""Loops by hand in PyTorch, to measure the trainer against: as users write them, and tuned.

Each one trains on the whole data, given as ``(X, y)`` in NumPy: ``epoch(order)`` returns the loss
of every step and whether each example was classified rightly, ``get_parameters()`` what came of it.
The idiomatic ones make the same public calls as the trainer. The tuned ones do what no trainer may.
"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from framework_parity.backends.torch.device import in_use

RUN_BACKWARD = torch.autograd.Variable._execution_engine.run_backward
"""``torch.autograd.grad`` without its preparations in Python."""


class Concise:
    """A linear layer, cross-entropy and ``torch.optim.SGD``."""

    def __init__(self, X, y, parameters, lr, batch_size):
        device = in_use()
        self.X = torch.as_tensor(X, device=device)
        self.y = torch.as_tensor(y.astype(np.int64), device=device)
        self.batch_size, self.batch = batch_size, self.X.new_empty(batch_size, *X.shape[1:])
        self.net = torch.nn.Linear(*parameters["W"].shape, device=device, dtype=self.X.dtype)
        with torch.no_grad():
            self.net.weight.copy_(torch.as_tensor(parameters["W"].T.copy()))
            self.net.bias.copy_(torch.as_tensor(parameters["b"]))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=lr)

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y):
        return functional.cross_entropy(y_hat, y)

    def update(self):
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()

    def epoch(self, order):
        order = torch.as_tensor(order, device=self.y.device)
        y = self.y.index_select(0, order)
        losses, scores = [], []
        batches = zip(order.split(self.batch_size), y.split(self.batch_size), strict=True)
        for rows, y_batch in batches:
            X = torch.index_select(self.X, 0, rows, out=self.batch[: len(rows)])
            y_hat = self.forward(X)
            loss = self.loss(y_hat, y_batch)
            self.zero_grad()
            loss.backward()
            self.update()
            losses.append(loss.detach())
            scores.append(y_hat.detach())
        correct = torch.cat(scores).argmax(1) == y
        return torch.stack(losses).cpu().numpy(), correct.cpu().numpy()

    def get_parameters(self):
        W, b = self.net.weight.detach(), self.net.bias.detach()
        return {"W": W.cpu().numpy().T, "b": b.cpu().numpy()}


class Scratch(Concise):
    """Softmax, loss and update written out."""

    def __init__(self, X, y, parameters, lr, batch_size):
        super().__init__(X, y, parameters, lr, batch_size)
        device = in_use()
        self.W = torch.tensor(parameters["W"], requires_grad=True, device=device)
        self.b = torch.tensor(parameters["b"], requires_grad=True, device=device)
        self.lr = lr

    def forward(self, X):
        exp = torch.exp(torch.matmul(X, self.W) + self.b)
        return exp / exp.sum(1, keepdim=True)

    def loss(self, y_hat, y):
        return -torch.log(y_hat[torch.arange(len(y_hat), device=y.device), y]).mean()

    @torch.no_grad()
    def update(self):
        for param in (self.W, self.b):
            param -= self.lr * param.grad

    def zero_grad(self):
        self.W.grad = self.b.grad = None

    def get_parameters(self):
        return {"W": self.W.detach().cpu().numpy(), "b": self.b.detach().cpu().numpy()}


class Logits:
    """Linear layer, cross-entropy and one fused update; no module, no optimizer, no ``grad``."""

    def __init__(self, X, y, parameters, lr, batch_size):
        device = in_use()
        self.X = torch.as_tensor(X, device=device)
        self.y = torch.as_tensor(y.astype(np.int64), device=device)
        self.W = torch.tensor(parameters["W"].T.copy(), requires_grad=True, device=device)
        self.b = torch.tensor(parameters["b"], requires_grad=True, device=device)
        self.lr, self.batch_size = lr, batch_size
        self.batch = self.X.new_empty(batch_size, *X.shape[1:])

    def gather(self, rows):
        """A batch, always in the same memory: new memory costs a fault for every page of it."""
        return torch.index_select(self.X, 0, rows, out=self.batch[: len(rows)])

    def forward(self, X):
        return functional.linear(X, self.W, self.b)

    def loss(self, y_hat, y):
        return functional.cross_entropy(y_hat, y)

    def epoch(self, order):
        order, one = torch.as_tensor(order, device=self.y.device), (self.W.new_ones(()),)
        y, leaves = self.y.index_select(0, order), (self.W, self.b)
        losses, scores = [], []
        batches = zip(order.split(self.batch_size), y.split(self.batch_size), strict=True)
        for rows, y_batch in batches:
            y_hat = self.forward(self.gather(rows))
            loss = self.loss(y_hat, y_batch)
            gradients = RUN_BACKWARD(
                (loss,), one, False, False, leaves, allow_unreachable=True, accumulate_grad=False
            )
            with torch.no_grad():
                torch._foreach_add_(leaves, gradients, alpha=-self.lr)
            losses.append(loss.detach())
            scores.append(y_hat.detach())
        correct = torch.cat(scores).argmax(1) == y
        return torch.stack(losses).cpu().numpy(), correct.cpu().numpy()

    def get_parameters(self):
        return {"W": self.W.detach().cpu().numpy().T, "b": self.b.detach().cpu().numpy()}


class Probabilities(Logits):
    """Softmax and loss written out; the weights are kept by column, for a fast gradient."""

    def __init__(self, X, y, parameters, lr, batch_size):
        super().__init__(X, y, parameters, lr, batch_size)
        self.rows = torch.arange(batch_size, device=self.y.device)

    def forward(self, X):
        exp = torch.exp(torch.addmm(self.b, X, self.W.T))
        return exp / exp.sum(1, keepdim=True)

    def loss(self, y_hat, y):
        return -torch.log(y_hat[self.rows[: len(y)], y]).mean()


class Transposed(Logits):
    """Logits as (W Xᵀ)ᵀ: this PyTorch has a faster product for that shape on some processors."""

    def forward(self, X):
        return torch.mm(self.W, X.T).T + self.b


class ByHand(Logits):
    """The gradient derived by hand: no autograd at all, and nothing that a model could change."""

    @torch.inference_mode()
    def epoch(self, order):
        order, size = torch.as_tensor(order, device=self.y.device), self.batch_size
        W, b = self.W.detach(), self.b.detach()[:, None]
        y = self.y.index_select(0, order)
        one_hot = functional.one_hot(y, len(W)).to(W.dtype).T.contiguous()
        logs = torch.empty_like(one_hot)
        for start in range(0, len(order), size):
            X = self.gather(order[start : start + size])
            log_p = torch.addmm(b, W, X.T).log_softmax(0)
            logs[:, start : start + size] = log_p
            error = log_p.exp_().sub_(one_hot[:, start : start + size])
            rate = self.lr / len(X)
            b.sub_(error.sum(1, keepdim=True), alpha=rate)
            W.addmm_(error, X, alpha=-rate)
        losses = -(logs * one_hot).sum(0)
        losses = torch.stack([part.mean() for part in losses.split(size)])
        correct = logs.T.contiguous().argmax(1) == y
        return losses.cpu().numpy(), correct.cpu().numpy()


class Examples(torch.utils.data.Dataset):
    """Images made into tensors one by one, as ``torchvision``'s FashionMNIST does it.

    The steps of its ``__getitem__``, of ``Resize`` (nothing to do) and of ``ToTensor``, unwrapped.
    """

    def __init__(self, images, targets, divisor):
        self.images, self.targets, self.divisor = images, targets, divisor

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image, target = self.images[index], int(self.targets[index])
        return self.to_tensor(Image.fromarray(image)), target

    def to_tensor(self, image):
        tensor = torch.from_numpy(np.array(image, copy=True))
        tensor = tensor.view(image.size[1], image.size[0], len(image.getbands()))
        tensor = tensor.permute((2, 0, 1)).contiguous()
        return tensor.to(dtype=torch.get_default_dtype()).div(self.divisor)


class Loader(Logits):
    """The book's way: a data loader converts examples one by one, and each batch is one step."""

    def __init__(self, X, y, parameters, lr, batch_size, image_shape, divisor):
        super().__init__(X, y, parameters, lr, batch_size)
        self.examples = Examples(X.reshape(len(X), *image_shape), y, divisor)
        layer = torch.nn.Linear(*parameters["W"].shape)
        layer.weight, layer.bias = (torch.nn.Parameter(t.detach()) for t in (self.W, self.b))
        self.net = torch.nn.Sequential(torch.nn.Flatten(), layer)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=lr)

    def epoch(self, order):
        loader = torch.utils.data.DataLoader(
            self.examples, self.batch_size, sampler=order.tolist(), num_workers=0
        )
        losses, correct = [], []
        for X, y in loader:
            X, y = X.to(self.y.device), y.to(self.y.device)
            y_hat = self.net(X)
            loss = self.loss(y_hat, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.detach()))
            correct.append((y_hat.argmax(1) == y).cpu().numpy())
        return np.array(losses), np.concatenate(correct)


LOOPS = {
    "idiomatic scratch": Scratch,
    "idiomatic concise": Concise,
    "tuned scratch": Probabilities,
    "tuned concise": Logits,
    "tuned transposed": Transposed,
    "tuned by hand": ByHand,
    "loader": Loader,
}
