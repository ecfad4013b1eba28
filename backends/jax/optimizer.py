"""Stochastic gradient descent by hand, in JAX, and what Optax's optimizers remember."""

import inspect
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from framework_parity.common.training.optimizer_state import UnknownOptimizerError

KINDS = {
    "trace": "velocity",
    "mu": "first_moment",
    "nu": "second_moment",
    "nu_max": "largest_second_moment",
    "sum_of_squares": "sum_of_squares",
    "count": "count",
}
"""Fields of the states of Optax (optax/_src/transform.py), by canonical name.

A trace is a velocity as others have it where the learning rate comes after it, as in
``optax.sgd``; ``optax.rmsprop`` has it before, in the trace.
"""
KNOWN = (
    "EmptyState",
    "TraceState",
    "ScaleByAdamState",
    "ScaleByAmsgradState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRssState",
    "ScaleByScheduleState",
    "WeightDecaySchedule",
    "WrappedScheduleState",
)


class Count(NamedTuple):
    """What ``optax.inject_hyperparams`` remembers of itself; its numbers follow from that."""

    count: jax.Array


@dataclass(frozen=True)  # a train state compares and hashes its optimizer
class SGD:
    """``parameter ← parameter − lr × gradient``, as Optax's optimizers say it: what to add.

    Args:
        lr: learning rate.
    """

    lr: float

    def init(self, params):
        """The optimizer's memory for a tree ``params``: it has none."""
        return ()

    def update(self, gradients, state, params=None):
        """What to add to the parameters, and the memory.

        Args:
            gradients: a tree of arrays, as what is returned.
            state: the memory, returned as it is.
            params: the parameters, which are not needed.
        """
        return jax.tree.map(lambda gradient: -self.lr * gradient, gradients), state


def memory(state):
    """What the state of an optimizer remembers: see :mod:`optimizer_state`."""
    parts, found = list(_parts(state)), {}
    for part in parts:
        for field, value in zip(part._fields, part, strict=True):
            if KINDS[field] in found and field != "count":
                raise UnknownOptimizerError(f"two {type(part).__name__} in a chain of Optax")
            found[KINDS[field]] = value
    if parts and hasattr(parts[-1], "trace"):
        raise UnknownOptimizerError("a TraceState of Optax behind the learning rate")
    return found


def remember(state, memory):
    """The state of an optimizer that made no step yet, with the ``memory`` of another."""
    if type(state) is tuple:
        return tuple(remember(link, memory) for link in state)
    if isinstance(state, dict):
        return type(state)((name, remember(link, memory)) for name, link in state.items())
    if type(state).__name__.startswith("Inject"):
        inside = {"inner_state", "hyperparams_states"} & {*state._fields}
        state = state._replace(**{n: remember(getattr(state, n), memory) for n in inside})
    kept = memory | {"count": np.int32(memory.get("count", 0))}
    kinds = {field: KINDS[field] for field in state._fields if KINDS.get(field) in kept}
    return state._replace(**{field: kept[kind] for field, kind in kinds.items()})


def _parts(state):
    """The links of a chain of optimizers, in the order of their use."""
    if type(state) is tuple or isinstance(state, dict):
        for link in state.values() if isinstance(state, dict) else state:
            yield from _parts(link)
        return
    if type(state).__name__.startswith("Inject") and type(state).__module__.startswith("optax."):
        yield Count(state.count)
        yield from _parts(state.inner_state)
        return
    name = type(state).__name__
    if name == "MaskedState" and not any(_parts(state.inner_state)):  # decay of some parameters
        return
    if not (type(state).__module__.startswith("optax.") and name in KNOWN):
        raise UnknownOptimizerError(f"{type(state).__module__}.{name}")
    yield state


def arguments(optimizer, model, params, num_steps):
    """What an optimizer is: see :data:`optimizer_state.ARGUMENTS`.

    Optax keeps its arguments in closures: a chain is read link by link, in the order of their use.
    """
    if type(optimizer) is SGD:
        return {"kind": "SGD", "lr": float(optimizer.lr)}
    found = {"kind": "SGD", "decoupled": False}
    for name, given in _links(optimizer):
        if "lr" in found or name not in LINKS:
            return None
        said = LINKS[name](given, model, params, num_steps)
        if said is None or said.keys() & (found.keys() - {"kind", "decoupled"}):
            return None
        if "weight_decay" in said:  # before or after the moments
            said["decoupled"] = found["kind"] != "SGD" or "momentum" in found
        if name == "trace" and found["kind"] != "SGD":
            return None
        found |= said
    first = memory(optimizer.init(params))
    values = {k: float(np.ravel(jax.tree.leaves(kept)[0])[0]) for k, kept in first.items()}
    if found["kind"] == "Adagrad":
        found["initial_accumulator_value"] = values["sum_of_squares"]
    return found if "lr" in found and not values.get("second_moment") else None


def _links(optimizer):
    """The links of a chain by name, each with what its closure holds: none of another optimizer."""
    update = getattr(optimizer, "update", optimizer)
    if not inspect.isfunction(update):
        return
    name, given = update.__qualname__.partition(".")[0], inspect.getclosurevars(update).nonlocals
    if name == "chain":
        for link in given["update_fns"]:
            yield from _links(link)
    elif name == "named_chain":
        for _, link in given["transforms"]:
            yield from _links(link)
    elif name == "with_extra_args_support":
        yield from _links(given["tx"])
    elif name == "masked":
        ((inside, inner),) = _links(given["inner"])
        yield f"masked {inside}", inner | {"mask": given["mask"]}
    elif name != "identity":
        yield name, given


def _adam(given, *_):
    eps, root = float(given["eps"]), float(given["eps_root"])
    if given.get("nesterov") or (eps and root):
        return None
    betas = [float(given["b1"]), float(given["b2"])]
    return {"kind": "Adam", "betas": betas, "eps": eps or root, "eps_inside": bool(root)}


def _rms(given, *_):
    if given.get("bias_correction"):
        return None
    inside = bool(given.get("eps_in_sqrt", True))
    alpha, eps = float(given["decay"]), float(given["eps"])
    return {"kind": "RMSprop", "alpha": alpha, "eps": eps, "eps_inside": inside}


def _rss(given, *_):
    return {"kind": "Adagrad", "eps": float(given["eps"]), "eps_inside": True}


def _decay(given, *_):
    decay = given["weight_decay"]
    return None if callable(decay) else {"weight_decay": float(decay)}


def _masked_decay(given, model, params, _):
    decay, mask = given["weight_decay"], given["mask"]
    if callable(decay):
        return None
    tree = jax.tree.map(
        lambda is_in, part: jax.tree.map(lambda leaf: np.full(leaf.shape, is_in * decay), part),
        mask(params) if callable(mask) else mask,
        params,
    )
    return {"weight_decay": {n: float(v.flat[0]) for n, v in model.name_leaves(tree).items()}}


def _schedule(given, model, params, num_steps):
    rates = -lax.map(given["step_size_fn"], jnp.arange(num_steps))
    return {"lr": np.asarray(rates, np.float64).tolist()}


LINKS = {
    "scale_by_adam": _adam,
    "scale_by_rms": _rms,
    "scale_by_rss": _rss,
    "trace": lambda given, *_: {
        "momentum": float(given["decay"]),
        "nesterov": bool(given["nesterov"]),
    },
    "add_decayed_weights": _decay,
    "masked add_decayed_weights": _masked_decay,
    "clip_by_global_norm": lambda given, *_: {"clip": [float(given["max_norm"]), "global norm", 0]},
    "clip": lambda given, *_: {"clip": [float(given["max_delta"]), "value", 0]},
    "scale": lambda given, *_: {"lr": -float(given["step_size"])},
    "scale_by_schedule": _schedule,
}
"""Of the links that optimizers by hand have what they are, by the name of Optax's function."""
