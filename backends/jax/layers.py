"""The parameters of Flax' layers, as :mod:`framework_parity.common.training.layers` has them.

Layouts are those of flax/linen/{linear,recurrent,attention}.py and flax/nnx/nn/: kernels are
kernel axes × inputs × outputs. A module of NNX is one of Linen's inside ``nnx.bridge.to_linen``.
"""

import functools

import jax
import numpy as np
from flax import linen
from flax.traverse_util import flatten_dict

from framework_parity.common.training.layers import Walk, as_it_is

PARAMS = "params/"
KERNEL_AND_BIAS = {"weight": ("kernel", as_it_is), "bias": ("bias", as_it_is)}
NORM = {
    "scale": ("scale", as_it_is),
    "offset": ("bias", as_it_is),
    "mean": ("mean", as_it_is),
    "variance": ("var", as_it_is),
}
LAYERS = (
    (("Dense", "Linear"), "linear", KERNEL_AND_BIAS),
    (("Conv",), "convolution", KERNEL_AND_BIAS),
    (("ConvTranspose",), "transposed convolution", KERNEL_AND_BIAS),
    (("BatchNorm",), "batch norm", NORM),
    (("LayerNorm",), "layer norm", NORM),
    (("GroupNorm",), "group norm", NORM),
    (("RMSNorm",), "rms norm", NORM),
    (("InstanceNorm",), "instance norm", NORM),
    (("Embed",), "embedding", {"weight": ("embedding", as_it_is)}),
)
"""By the names of the classes, in Linen and in NNX, which takes long to import."""
GATES = {
    "LSTMCell": ("lstm", ("i", "f", "g", "o")),
    "GRUCell": ("gru", ("r", "z", "n")),
    "SimpleCell": ("rnn", ("",)),
}
GATES["OptimizedLSTMCell"] = GATES["LSTMCell"]
ATTENTION = "MultiHeadDotProductAttention", "MultiHeadAttention"


def _is(module, *names):
    classes = [base for base in type(module).__mro__ if base.__module__.startswith("flax.")]
    return any(base.__name__ in names for base in classes)


def entries(model, X):
    """The parameters and collections of a model's layers, in the order of their first calls.

    Args:
        model: a Flax module.
        X: an example or more, of which shape and type matter.
    """
    called = {}

    def note(method, arguments, options, context):
        if context.method_name != "setup":
            called.setdefault("/".join(context.module.path), context.module)
        return method(*arguments, **options)

    module, mode = model.told(False)
    with linen.intercept_methods(note):
        held = jax.eval_shape(functools.partial(module.init, jax.random.PRNGKey(0), **mode), X)
    held = flatten_dict(dict(held), sep="/")
    trained = [name.removeprefix(PARAMS) for name in held if name.startswith(PARAMS)]
    walk = Walk({n.removeprefix(PARAMS): a.shape for n, a in held.items()}, trained, "/")
    for path, module in called.items():
        if _is(module, "ToLinen"):
            for inner, found in _inside(module):
                place = "/".join(filter(None, (path, *inner)))
                _layer(walk, place, found)
        else:
            _layer(walk, path, module)
        walk.add_rest(path, [n for n in trained if n.rpartition("/")[0] == path])
    walk.add_rest("", trained)
    return walk.entries


def _inside(module):
    """The modules of NNX inside one of Linen, with their paths, in the order of their making."""
    from flax import nnx  # which whoever has such a module has imported

    def make():
        rngs = {} if module.skip_rng else {"rngs": nnx.Rngs(0)}
        return module.nnx_class(*module.args, **module.kwargs, **rngs)

    return _modules(nnx.eval_shape(make), ())


def _modules(module, path):
    yield path, module
    if not _is(module, *GATES, *ATTENTION):  # one layer each
        for name, part in vars(module).items():
            if _is(part, "Module"):
                yield from _modules(part, (*path, name))


def _layer(walk, path, module):
    add = functools.partial(walk.add, path)
    if _is(module, *ATTENTION):
        for part in ("query", "key", "value"):
            add("attention", f"{part} weight", f"{part}/kernel", _joined)
            add("attention", f"{part} bias", f"{part}/bias", np.ravel)
        add("attention", "output weight", "out/kernel", _joined_heads)
        add("attention", "output bias", "out/bias")
    elif _is(module, *GATES) and f"{path}/dense_i/kernel".lstrip("/") in walk.shapes:
        kind, _ = GATES[next(name for name in GATES if _is(module, name))]
        add(kind, "weight", "dense_i/kernel")
        add(kind, "recurrent weight", "dense_h/kernel")
        add(kind, "bias", "dense_i/bias")
        alone = f"{path}/dense_i/bias".lstrip("/") not in walk.shapes
        add(kind, "bias" if alone else "recurrent bias", "dense_h/bias")
    elif _is(module, *GATES):
        kind, gates = GATES[next(name for name in GATES if _is(module, name))]
        for role, side in (("weight", "i"), ("recurrent weight", "h")):
            add(kind, role, [f"{side}{gate}/kernel" for gate in gates], _side_by_side)
            bias = role.replace("weight", "bias")
            had = [f"{side}{gate}/bias" for gate in gates]
            had = [name for name in had if f"{path}/{name}".lstrip("/") in walk.shapes]
            both = any(f"{path}/i{gate}/bias".lstrip("/") in walk.shapes for gate in gates)
            bias = bias if both else "bias"  # where there is one only, whose it is does not matter
            if had:
                add(kind, bias, had, _side_by_side, bias.replace(" ", "_"))
    elif not _is_known(walk, path):
        for classes, kind, roles in LAYERS:
            if _is(module, *classes):
                for role, (tensor, layout) in roles.items():
                    if kind == "transposed convolution" and role == "weight":
                        layout = _given_back if module.transpose_kernel else _flipped
                    add(kind, role, tensor, layout)
                    walk.add(f"batch_stats/{path}", kind, role, tensor, layout)
                break


def _is_known(walk, path):
    """Whether what a module holds is part of the layer around it."""
    return any(t.rpartition("/")[0] == path for entry in walk.entries for t in entry.tensors)


def _joined(kernel):  # inputs × heads × features
    return kernel.reshape(len(kernel), -1)


def _joined_heads(kernel):  # heads × features × outputs
    return kernel.reshape(-1, kernel.shape[-1])


def _side_by_side(*arrays):
    return np.concatenate(arrays, axis=-1)


def _flipped(kernel):  # what lax.conv_transpose does without transpose_kernel
    return np.flip(kernel, range(kernel.ndim - 2))


def _given_back(kernel):  # with it: kernel axes × outputs × inputs
    return kernel.swapaxes(-1, -2)
