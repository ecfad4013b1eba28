"""Trains models of files in one backend, in its own interpreter, and says why each was refused.

``python -m tests.train_models BACKEND PLAN FILE …`` prints a line of JSON: the reason by file, None
where it was trained. Where a reference lies beside the plan, the records are left beside the files.
"""

import io
import json
import sys
from pathlib import Path

from framework_parity.common.core.errors import ParityError
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker

backend, folder, *files = sys.argv[1:]
reference = Path(folder).parent / "reference" / "reference"
reasons = {}
for file in files:
    try:
        given = Worker(io.StringIO()), Path(folder), backend, Path(file), "float32"
        if reference.exists():
            own_model(*given, reference).save(Path(file).with_suffix(""))
        else:
            own_model(*given)
        reasons[file] = None
    except ParityError as error:
        reasons[file] = str(error)
print("\n" + json.dumps(reasons))
