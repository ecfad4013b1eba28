"""Compare over several seeds: distributions of the outcome, and equivalence tests.

examples:
  compare.py seeds --count 5
  compare.py seeds torch jax --count 10 --independent

Without --independent all share the plan of each seed; with it, each framework
draws initial parameters and orders itself, as its users do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.commands.chosen import chosen_by
from framework_parity.common.commands.compare import run_comparison
from framework_parity.common.commands.judge_comparison import judge_comparison, load_trajectories
from framework_parity.common.commands.options import SeedsOptions, takes
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import REFERENCE, Contender, Execution, seed_name
from framework_parity.common.judging.equivalence import METRICS, equivalence
from framework_parity.common.report.report import Report
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import RecordError

Outcomes = dict[str, list[float]]
"""Final values of each metric, one per seed."""


@takes(SeedsOptions)
def compare_seeds(options: SeedsOptions) -> Report:
    """Compare over several seeds."""
    over = partial(independent_seeds if options.independent else shared_seeds, options)
    return run_comparison(options, chosen_by(options), further=over)


def shared_seeds(
    options: SeedsOptions,
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    base: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare on further plans, one a seed, in ``seed-N``; all contenders share each of them."""
    comparisons = [base]
    for seed in options.seeds[1:]:
        other = _execution(execution, data, seed)
        outcomes = other.train(contenders)
        comparisons.append(judge_comparison(other, data, contenders, outcomes, options.thresholds))
    finals: dict[str, Outcomes] = {}
    for i, contender in enumerate(contenders):
        runs = [facts["runs"][i] for facts in comparisons]
        if all(run["status"] == "done" for run in runs):
            finals[contender.name] = {m: [run[m][-1] for run in runs] for m in METRICS}
    reference = {m: [facts["reference"][m][-1] for facts in comparisons] for m in METRICS}
    return {
        "mode": "shared",
        "seeds": list(options.seeds),
        "verdicts": [facts["verdict"] for facts in comparisons],
        "grades": {
            contender.name: [facts["runs"][i]["grade"] for facts in comparisons]
            for i, contender in enumerate(contenders)
        },
        **_distributions(finals, reference, options, paired=True),
    }


def independent_seeds(
    options: SeedsOptions,
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    base: Mapping[str, Any],
) -> dict[str, Any]:
    """Train every contender on seeds of its framework's own generators.

    The reference trains as often, on as many plans. Arguments as of :func:`shared_seeds`.

    Raises:
        ParityError: if a training of the reference failed: there is nothing to compare with.
    """
    seeds = options.seeds
    outcomes = execution.train_independently(contenders, seeds)
    reference: Outcomes = {metric: [] for metric in METRICS}
    for seed in seeds:
        other = _execution(execution, data, seed)
        (oracle,) = load_trajectories(other, other.train_reference(), [REFERENCE])
        for metric in METRICS:
            reference[metric].append(float(getattr(oracle, metric)[-1]))
    finals, failed = {}, {}
    for contender in contenders:
        try:
            finals[contender.name] = _finals(execution, contender, seeds, outcomes)
        except RecordError as error:
            failed[contender.name] = str(error)
    return {
        "mode": "independent",
        "seeds": list(options.seeds),
        "failed": failed,
        **_distributions(finals, reference, options, paired=False),
    }


def _execution(execution: Execution, data: DataModule, seed: int) -> Execution:
    recipe = replace(execution.plan.recipe, seed=seed)
    plan = Plan.make(recipe, data, execution.plan.data_folder)
    folder: Path = execution.folder / f"seed-{seed}"
    plan.save(folder / "plan")

    def tell(name: str, facts: dict[str, Any]) -> None:
        execution.tell(f"seed {seed}: {name}", facts)

    return replace(execution, plan=plan, folder=folder, tell=tell)


def _finals(
    execution: Execution,
    contender: Contender,
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
) -> Outcomes:
    finals: Outcomes = {metric: [] for metric in METRICS}
    for seed in seeds:
        name = seed_name(contender, seed)
        if name not in outcomes or outcomes[name].status != "done":
            reason = outcomes[name].reason if name in outcomes else contender.environment.reason
            raise RecordError(f"seed {seed}", "a finished training", reason)
        folder = execution.record_folder(name)
        history = contender.read(folder, execution.plan.sha256).facts["history"]
        for metric in METRICS:
            if not history.get(metric):
                raise RecordError(f"seed {seed}", f"a history of {metric}", "none")
            finals[metric].append(float(history[metric][-1]))
    return finals


def _distributions(
    finals: Mapping[str, Outcomes], reference: Outcomes, margins: SeedsOptions, paired: bool
) -> dict[str, Any]:
    return {
        "reference": reference,
        "runs": {
            name: {
                metric: {
                    "values": values,
                    "median": float(np.median(values)),
                    **asdict(
                        equivalence(
                            metric,
                            values,
                            reference[metric],
                            getattr(margins, f"margin_{metric.removeprefix('val_')}"),
                            margins.level,
                            paired,
                        )
                    ),
                }
                for metric, values in outcomes.items()
            }
            for name, outcomes in finals.items()
        },
    }
