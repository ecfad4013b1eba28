"""JAX's half of Trainer."""

import functools
import inspect
import os

import jax
import numpy as np
from flax import linen as nn
from flax.errors import InvalidRngError, JaxTransformError
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jax import numpy as jnp

from framework_parity.backends.jax.classifier import get_key
from framework_parity.backends.jax.mixed_precision import mixed, rounded, widened
from framework_parity.backends.jax.optimizer import arguments, memory, remember
from framework_parity.common.core.device import no_gpu
from framework_parity.common.training.dropout import EVALUATION
from framework_parity.common.training.forward_checks import Activation, Pass
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

    mixed_formats = ("bfloat16", "float16")

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
        self._steps = jax.jit(functools.partial(_steps, self))
        self._step = jax.jit(functools.partial(_gather_and_step, self))
        self._gather = jax.jit(_gather)
        self._evaluate = jax.jit(functools.partial(_evaluate, self))
        self._predict = jax.jit(functools.partial(_predict, self))
        self._probe = jax.jit(functools.partial(_probe, self))
        self._activations = jax.jit(functools.partial(_activations, self), static_argnums=3)

    @_in_dtype
    def place(self, X, y):
        self.X, self.y = jax.device_put((X, y))  # JAX shares the memory of aligned arrays

    @_in_dtype
    def _place(self):
        self.place(*self.training_examples(self.dtype))
        self.X_val, self.y_val = jax.device_put(self.data.examples(train=False, dtype=self.dtype))
        module, mode = self.model.told(False)
        init = functools.partial(module.init, **mode)
        params, collections = self.model.held, {}
        if params is None:
            params = jax.jit(init)(get_key(), self.X[:1])["params"]
        if [*jax.eval_shape(init, get_key(), self.X[:1])] != ["params"]:
            # Compiled without the parameters, whose random numbers take long to compile.
            collections = jax.jit(lambda *given: _without_parameters(init(*given)))
            collections = collections(get_key(), self.X[:1])
        self.state = self.model.train_state(*map(self._put_tree, (params, collections)))
        self.optim = self.state.tx
        self.model.hold(self.state.params)

    def _put_tree(self, params):
        def put(leaf):
            leaf = np.asarray(leaf)
            return jax.device_put(leaf.astype(self.dtype) if leaf.dtype.kind == "f" else leaf)

        return jax.tree.map(put, params)

    @_in_dtype
    def compile(self):
        # JAX compiles at the first call, and a call changes nothing: its results are dropped.
        full, short = divmod(self.data.num_train, self.batch_size)
        self._capacity = max(min(full, -(-len(self.X) // self.batch_size)), 1)
        results = []
        if full:
            batches = self._pad(np.empty(0, np.int32))
            given = self.state, self.X, self.y, batches, batches, 1, self.watched
            results.append(self._steps(*given))
        if short:
            rows = np.zeros(short, np.int32)
            results.append(self._step(self.state, self.X, self.y, rows, rows, self.watched))
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
            batches = self._pad(rows), self._pad(self.rows_of(rows))
            given = self.state, self.X, self.y, *batches, count, self.watched
            self.state, values, fed = self._steps(*given)
            metrics.append(np.asarray(values)[:count])
            self._keep(fed, count)
        if stop < len(order):
            rows = np.asarray(order[stop:], np.int32)
            given = self.state, self.X, self.y, rows, self.rows_of(rows), self.watched
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
        try:
            return super().unequal()
        except InvalidRngError as error:
            return [f"random numbers in forward: {str(error).partition(' (http')[0]}"]

    def watched_pass(self, model, X, training):
        # Not compiled, which would draw once and for all.
        state = self.state.replace(step=np.int32(0))
        state, _ = _told(self, state, training, np.arange(len(X)))
        return Pass(np.asarray(_predict_told(state, X)))

    @staticmethod
    def dropout_from(masks):
        def masked(call, arguments, options, context):
            """A layer of dropout by its own arithmetic, flax/linen/stochastic.py, with a mask."""
            layer = context.module
            if not (isinstance(layer, nn.Dropout) and context.method_name == "__call__"):
                return call(*arguments, **options)
            X, *said = arguments
            said = options.get("deterministic", said[0] if said else None)
            is_off = nn.merge_param("deterministic", layer.deterministic, said)
            if is_off or layer.broadcast_dims or not masks.drops(layer.rate):
                return call(*arguments, **options)
            kept = jnp.asarray(masks.keep(X.shape, layer.rate))
            return jnp.where(kept, X / (1.0 - layer.rate), jnp.zeros_like(X))

        return nn.intercept_methods(masked)

    def buffers(self):
        return _buffers(self.state)

    @_in_dtype
    def set_buffers(self, buffers):
        self.state = self._with_buffers(self.state, buffers)

    def _with_buffers(self, state, buffers):
        held = flatten_dict(state.collections, sep="/")
        new = {path: buffers.get(_buffer_name(path), value) for path, value in held.items()}
        return state.replace(collections=self._put_tree(unflatten_dict(new, sep="/")))

    def _before(self, parameters, step, buffers, rows, examples):
        """The state before a probed step, and its rows."""
        params = self._put_tree(self.model.build_tree(parameters))
        state = self.state.replace(step=np.int32(step), params=params)
        rows = np.arange(examples, dtype=np.int32) if rows is None else rows
        return self._with_buffers(state, buffers or {}), rows

    @_in_dtype
    def activations(self, parameters, X, step=0, buffers=None, rows=None, training=True):
        state, rows = self._before(parameters, step, buffers, rows, len(X))
        found, y_hat = self._activations(state, jax.device_put(X), rows, training)
        calls = [(*reversed(k.split(" ", 2)[1:]), *map(widened, of)) for k, of in found.items()]
        y_hat = {} if training else {"y_hat": Activation("", widened(y_hat))}
        return Pass(np.empty(0), calls).activations() | y_hat

    @_in_dtype
    def optimizer_arguments(self, num_steps):
        return arguments(self.optim, self.model, self.state.params, num_steps)

    @_in_dtype
    def hold(self, parameters):
        params = self._put_tree(self.model.build_tree(parameters))
        self.state = self.state.replace(params=params)

    def optimizer_state(self):
        return named(memory(self.state.opt_state), self.model.name_leaves)

    @_in_dtype
    def probe(self, parameters, X, y, state=None, step=0, buffers=None, rows=None):
        before, rows = self._before(parameters, step, buffers, rows, len(X))
        opt_state = self.optim.init(before.params)
        if state:
            kept = by_kind(state, lambda arrays: self._put_tree(self.model.build_tree(arrays)))
            opt_state = remember(opt_state, kept)
        before = before.replace(opt_state=opt_state)
        arrays, gradients, after = self._probe(before, *jax.device_put((X, y)), rows)
        found = {name: np.asarray(value) for name, value in arrays.items()}
        after_step = {"gradient": self.model.name_leaves(gradients)}
        after_step["update"] = self.model.name_leaves(after.params)
        after_step["buffer"] = _buffers(after)
        if state is not None:
            after_step["optimizer"] = named(memory(after.opt_state), self.model.name_leaves)
        for kind, values in after_step.items():
            found |= {f"{kind}/{name}": value for name, value in values.items()}
        return found


# What is compiled. Data are arguments: what a function closes over becomes part of its program.


def _steps(trainer, state, X, y, batches, ids, count, v):
    """Updates from the first ``count`` batches: the state; of each loss and accuracy, and what
    it was fed if there is a ``v`` to project it on. ``ids`` are the batches' rows in all data."""

    def update(i, carry):
        state, metrics, kept = carry
        state, values, fed = _gather_and_step(trainer, state, X, y, batches[i], ids[i], v)
        kept = jax.tree.map(lambda all_, one: all_.at[i].set(one), kept, fed)
        return state, metrics.at[i].set(values), kept

    metrics = jnp.zeros((len(batches), 2), X.dtype)
    kept = None
    if v is not None:
        kept = jnp.zeros(batches.shape, X.dtype), jnp.zeros(batches.shape + y.shape[1:], y.dtype)
    return lax.fori_loop(0, count, update, (state, metrics, kept))


def _gather_and_step(trainer, state, X, y, rows, ids, v):
    X, y = _gather(X, y, rows)
    fed = None
    if v is not None:
        fed = jnp.dot(X, v, precision=lax.Precision.HIGHEST), y
    state, loss, accuracy, _ = _update(trainer, state, X, y, ids)
    return state, jnp.array([loss, accuracy], X.dtype), fed


def _gather(X, y, rows):
    return X[rows], y[rows]


def _told(trainer, state, training, rows):
    """The state whose ``apply_fn`` is ``forward`` in one of the two modes, and what that moves.

    In evaluation nothing is kept of that.
    """
    state, moved = _in_mode(trainer, state, training, rows)
    if trainer.mixed:
        apply_fn = mixed(state.apply_fn, trainer.mixed, trainer.loss_scale)
        state = state.replace(apply_fn=apply_fn)
    return state, moved


def _in_mode(trainer, state, training, rows):
    (module, mode), masks = trainer.model.told(training), trainer.masks
    moved = dict(state.collections)
    if not (mode or moved or masks or module is not trainer.model):
        return state, moved

    def apply_fn(variables, *X, **options):
        step = state.step.reshape(1) if training else np.array([EVALUATION])
        with trainer.masked(step, rows):
            y_hat, new = module.apply(
                {**state.collections, **variables}, *X, mutable=[*moved], **mode, **options
            )
        moved.update(new)
        return y_hat

    return state.replace(apply_fn=apply_fn), moved


def _update(trainer, state, X, y, rows):
    """The state after one step; the loss and the accuracy before it; the gradients."""
    model = trainer.model

    def loss(params):
        told, moved = _told(trainer, state, True, rows)
        value, _ = model.loss(params, (X,), y, told)
        return value, moved

    (loss, moved), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    # A second forward pass to read, not to run: XLA merges it with the loss's.
    accuracy = model.accuracy(state.params, (X,), y, _told(trainer, state, True, rows)[0])
    after = state.apply_gradients(grads=gradients, collections=moved)
    return after, loss, accuracy, gradients


def _evaluate(trainer, state, X, y):
    state, _ = _told(trainer, state, False, np.arange(len(y)))
    loss, _ = trainer.model.loss(state.params, (X,), y, state)
    return loss, trainer.model.accuracy(state.params, (X,), y, state)


def _predict(trainer, state, X):
    return _predict_told(_told(trainer, state, False, np.arange(len(X)))[0], X)


def _predict_told(state, X):
    return state.apply_fn({"params": state.params}, X)


def _probe(trainer, state, X, y, rows):
    after, loss, accuracy, gradients = _update(trainer, state, X, y, rows)
    told, _ = _told(trainer, state, True, rows)
    arrays = {
        "data/X": X,
        "data/y": y,
        "forward/y_hat": _predict_told(told, X),
        "example_loss": _example_loss(trainer.model, told, X, y),
        "loss": loss,
        "metric/accuracy": accuracy,
    }
    return arrays, gradients, after


def _without_parameters(variables):
    return {name: held for name, held in variables.items() if name != "params"}


def _buffers(state):
    """What a state keeps besides the parameters, by the names of layers."""
    held = flatten_dict(state.collections, sep="/")
    return {_buffer_name(path): np.array(value) for path, value in held.items()}


def _buffer_name(path):
    return path.removeprefix("batch_stats/").replace("/", ".")


def _activations(trainer, state, X, rows, training):
    """What layers are given and give, and what is named or sown; place and kind before its name.

    And what ``forward`` gives.
    """
    model, held, nothing = trainer.model, {}, jnp.zeros(0)
    model.noted.clear()
    told, moved = _told(trainer, state, training, rows)

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

    module, mode = model.told(training)
    given = state.params, X
    params, X = rounded(given, trainer.mixed) if trainer.mixed else given
    try:
        with nn.intercept_methods(note_given), trainer.masked(state.step.reshape(1), rows):
            y_hat, held = module.apply(
                {"params": params, **state.collections},
                X,
                capture_intermediates=is_rung,
                mutable=[*moved, "intermediates", "given"],
                **mode,
            )
    except JaxTransformError:  # layers inside a transformation that knows none of them
        return {}, _predict_told(told, X)
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
    }, y_hat


def _first(output):
    """An output without what stands behind it, states or weights of an attention say."""
    return output[0] if isinstance(output, tuple) and output else output


def _example_loss(model, state, X, y):
    """The loss of each example; the book's from-scratch loss gives means only, here of one."""
    if "averaged" in inspect.signature(model.loss).parameters:
        return model.loss(state.params, (X,), y, state, averaged=False)[0]
    return jax.vmap(lambda X, y: model.loss(state.params, (X[None],), y[None], state)[0])(X, y)
