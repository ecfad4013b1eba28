"""Train many times in one process, with faults planted: ``python -m benchmarks.faulty_worker``.

What :mod:`worker.train` does, for a list of runs and through its own functions, so that a
framework is imported once. Standard output carries one JSON object a line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from framework_parity.benchmarks.faults import plant
from framework_parity.benchmarks.planting import Setup
from framework_parity.common.core.child_process import claim_stdout, end_with_parent
from framework_parity.common.core.device import asked_device
from framework_parity.common.reference.recording_data import Witness
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.recorder import Recorder
from framework_parity.common.worker.train import build_model, train


def execute(backend: Any, name: str, run: dict[str, Any], out: TextIO) -> bool:
    """Train as one run says and leave its record; False if the backend has no such fault.

    Args:
        backend: the backend's face.
        name: its folder.
        run: ``plan``, ``reference`` and ``out``, paths; ``implementation``; ``fault`` and
            ``size``, None for a clean run; ``probe_only``, not to train.
        out: where progress goes.
    """
    plan = Plan.load(Path(run["plan"]))
    setup = Setup(backend, plan, Witness, list(plan.order), plan.parameters)
    if run["fault"] is not None:
        planted = plant(run["fault"], run["size"], setup, name)
        if planted is None:
            return False
        setup = planted
    data = setup.witness.open(plan.data_folder, plan.recipe.batch_size)
    assert isinstance(data, Witness)
    recorder = Recorder(plan, run["implementation"], out)
    model = build_model(setup.backend, run["implementation"], setup.plan, data)
    epochs = 0 if run["probe_only"] else plan.recipe.max_epochs
    given = (setup.orders, setup.parameters, epochs)
    trainer = train(setup.backend, model, data, setup.plan, recorder, *given)
    facts = {"backend": name, "implementation": run["implementation"]}
    facts["versions"] = backend.versions()
    record = recorder.record(trainer, facts, Path(run["reference"]))
    if run["probe_only"]:
        probes = {key: a for key, a in record.arrays.items() if key.startswith("probe/")}
        record = Record(record.facts, probes)
    record.save(Path(run["out"]))
    return True


def main() -> None:
    """The command line: all runs of a file, each answered by a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faulty_worker", description=__doc__)
    parser.add_argument("--backend", required=True, help="a folder of backends/")
    parser.add_argument("--runs", type=Path, required=True, help="JSON file: a list of runs")
    arguments = parser.parse_args()
    out = claim_stdout()
    end_with_parent()
    backend = importlib.import_module(f"framework_parity.backends.{arguments.backend}")
    backend.Trainer.use_device(asked_device())
    with Path("/dev/null").open("w") as silence:
        for run in json.loads(arguments.runs.read_text(encoding="utf-8")):
            started = time.perf_counter()
            try:
                done = execute(backend, arguments.backend, run, silence)
                status = "done" if done else "cannot express it"
            except Exception:
                status = f"failed: {traceback.format_exc()}"
            seconds = time.perf_counter() - started
            answer = {"event": "run", "out": run["out"], "status": status, "seconds": seconds}
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
