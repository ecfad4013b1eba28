"""The parameters of Gluon's layers, as :mod:`framework_parity.common.training.layers` has them.

Layouts are those of mxnet/gluon/nn/{basic_layers,conv_layers}.py and rnn/: as PyTorch's, gates,
too. A fused recurrent layer gives what it holds the names ``_unfused.LAYER…``.
"""

from mxnet.gluon import nn, rnn

from framework_parity.backends.mxnet.optimizer import array_of
from framework_parity.common.training.layers import Walk, as_it_is, transposed

WEIGHT_AND_BIAS = {"weight": ("weight", transposed), "bias": ("bias", as_it_is)}
NORM = {
    "scale": ("gamma", as_it_is),
    "offset": ("beta", as_it_is),
    "mean": ("running_mean", as_it_is),
    "variance": ("running_var", as_it_is),
}
TRANSPOSED = nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose
LAYERS = (
    (nn.Dense, "linear", WEIGHT_AND_BIAS),
    (
        TRANSPOSED,
        "transposed convolution",
        {
            "weight": ("weight", lambda w: w.transpose(*range(2, w.ndim), 0, 1)),
            "bias": ("bias", as_it_is),
        },
    ),
    (nn.conv_layers._Conv, "convolution", WEIGHT_AND_BIAS),
    (nn.basic_layers._BatchNorm, "batch norm", NORM),
    (nn.LayerNorm, "layer norm", NORM),
    (nn.GroupNorm, "group norm", NORM),
    (nn.InstanceNorm, "instance norm", NORM),
    (nn.Embedding, "embedding", {"weight": ("weight", as_it_is)}),
)
RECURRENT = {
    "weight": ("i2h_weight", transposed),
    "recurrent weight": ("h2h_weight", transposed),
    "bias": ("i2h_bias", as_it_is),
    "recurrent bias": ("h2h_bias", as_it_is),
}
KINDS = (
    ((rnn.LSTM, rnn.LSTMCell), "lstm"),
    ((rnn.GRU, rnn.GRUCell), "gru"),
    ((rnn.RNN, rnn.RNNCell), "rnn"),
)


def entries(model):
    """The parameters and buffers of a model's layers, in the order in which they are made.

    A second bias of a recurrent layer that is frozen at zero is none.
    """
    trained = model.named_tensors()
    held = {**model._collect_params_with_prefix(), **trained}
    known = {}  # a tied one has several names
    for name, tensor in held.items():
        known.setdefault(id(tensor), name)
    shapes = {name: held[name].shape for name in known.values()}
    walk = Walk(shapes, trained)
    for path, block in _blocks(model, ""):
        kind = next((kind for classes, kind in KINDS if isinstance(block, classes)), None)
        if kind is not None:
            places = _places(walk, path)
            for place in places:
                unit = place.strip(".") if len(places) > 1 else ""
                for role, (tensor, layout) in RECURRENT.items():
                    name = f"{path}.{place}{tensor}" if path else f"{place}{tensor}"
                    frozen = name in shapes and name not in trained
                    if role != "recurrent bias" or not (frozen and _is_zero(held[name])):
                        walk.add(path, kind, role, f"{place}{tensor}", layout, unit=unit)
        for classes, kind, roles in LAYERS:
            if isinstance(block, classes):
                for role, (tensor, layout) in roles.items():
                    walk.add(path, kind, role, tensor, layout)
                break
        names = [f"{path}.{name}" if path else name for name in block._reg_params]
        walk.add_rest(path, [*names, *(vars(model) if block is model else ())])
    return walk.entries


def _is_zero(parameter):
    return not array_of(parameter).asnumpy().any()


def _blocks(block, path):
    """A block and those inside it, with their paths."""
    yield path, block
    for name, child in block._children.items():
        yield from _blocks(child, f"{path}.{name}" if path else name)


def _places(walk, path):
    """What stands before the names in a recurrent layer: layers one by one, forwards first."""
    start = f"{path}." if path else ""
    inside = [name.removeprefix(start) for name in walk.shapes if name.startswith(start)]
    return [name.removesuffix("i2h_weight") for name in inside if name.endswith("i2h_weight")]
