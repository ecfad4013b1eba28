"""Facts as a report states them, made up: of runs, findings, baselines, seeds, bisections."""

from dataclasses import asdict
from itertools import product

from framework_parity.common.judging.ladder import (
    Finding,
    may_begin_in,
    off_before,
    seen_in_loss,
    shown_before,
)
from framework_parity.common.reference.replay import WORST

SECONDS = {"import": 0.5, "compile": 0.2, "fit": 1.5, "evaluate": 0.1, "total": 3.0}


def finding(stage, tensor, *, statistic="largest", step=3, error=1e-5, ulps=12.0, envelopes=10.4):
    facts = {"step": step, "stage": stage, "tensor": tensor, "statistic": statistic}
    return facts | {"error": error, "ulps": ulps, "envelopes": envelopes}


def findings():
    """A finding of every kind, and whether it is one of the free run."""
    fed = {"error": 3.0, "envelopes": WORST}
    for tensor in ("X", "initial W", "y", "labels", "number of steps"):
        yield finding("data", tensor, **fed), False
    for tensor in ("X", "batch", "number of steps"):
        yield finding("data", tensor, error=WORST, envelopes=WORST), False
    yield finding("data", "batch 6 of epoch 1: the batch before it again", **fed), False
    tensors = {"forward": ("logits", "probabilities"), "example loss": ("example_loss",)}
    for stage, names in (tensors | {"gradient": ("W", "b"), "update": ("W", "b")}).items():
        for tensor, statistic in product(names, ("largest", "gain", "offset")):
            yield finding(stage, tensor, statistic=statistic), False
    yield finding("update", "W", statistic="decay"), False
    yield finding("forward", "probabilities", statistic="spread"), False
    first = Finding(0, "gradient", "W", "gain", 1e-6, 1.0, 15.8)
    yield finding("example loss", "example_loss") | {"note": shown_before(first)}, False
    yield finding("gradient", "W") | {"note": may_begin_in(["forward", "example loss"])}, False
    yield finding("gradient", "W", error=WORST, envelopes=WORST), False
    yield finding("gradient", "W", statistic="missing", error=WORST, envelopes=WORST), False
    yield finding("loss", "loss"), False
    yield finding("loss", "loss"), True
    yield finding("example loss", "example_loss") | {"note": off_before(1)}, False
    yield finding("update", "W, carried over steps"), True
    yield finding("update", "W, carried over steps") | {"note": may_begin_in(["data"])}, True
    loss = Finding(10, "loss", "loss", "largest", 1e-6, 1.0, 15.8)
    update = Finding(14, "update", "W, carried over steps", "largest", 1e-5, 12.0, 10.4)
    yield asdict(seen_in_loss(loss, update)), True
    yield finding("update", "b, carried over steps (what was fed is not on record)"), True
    yield finding("metric", "accuracy"), False
    for tensor in ("train_loss", "val_loss", "step_accuracy", "val_accuracy", "val_y_hat"):
        yield finding("metric", tensor), False


def run(name="alpha", implementation="scratch", **changes):
    """A run of a report."""
    facts = {
        "backend": name,
        "implementation": implementation,
        "version": "2.13.0",
        "asked_version": None,
        "status": "done",
        "grade": "drift",
        "reason": None,
        "divergence": None,
        "cause": None,
        "stages": {},
        "flips": [],
        "prediction_flips": 0,
        "unexplained_flips": 0,
        "repeats": None,
        "baseline": None,
        "accepted": None,
        "earlier_in_process": [],
        "peak_rss_bytes": 150_000_000,
        "seconds": SECONDS,
        "train_loss": [0.6, 0.5],
        "train_accuracy": [0.8, 0.85],
        "val_loss": [0.6, 0.55],
        "val_accuracy": [0.8, 0.82],
        "logits_error": 1e-6,
    }
    facts |= {f"{part}_error": 1e-6 for part in ("loss", "parameter")}
    facts |= {f"{part}_envelopes": 1.5 for part in ("loss", "parameter", "logits", "lockstep")}
    found = changes.get("divergence")
    return facts | {"envelopes": found["envelopes"] if found else 1.5} | changes


def not_done(status, reason):
    """A run that has not ended well."""
    nothing = ("grade", "flips", "seconds", "val_loss", "val_accuracy", "version")
    return run("beta", status=status, reason=reason, **dict.fromkeys(nothing))


def report(verdict, runs, **changes):
    """The facts of a report."""
    recipe = {"data": "digits", "batch_size": 64, "lr": 0.1, "max_epochs": 2, "sigma": 0.01}
    facts = {
        "schema": 1,
        "verdict": verdict,
        "notices": [],
        "runs": runs,
        "recipe": recipe | {"seed": 0, "dtype": "float32"},
        "plan_sha256": "0" * 64,
        "data": {
            "name": "digits",
            "num_train": 1437,
            "num_val": 360,
            "num_inputs": 64,
            "num_outputs": 10,
            "source": "scikit-learn",
        },
        "thresholds": {"envelopes": 4.0, "drift_loss": 1e-4, "drift_predictions": 1e-3},
        "reference": {"val_loss": [0.6, 0.55], "val_accuracy": [0.8, 0.82]},
        "envelope": {"members": 6},
        "free_running": free_running(46),
        "settings": {"jobs": 1, "threads": 1, "timeout_seconds": 60.0},
    }
    return facts | changes


def free_running(steps, of=46):
    """How far free runs can be compared."""
    facts = {"informative": steps == of, "steps": steps, "first": 1e-7, "last": 0.1}
    return facts | {"loss": 0.5, "val_loss": 2.7}


def moved(grade, **changes):
    """What became of a run since its baseline."""
    facts = {
        "grade": grade,
        "envelopes": 0.0 if grade == "exact" else 1.2,
        "divergence": None,
        "first_bits": "step 0, stage gradient, W",
        "versions": {},
        "surroundings": {},
        "gone": None,
    }
    return facts | changes


def seeds(mode="shared", equivalent=False, **changes):
    """What a comparison over seeds found."""
    test = {"mean": 0.55, "deviation": 0.01, "difference": 1e-3, "low": -1e-3, "high": 3e-3}
    test |= {"margin": 0.01, "level": 0.05, "p": 0.2, "equivalent": equivalent}
    facts = {"mode": mode, "seeds": [0, 1, 2], "runs": {"alpha scratch": {"val_loss": test}}}
    if mode == "shared":
        facts |= {"verdicts": ["agree", "agree", "drift"]}
        facts |= {"grades": {"alpha-scratch": ["rounding", "rounding", "drift"]}}
    return facts | changes


def bisection(by="grade", **change):
    """What a bisection found."""
    what = {
        "implementation": "scratch",
        "grades": ["rounding", "disagree"],
        "reason": "1.68e+04 × rounding at its first divergence, more than 4",
        "divergence": finding("update", "W", statistic="gain", step=0),
        "cause": "learning rate × 1.001 reproduces this run",
        "first": {"step": 0, "stage": "update", "tensor": "W", "error": 1e-3, "envelopes": 1e4},
        "parameter_error": 1e-3,
        "parameter_envelopes": 1e4,
        "versions": {"numpy": ["1.26.4", "2.4.6"]},
    }
    return {
        "backend": "alpha",
        "by": by,
        "range": ">=1",
        "releases": ["1.0", "1.1", "1.2", "1.3"],
        "tried": ["1.0", "1.1", "1.3"],
        "skipped": {"1.2": "no wheel for this Python"},
        "last_alike": "1.1",
        "first_different": "1.3",
        "between": ["1.2"],
        "changes": [what | change],
    }
