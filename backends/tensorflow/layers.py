"""The parameters of Keras' layers, as :mod:`framework_parity.common.training.layers` has them.

Layouts are those of keras/src/layers/: kernels are kernel axes × inputs × outputs.
"""

import numpy as np
import tensorflow as tf

from framework_parity.common.training.layers import Entry, as_it_is, gates

keras = tf.keras.layers
KERNEL_AND_BIAS = {"weight": ("kernel", as_it_is), "bias": ("bias", as_it_is)}
NORM = {
    "scale": ("gamma", as_it_is),
    "offset": ("beta", as_it_is),
    "mean": ("moving_mean", as_it_is),
    "variance": ("moving_variance", as_it_is),
}
TRANSPOSED = {"weight": ("kernel", lambda w: w.swapaxes(-1, -2)), "bias": ("bias", as_it_is)}


def _depthwise(kernel):  # kernel axes × inputs × multiplier
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def _joined(kernel):  # inputs × heads × features
    return kernel.reshape(len(kernel), -1)


def _joined_heads(kernel):  # heads × features × outputs
    return kernel.reshape(-1, kernel.shape[-1])


DEPTHWISE = {"weight": ("kernel", _depthwise), "bias": ("bias", as_it_is)}
RESET_UPDATE_NEW = gates((1, 0, 2))  # of update, reset, new
LSTM = {
    "weight": ("kernel", as_it_is),
    "recurrent weight": ("recurrent_kernel", as_it_is),
    "bias": ("bias", as_it_is),
}
GRU = {
    "weight": ("kernel", RESET_UPDATE_NEW),
    "recurrent weight": ("recurrent_kernel", RESET_UPDATE_NEW),
}
GRU_BEFORE = GRU | {"bias": ("bias", RESET_UPDATE_NEW)}
GRU_AFTER = GRU | {
    "bias": ("bias", lambda b: RESET_UPDATE_NEW(b[0])),
    "recurrent bias": ("bias", lambda b: RESET_UPDATE_NEW(b[1])),
}
SEPARABLE = (
    ("weight", "depthwise_kernel", _depthwise),
    ("weight", "pointwise_kernel", as_it_is),
    ("bias", "bias", as_it_is),
)
ATTENTION = {
    **{
        f"{name} {role}": (f"_{name}_dense.{tensor}", layout)
        for name in ("query", "key", "value")
        for role, tensor, layout in (("weight", "kernel", _joined), ("bias", "bias", np.ravel))
    },
    "output weight": ("_output_dense.kernel", _joined_heads),
    "output bias": ("_output_dense.bias", as_it_is),
}
LAYERS = (
    (keras.Dense, "linear", KERNEL_AND_BIAS),
    ((keras.DepthwiseConv1D, keras.DepthwiseConv2D), "convolution", DEPTHWISE),
    (
        (keras.Conv1DTranspose, keras.Conv2DTranspose, keras.Conv3DTranspose),
        "transposed convolution",
        TRANSPOSED,
    ),
    ((keras.Conv1D, keras.Conv2D, keras.Conv3D), "convolution", KERNEL_AND_BIAS),
    (keras.BatchNormalization, "batch norm", NORM),
    (keras.LayerNormalization, "layer norm", NORM),
    (keras.GroupNormalization, "group norm", NORM),
    (keras.RMSNormalization, "rms norm", {"scale": ("scale", as_it_is)}),
    (keras.Embedding, "embedding", {"weight": ("embeddings", as_it_is)}),
    (keras.LSTMCell, "lstm", LSTM),
    (keras.SimpleRNNCell, "rnn", LSTM),
    (keras.MultiHeadAttention, "attention", ATTENTION),
)


def entries(model):
    """The parameters and buffers of a model's layers, in the order in which they are made."""
    tensors = model.named_tensors()
    trained = {id(variable): name for name, variable in tensors.items()}
    found = []
    for path, layer in model.layers_by_name().items():
        for kind, role, attribute, layout in _roles(layer):
            if (variable := _attribute(layer, attribute)) is not None:
                name = trained.get(id(variable)) or getattr(variable, "path", variable.name)
                shape, own = tuple(variable.shape), attribute.replace("_dense", "").strip("_")
                if len(shape) == 2 and own == "bias":  # two in one
                    own = f"bias.{role.replace(' ', '_')}"
                place = path.removesuffix(".cell")
                if attribute == "depthwise_kernel":
                    place += "[depthwise]"
                given = f"{path}.{own}", place, kind, role, {name: shape}, layout
                found.append(Entry(*given, id(variable) in trained))
    known = {tensor for entry in found for tensor in entry.tensors}
    hand = [Entry(n, "", "", "", {n: tuple(v.shape)}) for n, v in tensors.items() if n not in known]
    order = {name: place for place, name in enumerate(tensors)}
    places = {id(entry): order.get(next(iter(entry.tensors)), len(order)) for entry in found + hand}
    first = {}  # a layer's buffers stay with it
    for entry in found:
        first[entry.layer] = min(places[id(entry)], first.get(entry.layer, len(order)))
    return sorted(found + hand, key=lambda e: first[e.layer] if e.kind else places[id(e)])


def _roles(layer):
    """Kind, role, attribute and layout of all that a layer may have."""
    if isinstance(layer, keras.SeparableConv1D | keras.SeparableConv2D):
        return [("convolution", *role) for role in SEPARABLE]
    if isinstance(layer, keras.GRUCell):
        kind = "gru" if layer.reset_after else "gru that resets before"
        roles = GRU_AFTER if layer.reset_after and layer.use_bias else GRU_BEFORE
        return [(kind, role, *held) for role, held in roles.items()]
    for classes, kind, roles in LAYERS:
        if isinstance(layer, classes):
            return [(kind, role, *held) for role, held in roles.items()]
    return []


def _attribute(layer, path):
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return layer
