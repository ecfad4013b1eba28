"""Trains models of files in one backend, in its own interpreter, and says why each was refused.

``python -m tests.train_models BACKEND PLAN FILE …`` prints a line of JSON: the reason by file, None
where it was trained.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np

from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.train_model import INITIAL_FILE, Run, States

backend, folder, *files = sys.argv[1:]
plan, reasons = Plan.load(Path(folder)), {}
for file in files:
    model = OwnModel.load(Path(file), [backend])
    np.savez(Path(folder) / INITIAL_FILE, **model.draw(64, 3, 0, "float32"))
    recorder = States(model, backend, plan, io.StringIO())
    try:
        Run(model, plan, Path(folder), "float32", None, None).train(backend, recorder)
        reasons[file] = None
    except ParityError as error:
        reasons[file] = str(error)
print("\n" + json.dumps(reasons))
