"""Layers as they stand: their parameters by canonical names, in the layout of the mathematics."""

import importlib
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.execution.processes import MEMBERS, REFERENCE
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.training.layers import Converter, Entry, part, transposed
from framework_parity.common.training.matching import Wanted, match, symbolic, table
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.arrangement import ORDERS
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, run
from tests.model_files import FOUND

WITH_LAYERS = [name for name in BACKENDS if (ROOT / "tests" / "own_layers" / f"{name}.py").exists()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By backend what each network gave, from the same parameters."""
    folder = tmp_path_factory.mktemp("converters")
    first, *others = sorted(WITH_LAYERS, key=lambda name: -len(list_of_cases(name)))

    def make(name, *reference):
        python = find_environment(discover()[name], None, build=False).python
        words = [python, "-m", "tests.convert_layers", name, folder / name, *reference]
        process = run(words, cache_directory(), cwd=ROOT, seconds=400)
        assert process.returncode == 0, process.stderr
        facts = json.loads((folder / f"{name}.json").read_text())
        assert facts["failed"] == {}
        arrays = np.load(folder / f"{name}.npz")
        return facts["facts"], {tuple(n.split("/")[1:]): arrays[n] for n in arrays if n[:2] == "y/"}

    facts, reference = make(first)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda name: make(name, folder / first)[1], others)
        return facts, reference, dict(zip(others, found, strict=True))


def list_of_cases(name):
    """Cases of a backend, read without its framework: how often a case's name stands there."""
    text = (ROOT / "tests" / "own_layers" / f"{name}.py").read_text()
    return [line for line in text.splitlines() if line.startswith('        "')]


def test_layers_give_the_same_from_the_same_parameters(made):
    _, reference, others = made
    compared = set()
    for name, found in others.items():
        for (case, variant), y in found.items():
            exact = reference[case, ""]
            assert y.dtype == "float64"
            assert y.shape == exact.shape, (name, case, variant)
            assert np.abs(y - exact).max() <= 1e-12, (name, case, variant)
            compared.add(case)
    assert compared == {case for case, _ in reference}


def test_what_a_layer_holds_has_kind_and_role(made):
    facts, *_ = made
    of = {case: [(one["kind"], one["role"]) for one in held] for case, held in facts.items()}
    assert of["lstm"] == [
        ("lstm", "weight"), ("lstm", "recurrent weight"), ("lstm", "bias"),
        ("linear", "weight"), ("linear", "bias"),
    ]  # fmt: skip
    assert ("gru", "recurrent bias") in of["gru of two biases"]
    assert [role for _, role in of["attention"]] == [
        *("query weight", "query bias", "key weight", "key bias", "value weight", "value bias"),
        *("output weight", "output bias"),
    ]
    assert [kind for kind, _ in of["tied"]] == ["embedding", "linear", "linear"]
    assert all(kind and role for held in of.values() for kind, role in held)


# Which is which


def entry(name, layer="", kind="", role="", shape=(3,), trainable=True):
    return Entry(name, layer, kind, role, {name: shape}, trainable=trainable)


def wanted_of(entries):
    return [Wanted.like(entry.name, entry) for entry in entries]


def network(seed, separator, weight):
    """A chain of layers as a framework names them: what is drawn is the same for all."""
    made, draw = [], np.random.default_rng(seed)
    kinds = [("linear", (4, 4)), ("linear", (4, 5)), ("layer norm", (4,))]
    for i in range(draw.integers(1, 9)):
        kind, shape = kinds[draw.integers(3)]
        layer = f"{separator}{i}"
        role = "scale" if kind == "layer norm" else "weight"
        made.append(entry(f"{layer}.{weight}", layer, kind, role, shape))
        if draw.random() < 0.7:
            role = "offset" if kind == "layer norm" else "bias"
            made.append(entry(f"{layer}.b", layer, kind, role, shape[-1:]))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_a_network_is_matched_with_itself_under_other_names(seed):
    first = network(seed, "net.", "weight")
    second = network(seed, "Dense_", "kernel")
    found = match(wanted_of(first), second, {}, "alpha", "beta")
    assert [*found] == [one.name for one in first]
    assert [*found.values()] == second  # each once, in the order of the network
    given = table(second, {}, "beta")
    assert {name: given[name].places.tolist() for name in given} == {
        name: Converter(given).entries[name].places.tolist() for name in given
    }


@pytest.mark.parametrize("seed", range(60))
def test_one_that_lacks_a_partner_is_named_with_its_framework(seed):
    draw = np.random.default_rng(seed)
    first, second = network(seed, "net.", "w"), network(seed, "Dense_", "k")
    gone = int(draw.integers(len(first)))
    whose, other, held = [("alpha", first, second), ("beta", second, first)][seed % 2]
    lonely = held[gone]
    del other[gone]
    with pytest.raises(ParityError) as error:
        match(wanted_of(first), second, {}, "alpha", "beta")
    line = str(error.value)
    (said,) = re.findall("none for (.*); make", line)
    assert said.endswith(f" of {'beta' if whose == 'alpha' else 'alpha'}")
    if lonely.role in ("bias", "offset"):  # its layer has a partner, which lacks it
        assert said.startswith(f"{lonely.name} (")
    else:  # of layers that are alike, one has none
        assert lonely.role in said
    assert said.count(" of ") == 1
    assert "\n" not in line


def test_a_bias_is_that_of_the_layer_with_its_weight():
    """Each side lacks another bias: in their order they would fit each other."""
    first = [entry(f"net.{i}.w", f"net.{i}", "linear", "weight", (4, 4)) for i in range(3)]
    second = [entry(f"D{i}/k", f"D{i}", "linear", "weight", (4, 4)) for i in range(3)]
    first[1:1] = [entry("net.0.b", "net.0", "linear", "bias", (4,))]
    second += [entry("D2/b", "D2", "linear", "bias", (4,))]
    with pytest.raises(ParityError, match=r"none for net.0.b .* of alpha, and none for D2/b"):
        match(wanted_of(first), second, {}, "alpha", "beta")


def test_names_of_the_file_come_first():
    first = [
        entry("a", "a", "linear", "weight", (4, 4)),
        entry("b", "b", "linear", "weight", (4, 4)),
    ]
    second = [
        entry("x", "x", "linear", "weight", (4, 4)),
        entry("y", "y", "linear", "weight", (4, 4)),
    ]
    found = match(wanted_of(first), second, {"a": "y"}, "alpha", "beta")
    assert {name: one.name for name, one in found.items()} == {"a": "y", "b": "x"}
    given = table(first, {"W1": "b"}, "alpha")
    assert {name: one.name for name, one in given.items()} == {"a": "a", "W1": "b"}


def test_equal_paths_come_before_the_order():
    first = [entry("up.w", "up", "linear", "weight"), entry("down.w", "down", "linear", "weight")]
    second = [entry("down.k", "down", "linear", "weight"), entry("up.k", "up", "linear", "weight")]
    found = match(wanted_of(first), second, {}, "alpha", "beta")
    assert {name: one.name for name, one in found.items()} == {"up.w": "up.k", "down.w": "down.k"}


def test_paths_that_are_equal_by_chance_do_not():
    first = [entry(f"net.{i}.w", f"net.{i}", "linear", "weight", (4, 4)) for i in (0, 2, 4)]
    second = [entry(f"net.{i}.w", f"net.{i}", "linear", "weight", (4, 4)) for i in (0, 1, 2)]
    found = match(wanted_of(first), second, {}, "alpha", "beta")
    assert [one.name for one in found.values()] == ["net.0.w", "net.1.w", "net.2.w"]


def test_parameters_by_hand_have_the_partner_of_their_name_or_shape():
    first = [entry("W1", shape=(4, 3)), entry("b1"), entry("b2")]
    second = [
        entry("b2"), entry("b1"), entry("Dense_0/kernel", "Dense_0", "linear", "weight", (4, 3)),
    ]  # fmt: skip
    found = match(wanted_of(first), second, {}, "alpha", "beta")
    assert [one.name for one in found.values()] == ["Dense_0/kernel", "b1", "b2"]


def test_several_of_one_framework_are_one_of_another():
    """Query, key and value, joined in one layer here, and three there."""
    first = [entry("joined", "joined", "linear", "weight", (4, 6))]
    second = [entry(name, name, "linear", "weight", (4, 2)) for name in "qkv"]
    names = {"joined": ["q", "k", "v"]}
    converter = Converter(match(wanted_of(first), second, names, "alpha", "beta"))
    value = np.arange(24.0).reshape(4, 6)
    held = converter.arrange({"joined": value})
    assert {name: array.tolist() for name, array in held.items()} == {
        name: value[:, 2 * i : 2 * i + 2].tolist() for i, name in enumerate("qkv")
    }
    assert np.array_equal(converter.read(held)["joined"], value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"a": "z"}, ["beta: expected NAMES of its parameters", "received z for a"]),
        ({"a": "x", "b": "x"}, ["each once", "received x for b"]),
        ({"c": "x"}, ["NAMES of parameters of alpha: a, b", "received c"]),
        ({"a": ["x", "y"]}, ["none for a (linear weight, 4 × 4) of alpha, and none for x + y"]),
    ],
)
def test_a_wrong_name_is_one_line(names, words):
    first = [
        entry("a", "a", "linear", "weight", (4, 4)),
        entry("b", "b", "linear", "weight", (4, 4)),
    ]
    second = [
        entry("x", "x", "linear", "weight", (4, 4)),
        entry("y", "y", "linear", "weight", (4, 4)),
    ]
    with pytest.raises(ParityError) as error:
        match(wanted_of(first), second, names, "alpha", "beta")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_second_bias_that_is_trained_has_no_partner():
    first = [entry("b", "cells", "lstm", "bias"), entry("c", "cells", "lstm", "recurrent bias")]
    second = [entry("bias", "cells", "lstm", "bias")]
    with pytest.raises(
        ParityError, match=r"none for c .lstm recurrent bias, 3. of alpha; a second"
    ):
        match(wanted_of(first), second, {}, "alpha", "beta")


def test_a_layout_is_undone_whatever_it_is_made_of():
    shape = (6, 4)
    entries = {
        role: Entry(role, "", "attention", role, {"joined": shape}, part(i, 3, transposed))
        for i, role in enumerate("qkv")
    }
    converter, joined = Converter(entries), np.arange(24.0).reshape(shape)
    parameters = converter.read({"joined": joined})
    assert np.array_equal(parameters["k"], joined[2:4].T)
    assert np.array_equal(converter.arrange(parameters)["joined"], joined)
    assert converter.of_layer("") == entries


def test_features_and_classes_are_axes_of_the_first_and_the_last_layer():
    first = [
        entry("w", "a", "linear", "weight", (64, 10)), entry("b", "a", "linear", "bias", (10,)),
        entry("v", "c", "linear", "weight", (10, 10)), entry("d", "c", "linear", "bias", (10,)),
    ]  # fmt: skip
    assert symbolic(wanted_of(first), 64, 10) == {
        "w": ("inputs", 10), "b": (10,), "v": (10, "outputs"), "d": ("outputs",)
    }  # fmt: skip
    assert symbolic(wanted_of(first), 10, 64)["w"] == (64, 10)
    assert symbolic(wanted_of(first[2:]), 10, 10)["v"] == ("inputs", "outputs")


# A whole comparison


STANDING = {name: found["STANDING"] for name, found in FOUND.items() if "STANDING" in found}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A file without PARAMETERS: its report, where one framework is compared with itself."""
    folder = tmp_path_factory.mktemp("standing")
    first = max(WITH_LAYERS, key=lambda name: len(list_of_cases(name)))
    names = [first, *(name for name in STANDING if name != first)]
    for bias in (True, False):
        texts = [STANDING[name][0].replace("BIAS", str(bias or name == first)) for name in names]
        (folder / f"bias_{bias}.py").write_text("".join(texts))
    words = [first, "--data", "digits", "--max-epochs", "2", "--batch-size", "479", "--quiet"]
    words += ["--lr", "0.3", "--out", folder / "out"]
    process = run(
        [*COMPARE, "model", folder / "bias_True.py", *words], cache_directory(), seconds=400
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, names


@pytest.mark.parametrize("name", STANDING)
def test_a_network_of_layers_is_compared_as_it_stands(compared, name):
    folder, (first, *_) = compared
    out = folder / "out"
    plan = Plan.load(out / "plan")
    reference = Record.load(out / "reference" / REFERENCE)
    members = [Record.load(out / "reference" / member) for member in MEMBERS]
    judge = ModelJudge.measure(plan, plan.data(), reference, members)
    assert reference.facts["orders"] == [*ORDERS]  # features and classes, though nobody names them
    facts = json.loads((out / "report.json").read_text())["model"]
    assert facts["parameters"]["net.0.weight"] == ["inputs", 16]
    assert facts["parameters"]["net.5.bias"] == ["outputs"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<tr><th scope="row">net.5.bias</th><td>outputs</td><td>net.5.bias</td></tr>' in page
    initial = reference.states()[0]
    assert (initial["net.2.weight"] == 1).all()  # the scale of a norm
    assert not initial["net.0.bias"].any()
    assert 0.8 < initial["net.0.weight"].std() * np.sqrt(64) < 1.2
    if name == first:
        return
    python = find_environment(discover()[name], None, build=False).python
    (folder / name).mkdir()  # records stand beside the files
    files = [
        shutil.copy(folder / f"bias_{bias}.py", folder / name / f"bias_{bias}.py")
        for bias in (True, False)
    ]
    command = [python, "-m", "tests.train_models", name, out / "plan", *files]
    process = run(command, cache_directory(), cwd=ROOT, seconds=400)
    assert process.returncode == 0, process.stderr
    reasons = json.loads(process.stdout.splitlines()[-1])
    assert reasons[str(files[0])] is None, reasons
    record = Record.load(files[0].with_suffix(""))
    assert record.facts["own_names"]["net.5.bias"] == STANDING[name][1]
    steps = [found for found in judge.ladder.findings(record) if found.tensor != "example_loss"]
    assert {found.stage for found in steps} >= {"forward", "gradient", "update"}
    worst = max(steps, key=lambda found: found.envelopes)
    assert worst.envelopes < 16, worst  # a parameter in another place is off by thousands
    assert any("velocity of net.3.weight" in str(found.tensor) for found in steps)
    line = reasons[str(files[1])]
    assert f"received none for net.5.bias (linear bias, 10) of {first}; make" in line


def test_a_model_by_hand_has_entries_as_it_names_its_parameters():
    """Those of a backend without layers of its own: by name, in the layout of ``names``."""
    d2l = importlib.import_module(f"framework_parity.backends.{PLAIN}")

    class Mine(d2l.Classifier):
        def __init__(self):
            self.names = {"W": "kept.T", "b": "b"}
            self.kept, self.b = np.arange(6.0).reshape(2, 3), np.zeros(2)

    model = Mine()
    before = model.get_parameters()
    model.convert(Converter({f"their {e.name}": e for e in model.entries(np.zeros((2, 3)))}))
    after = model.get_parameters()
    assert {name: value.tolist() for name, value in after.items()} == {
        f"their {name}": value.tolist() for name, value in before.items()
    }
    model.set_parameters({"their W": 2 * after["their W"]})
    assert model.kept.tolist() == (2 * np.arange(6.0).reshape(2, 3)).tolist()
