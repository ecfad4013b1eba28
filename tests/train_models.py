"""Trains models of files in one backend, in its own interpreter, and says why each was refused.

``python -m tests.train_models BACKEND PLAN FILE … PLAN FILE …`` prints a line of JSON: the reason
by file, None where it was trained. Where a reference lies beside the plan, the records are left
beside the files.
"""

import io
import json
import sys
from pathlib import Path

from framework_parity.common.core.errors import ParityError
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker

backend, *given = sys.argv[1:]
reasons, plan = {}, Path()
for file in map(Path, given):
    if file.is_dir():
        plan = file
        continue
    reference = plan.parent / "reference" / "reference"
    how = Worker(io.StringIO()), plan, backend, file, "float32"
    try:
        if reference.exists():
            own_model(*how, reference).save(file.with_suffix(""))
        else:
            own_model(*how)
        reasons[str(file)] = None
    except ParityError as error:
        reasons[str(file)] = str(error)
print("\n" + json.dumps(reasons))
