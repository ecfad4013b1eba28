"""Records of replays in NumPy: what a worker with a known fault would leave."""

import numpy as np

from framework_parity.common.data.datasets import Digits
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.replay import difference, epoch_means
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record


def digits_judge(folder, **recipe):
    """The judge of a plan on the digits."""
    from framework_parity.common.training.recipe import Recipe

    data = Digits()
    data.save(folder / "data")
    settings = {"batch_size": 64, "max_epochs": 3} | recipe
    data.batch_size = settings["batch_size"]
    plan = Plan.make(Recipe("digits", **settings), data, folder / "data")
    return SoftmaxJudge.measure(plan, data)


def record_of(judge, training, fed=None):
    """The record of a worker that trains as the replay does, lock-step included."""
    plan, data, oracle = judge.plan, judge.data, judge.oracle
    losses, accuracies, kept, validation = [], [], [], []
    y_val = np.asarray(data.y_val, np.int64)
    X_val = training.scaled(data.X_val)
    for done, (step, W, b) in enumerate(training.steps(), 1):
        losses.append(step.loss)
        accuracies.append(step.accuracy)
        if done in plan.snapshots:
            kept.append((W.copy(), b.copy()))
        if done % plan.steps_per_epoch == 0:
            logits = training.logits(X_val, W, b)
            val_losses = training.form(logits, y_val)[0]
            validation.append((float(val_losses.mean()), float(np.mean(logits.argmax(1) == y_val))))
    epochs = plan.recipe.max_epochs
    complete = len(losses) == plan.num_steps
    val_loss, val_accuracy = (list(column) for column in zip(*validation, strict=True))
    history = {
        "train_loss": epoch_means(np.array(losses), plan).tolist() if complete else [1.0] * epochs,
        "train_accuracy": (
            epoch_means(np.array(accuracies), plan).tolist() if complete else [1.0] * epochs
        ),
        "val_loss": (val_loss + val_loss[-1:] * epochs)[:epochs],
        "val_accuracy": (val_accuracy + val_accuracy[-1:] * epochs)[:epochs],
    }
    W0, b0 = training.initial()
    arrays = {
        "step_loss": np.array(losses),
        "step_accuracy": np.array(accuracies),
        "snapshots": np.array([step for step in plan.snapshots if step <= len(losses)]),
        "parameters/W": np.stack([W for W, _ in kept]),
        "parameters/b": np.stack([b for _, b in kept]),
        "initial/W": W0,
        "initial/b": b0,
        "fed/y_train": np.asarray(data.y_train if fed is None else fed, np.int32),
        "val_y_hat": training.logits(X_val, *kept[-1]),
    }
    for i, step in enumerate(plan.probes):
        arrays |= probe_of(plan, data, training, step, oracle.before(i))
    return Record({"history": history, "y_hat": "logits"}, arrays)


def probe_of(plan, data, training, step, state):
    """One probed step as a worker records it."""
    epoch, place = divmod(step, plan.steps_per_epoch)
    rows = dict(enumerate(training.rows(epoch))).get(place)
    if rows is None:
        return {f"probe/{step}/data/missing": np.array(1)}
    size = plan.recipe.batch_size
    planned = plan.order[epoch][place * size : (place + 1) * size]
    X, y = training.examples(rows)
    stages = training.stages(state, rows)
    del stages["forward/probabilities"]
    found = {
        "data/X_error": np.array(difference(X, data.scale(data.X_train[planned]))),
        "data/y_error": np.array(difference(y, np.asarray(data.y_train[planned], np.int64))),
        "data/y": y,
        "forward/y_hat": stages.pop("forward/logits"),
        **{f"update/{name}": stages.pop(f"update/{name}") + value for name, value in state.items()},
        **stages,
    }
    if step == 0:
        found["data/X"] = X
    return {f"probe/{step}/{name}": array for name, array in found.items()}


def with_probabilities(judge, record, training):
    """The same record of a worker whose forward pass gives probabilities."""
    arrays, oracle = dict(record.arrays), judge.oracle
    for i, step in enumerate(judge.plan.probes):
        if f"probe/{step}/forward/y_hat" in arrays:
            stages = training.stages(oracle.before(i), judge.plan.rows(step))
            arrays[f"probe/{step}/forward/y_hat"] = stages["forward/probabilities"]
    exponentials = np.exp(arrays["val_y_hat"] - arrays["val_y_hat"].max(axis=1, keepdims=True))
    arrays["val_y_hat"] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return Record(record.facts | {"y_hat": "probabilities"}, arrays)
