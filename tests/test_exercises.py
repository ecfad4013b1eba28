"""Number formats, and what the book's exercises ask of every framework."""

import math
from pathlib import Path

import numpy as np
import pytest

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.number_formats import (
    FORMATS,
    Floating,
    last_holding,
    limits_of_exp,
)
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import Environment
from framework_parity.common.notebook import exercises
from framework_parity.common.notebook.exercises import ask, limits, sweep
from framework_parity.common.reference.replay import Training
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from tests.conftest import BACKENDS
from tests.helpers import FRAMEWORKS, PLAIN

# The formats themselves


def test_float16_number_by_number():
    numbers = FORMATS["FP16"]
    expected = np.arange(numbers.last + 1, dtype=np.uint16).view(np.float16)
    assert [numbers.value(i) for i in range(numbers.last + 1)] == expected.tolist()
    assert np.isinf(np.array(numbers.last + 1, np.uint16).view(np.float16))


PATTERNS = [
    ("FP64", "uint64", "float64", 0),
    ("FP32", "uint32", "float32", 0),
    ("TF32", "uint32", "float32", 13),
    ("BF16", "uint32", "float32", 16),
]
"""Formats as the leading bits of a type that NumPy has, and how many bits they leave out."""


@pytest.mark.parametrize(("name", "bits", "dtype", "dropped"), PATTERNS)
def test_numbers_are_the_bit_patterns_in_order(name, bits, dtype, dropped):
    numbers = FORMATS[name]
    places = {int(place) for place in np.geomspace(1, numbers.last / 2, 500)}
    for place in (0, *places, numbers.last):
        pattern = np.array(place << dropped, bits).view(dtype)
        assert numbers.value(place) == float(pattern)


def test_ranges_of_the_formats():
    assert FORMATS["FP32"].largest == np.finfo(np.float32).max
    assert FORMATS["FP32"].smallest_normal == np.finfo(np.float32).tiny
    assert FORMATS["FP16"].largest == 65504
    assert (FORMATS["INT8"].largest, FORMATS["INT8"].smallest) == (127, 1)
    assert round(FORMATS["INT8"].decibels, 2) == 42.08
    assert FORMATS["FP32"].decibels == pytest.approx(20 * math.log10((2 - 2**-23) * 2.0**276))


def test_bisection_finds_the_last():
    for last in (1, 2, 9, 10):
        for wanted in range(last + 1):
            assert last_holding(lambda i, wanted=wanted: i <= wanted, last) == wanted


def test_limits_are_those_of_trying_every_number():
    with np.errstate(over="ignore", under="ignore"):
        found = limits_of_exp("FP16", lambda value: float(np.exp(np.float16(value))))
        numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
        numbers = numbers[np.isfinite(numbers)]
        powers = np.exp(numbers)
    assert found["largest"] == numbers[np.isfinite(powers)].max()
    assert found["smallest"] == numbers[powers > 0].min()
    assert found["smallest_normal"] == numbers[powers >= 2.0**-14].min()


def test_integers_that_wrap_overflow():
    found = limits_of_exp("INT8", lambda value: float((int(math.exp(value)) + 128) % 256 - 128))
    assert found == {"largest": 4.0, "smallest": 0.0, "smallest_normal": None}


# The frameworks


@pytest.fixture(scope="module")
def answers():
    return limits()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("number_format", FORMATS)
def test_limits_of_a_framework(answers, name, number_format):
    found = answers[name][number_format]
    numbers = FORMATS[number_format]
    if number_format not in ("FP64", "FP32", "TF32", "FP16"):  # not every framework has the others
        assert found.get("reason") or found["smallest"] <= 0 < found["largest"]
        return
    assert found["type"] == {"FP64": "float64", "FP16": "float16"}.get(number_format, "float32")
    assert isinstance(numbers, Floating)
    # What a format cannot resolve it cannot be asked for: one number more or less at each end.
    highest, normal = math.log(numbers.largest), math.log(numbers.smallest_normal)
    spacing = 2.0 ** (6 - numbers.mantissa_bits) * max(1, highest / 64)
    assert found["largest"] == pytest.approx(highest, abs=spacing)
    assert found["smallest_normal"] == pytest.approx(normal, abs=spacing)
    result = FORMATS["FP32" if number_format == "TF32" else number_format]
    lowest = math.log(result.smallest) - math.log(2)
    # Some make zero of all that is below the smallest normal number; the others go on.
    assert lowest - spacing <= found["smallest"] <= found["smallest_normal"]


def test_every_framework_trains_the_sweep_on_the_same_plans(tmp_path):
    recipes = [Recipe("synthetic:300x8x3", batch_size=64, lr=lr, max_epochs=2) for lr in (0.1, 0.5)]
    found = sweep(recipes)
    assert sorted(found) == sorted(name for name in FRAMEWORKS if name in BACKENDS)
    for i, recipe in enumerate(recipes):
        folder, data, _ = open_data(recipe.data, recipe.batch_size)
        oracle = Training(Plan.make(recipe, data, Path(folder)), data).run()
        for answer in found.values():
            history = answer["histories"][i]
            np.testing.assert_allclose(history["val_loss"], oracle.val_loss, atol=1e-5)
            np.testing.assert_allclose(history["val_accuracy"], oracle.val_accuracy, atol=1e-6)


def test_an_environment_that_cannot_be_had_is_an_answer(monkeypatch):
    def none(backend):
        return Environment(backend.name, None, reason="no room")

    monkeypatch.setattr(exercises, "find_environment", none)
    assert limits([PLAIN]) == {PLAIN: {"failed": "no room"}}


def test_a_process_that_fails_is_an_answer():
    (answer,) = ask("sweep", [PLAIN], plans=["/nowhere"], implementation="concise").values()
    assert "expected a plan" in answer["failed"]


def test_unknown_backends_are_refused():
    with pytest.raises(ParityError, match="expected some of"):
        limits(["thano"])
