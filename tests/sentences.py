"""Every sentence that the judge can print, on one page: ``python -m tests.sentences``.

Made from facts where a sentence only states them, and from small trainings in NumPy where it is
found. ``tests/test_sentences.py`` holds that no sentence of the sources is missing here.
"""

import io
import re
import tempfile
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rich.console import Console

from framework_parity.common.commands.judge_comparison import gave_way
from framework_parity.common.commands.model_comparison import confirmation, notices_of_model
from framework_parity.common.commands.regression import Regression
from framework_parity.common.environments.backend import Environment
from framework_parity.common.judging.baseline_difference import first_bits
from framework_parity.common.judging.golden_record import state_digests
from framework_parity.common.judging.grades import not_comparable
from framework_parity.common.judging.ladder import Finding
from framework_parity.common.judging.record_difference import bits_of
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.replay import WORST
from framework_parity.common.report.advice import next_steps
from framework_parity.common.report.bisection import bisection_lines
from framework_parity.common.report.findings import cell, tile
from framework_parity.common.report.flips import flip_lines
from framework_parity.common.report.junit import junit_xml
from framework_parity.common.report.markdown import markdown
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report
from framework_parity.common.report.wording import (
    accepted_lines,
    baseline_lines,
    comparable_lines,
    failures,
    moved_sentence,
    run_lines,
    seed_lines,
)
from framework_parity.common.training.record import Record
from tests import facts_of_reports as of
from tests import judged_sentences as judged


def page():
    """The sentences, by what they are about."""
    return {
        "Where a run first diverges, and how far": list(divergences()),
        "Why a run is not within rounding": list(judged.reasons()),
        "What a step was fed": list(judged.feeding()),
        "A training of another program": list(judged.elsewhere()),
        "Causes": list(judged.causes()),
        "Changed predictions": list(flips()),
        "A model of one's own": list(judged.models()),
        "What the plan or the machine does": list(notices()),
        "Since the baseline": list(baseline()),
        "Accepted differences": list(accepted()),
        "Between two releases": list(bisections()),
        "Over seeds": list(seeds()),
        "The verdict": list(verdicts()),
        "What to do next": list(advice()),
        "On the terminal, in Markdown and in JUnit": list(forms()),
    }


# Findings


def divergences():
    for found, free in of.findings():
        probed = found | {"envelopes": 1.0} if free else found
        run = of.run(divergence=found, stages={found["stage"]: probed})
        yield from run_lines(run)
        yield f"tile: {tile(run)}; table: {cell(run)}"
    yield f"tile: {tile(of.run(grade='rounding'))}"
    first = of.finding("update", "W", envelopes=10.0)
    for name in ("stages", "parameter", "loss", "logits", "other"):
        far = {"envelopes": 50.0, f"{name}_envelopes": 50.0}
        worst = of.finding("gradient", "b", statistic="offset", step=16, envelopes=50.0)
        stages = {"update": first} | ({"gradient": worst} if name == "stages" else {})
        yield from list(run_lines(of.run(divergence=first, **far | {"stages": stages})))[1:2]


# Reports


def flips():
    flip = {"example": 7, "label": 1, "reference": 2, "run": 3}
    odd = flip | {"example": 9, "margin": 0.7, "bound": 1e-6, "explained": False}
    even = flip | {"margin": 1e-7, "bound": 1e-6, "explained": True}
    yield from flip_lines(of.run(flips=[even], prediction_flips=1, grade="rounding"))
    yield from flip_lines(of.run(flips=[even, even], prediction_flips=2))
    many = [*[odd] * 7, *[even] * 3]
    yield from flip_lines(of.run(flips=many, prediction_flips=10, unexplained_flips=7))


def notices():
    torn = Environment("alpha", None, asked="2.4.0", gave_way=("numpy 1.26.4 (pinned 2.4.6)",))
    yield from gave_way([SimpleNamespace(environment=torn)])
    recipe = SimpleNamespace(dtype="float32")
    record = SimpleNamespace(parameters=lambda: {"W": np.zeros(1)})
    facts = {"backend": "alpha", "orders": []}
    judge = changeable(
        reference=SimpleNamespace(facts=facts),
        ladder=SimpleNamespace(members=[record]),
        plan=SimpleNamespace(recipe=recipe),
        data=SimpleNamespace(is_large=False),
        notices=list,
    )
    subject = SimpleNamespace(model=SimpleNamespace(has=lambda _: True))
    yield from notices_of_model(judge, subject, [SimpleNamespace(backend="alpha")], [])
    yield from unconfirmed(judge)
    for steps in (0, 9, 23):
        yield from comparable_lines(of.report("chaotic", [], free_running=of.free_running(steps)))
    yield Thresholds().sentence()


def changeable(**values):
    """An object of these values, of which ``dataclasses.replace`` gives another one."""
    return make_dataclass("Changeable", values)(**values)


def unconfirmed(judge):
    """What is said of a reference that no second framework confirms."""
    parts = Finding(0, "update", "W1", "largest", 1e-5, 12.0, 50.0)
    apart = np.array([0.0, 1.0])
    found = changeable(
        divergence=None,
        free_envelopes=1.0,
        loss_envelopes_per_step=apart,
        parameter_envelopes_per_snapshot=apart,
    )
    known = {"judge": lambda _: found, "cause": lambda *_: None}
    judge = changeable(**vars(judge), **known, points=(1, 2), thresholds=Thresholds())
    judge.plan.num_steps = 2
    second = SimpleNamespace(backend="beta", read=lambda *_: None)
    by = SimpleNamespace(backend="alpha")
    for is_named in (False, True):
        subject = SimpleNamespace(by=by, second=second, is_named=is_named)
        execution = SimpleNamespace(
            subject=subject, plan=SimpleNamespace(sha256=""), reference_folder=lambda _: None
        )
        for steps, status in (([parts], "done"), ([], "done"), ([], "failed")):
            judge.ladder = SimpleNamespace(findings=lambda _, steps=steps: steps)
            outcomes = {"confirmation": SimpleNamespace(status=status, reason="exit status 1")}
            yield from confirmation(judge, execution, outcomes)[0]


def baseline():
    changed = {"versions": {"numpy": ["1.26.4", "2.4.6"]}, "surroundings": {"threads": [1, 2]}}
    found = of.finding("update", "W", statistic="gain")
    place = {"divergence": found, "envelopes": 37.5}
    length = of.finding("data", "number of steps", error=WORST, envelopes=WORST)
    rows = [
        of.run("numpy", baseline=of.moved("exact", **changed)),
        of.run("beta", baseline=of.moved("rounding")),
        of.run("gamma", baseline=of.moved("chaotic")),
        of.run("alpha", baseline=of.moved("drift", **place)),
        of.run("alpha", "concise", baseline=of.moved("disagree", **place, gone="momentum 0.9")),
        of.run("delta", cause=CAUSE, baseline=of.moved("disagree", **place)),
        of.run("a", baseline=of.moved("disagree", divergence=length)),
    ]
    said = {"file": "golden.npz", "saved": "2026-11-26", "because": "an upgrade"}
    said |= {"new": ["epsilon concise"], "not_trained": ["numpy concise"]}
    yield from baseline_lines(of.report("drift", rows, baseline=said))
    yield from failures(of.report("drift", rows, baseline=said))
    yield moved_sentence(rows[0], of.moved("exact"))
    for bits in first_bits_of_all_kinds():
        yield moved_sentence(rows[1], of.moved("rounding", first_bits=bits))
    for complete in (True, False):
        yield saved_sentence(complete)


CAUSE = {"sentence": "momentum 0.9 reproduces this run"}


def saved_sentence(complete):
    """What is said where a baseline is saved, or is not."""
    with tempfile.TemporaryDirectory() as folder:
        regression = Regression(target=Path(folder) / "golden.npz")
        regression._plan = judged.digits()[0].plan
        return regression.save(complete).replace(f"{folder}/", "")


def first_bits_of_all_kinds():
    judge, sound = judged.digits()
    golden = Record({"states_sha256": state_digests(judge)}, {})
    record = replace(sound, facts={**sound.facts, "fed_sha256": ""})
    for differing in bits_of(judge, record):
        yield first_bits(judge, golden, [differing])


def accepted():
    entry = {"backend": "gamma", "implementation": "concise", "stage": "update", "bound": 150.0}
    entry |= {"reason": "a known bug", "expires": "2027-03-31"}
    states = ("accepted", "expired", "exceeded", "unmatched", "not compared")
    entries = [entry | {"state": state} for state in states]
    moved = of.run(baseline=of.moved("drift"))
    facts = of.report("drift", [moved], accepted={"file": "a.toml", "entries": entries})
    yield from accepted_lines(facts)
    yield from failures(facts)


def bisections():
    yield from bisection_lines(of.bisection())
    gone = {"step": 0, "stage": "update", "tensor": "W", "error": WORST, "envelopes": WORST}
    yield from bisection_lines(of.bisection("bits", first=gone))


def seeds():
    for mode in ("shared", "independent"):
        failed = {"failed": {"beta scratch": "seed 1: killed"}} if mode == "independent" else {}
        yield from seed_lines(of.report("drift", [of.run()], seeds=of.seeds(mode, **failed)))
    yield from seed_lines(of.report("agree", [of.run()], seeds=of.seeds(equivalent=True)))


def reports():
    """A report of every verdict."""
    sound, drift = of.run("numpy", grade="rounding"), of.run(divergence=of.finding("update", "W"))
    taken = {"until": "2027-03-31", "reason": "a known bug"}
    short = {"free_running": of.free_running(9)}
    chaos = of.run("numpy", grade="chaotic", reason=not_comparable(9, 46))
    bad = of.run("beta", grade="disagree", divergence=of.finding("loss", "loss"))
    gone = of.not_done("failed", "it was killed"), of.not_done("unavailable", "no wheel")
    entry = {"backend": "gamma", "implementation": "concise", "stage": "update", "bound": 150.0}
    entry |= {"reason": "a known bug", "expires": "2027-03-31", "state": "not compared"}
    over = {"seeds": of.seeds("independent", failed={"beta scratch": "seed 1: killed"})}
    yield of.report("agree", [sound])
    yield of.report("agree", [sound, sound], seeds=of.seeds(equivalent=True))
    yield of.report("drift", [sound, drift], accepted={"file": "a", "entries": [entry]})
    yield of.report("drift", [drift | {"accepted": taken}])
    yield of.report("drift", [drift], **short)
    yield of.report("chaotic", [chaos], **short)
    yield of.report("chaotic", [chaos])
    yield of.report("disagree", [sound, bad])
    yield of.report("disagree", [bad, bad | {"backend": "alpha"}])
    yield of.report("not shown", [sound], seeds=of.seeds())
    yield of.report("incomplete", [sound, *gone], **over)
    yield of.report("incomplete", [])
    yield of.report("incomplete", [sound | {"status": "unconfirmed", "grade": None}])
    moved = sound | {"baseline": of.moved("drift")}
    last = {"saved": "2026-11-26", "because": None, "new": [], "not_trained": []}
    yield of.report("agree", [moved], baseline={"file": "golden.npz", **last})
    repeats = {"asked": 3, "trained": 3, "identical": False}
    repeats |= {"parameter_error": 1e-6, "parameter_envelopes": 1.2}
    fewer = {"asked": 3, "trained": 2}
    alike = repeats | {"identical": True}
    twice = [
        sound | {"repeats": each, "earlier_in_process": ["x"]} for each in (repeats, fewer, alike)
    ]
    yield of.report("agree", twice)


def verdicts():
    for facts in reports():
        yield Report(facts, Path("results")).sentence


def advice():
    for facts in reports():
        yield from next_steps(facts)


def forms():
    for facts in reports():
        report, text = Report(facts, Path("results")), io.StringIO()
        print_report(report, Console(file=text, width=1000))
        yield from (line for line in text.getvalue().splitlines() if "──" not in line)
        yield from markdown(report).splitlines()
        yield from (re.sub("<[^>]*>", "", line) for line in junit_xml(report).splitlines())


def main():
    printed = set()
    for group, sentences in page().items():
        print(f"\n## {group}\n")
        for sentence in (" ".join(sentence.split()) for sentence in sentences):
            if sentence not in printed:
                print(sentence)
            printed.add(sentence)


if __name__ == "__main__":
    main()
