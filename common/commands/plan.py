"""Write plan, data and reference for other programs to train; docs/record.md says
what they record, and how it is judged.

examples:
  compare.py plan my_plan --data digits --max-epochs 30
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from framework_parity.common.commands.comparison_context import open_context
from framework_parity.common.commands.judge_comparison import load_judge
from framework_parity.common.commands.options import PlanOptions, takes
from framework_parity.common.commands.report_folder import STEPS_FILE
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.files import check_place, write_whole
from framework_parity.common.core.standard_output import say
from framework_parity.common.report.facts import EXIT_AGREE


@takes(PlanOptions)
def write_plan(options: PlanOptions) -> int:
    """Write ``plan/``, ``data/``, ``steps.json`` and ``reference/`` for programs of others."""
    folder = Path(options.folder)
    check_place(folder / "plan.json", "plan")
    if folder.exists() and any(folder.iterdir()):
        raise ParityError(
            "plan", "a new folder", f"{folder}, which holds something", "name another one"
        )
    with open_context(options, folder) as context:
        context.claim()
        folder = folder.absolute()
        context.data.save(folder / "data")
        plan = replace(context.plan, data_folder=folder / "data")
        plan.save(folder / "plan")
        write_whole(folder / STEPS_FILE, {"snapshots": plan.snapshots, "probes": plan.probes})
        execution = replace(context.execution(), plan=plan, folder=folder)
        load_judge(execution, context.data, execution.train([]))
    if context.notice:
        say(context.notice)
    steps = plan.num_steps
    say(f"{options.folder}: plan of {steps} updates; docs/record.md says what to record")
    return EXIT_AGREE
