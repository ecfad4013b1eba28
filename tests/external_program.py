"""An external backend: plain softmax regression, after docs/external.md and nothing of ours.

Its own reading, training, hashing and writing; of the project it imports nothing. ``--mishap``
names what goes wrong.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def scaled(data, split, divisor):
    X = np.load(data / f"X_{split}.npy")
    y = np.load(data / f"y_{split}.npy").astype(np.int32)
    return X.astype(np.float32) / np.float32(divisor), y


def digest(arrays):
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def one_step(W, b, X, y, lr):
    """All stages of one step, parameters after it included."""
    logits = X @ W + b
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -log_softmax[np.arange(len(y)), y]
    error = np.exp(log_softmax)
    error[np.arange(len(y)), y] -= 1
    error /= error.dtype.type(len(y))
    gradient_W, gradient_b = X.T @ error, error.sum(axis=0)
    return {
        "data/y": y,
        "forward/y_hat": logits,
        "example_loss": losses,
        "loss": losses.mean(),
        "metric/accuracy": (logits.argmax(axis=1) == y).mean(),
        "gradient/W": gradient_W,
        "gradient/b": gradient_b,
        "update/W": W - lr * gradient_W,
        "update/b": b - lr * gradient_b,
    }


def main():
    parser = argparse.ArgumentParser()
    for name in ("backend", "task", "implementation", "plan", "reference", "record", "mishap"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    if options.mishap == "exits":
        sys.exit("the licence has expired")
    if options.mishap == "rubbish":
        sys.stdout.write("Segmentation fault? No.\n{\n[1, 2]\n\x00\n")
        return
    if options.mishap == "silent":
        return
    if options.mishap == "says next":
        print(json.dumps({"event": "next"}), flush=True)
        return
    if options.mishap == "closes its output":
        os.closerange(0, 64)
        os._exit(0)
    if options.mishap == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if options.mishap == "hangs":
        time.sleep(600)
    if options.task == "independent" and options.mishap != "no history":
        sys.exit("independent: this program draws nothing itself")
    print(json.dumps({"event": "reading"}), flush=True)
    started = time.perf_counter()
    folder = Path(options.plan)
    plan = json.loads((folder / "plan.json").read_text())
    recipe, data = plan["recipe"], Path(plan["data_folder"])
    names = ("W", "b", "order", "direction")
    W, b, order, direction = (np.load(folder / f"{name}.npy") for name in names)
    facts = json.loads((data / "facts.json").read_text())
    if options.mishap == "other pixels":
        facts["divisor"] *= 1.001
    X, y = scaled(data, "train", facts["divisor"])
    X_val, y_val = scaled(data, "val", facts["divisor"])
    fed = {"X_False": X_val, "X_True": X, "y_False": y_val, "y_True": y, "W": W, "b": b}
    fed |= {f"order {epoch}": rows for epoch, rows in enumerate(order)}
    arrays = {"fed/y_train": y, "initial/W": W, "initial/b": b}
    lr, size = np.float32(recipe["lr"]), recipe["batch_size"]
    if options.mishap == "learns faster":
        lr *= np.float32(1.001)
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    history = {name: [] for name in names}
    losses, accuracies, kept, used = [], [], {}, []
    batches = [[rows[i : i + size] for i in range(0, len(rows), size)] for rows in order]
    for epoch, epoch_batches in enumerate(batches if options.task == "train" else ()):
        first = len(losses)
        for rows in epoch_batches:
            if options.mishap == "one batch again":
                rows = epoch_batches[0]
            used.append((X[rows] @ direction, y[rows]))
            step = one_step(W, b, X[rows], y[rows], lr)
            W, b = step["update/W"], step["update/b"]
            losses.append(step["loss"])
            accuracies.append(step["metric/accuracy"])
            if len(losses) in plan["snapshots"]:
                kept[len(losses)] = (W, b)
        weights = [len(rows) for rows in epoch_batches]
        step = one_step(W, b, X_val, y_val, lr)
        found = (
            np.average(np.array(losses[first:], np.float64), weights=weights),
            np.average(accuracies[first:], weights=weights),
            step["loss"],
            step["metric/accuracy"],
        )
        for name, value in zip(names, found, strict=True):
            history[name].append(float(value))
        progress = {"epoch": epoch + 1, "max_epochs": len(order), "loss": float(found[0])}
        print(json.dumps({"event": "training"} | progress), flush=True)
    if options.task == "train":
        arrays |= {
            "step_loss": np.array(losses, np.float64),
            "step_accuracy": np.array(accuracies, np.float64),
            "snapshots": np.array(list(kept)),
            "parameters/W": np.stack([W for W, _ in kept.values()]),
            "parameters/b": np.stack([b for _, b in kept.values()]),
            "val_y_hat": step["forward/y_hat"],
            "fed/examples": np.array([len(labels) for _, labels in used]),
            "fed/projections": np.concatenate([projections for projections, _ in used]),
            "fed/labels": np.concatenate([labels for _, labels in used]),
        }
    while options.reference and not Path(options.reference).exists():
        time.sleep(0.02)
    if options.reference:
        with np.load(options.reference) as states:
            probe_W, probe_b = states["probe_W"], states["probe_b"]
    for i, number in enumerate(plan["probes"] if options.reference else ()):
        epoch, place = divmod(number, len(batches[0]))
        rows = batches[epoch][place]
        stages = one_step(probe_W[i], probe_b[i], X[rows], y[rows], lr)
        stages |= {"data/X_error": 0.0, "data/y_error": 0.0}
        if number == 0:
            stages["data/X"] = X[rows]
        arrays |= {f"probe/{number}/{name}": np.asarray(a) for name, a in stages.items()}
    seconds = time.perf_counter() - started
    record = {
        "schema": 1,
        "backend": options.backend,
        "implementation": options.implementation,
        "plan_sha256": "0" * 64 if options.mishap == "other plan" else plan["sha256"],
        "fed_sha256": digest(fed),
        "versions": {options.backend: "1.0"},
        "y_hat": "numbers" if options.mishap == "other y_hat" else "logits",
        "history": history,
        "seconds": {"import": 0.0, "compile": 0.0, "fit": seconds, "evaluate": 0.0},
        "peak_rss_bytes": 0,
    }
    out = Path(options.record)
    made = out.with_name(f".{out.name}")
    made.mkdir()
    np.savez(made / "arrays.npz", **arrays)
    (made / "record.json").write_text(json.dumps(record))
    if options.mishap == "breaks":
        (made / "arrays.npz").write_bytes(b"PK rubbish")
    if options.mishap == "breaks off":
        os._exit(0)
    made.rename(out)
    if options.mishap == "fails after its record":
        sys.exit("cannot free memory")
    if options.mishap == "killed after its record":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
