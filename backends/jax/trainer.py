"""JAX's half of Trainer."""

import functools
import inspect
import os

import jax
import numpy as np
from flax import linen as nn
from flax.errors import InvalidRngError, JaxTransformError
from flax.traverse_util import flatten_dict
from jax import lax
from jax import numpy as jnp

from framework_parity.backends.jax.classifier import get_key
from framework_parity.backends.jax.optimizer import arguments, memory, remember
from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.forward_checks import Pass
from framework_parity.common.training.optimizer_state import by_kind, named
from framework_parity.common.training.trainer import EVALUATION_EXAMPLES, EpochMetrics
from framework_parity.common.training.trainer import Trainer as AbstractTrainer

try:
    from jax import enable_x64
except ImportError:  # before 0.8
    from jax.experimental import enable_x64


def _in_dtype(method):
    """Give a method of the trainer 64-bit types if its fit is in float64, and only then."""

    @functools.wraps(method)
    def wrapped(self, *args, **options):
        with enable_x64(self.dtype == "float64"):
            return method(self, *args, **options)

    return wrapped


class Trainer(AbstractTrainer):
    """Trains a Flax :class:`Classifier`: all full batches of a segment in one compiled loop.

    Attributes:
        state: Flax's train state; ``state.params`` are the parameters, a tree.
    """

    @staticmethod
    def use_device(device):
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
            return
        # JAX would take three quarters of the GPU's memory, whoever else computes there.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if jax.default_backend() != "gpu":
            raise no_gpu("JAX", jax.__version__, "jax")
        one = jnp.ones((1, 1))
        (one @ one).block_until_ready()

    def prepare(self, model, data, dtype):
        self.model, self.data, self.dtype = model, data, dtype
        self._place()
        # Jitted anew for each fit: a cell may have given the class another method since the last.
        self._steps = jax.jit(functools.partial(_steps, model))
        self._step = jax.jit(functools.partial(_gather_and_step, model))
        self._gather = jax.jit(_gather)
        self._evaluate = jax.jit(functools.partial(_evaluate, model))
        self._predict = jax.jit(functools.partial(_predict, model))
        self._probe = jax.jit(functools.partial(_probe, model))
        self._activations = jax.jit(functools.partial(_activations, model))

    @_in_dtype
    def place(self, X, y):
        self.X, self.y = jax.device_put((X, y))  # JAX shares the memory of aligned arrays

    @_in_dtype
    def _place(self):
        self.place(*self.training_examples(self.dtype))
        self.X_val, self.y_val = jax.device_put(self.data.examples(train=False, dtype=self.dtype))
        params = self.model.held
        if params is None:
            params = jax.jit(self.model.init)(get_key(), self.X[:1])["params"]
        self.state = self.model.train_state(self._put_tree(params))
        self.optim = self.state.tx
        self.model.hold(self.state.params)

    def _put_tree(self, params):
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, self.dtype)), params)

    @_in_dtype
    def compile(self):
        # JAX compiles at the first call, and a call changes nothing: its results are dropped.
        full, short = divmod(self.data.num_train, self.batch_size)
        self._capacity = max(min(full, -(-len(self.X) // self.batch_size)), 1)
        results = []
        if full:
            batches = self._pad(np.empty(0, np.int32))
            results.append(self._steps(self.state, self.X, self.y, batches, 1, self.watched))
        if short:
            rows = np.zeros(short, np.int32)
            results.append(self._step(self.state, self.X, self.y, rows, self.watched))
        shapes = {len(y): (X, y) for X, y in self.validation_batches(EVALUATION_EXAMPLES)}
        results += [self._evaluate(self.state, X, y) for X, y in shapes.values()]
        jax.block_until_ready(results)

    @_in_dtype
    def fit_epoch(self, order):
        size = self.batch_size
        stop = len(order) - len(order) % size
        metrics = []
        for start in range(0, stop, self._capacity * size):
            rows = order[start : min(start + self._capacity * size, stop)]
            count = len(rows) // size
            given = self.state, self.X, self.y, self._pad(rows), count, self.watched
            self.state, values, fed = self._steps(*given)
            metrics.append(np.asarray(values)[:count])
            self._keep(fed, count)
        if stop < len(order):
            rows = np.asarray(order[stop:], np.int32)
            given = self.state, self.X, self.y, rows, self.watched
            self.state, values, fed = self._step(*given)
            metrics.append(np.asarray(values)[None])
            self._keep(fed and tuple(array[None] for array in fed), 1)
        self.model.hold(self.state.params)
        return EpochMetrics(*np.concatenate(metrics).astype(np.float64).T)

    def _keep(self, fed, count):
        if fed is not None:
            X, y = (np.asarray(array)[:count] for array in fed)
            self.keep_fed(X.ravel(), y.reshape(-1, *y.shape[2:]), [X.shape[1]] * count)

    def _pad(self, rows):
        """Rows as batches, always as many, so that one program runs a segment of any length."""
        batches = np.zeros((self._capacity, self.batch_size), np.int32)
        batches.reshape(-1)[: len(rows)] = rows
        return batches

    def shuffle(self, num_examples):
        return np.asarray(jax.random.permutation(get_key(), num_examples))

    @_in_dtype
    def training_batch(self, rows):
        X, y = self._gather(self.X, self.y, np.asarray(rows))
        return np.asarray(X), np.asarray(y)

    @_in_dtype
    def validation_batches(self, size):
        starts = range(0, len(self.X_val), size)
        return iter([(self.X_val[i : i + size], self.y_val[i : i + size]) for i in starts])

    @_in_dtype
    def evaluate(self, X, y):
        loss, accuracy = self._evaluate(self.state, X, y)
        return float(loss), float(accuracy)

    @_in_dtype
    def predict(self, X):
        return np.asarray(self._predict(self.state, X))

    @_in_dtype
    def unequal(self):
        init = functools.partial(self.model.init, jax.random.PRNGKey(0))
        held = flatten_dict(dict(jax.eval_shape(init, self.watched_examples())), sep="/")
        if states := [name for name in held if not name.startswith("params/")]:
            return [f"{', '.join(states)} beside the parameters"]
        try:
            return list(super().unequal())
        except InvalidRngError as error:
            return [f"random numbers in forward: {str(error).partition(' (http')[0]}"]

    def watched_pass(self, model, X, training):
        # Not compiled, which would draw once and for all.
        return Pass(np.asarray(model.apply({"params": self.state.params}, X)))

    @_in_dtype
    def activations(self, parameters, X):
        params = self._put_tree(self.model.build_tree(parameters))
        found = self._activations(params, jax.device_put(X)).items()
        calls = [(*reversed(key.split(" ", 2)[1:]), *map(np.asarray, of)) for key, of in found]
        return Pass(np.empty(0), calls).activations()

    @_in_dtype
    def optimizer_arguments(self, num_steps):
        return arguments(self.optim, self.model, self.state.params, num_steps)

    def optimizer_state(self):
        return named(memory(self.state.opt_state), self.model.name_leaves)

    @_in_dtype
    def probe(self, parameters, X, y, state=None, step=0):
        params = self._put_tree(self.model.build_tree(parameters))
        opt_state = self.optim.init(params)
        if state:
            kept = by_kind(state, lambda arrays: self._put_tree(self.model.build_tree(arrays)))
            opt_state = remember(opt_state, kept)
        before = self.state.replace(step=np.int32(step), params=params, opt_state=opt_state)
        arrays, gradients, after = self._probe(before, *jax.device_put((X, y)))
        found = {name: np.asarray(value) for name, value in arrays.items()}
        after_step = {"gradient": self.model.name_leaves(gradients)}
        after_step["update"] = self.model.name_leaves(after.params)
        if state is not None:
            after_step["optimizer"] = named(memory(after.opt_state), self.model.name_leaves)
        for kind, values in after_step.items():
            found |= {f"{kind}/{name}": value for name, value in values.items()}
        return found


# What is compiled. Data are arguments: what a function closes over becomes part of its program.


def _steps(model, state, X, y, batches, count, v):
    """Updates from the first ``count`` batches: the state; of each loss and accuracy, and what
    it was fed if there is a ``v`` to project it on."""

    def update(i, carry):
        state, metrics, kept = carry
        state, values, fed = _gather_and_step(model, state, X, y, batches[i], v)
        kept = jax.tree.map(lambda all_, one: all_.at[i].set(one), kept, fed)
        return state, metrics.at[i].set(values), kept

    metrics = jnp.zeros((len(batches), 2), X.dtype)
    kept = None
    if v is not None:
        kept = jnp.zeros(batches.shape, X.dtype), jnp.zeros(batches.shape + y.shape[1:], y.dtype)
    return lax.fori_loop(0, count, update, (state, metrics, kept))


def _gather_and_step(model, state, X, y, rows, v):
    X, y = _gather(X, y, rows)
    fed = None
    if v is not None:
        fed = jnp.dot(X, v, precision=lax.Precision.HIGHEST), y
    state, loss, accuracy, _ = _update(model, state, X, y)
    return state, jnp.array([loss, accuracy], X.dtype), fed


def _gather(X, y, rows):
    return X[rows], y[rows]


def _update(model, state, X, y):
    """The state after one step; the loss and the accuracy before it; the gradients."""
    value_and_grad = jax.value_and_grad(model.loss, has_aux=True)
    (loss, _), gradients = value_and_grad(state.params, (X,), y, state)
    # A second forward pass to read, not to run: XLA merges it with the loss's.
    accuracy = model.accuracy(state.params, (X,), y, state)
    return state.apply_gradients(grads=gradients), loss, accuracy, gradients


def _evaluate(model, state, X, y):
    loss, _ = model.loss(state.params, (X,), y, state)
    return loss, model.accuracy(state.params, (X,), y, state)


def _predict(model, state, X):
    return state.apply_fn({"params": state.params}, X)


def _probe(model, state, X, y):
    after, loss, accuracy, gradients = _update(model, state, X, y)
    arrays = {
        "data/X": X,
        "data/y": y,
        "forward/y_hat": _predict(model, state, X),
        "example_loss": _example_loss(model, state, X, y),
        "loss": loss,
        "metric/accuracy": accuracy,
    }
    return arrays, gradients, after


def _activations(model, params, X):
    """What layers are given and give, and what is named or sown; place and kind before its name."""
    model.noted.clear()
    nothing = jnp.zeros(0)

    def is_layer(module, method):
        return method == "__call__" and module.path and not isinstance(module, nn.Sequential)

    def is_rung(module, method):
        found = is_layer(module, method)
        if found:
            model.noted.append((".".join(module.path), type(module).__name__))
        return found

    def note_given(call, arguments, options, context):
        if is_layer(context.module, context.method_name):
            arrays = [X for X in arguments[:1] if isinstance(X, jax.Array)]
            context.module.sow("given", "X", [*arrays, nothing][0])
        return call(*arguments, **options)

    try:
        with nn.intercept_methods(note_given):
            _, held = model.apply(
                {"params": params},
                X,
                capture_intermediates=is_rung,
                mutable=["intermediates", "given"],
            )
    except JaxTransformError:  # layers inside a transformation that knows none of them
        return {}
    given = flatten_dict(held.get("given", {}), sep=".")
    given = {name.removesuffix(".X"): iter(values) for name, values in given.items()}
    held = flatten_dict(held.get("intermediates", {}), sep=".")
    held = {
        name.removesuffix(".__call__"): iter(values if isinstance(values, tuple) else (values,))
        for name, values in held.items()
    }
    calls = [
        (name, kind, next(given.get(name, iter(())), nothing), _first(next(held[name], None)))
        for name, kind in model.noted
        if name in held
    ]
    calls += [(name, "", nothing, value) for name, values in held.items() for value in values]
    return {
        f"{i:06} {kind} {name.removesuffix('()')}": (X, value)
        for i, (name, kind, X, value) in enumerate(calls)
        if isinstance(value, jax.Array)
    }


def _first(output):
    """An output without what stands behind it, states or weights of an attention say."""
    return output[0] if isinstance(output, tuple) and output else output


def _example_loss(model, state, X, y):
    """The loss of each example; the book's from-scratch loss gives means only, here of one."""
    if "averaged" in inspect.signature(model.loss).parameters:
        return model.loss(state.params, (X,), y, state, averaged=False)[0]
    return jax.vmap(lambda X, y: model.loss(state.params, (X[None],), y[None], state)[0])(X, y)
