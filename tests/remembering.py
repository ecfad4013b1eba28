"""Trains models of files in one backend, in its own interpreter, and probes from its own states.

``python -m tests.remembering BACKEND PLAN FILE …`` prints a line of JSON: by file the optimizer of
which there is no telling what it remembers (None: it is known), how far a probed step is from
the one that was trained, relative, and how far its update is from that of the optimizer that the
record says it is, by hand (None: it says none).
"""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from framework_parity.common.judging.optimizer_rule import Begin, Rule
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker


def farthest(record):
    """The largest error of a probed update, and of what is remembered after it."""
    points, errors = record.arrays["snapshots"].tolist(), [0.0]
    for name, probed in record.arrays.items():
        _, step, rest = [*name.split("/", 2), "", ""][:3]
        if rest.startswith(("update/", "optimizer/")) and int(step) + 1 in points:
            kept = record.arrays[rest.replace("update/", "parameters/")]
            trained = kept[points.index(int(step) + 1)].astype(np.float64)
            errors.append(np.abs(probed - trained).max() / np.abs(trained).max())
    return float(max(errors))


def off_by_hand(plan, record):
    """The largest error of a probed update by hand, relative to that; None without arguments."""
    rule = Rule.of(record, plan.num_steps)
    if rule is None:
        return None
    names, states, errors = record.parameters(), record.states(), [0.0]

    def given(step, name):
        return states[step][name].astype(np.float64)

    known = SimpleNamespace(parameters=names, reference=record, plan=plan, given=given)
    for step in plan.probes if "unknown_optimizer" not in record.facts else ():
        after = rule.after(Begin.of(known, record, step))
        for name in names:
            received = record.arrays[f"probe/{step}/update/{name}"] - given(step, name)
            exact = after[f"update/{name}"]
            errors.append(np.abs(received - exact).max() / max(np.abs(exact).max(), 1e-30))
    return float(max(errors))


backend, plan, *files = sys.argv[1:]
made = Plan.load(Path(plan))
results = {}
for file in files:
    record = own_model(Worker(io.StringIO()), Path(plan), backend, Path(file), "float32")
    results[file] = (
        record.facts.get("unknown_optimizer"),
        farthest(record),
        off_by_hand(made, record),
    )
print("\n" + json.dumps(results))
