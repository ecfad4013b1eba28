"""A comparison over several seeds: distributions of the outcome, and equivalence tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.commands.judge_comparison import judge_comparison, load_trajectories
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import REFERENCE, Contender, Execution, seed_name
from framework_parity.common.judging.equivalence import METRICS, equivalence
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import RecordError

Outcomes = dict[str, list[float]]
"""Final values of each metric, one per seed."""


@dataclass(frozen=True)
class Margins:
    """What counts as no difference over seeds.

    Args:
        val_loss: largest difference of the mean final validation loss.
        val_accuracy: likewise of the accuracy.
        level: of each one-sided test.
    """

    val_loss: float = 0.01
    val_accuracy: float = 0.005
    level: float = 0.05


def shared_seeds(
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    base: Mapping[str, Any],
    thresholds: Thresholds,
    margins: Margins,
) -> dict[str, Any]:
    """Compare on further plans, one a seed; all contenders share each of them.

    Args:
        execution: of the first seed, which is done; the others go to ``seed-N`` in its folder.
        data: the examples.
        contenders: what is compared.
        seeds: all of them, the first one first.
        base: the facts of the first comparison.
        thresholds: where the grades part.
        margins: of the equivalence tests.
    """
    comparisons = [base]
    for seed in seeds[1:]:
        other = _execution(execution, data, seed)
        outcomes = other.train(contenders)
        comparisons.append(judge_comparison(other, data, contenders, outcomes, thresholds))
    finals: dict[str, Outcomes] = {}
    for i, contender in enumerate(contenders):
        runs = [facts["runs"][i] for facts in comparisons]
        if all(run["status"] == "done" for run in runs):
            finals[contender.name] = {m: [run[m][-1] for run in runs] for m in METRICS}
    reference = {m: [facts["reference"][m][-1] for facts in comparisons] for m in METRICS}
    return {
        "mode": "shared",
        "seeds": list(seeds),
        "verdicts": [facts["verdict"] for facts in comparisons],
        "grades": {
            contender.name: [facts["runs"][i]["grade"] for facts in comparisons]
            for i, contender in enumerate(contenders)
        },
        **_distributions(finals, reference, margins, paired=True),
    }


def independent_seeds(
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    margins: Margins,
) -> dict[str, Any]:
    """Train every contender on seeds of its framework's own generators.

    The reference trains as often, on as many plans. Arguments as of :func:`shared_seeds`.

    Raises:
        ParityError: if a training of the reference failed: there is nothing to compare with.
    """
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
        "seeds": list(seeds),
        "failed": failed,
        **_distributions(finals, reference, margins, paired=False),
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
            raise RecordError(f"seed {seed}: {reason}")
        folder = execution.record_folder(name)
        history = contender.read(folder, execution.plan.sha256).facts["history"]
        for metric in METRICS:
            if not history.get(metric):
                raise RecordError(f"seed {seed}: bad record: history lacks {metric}")
            finals[metric].append(float(history[metric][-1]))
    return finals


def _distributions(
    finals: Mapping[str, Outcomes], reference: Outcomes, margins: Margins, paired: bool
) -> dict[str, Any]:
    return {
        "reference": reference,
        "runs": {
            name: {
                metric: {
                    "values": values,
                    "median": float(np.median(values)),
                    **equivalence(
                        metric,
                        values,
                        reference[metric],
                        getattr(margins, metric),
                        margins.level,
                        paired,
                    ).to_json(),
                }
                for metric, values in outcomes.items()
            }
            for name, outcomes in finals.items()
        },
    }
