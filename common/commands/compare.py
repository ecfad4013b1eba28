"""Train one classifier in several frameworks on identical data and say how
well they agree.

examples:
  compare.py                            every framework, the book's recipe
  compare.py torch jax --data digits --max-epochs 30
  compare.py torch --implementation concise --out results/mine
  compare.py --baseline golden.npz      what moved since then, and where
  compare.py show results/mine          its table again, without training

The first run builds an environment for each framework, which takes minutes, and
fetches the data; `compare.py setup` does that alone. Then no network is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.commands.chosen import Chosen
from framework_parity.common.commands.comparison_context import check_pythons, open_context
from framework_parity.common.commands.judge_comparison import judge_comparison
from framework_parity.common.commands.options import (
    BenchmarkOptions,
    CompareOptions,
    Comparing,
    takes,
)
from framework_parity.common.commands.regression import Regression
from framework_parity.common.commands.report_folder import check_folder
from framework_parity.common.core.device import DEVICES, check_device
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.discovery import discover
from framework_parity.common.execution.processes import Contender, Execution
from framework_parity.common.judging.grades import over_seeds, worst_verdict
from framework_parity.common.report.report import Report

OverSeeds = Callable[[Execution, DataModule, Sequence[Contender], dict[str, Any]], dict[str, Any]]


@takes(CompareOptions)
def compare(options: CompareOptions) -> Report:
    """Compare backends on one plan. Arguments are those of :class:`options.CompareOptions`.

    Returns:
        The report, which is also in ``out/report.json`` and, to be looked at, ``out/report.html``.

    Raises:
        ParityError: for unusable input, before anything is written.
    """
    return run_comparison(
        options, Chosen.of(options.backends, options.implementations, options.places)
    )


def run_comparison(
    options: Comparing,
    chosen: Chosen,
    *,
    save: tuple[Path, str | None] | None = None,
    alone: bool = False,
    further: OverSeeds | None = None,
) -> Report:
    """Prepare, train, judge and write the report.

    Args:
        options: how it runs.
        chosen: what is compared.
        save: a file for golden records, and the reason for saving them; None for neither.
        alone: each training has a process of its own.
        further: trains on further seeds; the report's facts of them.

    Raises:
        ParityError: for unusable input, before anything is written.
    """
    device = options.device if isinstance(options, BenchmarkOptions) else DEVICES[0]
    check_pythons(options.named, chosen.wanted, discover())
    check_device(device)
    folder, thresholds = options.folder, options.thresholds
    check_folder(folder, options.overwrite)
    target, because = save or (None, None)
    regression = Regression(options.baseline, target, because, options.accept)
    with open_context(options, folder, chosen.model) as context:
        display, plan, examples = context.display, context.plan, context.data
        regression.check_plan(plan)
        environments = context.prepare(chosen.wanted, options.overwrite, options.named)
        contenders = chosen.contenders(environments)
        subject = chosen.subject(environments)
        execution = context.execution(alone=alone, device=device, subject=subject)
        outcomes = execution.train(contenders, options.repeat)
        display.tell("judging", {"event": "judging"})
        facts = judge_comparison(
            execution, examples, contenders, outcomes, thresholds, options.repeat, regression
        )
        if further is not None:
            facts["seeds"] = further(execution, examples, contenders, facts)
        facts["verdict"] = worst_verdict([facts["verdict"], *over_seeds(facts.get("seeds", {}))])
        facts["baseline_saved"] = regression.save(facts["verdict"] != "incomplete")
        report = context.finish(facts, benchmark=alone, device=device)
        display.tell("judging", {"event": "done"})
    return report
