"""Trains models of files in one backend, in its own interpreter, and probes from its own states.

``python -m tests.remembering BACKEND PLAN FILE …`` prints a line of JSON: by file the optimizer of
which there is no telling what it remembers (None: it is known), and how far a probed step is from
the one that was trained, relative.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np

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


backend, plan, *files = sys.argv[1:]
results = {}
for file in files:
    record = own_model(Worker(io.StringIO()), Path(plan), backend, Path(file), "float32")
    results[file] = record.facts.get("unknown_optimizer"), farthest(record)
print("\n" + json.dumps(results))
