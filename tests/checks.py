"""What users rely on in every backend; run inside the backend's own interpreter.

``python -m tests.checks BACKEND`` reads names of checks from standard input, one a line, and
answers each with a JSON line: nothing wrong, or the traceback. One process serves a whole test
run, so that a framework is imported once. Needs NumPy and the standard library only.
"""

import importlib
import importlib.util
import json
import sys
import threading
import traceback
import warnings
from pathlib import Path

import numpy as np

from framework_parity.common.core.arrays import aligned
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.standard_output import claim_stdout
from framework_parity.common.reference.replay import Training
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

IMPLEMENTATIONS = ("scratch", "concise")


def arrays(tensor):
    """A framework's tensor as NumPy."""
    for name in ("detach", "asnumpy", "numpy"):
        if hasattr(tensor, name):
            tensor = getattr(tensor, name)()
    return np.asarray(tensor)


class Fixture:
    """A small problem, the backend's tensors and its two models."""

    def __init__(self, name):
        self.d2l = importlib.import_module(f"framework_parity.backends.{name}")
        self.name = name
        self.random = np.random.default_rng(0)

    def offered(self, place):
        """The backend's module in a package of optional ones."""
        name = f"{place}.{self.name}"
        if importlib.util.find_spec(name) is None:
            raise ParityError("not offered", name, "no such module")
        return importlib.import_module(name)

    @property
    def chapters(self):
        """The book's sections, where the backend has them."""
        return self.offered("framework_parity.benchmarks.chapters")

    def problem(self, num_train=100, num_inputs=6, num_outputs=3, num_val=20, **options):
        X = self.random.standard_normal((num_train + num_val, num_inputs)).astype(np.float32)
        map_ = np.random.default_rng(9).standard_normal((num_inputs, num_outputs))
        y = (X @ map_).argmax(axis=1).astype(np.int32)
        return self.d2l.DataModule(
            X[:num_train],
            y[:num_train],
            X[num_train:],
            y[num_train:],
            num_outputs=num_outputs,
            **options,
        )

    def tensors(self, X, y):
        return self.problem().tensors(np.asarray(X, np.float32), np.asarray(y, np.int32))

    def model(self, implementation, data, lr=0.1):
        if implementation == "scratch":
            return self.d2l.SoftmaxRegressionScratch(data.num_inputs, data.num_outputs, lr)
        return self.d2l.SoftmaxRegression(data.num_outputs, lr)

    def parameters(self, data, dtype="float32"):
        W = 0.01 * np.random.default_rng(1).standard_normal((data.num_inputs, data.num_outputs))
        return {"W": W.astype(dtype), "b": np.zeros(data.num_outputs, dtype)}

    def orders(self, data, epochs):
        random = np.random.default_rng(2)
        return [random.permutation(data.num_train).astype(np.int32) for _ in range(epochs)]

    def fit(self, model, data, epochs=2, dtype="float32", **options):
        trainer = self.d2l.Trainer(epochs, **options)
        trainer.fit(
            model,
            data,
            orders=self.orders(data, epochs),
            parameters=self.parameters(data, dtype),
            dtype=dtype,
        )
        return trainer


# The small pieces that a reader starts with


def softmax_rows_are_probabilities(fixture):
    X, _ = fixture.tensors(fixture.random.standard_normal((5, 4)), range(5))
    for stable in (False, True):
        o = arrays(fixture.d2l.softmax(X, stable=stable))
        assert o.shape == (5, 4)
        assert (o > 0).all()
        np.testing.assert_allclose(o.sum(axis=1), 1, rtol=1e-6)


def softmax_is_plain_and_its_stable_form_survives_large_logits(fixture):
    X, _ = fixture.tensors([[100.0, 0.0], [-200.0, -200.0]], [0, 0])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        plain = arrays(fixture.d2l.softmax(X))
    stable = arrays(fixture.d2l.softmax(X, stable=True))
    assert np.isnan(plain).any()
    np.testing.assert_allclose(stable, [[1, 0], [0.5, 0.5]], atol=1e-6)


def cross_entropy_of_the_books_example(fixture):
    y_hat, y = fixture.tensors([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [0, 2])
    for function in (fixture.d2l.cross_entropy, fixture.d2l.cross_entropy_one_hot):
        assert round(float(arrays(function(y_hat, y))), 4) == 1.4979


def cross_entropy_of_each_example(fixture):
    y_hat, y = fixture.tensors([[0.1, 0.3, 0.6], [0.3, 0.2, 0.5]], [0, 2])
    for function in (fixture.d2l.cross_entropy, fixture.d2l.cross_entropy_one_hot):
        losses = arrays(function(y_hat, y, averaged=False))
        np.testing.assert_allclose(losses, -np.log([0.1, 0.5]), rtol=1e-6)


def batches_are_tensors_of_the_framework(fixture):
    data = fixture.problem(batch_size=32)
    sizes = [len(arrays(y)) for _, y in data.train_dataloader()]
    assert sizes == [32, 32, 32, 4]
    X, y = next(iter(data.val_dataloader()))
    np.testing.assert_array_equal(arrays(X), data.X_val)
    np.testing.assert_array_equal(arrays(y), data.y_val)


def tensors_are_made_and_read_by_the_books_names(fixture):
    d2l = fixture.d2l
    for values, dtype in (([[1.5, 2.0], [3.0, 4.0]], "float32"), ([2, 0, 1], "int")):
        given = np.array(values, np.float32) if dtype == "float32" else values
        for tensor in (d2l.tensor(values), d2l.tensor(given)):
            received = d2l.numpy(tensor)
            np.testing.assert_array_equal(received, values)
            assert received.dtype.name.startswith(dtype)
    o = d2l.numpy(d2l.softmax(d2l.tensor([[0.0, 0.0]])))
    np.testing.assert_allclose(o, [[0.5, 0.5]])


# The contract, per implementation


def parameters_make_the_round_trip(fixture, implementation):
    data = fixture.problem()
    model = fixture.model(implementation, data)
    given = fixture.parameters(data)
    model.set_parameters(given)
    received = model.get_parameters()
    assert set(received) == {"W", "b"}
    for name, value in given.items():
        np.testing.assert_array_equal(received[name], value)
        assert received[name].dtype == value.dtype
    received["W"][:] = 7
    np.testing.assert_array_equal(model.get_parameters()["W"], given["W"])


def loss_falls_and_history_is_complete(fixture, implementation):
    data = fixture.problem(batch_size=16)
    model = fixture.model(implementation, data)
    trainer = fixture.fit(model, data, epochs=3)
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert len(trainer.history[name]) == 3
        assert np.isfinite(trainer.history[name]).all()
    assert trainer.history["train_loss"][-1] < trainer.history["train_loss"][0]
    assert trainer.step_loss.shape == trainer.step_accuracy.shape == (21,)
    accuracy = fixture.d2l.evaluate_accuracy(model, data)
    np.testing.assert_allclose(accuracy, trainer.history["val_accuracy"][-1], rtol=1e-6)


def training_follows_the_reference(fixture, implementation, dtype="float32", tolerance=2e-5):
    data = fixture.problem(batch_size=16)
    for size in (16, 1, 99, 100, 1000):  # short last batch, one example, one left, exact, too large
        data.batch_size = size
        recipe = Recipe("small", size, 0.1, 3, dtype=dtype)
        drawn = Plan.make(recipe, data, Path())
        initial = fixture.parameters(data, dtype)
        plan = Plan(recipe, Path(), "", initial["W"], initial["b"], drawn.order)
        oracle = Training(plan, data).run()
        model = fixture.model(implementation, data)
        trainer = fixture.d2l.Trainer(3)
        trainer.fit(model, data, orders=plan.order, parameters=initial, dtype=dtype)
        received = model.get_parameters()
        for name, exact in oracle.parameters.items():
            # A rate in float32, as in MXNet, is off by 1e-8 of what an entry moves, not of it.
            most = tolerance + 1e-7 * np.abs(exact[-1]).max()
            np.testing.assert_allclose(received[name], exact[-1], rtol=0, atol=most)
        np.testing.assert_allclose(trainer.step_loss, oracle.step_loss, atol=tolerance)
        np.testing.assert_allclose(trainer.step_accuracy, oracle.step_accuracy, atol=1e-6)
        np.testing.assert_allclose(trainer.history["val_loss"], oracle.val_loss, atol=tolerance)
        np.testing.assert_allclose(trainer.history["val_accuracy"], oracle.val_accuracy, atol=1e-6)


def float64_training_follows_the_reference(fixture, implementation):
    training_follows_the_reference(fixture, implementation, "float64", 1e-12)


def gradients_are_those_of_finite_differences(fixture, implementation):
    data = fixture.problem(num_inputs=3)
    model = fixture.model(implementation, data)
    trainer = fixture.fit(model, data, dtype="float64")
    X, y = (array[:9] for array in data.examples(train=True, dtype="float64"))
    at = {
        name: value + 0.3 * fixture.random.standard_normal(value.shape)
        for name, value in fixture.parameters(data, "float64").items()
    }
    found = trainer.probe(at, X, y)
    for name, value in at.items():
        for i in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = {key: array.copy() for key, array in at.items()}
                moved[name][i] += sign * 1e-6
                ends.append(float(trainer.probe(moved, X, y)["loss"]))
            slope = (ends[0] - ends[1]) / 2e-6
            assert abs(slope - found[f"gradient/{name}"][i]) < 1e-8, (name, i)


def probe_shows_every_stage_and_leaves_no_trace(fixture, implementation):
    data = fixture.problem()
    model = fixture.model(implementation, data, lr=0.5)
    trainer = fixture.fit(model, data)
    before = model.get_parameters()
    at = fixture.parameters(data)
    X, y = (array[:9] for array in data.examples(train=True))
    found = trainer.probe(at, X, y)
    np.testing.assert_array_equal(found["data/X"], X)
    np.testing.assert_array_equal(found["data/y"], y)
    assert found["forward/y_hat"].shape == (9, 3)
    assert found["example_loss"].shape == (9,)
    np.testing.assert_allclose(found["loss"], found["example_loss"].mean(), rtol=1e-6)
    accuracy = np.mean(found["forward/y_hat"].argmax(axis=1) == y)
    np.testing.assert_allclose(found["metric/accuracy"], accuracy, rtol=1e-6)
    for name, value in at.items():
        expected = value - np.float32(0.5) * found[f"gradient/{name}"]
        np.testing.assert_allclose(found[f"update/{name}"], expected, atol=1e-7)
        np.testing.assert_array_equal(model.get_parameters()[name], before[name])
    again = trainer.probe(at, X, y)
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value)


def what_forward_names_is_a_rung_and_leaves_no_trace(fixture, implementation):
    data = fixture.problem()
    kept = fixture.model(implementation, data)
    base = type(kept)

    place = "__call__" if "__call__" in vars(base) else "forward"

    def forward(self, X):
        return self.named("b/c", self.named("a", self.named("a", getattr(base, place)(self, X))))

    given = (data.num_inputs, 3, 0.1) if implementation == "scratch" else (3, 0.1)
    model = type("Named", (base,), {place: forward})(*given)
    trainer = fixture.fit(model, data)
    before, at = model.get_parameters(), fixture.parameters(data)
    X, y = trainer.training_batch(np.arange(9, dtype=np.int32))
    found = trainer.activations(at, X)
    assert [*found][-3:] == ["a", "a#2", "b.c"]
    y_hat = trainer.probe(at, X, y)["forward/y_hat"]
    for name in ("a", "a#2", "b.c"):
        np.testing.assert_allclose(found[name].values, y_hat, atol=1e-6)
    for name, value in model.get_parameters().items():
        np.testing.assert_array_equal(value, before[name])
    plain = fixture.fit(kept, data)
    np.testing.assert_array_equal(trainer.step_loss, plain.step_loss)


def probe_is_a_training_step(fixture, implementation):
    data = fixture.problem(num_train=32, batch_size=32)
    model = fixture.model(implementation, data)
    trainer = fixture.d2l.Trainer(1)
    order = np.arange(32, dtype=np.int32)
    initial = fixture.parameters(data)
    trainer.fit(model, data, orders=[order], parameters=initial)
    found = trainer.probe(initial, *trainer.training_batch(order))
    np.testing.assert_allclose(found["loss"], trainer.step_loss[0], rtol=1e-6)
    for name, value in model.get_parameters().items():
        np.testing.assert_allclose(found[f"update/{name}"], value, atol=1e-8)


def pauses_change_nothing(fixture, implementation):
    data = fixture.problem(batch_size=16)
    final = []
    for pauses in ((), (1, 2, 5, 6, 7, 9)):
        model = fixture.model(implementation, data)
        seen = []
        trainer = fixture.fit(
            model, data, pauses=pauses, callbacks=[lambda t, p, seen=seen: seen.append(p.step)]
        )
        assert set(pauses) <= set(seen)
        final.append((model.get_parameters(), trainer.step_loss))
    (one, one_loss), (other, other_loss) = final
    np.testing.assert_array_equal(one["W"], other["W"])
    np.testing.assert_array_equal(one_loss, other_loss)


def watching_what_is_fed_changes_nothing(fixture, implementation):
    data = fixture.problem(batch_size=16, num_inputs=200)
    v, final = np.linspace(-1, 1, 200, dtype=np.float32), []
    for watched in (None, v):
        model, trainer = fixture.model(implementation, data), fixture.d2l.Trainer(2)
        trainer.watched = watched
        orders = fixture.orders(data, 2)
        trainer.fit(model, data, orders=orders, parameters=fixture.parameters(data))
        final.append((model.get_parameters(), trainer.step_loss))
    (one, one_loss), (other, other_loss) = final
    np.testing.assert_array_equal(one["W"], other["W"])
    np.testing.assert_array_equal(one["b"], other["b"])
    np.testing.assert_array_equal(one_loss, other_loss)
    if trainer.fed:  # a backend need not watch
        X, y, sizes = map(np.concatenate, zip(*trainer.fed, strict=True))
        rows = np.concatenate(orders)
        np.testing.assert_allclose(X, data.X_train[rows] @ v, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(y, data.y_train[rows])
        assert sizes.tolist() == [16, 16, 16, 16, 16, 16, 4] * 2


def batches_are_gathered_by_row(fixture, implementation):
    data = fixture.problem()
    trainer = fixture.fit(fixture.model(implementation, data), data)
    rows = np.array([5, 3, 99], dtype=np.int32)
    X, y = trainer.training_batch(rows)
    np.testing.assert_array_equal(X, data.X_train[rows])
    np.testing.assert_array_equal(y, data.y_train[rows])


def predictions_are_those_of_the_parameters(fixture, implementation):
    data = fixture.problem()
    model = fixture.model(implementation, data)
    trainer = fixture.fit(model, data)
    y_hat = np.concatenate([trainer.predict(X) for X, _ in trainer.validation_batches(7)])
    found = model.get_parameters()
    logits = data.X_val @ found["W"] + found["b"]
    np.testing.assert_array_equal(y_hat.argmax(axis=1), logits.argmax(axis=1))
    assert len([1 for _ in trainer.validation_batches(7)]) == 3


def loops_by_hand_train_as_the_trainer(fixture):
    pixels = fixture.random.integers(0, 256, (100, 12)).astype(np.uint8)
    y = (pixels[:, 0] // 86).astype(np.int32)
    data = fixture.d2l.DataModule(
        pixels, y, pixels, y, divisor=255, image_shape=(4, 3), num_outputs=3, batch_size=32
    )
    orders, initial = fixture.orders(data, 2), fixture.parameters(data)
    model = fixture.model("concise", data)
    trainer = fixture.d2l.Trainer(2)
    trainer.fit(model, data, orders=orders, parameters=initial)
    expected, (X, y) = model.get_parameters(), data.examples(train=True)
    module = fixture.offered("framework_parity.benchmarks.raw_loops")
    assert {"idiomatic scratch", "idiomatic concise"} <= set(module.LOOPS)
    for name, make in module.LOOPS.items():
        start = {key: value.copy() for key, value in initial.items()}
        if name.endswith("loader"):
            loop = make(aligned(pixels.copy()), y, start, 0.1, 32, data.image_shape, data.divisor)
        else:
            loop = make(aligned(X.copy()), y, start, 0.1, 32)
        losses, correct = zip(*[loop.epoch(order) for order in orders], strict=True)
        np.testing.assert_allclose(np.concatenate(losses), trainer.step_loss, 1e-4, err_msg=name)
        assert [int(c.sum()) for c in correct] == [
            round(100 * a) for a in trainer.history["train_accuracy"]
        ], name
        for key, value in loop.get_parameters().items():
            np.testing.assert_allclose(value, expected[key], 1e-4, 1e-6, err_msg=name)


def a_gpu_that_the_framework_does_not_see_is_refused(fixture):
    said = ""  # the process was started so that it sees none
    try:
        fixture.d2l.Trainer.use_device("gpu")
    except ParityError as error:
        said = str(error)
    assert said.startswith("device: expected ")
    assert "; received " in said


def what_only_this_backend_has(fixture):
    for check in fixture.offered("tests.own_checks").CHECKS:
        check()


def examples_in_chunks_train_the_same(fixture, implementation):
    data = fixture.problem(batch_size=8)
    parameters = []
    for memory_bytes in (data.memory_bytes, 0):
        data.memory_bytes = memory_bytes
        data.chunk_bytes = 2 * 8 * 4 * data.num_inputs  # two batches: the last chunk is short
        assert data.is_large == (memory_bytes == 0)
        model = fixture.model(implementation, data)
        trainer = fixture.fit(model, data)
        assert trainer.step_loss.shape == (2 * 13,)
        parameters.append(model.get_parameters())
    for name, value in parameters[0].items():
        np.testing.assert_allclose(parameters[1][name], value, rtol=1e-5, atol=1e-7)


def one_class_and_one_example(fixture, implementation):
    for shape in ({"num_outputs": 1}, {"num_train": 1, "num_val": 1}):
        data = fixture.problem(batch_size=1, **shape)
        trainer = fixture.fit(fixture.model(implementation, data), data, epochs=1)
        assert np.isfinite(trainer.step_loss).all()


def ties_go_to_the_lowest_class(fixture, implementation):
    data = fixture.problem()
    model = fixture.model(implementation, data)
    trainer = fixture.fit(model, data)
    zero = {name: np.zeros_like(value) for name, value in fixture.parameters(data).items()}
    X, y = (array[:9] for array in data.examples(train=True))
    found = trainer.probe(zero, X, y)
    np.testing.assert_allclose(found["metric/accuracy"], np.mean(y == 0), rtol=1e-6)


def a_second_fit_starts_afresh(fixture, implementation):
    data = fixture.problem(batch_size=16)
    model = fixture.model(implementation, data)
    first = fixture.fit(model, data)
    second = fixture.fit(model, data)
    np.testing.assert_array_equal(first.step_loss, second.step_loss)
    first.fit(model, data, orders=fixture.orders(data, 2), parameters=fixture.parameters(data))
    np.testing.assert_array_equal(first.step_loss, second.step_loss)


def own_random_initial_parameters_train(fixture, implementation):
    data = fixture.problem(batch_size=16)
    model = fixture.model(implementation, data, lr=0.5)
    trainer = fixture.d2l.Trainer(5)
    trainer.fit(model, data)
    assert trainer.history["train_loss"][-1] < trainer.history["train_loss"][0]


# The book's chapters, as a reader types them


def chapter_from_scratch(fixture):
    run_chapter(fixture, fixture.chapters.scratch)


def chapter_concise(fixture):
    run_chapter(fixture, fixture.chapters.concise)


def run_chapter(fixture, chapter):
    """Train by the book, predict the first validation batch, show what is wrong in it."""
    import matplotlib

    # The book's code calls what one framework's own indexing has deprecated.
    warnings.filterwarnings("ignore", "ndarray.as_in_context has been renamed", DeprecationWarning)
    matplotlib.use("agg")
    from matplotlib import pyplot

    data = fixture.d2l.FashionMNIST(batch_size=256)
    model = chapter(fixture.d2l, num_inputs=784, num_outputs=10, lr=0.1)
    trainer = fixture.d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    assert trainer.history["val_accuracy"][-1] > 0.7
    X, y, preds = fixture.chapters.predict(model, trainer, data)
    assert len(arrays(preds)) == 256
    assert np.mean(arrays(preds) == arrays(y)) > 0.7
    wrong, labels, axes = fixture.chapters.show_wrong(data, X, y, preds)
    assert len(arrays(wrong[1])) == int((arrays(preds) != arrays(y)).sum()) == len(labels)
    titles = [axis.get_title() for axis in np.asarray(axes).flat]
    assert titles[0] == labels[0]
    true, predicted = labels[0].split("\n")
    assert true != predicted
    assert {true, predicted} <= set(data.labels)
    pyplot.close("all")


def a_two_layer_classifier_trains(fixture):
    data = fixture.problem(num_train=400, batch_size=32)
    model = fixture.chapters.two_layers(fixture.d2l, 6, 16, 3, lr=0.5)
    trainer = fixture.d2l.Trainer(15)
    trainer.fit(model, data)
    assert trainer.history["val_accuracy"][-1] > 0.8
    parameters = model.get_parameters()
    assert sorted(value.size for value in parameters.values()) == [3, 16, 48, 96]
    X, y = (array[:9] for array in data.examples(train=True))
    found = trainer.probe(parameters, X, y)
    for name, value in parameters.items():
        assert found[f"gradient/{name}"].shape == value.shape
        assert not np.array_equal(found[f"update/{name}"], value)


def optimizers_can_be_exchanged(fixture):
    """By-hand SGD in concise, the framework's in scratch: the same training as ever."""
    data = fixture.problem(batch_size=16)
    for implementation, chapter in (
        ("concise", fixture.chapters.concise_with_sgd_by_hand),
        ("scratch", fixture.chapters.scratch_with_framework_sgd),
    ):
        usual = fixture.model(implementation, data)
        fixture.fit(usual, data)
        model = chapter(fixture.d2l, num_inputs=6, num_outputs=3, lr=0.1)
        trainer = fixture.fit(model, data)
        assert type(trainer.optim) is not type(fixture.fit(usual, data).optim)
        np.testing.assert_allclose(
            model.get_parameters()["W"], usual.get_parameters()["W"], atol=1e-6
        )


def a_seed_decides_whatever_was_drawn_before(fixture, implementation):
    """Runs that share a process must not share their chance."""
    data, histories = fixture.problem(batch_size=32), []
    for _ in range(2):
        fixture.d2l.seed(3)
        trainer = fixture.d2l.Trainer(2)
        trainer.fit(fixture.model(implementation, data), data)
        histories.append((trainer.step_loss.tolist(), trainer.history))
        trainer.shuffle(10)
    assert histories[0] == histories[1]


def another_thread_does_the_same(fixture, implementation):
    """As a notebook's widget or a server's handler calls: models made there, and made before."""
    data, before, made = fixture.problem(batch_size=32), [], []
    before.append(fixture.model(implementation, data))

    def work():
        try:
            batch = next(iter(data.val_dataloader()))
            for model in (before[0], fixture.model(implementation, data)):
                made.append(fixture.fit(model, data))
                made.append(arrays(made[-1].predict(next(made[-1].validation_batches(20))[0])))
            assert len(arrays(batch[1])) == 20
        except Exception:
            made.append(traceback.format_exc())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(made) == 4, made[-1]
    here = fixture.fit(fixture.model(implementation, data), data)
    y_hat = here.predict(next(here.validation_batches(20))[0])
    for trainer, predicted in (made[:2], made[2:]):
        np.testing.assert_array_equal(trainer.step_loss, here.step_loss)
        assert trainer.history == here.history
        np.testing.assert_array_equal(predicted, arrays(y_hat))


CHECKS = [
    softmax_rows_are_probabilities,
    softmax_is_plain_and_its_stable_form_survives_large_logits,
    cross_entropy_of_the_books_example,
    cross_entropy_of_each_example,
    batches_are_tensors_of_the_framework,
    tensors_are_made_and_read_by_the_books_names,
    chapter_from_scratch,
    chapter_concise,
    a_two_layer_classifier_trains,
    optimizers_can_be_exchanged,
    loops_by_hand_train_as_the_trainer,
    a_gpu_that_the_framework_does_not_see_is_refused,
    what_only_this_backend_has,
]
IMPLEMENTATION_CHECKS = [
    examples_in_chunks_train_the_same,
    parameters_make_the_round_trip,
    loss_falls_and_history_is_complete,
    training_follows_the_reference,
    float64_training_follows_the_reference,
    gradients_are_those_of_finite_differences,
    probe_shows_every_stage_and_leaves_no_trace,
    what_forward_names_is_a_rung_and_leaves_no_trace,
    probe_is_a_training_step,
    pauses_change_nothing,
    watching_what_is_fed_changes_nothing,
    batches_are_gathered_by_row,
    predictions_are_those_of_the_parameters,
    one_class_and_one_example,
    ties_go_to_the_lowest_class,
    a_second_fit_starts_afresh,
    own_random_initial_parameters_train,
    a_seed_decides_whatever_was_drawn_before,
    another_thread_does_the_same,
]


def main():
    """Serve checks until standard input ends."""
    out = claim_stdout()
    fixture = Fixture(sys.argv[1])
    by_name = {check.__name__: check for check in CHECKS + IMPLEMENTATION_CHECKS}
    for line in sys.stdin:
        name, *implementation = line.split()
        fixture.d2l.seed(0)  # what a check draws, it draws each time
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                by_name[name](fixture, *implementation)
            said = {"wrong": None}
        except Exception as error:
            refused = str(error).startswith(("not offered:", "dtype:"))
            said = {"absent": str(error)} if refused else {"wrong": traceback.format_exc()}
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    main()
