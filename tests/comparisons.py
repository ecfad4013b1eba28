"""Finished comparisons whose runs are replays in NumPy, with the faults that a test asks for."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from framework_parity.common.commands.judge_comparison import judge_comparison
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Contender, Execution
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import member
from framework_parity.common.reference.recording_data import planned_sha256
from framework_parity.common.reference.replay import Training
from framework_parity.common.report.page import write_page
from framework_parity.common.report.report import Report
from framework_parity.common.training.record import COMPUTED
from tests.helpers import make_plan
from tests.replays import record_of

SECONDS = {"import": 0.5, "compile": 0.25, "fit": 1.5, "evaluate": 0.1}


def finished(folder, runs, data=None, **recipe):
    """Leave in a folder what a comparison leaves there; its report.

    Args:
        folder: a new one.
        runs: by backend and implementation: the factor of the learning rate that the run trains
            with, or the reason why it is unavailable.
        data: a data set.
        recipe: hyperparameters.
    """
    plan, data = make_plan(folder, data, **recipe)
    execution = Execution(plan, folder, slots=1, threads=1, timeout=60.0)
    oracle = Training(plan, data).run()
    oracle.record().save(execution.reference_folder(REFERENCE))
    for index, name in enumerate(MEMBERS):
        member(plan, data, index).run().record().save(execution.reference_folder(name))
    outcomes = dict.fromkeys((REFERENCE, *MEMBERS), Outcome("done", None, 1.0))
    contenders = []
    for (backend, implementation), what in runs.items():
        ran = not isinstance(what, str)
        python, reason = (Path(sys.executable), None) if ran else (None, what)
        contender = Contender(Environment(backend, python, "1.0", reason), implementation)
        contenders.append(contender)
        if not ran:
            continue
        training = Training(plan, data, dtype=plan.recipe.dtype)
        training.lr = training.lr * training.lr.dtype.type(what)
        record = record_of(SimpleNamespace(plan=plan, data=data, oracle=oracle), training)
        record.facts.update(
            {
                "backend": backend,
                "implementation": implementation,
                "plan_sha256": plan.sha256,
                "fed_sha256": planned_sha256(plan, data),
                "versions": {"python": "3.11.7", backend: "1.0"},
                "seconds": SECONDS,
                "peak_rss_bytes": 123_000_000,
            }
        )
        arrays = {  # a replay adds up losses in more digits than a framework has
            name: array.astype(plan.recipe.dtype) if COMPUTED.fullmatch(name) else array
            for name, array in record.arrays.items()
        }
        replace(record, arrays=arrays).save(execution.record_folder(contender.name))
        outcomes[contender.name] = Outcome("done", None, 2.5)
    facts = judge_comparison(execution, data, contenders, outcomes, Thresholds())
    facts["settings"] = {"jobs": 1, "threads": 1, "timeout_seconds": 60.0, "benchmark": False}
    report = Report(facts, folder)
    report.save()
    write_page(report)
    return report
