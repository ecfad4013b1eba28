"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

import tempfile
import warnings
from pathlib import Path

import mxnet
from mxnet import autograd, gluon, np

from backends.mxnet.optimizer import FrameworkTrainer


def the_update_is_gluons_own():
    """Bit for bit, with momentum, another rate and loaded states; and as careful."""
    for momentum in (0.0, 0.9):
        with warnings.catch_warnings():
            # MXNet warns of its own use of an old name when it moves loaded states.
            warnings.simplefilter("ignore", DeprecationWarning)
            expected, _ = _train(gluon.Trainer, momentum)
            found, trainer = _train(FrameworkTrainer, momentum)
        assert len(trainer._held.groups) == 2
        assert all((a == b).all() for a, b in zip(expected, found, strict=True))


def _train(kind, momentum):
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
            _save_and_load(trainer)
        with autograd.record():
            loss = (net(X) ** 2).mean()
        loss.backward()
        trainer.step(1)
    try:
        trainer.step(1)
    except UserWarning:  # no new gradient since the last step
        return [p.data().asnumpy() for p in net.collect_params().values()], trainer
    raise AssertionError("a stale gradient was taken")


def _save_and_load(trainer):
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_states(str(Path(folder) / "states"))
        trainer.load_states(str(Path(folder) / "states"))


CHECKS = [the_update_is_gluons_own]
