"""The parameters of PyTorch's layers, as :mod:`framework_parity.common.training.layers` has them.

Layouts are those of torch/nn/modules/{linear,conv,rnn,activation}.py.
"""

from torch import nn

from framework_parity.common.training.layers import Walk, as_it_is, part, transposed

WEIGHT_AND_BIAS = {"weight": ("weight", transposed), "bias": ("bias", as_it_is)}
NORM = {
    "scale": ("weight", as_it_is),
    "offset": ("bias", as_it_is),
    "mean": ("running_mean", as_it_is),
    "variance": ("running_var", as_it_is),
}
LAYERS = (
    (nn.Linear, "linear", WEIGHT_AND_BIAS),
    (
        nn.modules.conv._ConvTransposeNd,
        "transposed convolution",
        {
            "weight": ("weight", lambda w: w.transpose(*range(2, w.ndim), 0, 1)),
            "bias": ("bias", as_it_is),
        },
    ),
    (nn.modules.conv._ConvNd, "convolution", WEIGHT_AND_BIAS),
    (nn.modules.instancenorm._InstanceNorm, "instance norm", NORM),
    (nn.modules.batchnorm._BatchNorm, "batch norm", NORM),
    (nn.LayerNorm, "layer norm", NORM),
    (nn.GroupNorm, "group norm", NORM),
    (nn.RMSNorm, "rms norm", NORM),
    (nn.Embedding, "embedding", {"weight": ("weight", as_it_is)}),
)
RECURRENT = {
    "weight": ("weight_ih", transposed),
    "recurrent weight": ("weight_hh", transposed),
    "bias": ("bias_ih", as_it_is),
    "recurrent bias": ("bias_hh", as_it_is),
    "projection": ("weight_hr", transposed),
}
"""Gates stand as in the canonical layout: i f g o, r z n."""


def entries(model):
    """The parameters and buffers of a model's layers, in the order in which they are made.

    A second bias of a recurrent layer that is frozen at zero is none.
    """
    trained = model.named_tensors()
    held = {**dict(model.named_parameters()), **dict(model.named_buffers()), **trained}
    walk = Walk({name: tensor.shape for name, tensor in held.items()}, trained)
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            _attention(walk, path)
        elif isinstance(module, nn.RNNBase):
            for layer in range(module.num_layers):
                for end in ("", "_reverse")[: 1 + module.bidirectional]:
                    kind = module.mode.partition("_")[0].lower()
                    unit = f"l{layer}{end}" if module.num_layers > 1 or module.bidirectional else ""
                    _recurrent(walk, held, path, kind, f"_l{layer}{end}", unit)
        elif isinstance(module, nn.RNNCellBase):
            kind = type(module).__name__.removesuffix("Cell").lower()
            _recurrent(walk, held, path, kind)
        elif not path.endswith(".out_proj") or not _is_attention(model, path):
            for kind_of_module, kind, roles in LAYERS:
                if isinstance(module, kind_of_module):
                    for role, (tensor, layout) in roles.items():
                        walk.add(path, kind, role, tensor, layout)
                    break
        own = vars(module) if module is model else ()
        names = [*dict(module.named_parameters(recurse=False)), *own]
        walk.add_rest(path, [f"{path}.{name}" if path else name for name in names])
    return walk.entries


def _is_attention(model, path):
    return isinstance(model.get_submodule(path.rpartition(".")[0]), nn.MultiheadAttention)


def _attention(walk, path):
    for i, role in enumerate(("query", "key", "value")):
        split = part(i, 3, transposed)
        weight = f"{role} weight"
        walk.add(path, "attention", weight, "in_proj_weight", split, f"in_proj_weight.{role}")
        walk.add(path, "attention", weight, f"{role[0]}_proj_weight", transposed)
        bias = f"in_proj_bias.{role}"
        walk.add(path, "attention", f"{role} bias", "in_proj_bias", part(i, 3), bias)
    walk.add(path, "attention", "output weight", "out_proj.weight", transposed)
    walk.add(path, "attention", "output bias", "out_proj.bias")


def _recurrent(walk, held, path, kind, end="", unit=""):
    for role, (tensor, layout) in RECURRENT.items():
        name = f"{path}.{tensor}{end}" if path else f"{tensor}{end}"
        frozen = name in held and not held[name].requires_grad
        if not (role == "recurrent bias" and frozen and not held[name].any()):
            walk.add(path, kind, role, f"{tensor}{end}", layout, unit=unit)
