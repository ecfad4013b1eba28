"""MXNet's update without its detours is gluon's own: bit for bit, and as careful."""

import subprocess

from common.environment import ROOT, clean_environment, find_environment
from tests.conftest import BACKENDS

SCRIPT = """
import sys
import mxnet
from backends.mxnet.optimizer import FrameworkTrainer
from mxnet import autograd, gluon, np

def run(kind, momentum, file):
    mxnet.random.seed(0)
    net = gluon.nn.Sequential()
    for units in (5, 4, 3):  # six parameters: more than one fused update takes
        net.add(gluon.nn.Dense(units))
    net.initialize()
    X = np.random.uniform(size=(8, 6))
    net(X)
    options = {"learning_rate": 0.1, "momentum": momentum}
    trainer = kind(net.collect_params(), "sgd", options)
    for step in range(6):
        if step == 3:
            trainer.set_learning_rate(0.05)
            trainer.save_states(file)
            trainer.load_states(file)
        with autograd.record():
            loss = (net(X) ** 2).mean()
        loss.backward()
        trainer.step(1)
    try:
        trainer.step(1)
    except UserWarning:  # no new gradient since the last step
        return [p.data().asnumpy() for p in net.collect_params().values()], trainer
    raise AssertionError("a stale gradient was taken")

for momentum in (0.0, 0.9):
    expected, _ = run(gluon.Trainer, momentum, sys.argv[1])
    found, trainer = run(FrameworkTrainer, momentum, sys.argv[1])
    assert len(trainer._held.groups) == 2
    assert all((a == b).all() for a, b in zip(expected, found, strict=True))
"""


def test_the_update_is_gluons_own(tmp_path):
    python = find_environment(BACKENDS["mxnet"]).python
    command = [str(python), "-c", SCRIPT, str(tmp_path / "states")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
