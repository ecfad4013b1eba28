"""What a fit shows: a board in a notebook, a bar in a terminal, nothing elsewhere."""

import base64
import importlib
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.training import progress_board as board
from framework_parity.common.training.progress_board import ProgressBoard
from framework_parity.common.worker.request import Request
from tests.helpers import PLAIN, carry_out, make_plan

d2l = importlib.import_module(f"framework_parity.backends.{PLAIN}")


class Kernel:
    """What of a Jupyter kernel a board talks to; keeps the pictures that it is given.

    Attributes:
        outputs: for each output of the notebook every state that it has had.
    """

    def __init__(self):
        self.config, self.execution_count = {"IPKernelApp": {}}, 1
        self.outputs, self.callbacks = [], []
        self.events = SimpleNamespace(
            register=lambda event, call: self.callbacks.append((event, call)),
            unregister=lambda event, call: self.callbacks.remove((event, call)),
        )

    def display(self, bundle, *, display_id, raw, metadata):
        assert raw
        assert display_id
        states = [bundle]
        self.outputs.append(states)
        return SimpleNamespace(update=lambda bundle, **_: states.append(bundle))

    def end_cell(self):
        for event, call in list(self.callbacks):
            assert event == "post_run_cell"
            call("result")
        self.execution_count += 1


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    ipython = SimpleNamespace(get_ipython=lambda: kernel, version_info=(9, 0))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=kernel.display))
    return kernel


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(board, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def fit(epochs=4, board=True, **options):
    data = d2l.Synthetic(200, 6, 3, batch_size=20)
    trainer = d2l.Trainer(epochs, board=board, **options)
    trainer.fit(d2l.SoftmaxRegression(3, 0.1), data)
    return trainer


def last(history):
    return f"val_loss {history['val_loss'][-1]:.4g}, val_acc {history['val_accuracy'][-1]:.4g}"


# In a notebook


def test_a_fit_has_one_output_that_ends_with_its_last_state(kernel, clock):
    history = fit().history
    ((first, *_, final),) = kernel.outputs
    for state in (first, final):
        assert base64.b64decode(state["image/png"]).startswith(b"\x89PNG")
    assert first["image/png"] != final["image/png"]
    assert final["text/plain"].endswith(last(history))
    kernel.end_cell()
    assert len(kernel.outputs[0]) == 2  # the clock stood still: one at once, one at the end
    assert not kernel.callbacks


def test_each_fit_has_an_output_of_its_own(kernel):
    fit()
    fit()
    assert len(kernel.outputs) == 2


def test_a_fit_that_fails_shows_how_far_it_came(kernel, clock):
    class StopError(Exception):
        pass

    def stop(trainer, progress):
        if progress.epoch == 3:
            seen.update(trainer.history)
            raise StopError

    seen = {}
    with pytest.raises(StopError):
        fit(callbacks=[stop])
    (states,) = kernel.outputs
    second = {name: values[:2] for name, values in seen.items()}
    assert states[-1]["text/plain"].endswith(last(second))  # the callback came before the board


def test_curves_are_the_books(kernel):
    own = ProgressBoard()
    trainer = fit(epochs=3, board=own)
    epochs = np.arange(1, 4)
    np.testing.assert_array_equal(
        own.curves["val_acc"], [*zip(epochs, trainer.history["val_accuracy"], strict=True)]
    )
    halves = trainer.step_loss.reshape(6, 5).mean(axis=1)
    places = (np.arange(6) + 0.5) / 2
    np.testing.assert_allclose(own.curves["train_loss"], np.stack([places, halves], axis=1))


def test_no_board_if_it_is_not_wanted(kernel):
    fit(board=False)
    fit(board=ProgressBoard(display=False))
    assert not kernel.outputs


def test_the_fit_is_the_same_with_a_board(kernel):
    losses = []
    for wanted in (True, False):
        d2l.seed(0)
        losses.append(fit(board=wanted).step_loss)
    assert kernel.outputs
    np.testing.assert_array_equal(*losses)


def test_a_board_is_drawn_a_few_times_a_second(kernel, clock):
    own = ProgressBoard(xlabel="x")
    for i in range(100):
        clock.now += 0.01
        own.draw(i, i**2, "square")
    (states,) = kernel.outputs
    assert 1 < len(states) < 6
    kernel.end_cell()
    assert states[-1]["text/plain"] == "square 9801"


def test_a_slow_picture_is_drawn_less_often(kernel, clock, monkeypatch):
    figure = ProgressBoard.figure

    def slow(self):
        clock.now += 2.0
        return figure(self)

    monkeypatch.setattr(ProgressBoard, "figure", slow)
    own = ProgressBoard()
    for i in range(30):
        own.draw(i, i, "line")
        clock.now += 1.0
    (states,) = kernel.outputs
    assert len(states) == 2  # at 0 s and after 20 s of something else


def test_a_new_cell_has_a_new_output(kernel):
    own = ProgressBoard()
    for i in range(3):
        own.draw(i, i, "line")
        kernel.end_cell()
    assert len(kernel.outputs) == 3


def test_every_n_points_are_one():
    own = ProgressBoard()
    for i in range(7):
        own.draw(i, 10 * i, "line", every_n=3)
    assert own.curves == {"line": [(1.0, 10.0), (4.0, 40.0)]}


def test_a_figure_without_a_notebook():
    own = ProgressBoard(xlabel="x", ylabel="y", xlim=(0, 5), yscale="log")
    own.draw(1, 1, "one")
    for i in range(1, 5):
        own.draw(i, i, "two")
    (axes,) = own.figure().axes
    assert [line.get_label() for line in axes.lines] == ["one", "two"]
    assert (axes.get_xlabel(), axes.get_yscale(), axes.get_xlim()) == ("x", "log", (0, 5))


REAL = """
import importlib
d2l = importlib.import_module("framework_parity.backends.NAME")
trainer = d2l.Trainer(30)
trainer.fit(d2l.SoftmaxRegression(3, 0.1), d2l.Synthetic(200, 6, 3, batch_size=20))
assert len(trainer.history["val_loss"]) == 30
"""


def test_in_a_real_kernel():
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(REAL.replace("NAME", PLAIN))]
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert "val_acc" in output.data["text/plain"]


# In a terminal, and elsewhere

SCRIPT = """
import importlib, sys
d2l = importlib.import_module("framework_parity.backends." + sys.argv[1])
trainer = d2l.Trainer(int(sys.argv[2]), board=sys.argv[3] == "board")
trainer.fit(d2l.SoftmaxRegression(3, 0.1), d2l.Synthetic(200, 6, 3, batch_size=20))
"""


def in_terminal(*words):
    """What a fit writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, PLAIN, *words]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_has_a_bar_on_one_line():
    written = in_terminal("3", "board")
    assert written.endswith("\n")
    assert written.count("\n") == 1
    final = written.strip().split("\r")[-1]
    assert re.fullmatch(r"epoch 3/3 \[=+\]( (train_loss|val_loss|val_acc) \d\.\d{4}){3}", final)
    assert all(len(line) < 80 for line in written.strip().split("\r"))


@pytest.mark.parametrize("words", [("3", "none"), ("0", "board")])
def test_a_terminal_has_none_if_there_is_nothing_to_show(words):
    assert in_terminal(*words) == ""


def test_nothing_where_nobody_looks():
    command = [sys.executable, "-c", SCRIPT, PLAIN, "3", "board"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert process.stdout == process.stderr == b""


def test_a_worker_writes_its_progress_and_nothing_else(tmp_path):
    make_plan(tmp_path)
    fields = {"plan": tmp_path / "plan", "backend": PLAIN, "implementation": "scratch"}
    request = Request("train", tmp_path / "record", tmp_path / "log", fields)
    status, told = carry_out(request)
    assert request.log.read_text() == ""
    assert status == 0
    events = [line["event"] for line in told]
    assert events == ["importing", "compiling", *["training"] * 3, "done"]
