"""Trainer: the loop over epochs, once for every framework.

Epochs, order, validation, history and callbacks live here. What a framework does best lives in
its own folder: one epoch, one evaluation, the stages of one step. :mod:`eager_trainer` has these
for frameworks that compute eagerly.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.classifier import Classifier, Parameters
from framework_parity.common.training.dropout import Masks
from framework_parity.common.training.fit_display import Progress, shown
from framework_parity.common.training.forward_checks import Activation, Pass, unequal
from framework_parity.common.training.optimizer_state import by_hand, named
from framework_parity.common.training.progress_board import ProgressBoard
from framework_parity.common.training.record import HISTORY

EVALUATION_EXAMPLES = 10_000
"""Examples per call of ``evaluate``: the whole Fashion-MNIST validation set at once."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]


class EpochMetrics(NamedTuple):
    """What one epoch leaves: the mean loss and the accuracy of every step, as float64 arrays.

    Both are measured on the batch before its update, shape ``(num_batches,)``.
    """

    loss: Floats
    accuracy: Floats


def whole(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Targets as a framework held them: classes as int32, whatever it counts with."""
    return y if y.dtype.kind == "f" else y.astype(np.int32)


def per_example(values: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """One number per example: the mean of what belongs to it, of the same type.

    A loss, or an accuracy, of a sequence or of several numbers may be given one by one.

    Args:
        values: shape ``(n,)``, or with as many numbers for each example behind one another, in
            whatever shape.
        n: how many examples there are.

    Raises:
        ParityError: if they have not as many each.
    """
    if values.shape == (n,):
        return values
    if not values.size or values.size % n:
        raise ParityError(
            "averaged=False",
            f"a number for each of {n} examples, or as many for each",
            f"shape {values.shape}",
            "average over nothing but what is inside an example",
        )
    return np.asarray(values.reshape(n, -1).mean(axis=1, dtype=np.float64), values.dtype)


def batch_means(values: npt.NDArray[Any], batch_size: int) -> Floats:
    """Means of consecutive batches, the last of which may be short.

    Args:
        values: one number per example, shape ``(n,)``.
        batch_size: examples per batch.

    Returns:
        float64, shape ``(ceil(n / batch_size),)``.
    """
    starts = np.arange(0, len(values), batch_size)
    sums = np.add.reduceat(values.astype(np.float64), starts)
    return sums / batch_sizes(len(values), batch_size)


def batch_sizes(num_examples: int, batch_size: int) -> Indices:
    """How many examples each batch has: the last one may be short."""
    starts = np.arange(0, num_examples, batch_size)
    return np.diff([*starts, num_examples])


Callback = Callable[["Trainer", Progress], None]


class Trainer(ABC):
    """Trains any :class:`Classifier` of its framework with minibatch gradient descent.

    Args:
        max_epochs: passes over the training data.
        callbacks: called with the trainer and a :class:`Progress` as training goes on.
        pauses: numbers of updates after which training pauses for the callbacks (kind
            ``segment``), so that they can read the parameters there.
        board: whether a fit shows how far it is: as curves in a notebook, as a bar in a
            terminal, nowhere else. A :class:`ProgressBoard` of one's own is drawn on instead.

    Attributes:
        history: per epoch ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy``,
            each the mean over examples (not over batches).
        step_loss: the mean loss of every step so far, float64, shape ``(num_steps,)``.
        step_accuracy: likewise the accuracy.
        seconds: where the time went: ``compile``, ``fit``, ``evaluate``.
        optim: the optimizer in use.
        end_epoch: called after the last step of an epoch: schedules that go on then.
        mixed_formats: those in which forward and backward passes can be computed while parameters
            and optimizer are float32.
        watched: what every batch is projected on, shape ``(num_inputs,)``; None: nothing is.
        fed: of each :meth:`fit_epoch` that was watched the projections of its examples, their
            targets, and how many examples each step had.
        masks: of dropout, see :meth:`dropout_from`; None: the framework draws them.
        placed: the rows that :meth:`place` was given; None: all.
        has_modes: whether the model was seen to compute otherwise in training than in evaluation.
    """

    mixed_formats: Sequence[str] = ()

    def __init__(
        self,
        max_epochs: int = 10,
        callbacks: Iterable[Callback] = (),
        pauses: Iterable[int] = (),
        board: bool | ProgressBoard = True,
    ) -> None:
        self.max_epochs = max_epochs
        self.board = board
        self.callbacks = list(callbacks)
        self.pauses = sorted(set(pauses))
        self._displays: Sequence[Callback] = ()
        self.model: Any = None
        self.data: Any = None
        self.optim: Any = None
        self.X: Any = None
        self.watched: npt.NDArray[Any] | None = None
        self.end_epoch: Callable[[], object] = lambda: None
        self.masks: Masks | None = None
        self.placed: Indices | None = None
        self.has_modes = False
        self.dtype, self.mixed, self.loss_scale = "float32", "", 1.0
        self.batch_size = self.num_train_batches = self.num_val_batches = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}
        self.step_loss: Floats = np.empty(0)
        self.step_accuracy: Floats = np.empty(0)
        self.seconds = {"compile": 0.0, "fit": 0.0, "evaluate": 0.0}
        self.fed: list[tuple[Floats, npt.NDArray[Any], Indices]] = []
        self.epoch = self.step = 0

    # The framework's half

    @staticmethod
    def use_device(device: str) -> None:
        """Compute on this kind of device from now on; called once, before all else.

        A framework that can use a GPU overrides this, puts its tensors there and reads them back.
        There it computes something at once: what a GPU takes to start belongs to the import.

        Args:
            device: one of :data:`device.DEVICES`.

        Raises:
            ParityError: if the framework has no such device.
        """
        if device != DEVICES[0]:
            raise ParityError(
                "device",
                f"{DEVICES[0]}, all that this backend can use",
                device,
                "leave the backend or --device away",
            )

    @staticmethod
    def layers_of(dtype: str) -> AbstractContextManager[Any]:
        """A block in which layers that are made compute in a floating-point type.

        Args:
            dtype: its name.
        """
        return contextlib.nullcontext()

    def compute_in(self, mixed: str, loss_scale: float) -> None:
        """From now on compute forward and backward passes in another format: mixed precision.

        Args:
            mixed: one of :attr:`mixed_formats`.
            loss_scale: the loss's gradient is multiplied by it in this format.

        Raises:
            ParityError: if the backend does not.
        """
        if mixed not in self.mixed_formats:
            raise ParityError(
                "dtype",
                "float32 or float64, all that this backend trains in",
                mixed,
                "leave the backend or --dtype away",
            )
        self.mixed, self.loss_scale = mixed, loss_scale

    @abstractmethod
    def prepare(self, model: Classifier, data: DataModule, dtype: str) -> None:
        """Put model and data into the framework, once, and configure the optimizer.

        Sets ``self.model``, ``self.data`` and ``self.optim``. A lazy model is built.

        Args:
            model: the classifier that is trained.
            data: its examples; :meth:`DataModule.examples` gives them whole and scaled.
            dtype: floating-point type of the examples and the parameters.
        """

    @abstractmethod
    def place(self, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
        """Make these the training examples, in the framework's tensors.

        Args:
            X: scaled, writable and aligned; the tensors may share its memory.
            y: their targets: classes, int32, or numbers.
        """

    def compile(self) -> None:  # noqa: B027  # a hook, not a duty
        """Compile what :meth:`fit_epoch` and :meth:`evaluate` run; parameters stay as they are.

        Frameworks that compile nothing have nothing to do.
        """

    @abstractmethod
    def fit_epoch(self, order: Indices) -> EpochMetrics:
        """Train on the examples in this order, one update per batch.

        Args:
            order: rows of the training data, int32; any number of full batches, then at most
                one short one.
        """

    @abstractmethod
    def evaluate(self, X: Any, y: Any) -> tuple[float, float]:
        """Mean loss and accuracy of the model on examples.

        Args:
            X: features in the framework's tensors, shape ``(n, num_inputs)``.
            y: targets, shape ``(n, …)``.
        """

    def optimizer_state(self) -> Parameters:
        """What the optimizer remembers: see :mod:`optimizer_state`.

        What no step has made yet may be missing.

        Raises:
            UnknownOptimizerError: if there is no telling.
        """
        return named(by_hand(self.optim), dict)

    def optimizer_arguments(self, num_steps: int) -> Mapping[str, Any] | None:
        """What the optimizer is: see :data:`optimizer_state.ARGUMENTS`; None if it is another.

        Args:
            num_steps: of how many steps a schedule is to say the rate.
        """
        return None

    @staticmethod
    def dropout_from(masks: Masks) -> AbstractContextManager[Any]:
        """Inside the block the framework's layers of dropout take their masks from ``masks``.

        Where a framework has none that can, they go on drawing.
        """
        return nullcontext()

    def buffers(self) -> Parameters:
        """Copies of what the model keeps besides its parameters, running statistics say.

        By names as of :mod:`buffers`, in the order of the model's making.
        """
        return {}

    def set_buffers(self, buffers: Mapping[str, npt.NDArray[Any]]) -> None:  # noqa: B027
        """Set some of the buffers.

        Args:
            buffers: arrays as :meth:`buffers` gives them.
        """

    @abstractmethod
    def probe(
        self,
        parameters: Parameters,
        X: npt.NDArray[Any],
        y: npt.NDArray[Any],
        state: Parameters | None = None,
        step: int = 0,
        buffers: Parameters | None = None,
        rows: Indices | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """The arrays of every stage of one step from given parameters, by training's own code.

        The model and its optimizer are left as they were before the call.

        Args:
            parameters: as of :meth:`Classifier.get_parameters`.
            X: one batch, scaled, shape ``(n, num_inputs)``.
            y: its targets, shape ``(n, …)``: classes, int32, or numbers.
            state: as of :meth:`optimizer_state`, what a new optimizer remembers: if empty, nothing.
            step: which one it is, counted from 0: a schedule has the rate of that.
            buffers: some of :meth:`buffers`; others are as they are.
            rows: the batch's in the training data: dropout's masks are of these.

        Returns:
            ``data/X``, ``data/y`` as the framework holds them; ``forward/y_hat``;
            ``example_loss``, shape ``(n,)``; ``loss``, a scalar; ``gradient/NAME`` and
            ``update/NAME`` (the parameter after the step) for each parameter; ``metric/accuracy``;
            if a ``state`` is given, ``optimizer/…``, that after the step; likewise ``buffer/…``.
        """

    @abstractmethod
    def shuffle(self, num_examples: int) -> Indices:
        """A random order, drawn by the framework's own generator.

        Args:
            num_examples: how many rows there are.

        Returns:
            Each row once, int32 or int64, shape ``(num_examples,)``.
        """

    @abstractmethod
    def predict(self, X: Any) -> npt.NDArray[Any]:
        """What ``forward`` gives for examples, as NumPy, shape ``(n, num_outputs)``.

        Args:
            X: features in the framework's tensors, shape ``(n, num_inputs)``.
        """

    @abstractmethod
    def training_batch(self, rows: Indices) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """A batch as :meth:`fit_epoch` gathers it, read back from the framework.

        Args:
            rows: of what :meth:`place` was given, int32, shape ``(n,)``.

        Returns:
            Features, shape ``(n, num_inputs)``, and targets, shape ``(n, …)``: classes int32.
        """

    @abstractmethod
    def validation_batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """The validation data in the framework's tensors, ``size`` examples at a time.

        Args:
            size: examples per batch; the last one may be short.
        """

    @abstractmethod
    def watched_pass(self, model: Any, X: Any, training: bool) -> Pass:
        """A forward pass: what it gave, what its layers gave, and what it moved.

        Args:
            model: the one that is trained, or a spare one.
            X: examples in the framework's tensors.
            training: as in training; else as in evaluation.
        """

    @abstractmethod
    def activations(
        self,
        parameters: Parameters,
        X: npt.NDArray[Any],
        step: int = 0,
        buffers: Parameters | None = None,
        rows: Indices | None = None,
        training: bool = True,
    ) -> dict[str, Activation]:
        """What layers give on the way from given parameters, and what ``forward`` names.

        The model is left as it was. Arguments as of :meth:`probe` and :meth:`watched_pass`.

        Returns:
            By the name of the layer, in the order in which they are computed; of evaluation also
            ``y_hat``, what ``forward`` gives: a probe has that of training.
        """

    # The shared half

    def hold(self, parameters: Parameters) -> None:
        """Go on from other parameters: what is evaluated and predicted from now on is theirs.

        Args:
            parameters: as of :meth:`Classifier.get_parameters`.
        """
        kept = self.model.get_parameters()
        self.model.set_parameters({n: parameters[n].astype(kept[n].dtype) for n in kept})

    def keep_fed(self, X: Any, y: Any, sizes: Sequence[int]) -> None:
        """Keep what :meth:`fit_epoch` was fed, from the very tensors that it trained on.

        A backend that does not call it has nothing on record of it.

        Args:
            X: each example's ``X @ watched``, in NumPy, shape ``(n,)``.
            y: their targets, shape ``(n, …)``.
            sizes: examples of each step; their sum is n.
        """
        kept = np.asarray(X, np.float64), whole(np.asarray(y)), np.asarray(sizes, np.int32)
        self.fed.append(kept)

    def unequal(self) -> Sequence[str]:
        """What the model does that a comparison cannot hold equal: see :mod:`forward_checks`."""
        X, kept = self.watched_examples(), self.buffers()

        def run(training: bool) -> Pass:
            with self.masked(0, np.arange(len(X))):
                found = self.watched_pass(self.model, X, training)
            found = found._replace(buffers=self.buffers())
            self.set_buffers(kept)
            return found

        found, differ = unequal(run)
        self.has_modes |= differ
        return found

    def masked(self, step: int, rows: Any) -> AbstractContextManager[None]:
        """Inside the block dropout has the masks of a step, if it has any.

        Args:
            step: its number.
            rows: of the whole training data, shape ``(n,)``.
        """
        return nullcontext() if self.masks is None else self.masks.of(step, rows)

    def rows_of(self, order: Indices) -> Indices:
        """Which rows of the whole training data are those of what :meth:`place` was given.

        Args:
            order: rows of the latter, shape ``(n,)``.
        """
        return order if self.placed is None else self.placed[order]

    def watched_examples(self) -> Any:
        """The examples of a watched pass: two at least, of which there is a variance."""
        return self.X[: max(self.batch_size, 2)]

    def fit(
        self,
        model: Classifier,
        data: DataModule,
        orders: Sequence[Indices] | None = None,
        parameters: Parameters | None = None,
        dtype: str = "float32",
    ) -> None:
        """Train the model on the data.

        Args:
            model: any classifier of the trainer's framework.
            data: the examples and the batch size.
            orders: for each epoch the rows of the training data in the order of their use;
                drawn by :meth:`shuffle` if not given.
            parameters: initial parameters; the model's own if not given.
            dtype: floating-point type of the examples.
        """
        self._begin_anew()
        self.batch_size = data.batch_size
        self.num_train_batches = -(-data.num_train // data.batch_size)
        self.num_val_batches = -(-data.num_val // data.batch_size)
        if parameters is not None:
            model.set_parameters(parameters)
        self.dtype = dtype
        object.__setattr__(model, "learns_numbers", not data.has_classes)  # Flax's are frozen
        self.prepare(model, data, dtype)
        with shown(self.board, self.max_epochs) as self._displays:
            self._tell("compiling")
            with self._clock("compile"):
                self.compile()
            self._fit_epochs(orders)

    def _fit_epochs(self, orders: Sequence[Indices] | None) -> None:
        for epoch in range(self.max_epochs):
            self.epoch = epoch
            if orders is None:
                order = np.asarray(self.shuffle(self.data.num_train), dtype=np.int32)
            else:
                order = np.asarray(orders[epoch])
            self._fit_segments(order)
            loss, accuracy = self.evaluate_accuracy_and_loss()
            self.history["val_loss"].append(loss)
            self.history["val_accuracy"].append(accuracy)
            self._tell("epoch", epoch=epoch + 1)

    def training_examples(self, dtype: str) -> tuple[Any, Any]:
        """What :meth:`prepare` places: all training examples, or room for a chunk of them.

        Args:
            dtype: floating-point type of the features.
        """
        self.dtype = dtype
        if self.data.is_large:
            X, y, _ = next(self.data.chunks(np.arange(1), dtype))
        else:
            X, y = self.data.examples(train=True, dtype=dtype)
        return X, y

    def batch(self, rows: Indices) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """What :meth:`training_batch` gives, wherever the training data are.

        Args:
            rows: of the whole training data, int32, shape ``(n,)``.
        """
        if not self.data.is_large:
            return self.training_batch(rows)
        X, y, count = next(self.data.chunks(rows, self.dtype))
        self.place(X, y)
        return self.training_batch(np.arange(count, dtype=np.int32))

    def _fit_order(self, order: Indices) -> EpochMetrics:
        """One segment of an epoch; chunk by chunk where the examples are too many."""
        if not self.data.is_large:
            return self.fit_epoch(order)
        metrics, done = [], 0
        for X, y, count in self.data.chunks(order, self.dtype):
            self.place(X, y)
            self.placed = np.asarray(order[done : done + count])
            metrics.append(self.fit_epoch(np.arange(count, dtype=np.int32)))
            done += count
            self.step += len(metrics[-1].loss)
        return EpochMetrics(*(np.concatenate(parts) for parts in zip(*metrics, strict=True)))

    def _fit_segments(self, order: Indices) -> None:
        """One epoch, interrupted where a callback wants to look."""
        size = self.batch_size
        first = self.step
        num_steps = -(-len(order) // size)
        stops = [step - first for step in self.pauses if first < step < first + num_steps]
        segments = []
        for start, stop in zip([0, *stops], [*stops, num_steps], strict=True):
            with self._clock("fit"):
                segments.append(self._fit_order(order[start * size : stop * size]))
            self.step = first + stop
            if stop == num_steps:
                self.end_epoch()
            if stop < num_steps or self.step in self.pauses:
                self._tell("segment")
        loss, accuracy = (np.concatenate(parts) for parts in zip(*segments, strict=True))
        self.step_loss = np.concatenate([self.step_loss, loss])
        self.step_accuracy = np.concatenate([self.step_accuracy, accuracy])
        weights = batch_sizes(len(order), size)
        self.history["train_loss"].append(float(np.average(loss, weights=weights)))
        self.history["train_accuracy"].append(float(np.average(accuracy, weights=weights)))

    def evaluate_accuracy_and_loss(self) -> tuple[float, float]:
        """Mean loss and accuracy over all validation examples."""
        with self._clock("evaluate"):
            sums = np.zeros(3)
            for X, y in self.validation_batches(EVALUATION_EXAMPLES):
                sums += len(y) * np.array([*self.evaluate(X, y), 1.0])
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])

    def _tell(self, kind: str, epoch: int | None = None) -> None:
        where = Progress(kind, self.epoch if epoch is None else epoch, self.step)
        for callback in (*self.callbacks, *self._displays):
            callback(self, where)

    @contextlib.contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        """Adds the seconds inside a ``with`` block to ``self.seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start
