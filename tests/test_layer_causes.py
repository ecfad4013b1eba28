"""The cause in a layer: found where it is planted, with its value, and nowhere else."""

import math

import numpy as np
import pytest

from framework_parity.common.judging.layer_causes import KINDS, LayerSearch, Step, tidy
from framework_parity.common.judging.layer_kinds import MOMENTS
from framework_parity.common.reference.layer_formulas import FUNCTIONS, normalised
from framework_parity.common.training.forward_checks import moments

OF = {kind.name: kind for kind in KINDS}
UNIT = 2.0**-24
BOUNDS = {"largest": 4 * UNIT, "gain": UNIT}
ROWS, WIDTH, LENGTH = 24, 8, 5
AFFINE = {"scale": "gamma", "shift": "beta"}
NORM = {"over": ("features", 1, 0), "centred": True, "variance": True, "place": True}
NORM |= {"epsilon": 1e-5, **AFFINE}
DENSE = {"weight": "W", "axes": 1, "transposed": False, "bias": "b", "function": "none"}
DENSE |= {"slope": 0.0, "factor": 1.0}
PLAIN = {"slope": 0.0, "factor": 1.0, "dropped": False, "function": "none"}
SOFTMAX = {"axis": 2, "log": False, "mask": "none", "late": False, "temperature": 1.0}
ATTENTION = {"heads": 2, "mask": "none", "scale": 0.5}
CONVOLUTION = {"weight": "K", "axes": (0, 1, 2, 3), "channels": 3, "stride": 2, "out": (4, 4)}
CONVOLUTION |= {"padding": (1, 1), "groups": 1, "beyond": "zeros", "bias": "c", "turned": False}
CONVOLUTION |= {"swapped": False}
POOLING = {"channels": 3, "size": 3, "stride": 2, "out": (4, 4), "padding": (1, 1), "takes": True}
POOLING |= {"counted": True, "function": "none", "order of axes": "none"}
GRU = {"weight": "W3", "recurrent weight": "U3", "turned": False, "bias": "b3"}
GRU |= {"recurrent bias": "c3", "order": "rzn", "after": True, "keeps": True, "forget": 0.0}
GRU |= {"time": 1, "returns": True, "backwards": False}
LSTM = GRU | {"weight": "W4", "recurrent weight": "U4", "bias": "b4", "order": "ifgo"}
LSTM |= {"recurrent bias": "none"}
ROLES = {f"{part} weight": f"{part[0]}W" for part in ("query", "key", "value", "output")}
ROLES |= {f"{part} bias": f"{part[0]}b" for part in ("query", "key", "value", "output")}
ITSELF = ROLES | ATTENTION
TWO, THREE = (ROWS, WIDTH), (ROWS, LENGTH, WIDTH)
SQUARE = (ROWS, LENGTH, LENGTH)
IMAGE, IMAGES = (ROWS, 3, 4, 5), (6, 8, 8, 2)

PLANTED = {
    "epsilon": ("normalisation", TWO, NORM, {"epsilon": 1e-3}, 1e-3),
    "epsilon, small": ("normalisation", THREE, NORM, {"epsilon": 1e-6}, 1e-6),
    "place of epsilon": ("normalisation", TWO, NORM | {"epsilon": 1e-3}, {"place": False}, None),
    "variance": ("normalisation", TWO, NORM, {"variance": False}, None),
    "variance, of a batch": (
        "normalisation",
        TWO,
        NORM | {"over": ("batch", 1, 0)},
        {"variance": False},
        None,
    ),
    "epsilon, of a batch": (
        "normalisation",
        IMAGE,
        NORM | {"over": ("batch", 1, 0), "scale": "c", "shift": "d"},
        {"epsilon": 1e-3},
        1e-3,
    ),
    "normalised over": (
        "normalisation",
        (ROWS, 6, 7),
        NORM | {"over": ("groups", 1, 2), "scale": "none", "shift": "none"},
        {"over": ("groups", 1, 3)},
        None,
    ),
    "mean": ("normalisation", TWO, NORM, {"centred": False}, None),
    "shift": ("normalisation", TWO, NORM, {"shift": "none"}, None),
    "function": (
        "function of single numbers",
        TWO,
        PLAIN | {"function": "GELU by erf"},
        {"function": "GELU by tanh"},
        None,
    ),
    "function, missing": (
        "function of single numbers",
        TWO,
        PLAIN | {"function": "tanh"},
        {"function": "none"},
        None,
    ),
    "function, sloped": (
        "function of single numbers",
        TWO,
        PLAIN | {"function": "leaky ReLU", "slope": 0.01},
        {"slope": 0.2},
        0.2,
    ),
    "factor": (
        "function of single numbers",
        TWO,
        PLAIN | {"factor": 2.0, "dropped": True},
        {"factor": 1.0},
        1.0,
    ),
    "bias": ("dense layer", TWO, DENSE, {"bias": "none"}, None),
    "transposition": ("dense layer", TWO, DENSE, {"transposed": True}, None),
    "weight": ("dense layer", THREE, DENSE | {"function": "tanh"}, {"weight": "V"}, None),
    "temperature": ("softmax", SQUARE, SOFTMAX, {"temperature": 1.5}, 1.5),
    "axis": ("softmax", SQUARE, SOFTMAX, {"axis": 1}, None),
    "mask": ("softmax", SQUARE, SOFTMAX | {"mask": "causal"}, {"mask": "none"}, None),
    "place of the mask": ("softmax", SQUARE, SOFTMAX | {"mask": "causal"}, {"late": True}, None),
    "scale": ("attention", THREE, ATTENTION, {"scale": 1 / math.sqrt(8)}, 1 / math.sqrt(8)),
    "scale, missing": ("attention", THREE, ATTENTION, {"scale": 1.0}, 1.0),
    "heads": ("attention", THREE, ATTENTION, {"heads": 4, "scale": math.sqrt(0.5)}, None),
    "mask, of an attention": (
        "attention",
        THREE,
        ATTENTION | {"mask": "causal"},
        {"mask": "causal, late"},
        None,
    ),
    "order of axes": (
        "flattening",
        IMAGE,
        {"order of axes": (1, 2, 3), "function": "ReLU"},
        {"order of axes": (2, 3, 1)},
        None,
    ),
    "padding": ("convolution", IMAGES, CONVOLUTION, {"padding": (0, 0)}, None),
    "padding, of stride 1": (
        "convolution",
        IMAGES,
        CONVOLUTION | {"stride": 1, "out": (8, 8)},
        {"padding": (2, 2)},
        None,
    ),
    "beyond the edge": ("convolution", IMAGES, CONVOLUTION, {"beyond": "reflection"}, None),
    "padding, counted": (
        "pooling",
        IMAGES,
        POOLING | {"takes": False, "counted": False},
        {"counted": True},
        None,
    ),
    "padding, of a pooling": ("pooling", IMAGES, POOLING, {"padding": (0, 0)}, None),
    "order of axes, of a pooling": (
        "pooling",
        IMAGES,
        POOLING
        | {"padding": (0, 0), "out": (3, 3), "order of axes": (3, 1, 2), "function": "tanh"},
        {"order of axes": (1, 2, 3)},
        None,
    ),
    "kernel": ("convolution", IMAGES, CONVOLUTION, {"turned": True}, None),
    "axes of the kernel": ("convolution", IMAGES, CONVOLUTION, {"swapped": True}, None),
    "bias, of a convolution": ("convolution", IMAGES, CONVOLUTION, {"bias": "none"}, None),
    "takes": ("reduction", THREE, {"axes": (1,), "takes": "mean"}, {"takes": "last"}, None),
    "reset gate": ("recurrent layer", THREE, GRU, {"after": False}, None),
    "order of gates": ("recurrent layer", THREE, GRU, {"order": "zrn"}, None),
    "update gate says": ("recurrent layer", THREE, GRU, {"keeps": False}, None),
    "order of gates, of an LSTM": ("recurrent layer", THREE, LSTM, {"order": "igfo"}, None),
    "added to the forget gate": ("recurrent layer", THREE, LSTM, {"forget": 1.0}, None),
    "time along": ("recurrent layer", THREE, GRU, {"time": 0}, None),
    "query bias": ("attention layer", THREE, ITSELF, {"query bias": "none"}, None),
    "scale, of a layer": ("attention layer", THREE, ITSELF, {"scale": 1.0}, 1.0),
    "second part": (
        "sum",
        TWO,
        {"first": True, "second": True, "function": "none"},
        {"second": False},
        None,
    ),
}
"""By cause: the kind, the shape of its inputs, what it is in the reference and in the run, and the
value that is to be found."""


def parameters(generator):
    shapes = {"W": (8, 8), "V": (8, 8), "b": (8,), "gamma": (8,), "beta": (8,), "c": (3,)}
    shapes |= {"d": (3,), "K": (3, 3, 2, 3), "L": (3, 3, 2, 3)}
    for gates, size in ((3, 6), (4, 6)):
        shapes |= {f"W{gates}": (8, gates * size), f"U{gates}": (size, gates * size)}
        shapes |= {f"{name}{gates}": (gates * size,) for name in "bc"}
    shapes |= {name: (8, 8) if "weight" in role else (8,) for role, name in ROLES.items()}
    found = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    return found | {"gamma": 1 + 0.3 * found["gamma"], "c": 1 + 0.3 * found["c"]}


def searched(kind, shape, options, changed, seed, other=None):
    """The search in a layer that is one thing in the reference and another in the run.

    Its inputs and outputs are float32's in the run. ``other`` is what is done to the output.
    """
    generator, kind = np.random.default_rng(seed), OF[kind]
    reference, run = [], []
    roles = ROLES if kind.name == "attention layer" else {}
    for _ in range(2):
        held = parameters(generator)
        given = {f"input {i}": generator.normal(size=shape) for i in range(kind.arity)}
        near = {n: (X * (1 + UNIT)).astype("float32").astype("float64") for n, X in given.items()}
        kept = (generator.random(shape) < 0.5) * 1.0
        mask = kept if options.get("dropped") else np.ones(shape)
        exact = kind.compute(options, list(given.values()), held, mask)
        received = kind.compute(options | changed, list(near.values()), held, exact)
        received = other(received) if other else received
        received = received.astype("float32").astype("float64")
        reference.append(Step(given, held, exact, exact, roles))
        run.append(Step(near, held, received, exact, roles))
    return LayerSearch(BOUNDS, 4.0, reference, run)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("cause", PLANTED)
def test_what_is_planted_is_found(cause, seed):
    kind, shape, options, changed, value = PLANTED[cause]
    found = searched(kind, shape, options, changed, seed).cause("layer x")
    assert found, cause
    assert found.name == cause.partition(",")[0]
    assert found.value == (None if value is None else pytest.approx(value, rel=1e-9))
    assert found.envelopes <= 4


@pytest.mark.parametrize("cause", PLANTED)
def test_what_is_sound_or_unrelated_has_no_cause(cause):
    kind, shape, options, *_ = PLANTED[cause]
    assert searched(kind, shape, options, {}, 0).cause("layer x") is None

    def unrelated(Y):
        return Y + 1e-3 * np.random.default_rng(7).normal(size=Y.shape)

    assert searched(kind, shape, options, {}, 0, unrelated).cause("layer x") is None
    assert searched(kind, shape, options, {}, 0, lambda Y: np.roll(Y, 1, 0)).cause("x") is None


def test_several_changes_at_once_are_found():
    """The normalisation of the Annotated Transformer: n − 1, and epsilon beside the root."""
    changed = {"variance": False, "place": False, "epsilon": 1e-6}
    found = searched("normalisation", TWO, NORM, changed, 0).cause("layer x")
    assert found.name == "epsilon and place of epsilon and variance"
    assert found.value == 1e-6


def test_what_cannot_be_told_apart_is_said():
    """Of numbers between −1 and 1 a hard tanh is none."""
    search = searched("function of single numbers", TWO, PLAIN | {"function": "tanh"}, {}, 0)
    steps = [
        Step({n: np.tanh(X) for n, X in s.given.items()}, {}, s.target, s.exact) for s in search.run
    ]
    exact = [np.tanh(s.given["input 0"]) for s in steps]
    reference = [Step(s.given, {}, Y, Y) for s, Y in zip(steps, exact, strict=True)]
    run = [
        Step(s.given, {}, s.given["input 0"].astype("float32").astype("float64"), Y)
        for s, Y in zip(steps, exact, strict=True)
    ]
    found = LayerSearch(BOUNDS, 4.0, reference, run).cause("layer x")
    assert found.name == "function"
    assert "none, in the reference tanh or function: ReLU6" not in found.sentence
    assert "hard tanh" in found.sentence
    assert "cannot be told apart" in found.sentence


@pytest.mark.parametrize("changed", [{"epsilon": 1e-3}, {"variance": False}, {"centred": False}])
def test_a_batch_of_which_a_part_is_on_record(changed):
    """Its mean and variance are, whole."""
    kind = OF["normalisation"]
    options = NORM | {"over": ("batch", 1, 0), "scale": "c", "shift": "d"}
    search = searched(kind.name, IMAGE, options, changed, 0)
    sides = []
    for steps in (search.reference, search.run):
        sides.append([])
        for step in steps:
            ((name, X),) = step.given.items()
            held = step.parameters | {f"{MOMENTS}1": moments(X, 1)}
            few = step.target[:3], step.exact[:3]
            sides[-1].append(Step({name: X[:3]}, held, *few))
    found = LayerSearch(BOUNDS, 4.0, *sides).cause("layer x")
    assert found.name == {"centred": "mean"}.get(*changed, *changed)
    assert found.value == changed.get("epsilon")


def test_one_step_that_does_not_fit_leaves_no_cause():
    kind, shape, options, changed, _ = PLANTED["epsilon"]
    search = searched(kind, shape, options, changed, 0)
    first, second = search.run
    other = searched(kind, shape, options, {"epsilon": 1e-4}, 0).run
    assert LayerSearch(BOUNDS, 4.0, search.reference, [first, other[1]]).cause("x") is None
    assert LayerSearch(BOUNDS, 4.0, search.reference, [first, second]).cause("x").value == 1e-3


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.02e-6, 1e-6), (0.35355, 1 / math.sqrt(8)), (0.2999, 0.3), (1.001, 1.001), (2e-9, 0.0)],
)
def test_numbers_that_somebody_would_write(value, expected):
    assert any(found == pytest.approx(expected, rel=1e-9) for found in tidy(value))


def test_formulas_are_those_of_their_sources():
    X = np.linspace(-3, 3, 7)
    assert FUNCTIONS["GELU by erf"](X)[4] == pytest.approx(0.8413447460685429)  # x Φ(x) of 1
    assert np.abs(FUNCTIONS["GELU by tanh"](X) - FUNCTIONS["GELU by erf"](X)).max() < 1e-3
    assert FUNCTIONS["softplus"](X)[3] == pytest.approx(math.log(2))
    Z = normalised(X[None], ("features", 1, 0), 0.0)
    assert Z.std() == pytest.approx(1)
    assert np.abs(Z.mean()) < 1e-15
