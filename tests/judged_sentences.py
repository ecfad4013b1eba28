"""Sentences that the judge finds in trainings, for the page of :mod:`tests.sentences`."""

import tempfile
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from framework_parity.common.commands.judge_arrays import Found
from framework_parity.common.commands.judge_comparison import judge_record
from framework_parity.common.commands.model_comparison import ended_early, without_partners
from framework_parity.common.execution.processes import Subject
from framework_parity.common.judging.candidates import Clues
from framework_parity.common.judging.causes import at_the_latest, find_cause, known_by_product
from framework_parity.common.judging.grades import (
    LIFELESS,
    Liveness,
    lifeless,
    not_comparable,
    unlearned,
)
from framework_parity.common.judging.judge import how_far_outside, how_much
from framework_parity.common.judging.ladder import Finding
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.model_ladder import ModelLadder
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.replay import WORST, Training, losses_from_logits
from framework_parity.common.reference.variations import LearningRate, Sum
from framework_parity.common.reference.variations import both as both_of
from framework_parity.common.report.wording import run_lines
from framework_parity.common.training.feeding import COUNTS, ROWS, first_wrong_batch
from framework_parity.common.training.record import Record, RecordError
from tests import facts_of_reports as of
from tests.look_alikes import RateAndCorrupted, gated
from tests.replays import digits_judge, record_of
from tests.test_causes import with_metric_of_the_training_data

# Grades


@cache
def digits():
    """A judge of trainings on the digits, and a record without fault."""
    judge = digits_judge(Path(tempfile.mkdtemp()))
    return judge, record_of(judge, Training(judge.plan, judge.data, dtype="float32"))


@cache
def chaotic():
    judge = digits_judge(Path(tempfile.mkdtemp()), lr=6.0, batch_size=16)
    return judge, record_of(judge, Training(judge.plan, judge.data, dtype="float32"))


def trained(kind, value=0.0, **options):
    judge = digits()[0]
    return record_of(judge, kind(judge.plan, judge.data, value, dtype="float32", **options))


def reasons():
    judge, sound = digits()
    found = judge.judge(sound)
    for divergence, far in product(
        (None, place("update", 10.0), place("data", WORST)), (1.0, 45.5)
    ):
        yield how_far_outside(divergence, far, 4.0)
    yield how_much(0.02)
    yield how_much(WORST)
    for kind, value in ((LearningRate, 1.00001), (LearningRate, 1.1)):
        yield judge.judge(trained(kind, value)).reason
    changed = [{"explained": False, "example": 1, "margin": 1.0, "bound": 0.1}] * 30
    metric = place("metric", 90.0, tensor="val_loss", error=0.01)
    odd = replace(found, flips=changed, stages=found.stages | {"metric": metric})
    yield judge.grade(sound, odd, metric)[1]
    dead = Liveness(False, False, False)
    for sign in LIFELESS:
        alive = Liveness(**{name: name != sign for name in LIFELESS})
        yield f"{lifeless(alive, Liveness(True, True, True))}"
    yield unlearned(dead)
    still = replace(sound, arrays={**sound.arrays, "initial/W": sound.arrays["parameters/W"][-1]})
    yield judge.grade(still, found, None)[1]
    short = {**sound.arrays, "step_loss": sound.arrays["step_loss"][:-1]}
    yield judge.grade(replace(sound, arrays=short), found, None)[1]
    judge, sound = chaotic()
    yield not_comparable(judge.free_running.steps, judge.plan.num_steps)
    yield judge.judge(sound).reason
    fast = LearningRate(judge.plan, judge.data, 1.3, dtype="float32")
    yield judge.judge(record_of(judge, fast)).reason
    broken = SimpleNamespace(read=_raise, name="a")
    execution = SimpleNamespace(subject=Subject(), record_folder=lambda name: name)
    yield judge_record(judge, execution, broken)


def elsewhere():
    """A training of another program."""
    judge, _ = digits()
    for kind, value in ((LearningRate, 1.001), (LearningRate, 1.0)):
        found = judge.judge(trained(kind, value))
        yield from Found(found, None, ("val_y_hat", "probe"), judge.worst(found)).lines()


def _raise(*_):
    raise RecordError("step_loss", "shape (60,)", "none")


def feeding():
    plan = digits()[0].plan
    rows = [plan.rows(step) for step in range(plan.num_steps)]
    one = plan.steps_per_epoch
    fed = {
        "next": [*rows[:5], *rows[6:7], *rows[6:]],
        "again": [*rows[:5], rows[4], *rows[6:]],
        "order": [*rows[:one], *rows[:one], *rows[2 * one :]],
        "padded": [*rows[:5], np.append(rows[5], rows[5][:3]), *rows[6:]],
        "cut": [*rows[:5], rows[5][:-3], *rows[6:]],
        "turned": [*rows[:5], rows[5][::-1], *rows[6:]],
        "others": [*rows[:5], np.append(rows[9][:4], rows[5][4:]), *rows[6:]],
        "unknown": [*rows[:5], np.append([-1, -1], rows[5][2:]), *rows[6:]],
        "ended": rows[:-1],
        "longer": [*rows, rows[0]],
        "labels": rows,
    }
    for name, batches in fed.items():
        counts = np.zeros((3, len(batches)), int)
        counts[0] = [len(batch) for batch in batches]
        for step, batch in enumerate(batches[: plan.num_steps]):
            n = min(len(batch), len(rows[step]))
            counts[1, step] = np.count_nonzero(batch[:n] != rows[step][:n])
        if name == "labels":
            counts[2, 5] = 3
        arrays = dict(zip(COUNTS, counts, strict=True)) | {ROWS: np.concatenate(batches)}
        step, count, words = first_wrong_batch(plan, arrays)
        found = of.finding("data", words, step=step, error=count, envelopes=WORST)
        yield from list(run_lines(of.run(divergence=found)))[:1]


# Causes


def causes():
    judge, sound = digits()
    rate = trained(LearningRate, 1.001)
    mixed = trained(gated(LearningRate, lambda t: t.done >= 30), 1.01)
    ended = trained(gated(LearningRate, lambda t: t.done < 30), 1.01)
    both = trained(RateAndCorrupted, 1.001)
    late = gated(Sum, lambda t: t.done >= 30)
    double = trained(both_of(LearningRate, 1.001, late))
    metric = with_metric_of_the_training_data
    records = [rate, mixed, ended, both, double, metric(judge, sound), metric(judge, rate)]
    records.append(metric_before_the_epoch(judge, sound))
    records.append(trained(gated(LearningRate, lambda t: t.done < 12), 0.5))
    yield from (said(judge, record) for record in records)
    lost = replace(rate, facts={**rate.facts, "history": odd_metrics(rate)})
    yield said(judge, lost)
    judge = chaotic()[0]
    fast = LearningRate(judge.plan, judge.data, 1.3, dtype="float32")
    yield said(judge, record_of(judge, fast))
    yield from sorted({f"{words} reproduces …" for words in candidates()})
    yield f"{known_by_product('gradient clipping at 0.303')} reproduces …"
    yield f"{at_the_latest('momentum')} reproduces …"
    yield "no known cause fits"


def said(judge, record):
    with np.errstate(all="ignore"):
        cause = find_cause(judge, record, judge.judge(record))
    return cause.sentence if cause else "no known cause fits"


def odd_metrics(record):
    history = record.facts["history"]
    return history | {"val_loss": [value + 0.5 for value in history["val_loss"]]}


def metric_before_the_epoch(judge, record):
    """What a run would report that evaluates before it trains."""
    history = {name: list(values) for name, values in record.facts["history"].items()}
    X, y = judge.validation, np.asarray(judge.data.y_val, np.int64)
    states = [(judge.plan.W, judge.plan.b)]
    for i in list(judge.plan.epoch_ends.values())[:-1]:
        states.append(tuple(record.arrays[f"parameters/{name}"][i] for name in "Wb"))
    for epoch, (W, b) in enumerate(states):
        logits = X @ W.astype(np.float64) + b
        history["val_loss"][epoch] = float(losses_from_logits(logits, y)[0].mean())
        history["val_accuracy"][epoch] = float(np.mean(logits.argmax(axis=1) == y))
    return replace(record, facts={**record.facts, "history": history})


def candidates():
    """Every known cause, as a sentence calls it."""
    judge, sound = digits()
    plain = replace(sound, facts={**sound.facts, "y_hat": "probabilities"})
    records = [sound, plain, *fed_otherwise()]
    for record in records:
        found = replace(judge.judge(sound), divergence=place("gradient", 10.0))
        probes = {step: judge.ladder.probe(record, step) for step in judge.plan.probes}
        clues = Clues(judge, record, found, probes)
        for kind in (clues.anything, clues.order_candidates, clues.data_candidates):
            for candidate in kind():
                yield candidate.words
                yield candidate.name


def fed_otherwise():
    """Records of trainings whose data were not the plan's."""
    judge, sound = digits()
    arrays = sound.arrays
    labels = np.asarray(judge.data.y_train)
    wrong = labels.copy()
    wrong[:3] = (wrong[:3] + 1) % 10
    X = arrays["probe/0/data/X"].astype(np.float64)
    sizes = [len(judge.plan.rows(step)) for step in range(judge.plan.num_steps)]
    rows = np.concatenate([judge.plan.rows(step) for step in range(judge.plan.num_steps)])
    for changed in (
        {"initial/W": arrays["initial/W"] + 1},
        {"fed/y_train": (labels + 1) % 10},
        {"fed/y_train": wrong},
        {"probe/0/data/X": X * 16},
        {"probe/0/data/X": X * 16 / 17},
        {"probe/0/data/X": X * 3},
        {"probe/0/data/X": X * 3 - 1},
        {"fed/examples": np.array(sizes), "fed/rows": rows},
    ):
        yield replace(sound, arrays={**arrays, **changed})
    blocks = dict(arrays)
    for step in judge.plan.probes:
        if f"probe/{step}/example_loss" in arrays:
            n = len(arrays[f"probe/{step}/data/y"])
            blocks[f"probe/{step}/data/y"] = labels[:n].astype(np.int64)
    yield replace(sound, arrays=blocks)


def place(stage, envelopes, tensor="W", error=1e-5):
    return Finding(3, stage, tensor, "largest", error, 12.0, envelopes)


# A model of one's own


def models():
    for free in (True, False):
        found = of.finding(
            "update", "W1, carried over steps (what was fed is not on record)" if free else "W1"
        )
        yield from run_lines(of.run(divergence=found, implementation="two_layers"))
    yield str(ended_early(SimpleNamespace(path="mine.py")))
    yield from model_notices()
    yield from layers()
    yield from optimizers()


def optimizers():
    """What is said of what an optimizer remembers."""
    kept = {f"optimizer/{kind}/W1": np.zeros(1) for kind in ("first_moment", "second_moment")}
    known = {"backend": "alpha", "implementation": "two_layers"}
    for facts, arrays in (({"unknown_optimizer": "mine.Mine"}, kept), ({}, {}), ({}, kept)):
        ladder = SimpleNamespace(reference=Record({}, dict([*kept.items()][:1])))
        yield from ModelLadder.unlike(ladder, Record(known | facts, arrays))


def layers():
    """What is said of activations: of the first that is off, and of those without a partner."""
    names = dict.fromkeys(["hidden", "act", "norm"])
    for partners, how in (
        ({"norm": "net.2"}, "its values"),
        ({"hidden": "hidden", "norm": "net.2"}, "its input"),
        ({"hidden": "hidden", "act": "act", "norm": "net.2"}, "its place"),
        ({"act": "net.1"}, ""),
    ):
        network = SimpleNamespace(
            layers=names, matched=lambda _, p=partners: (None, p), _how=lambda *_, h=how: h
        )
        note = ModelLadder.way_to(network, "norm", None)
        found = of.finding("forward", "norm") | {"note": note}
        yield from run_lines(of.run(divergence=found, implementation="two_layers"))
    for alone, missing in ([], ["act"]), (["net.0"], []), ([f"net.{i}" for i in range(9)], ["act"]):
        row = of.run(implementation="two_layers", layers={"alone": alone, "missing": missing})
        yield from without_partners([row], "beta")


def model_notices():
    def rounding(bound, steps):
        envelope = SimpleNamespace(parameters={"W1": np.array([bound])})
        return {"envelope": envelope, "free_running": SimpleNamespace(steps=steps)}

    judge = SimpleNamespace(
        plan=SimpleNamespace(recipe=SimpleNamespace(dtype="float32", unit=2.0**-24)),
        **rounding(1.0, 4),
        alone=SimpleNamespace(**rounding(1e-3, 10)),
        initial={"W1": None},
        ladder=SimpleNamespace(envelopes={("gradient/W1", "largest"): 0.01}),
        reference=SimpleNamespace(facts={"backend": "alpha"}),
        thresholds=Thresholds(),
    )
    yield from ModelJudge.notices(judge)
