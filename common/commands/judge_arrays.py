"""Trainings of somebody else's code, judged by the arrays that it left: ``docs/record.md``.

``compare.py plan DIR`` writes what is to be trained; any program trains it and writes an
``.npz``; :func:`assert_agreement` judges it, or
``python -m framework_parity.common.commands.judge_arrays RUN.npz --plan DIR``.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from framework_parity.common.commands.command_line import Parser
from framework_parity.common.commands.judge_comparison import load_judge
from framework_parity.common.commands.report_folder import STEPS_FILE
from framework_parity.common.core.archive import read_arrays
from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Execution
from framework_parity.common.judging.causes import FIT_STEPS, find_cause
from framework_parity.common.judging.grades import FAIL_ON, failing
from framework_parity.common.judging.judge import Judgement
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.replay import epoch_means, losses_from_logits
from framework_parity.common.report.facts import EXIT_AGREE, EXIT_DISAGREE, EXIT_USAGE
from framework_parity.common.report.findings import tile
from framework_parity.common.report.wording import run_lines
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import (
    COMPUTED,
    HISTORY,
    KNOWN,
    LARGEST,
    Record,
    RecordError,
)


@dataclass(frozen=True)
class SparsePlan(Plan):
    """A plan of which a run recorded only some snapshots and probed only some steps."""

    recorded: tuple[int, ...] = ()
    looked_at: tuple[int, ...] = ()

    @cached_property
    def snapshots(self) -> tuple[int, ...]:
        return self.recorded

    @cached_property
    def probes(self) -> tuple[int, ...]:
        return self.looked_at


@dataclass(frozen=True)
class Found:
    """What was found of a training.

    Args:
        judgement: as of a run of this suite.
        cause: the sentence of a known cause that fits, or None.
        not_given: what the arrays did not hold, and nothing is said of.
        envelopes: the largest number of envelopes of anything that decides.
    """

    judgement: Judgement
    cause: str | None
    not_given: tuple[str, ...]
    envelopes: float

    @property
    def grade(self) -> str:
        """One of :data:`grades.GRADES`."""
        return self.judgement.grade

    def lines(self) -> Iterator[str]:
        """The finding in a few lines."""
        run = self.judgement.to_json() | {
            "cause": self.cause and {"sentence": self.cause},
            "envelopes": self.envelopes,
        }
        yield f"{self.grade}: {tile(run)}, against the float64 reference"
        yield from run_lines(run)
        if self.not_given:
            yield f"not given, hence not judged: {', '.join(self.not_given)}"


def assert_agreement(
    run: str | Path | Mapping[str, Array],
    plan: str | Path,
    *,
    fail_on: str = "drift",
    thresholds: Thresholds | None = None,
) -> Found:
    """Raise AssertionError, in a few lines, unless a training agrees with the reference.

    Args:
        run: the arrays that it left, or an ``.npz`` file of them; see ``docs/record.md``.
        plan: the folder that ``compare.py plan`` wrote.
        fail_on: ``chaotic``, ``drift`` or ``disagree``: the mildest grade that fails.
        thresholds: where the grades part.

    Raises:
        ParityError: if the plan, the arrays or ``fail_on`` cannot be used.
    """
    __tracebackhide__ = True
    failed = failing(fail_on)
    found = judge_arrays(open_plan(Path(plan), thresholds or Thresholds()), load_arrays(run))
    if found.grade in failed:
        raise AssertionError("\n".join(found.lines()))
    return found


def open_plan(folder: Path, thresholds: Thresholds) -> SoftmaxJudge:
    """The judge of a plan that ``compare.py plan`` wrote.

    Raises:
        ParityError: if it is incomplete.
    """
    names = (REFERENCE, *MEMBERS)
    parts = [STEPS_FILE, "plan", "data", *(f"reference/{name}" for name in names)]
    if missing := [part for part in parts if not (folder / part).exists()]:
        raise ParityError(
            folder,
            "a plan, as compare.py plan writes it",
            f"a folder without {', '.join(missing)}",
            "name what compare.py plan wrote, or write it",
        )
    plan = replace(Plan.load(folder / "plan"), data_folder=folder / "data")  # it may have moved
    data = plan.data()
    execution = Execution(plan, folder, 1, 1, 1.0)
    done = dict.fromkeys(names, Outcome("done", None, 0.0))
    return load_judge(execution, data, done, thresholds)


def load_arrays(run: str | Path | Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a training, checked one by one.

    Raises:
        ParityError: if the file cannot be read, an array is unknown, or holds no finite numbers.
    """
    if isinstance(run, Mapping):
        arrays, name = {key: np.asarray(value) for key, value in run.items()}, "arrays"
    else:
        name = str(run)
        try:
            arrays = read_arrays(Path(run))
        except Exception as error:  # NumPy and zipfile raise a dozen types for a broken archive
            raise ParityError(
                name, "an .npz of arrays", told(error), "write it with np.savez"
            ) from None
    written = {f"history/{name}" for name in HISTORY}
    if unknown := [key for key in arrays if not KNOWN.fullmatch(key) and key not in written]:
        raise ParityError(
            name, "the arrays of docs/record.md", ", ".join(unknown), "rename or drop them"
        )
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ParityError(name, "finite numbers", f"others in {key}", "the training failed")
        if np.abs(array.astype(np.float64)).max(initial=0.0) > LARGEST:
            expected = f"numbers up to {LARGEST:g}"
            raise ParityError(name, expected, f"larger ones in {key}", "the training failed")
    return arrays


def judge_arrays(judge: SoftmaxJudge, arrays: Mapping[str, Array]) -> Found:
    """Judge a training by the arrays that it left.

    What they do not hold is left out: metrics are then computed from the parameters.

    Raises:
        ParityError: if they do not fit the plan, or say too little to be judged.
    """
    plan = judge.plan
    given = dict(arrays)
    if missing := [name for name in ("parameters/W", "parameters/b") if name not in given]:
        _refuse(f"none in {', '.join(missing)}", "record the parameters, at least at the end")
    for name, ndim in (("W", 2), ("b", 1)):
        if given[f"parameters/{name}"].ndim == ndim:  # at the end only
            given[f"parameters/{name}"] = given[f"parameters/{name}"][None]
    dtype = plan.recipe.dtype
    for name in filter(COMPUTED.fullmatch, given):
        with np.errstate(over="ignore"):
            narrow = given[name].astype(dtype)
        if not np.array_equal(given[name], narrow):
            _refuse(f"{name} with more digits than {dtype} has", f"train in {dtype}")
    given.setdefault("snapshots", np.array([plan.num_steps]))
    recorded = tuple(int(step) for step in np.ravel(given["snapshots"]))
    odd = set(recorded) - set(plan.snapshots)
    if odd or list(recorded) != sorted(set(recorded)) or recorded[-1:] != (plan.num_steps,):
        _refuse(
            f"parameters after {', '.join(map(str, recorded)) or 'no'} updates",
            f"record some of {', '.join(map(str, plan.snapshots))}, the last among them",
        )
    probed = tuple(step for step in plan.probes if f"probe/{step}/loss" in given)
    if not (probed or judge.free_running.informative):
        _refuse(
            "no probed step of a plan whose free running rounding alone carries away",
            "record probe/STEP/… as docs/record.md says",
        )
    if "step_loss" in given and given["step_loss"].shape != (plan.num_steps,):
        _refuse(f"step_loss of shape {given['step_loss'].shape}", f"record {plan.num_steps} losses")
    sparse = _restricted(judge, recorded, probed)
    record, not_given = _completed(sparse, given)
    try:
        judgement = sparse.judge(record)
    except RecordError as error:
        _refuse(str(error), "mend the arrays")
    cause = None
    fitting = recorded[: len(FIT_STEPS)] == plan.snapshots[: len(FIT_STEPS)]
    if judgement.divergence and fitting and "step_loss" in given and judgement.grade != "rounding":
        diagnosis = find_cause(sparse, record, judgement)
        cause = None if diagnosis is None else diagnosis.sentence
    return Found(judgement, cause, not_given, sparse.worst(judgement))


def _restricted(
    judge: SoftmaxJudge, recorded: tuple[int, ...], probed: tuple[int, ...]
) -> SoftmaxJudge:
    """The judge of those snapshots and probed steps alone."""
    plan, oracle = judge.plan, judge.oracle
    kept = [plan.snapshots.index(step) for step in recorded]
    looked_at = [plan.probes.index(step) for step in probed]
    whole = {field.name: getattr(plan, field.name) for field in fields(plan)}
    sparse = SparsePlan(**whole, recorded=recorded, looked_at=probed)
    ladder = copy.copy(judge.ladder)
    ladder.plan = sparse
    return replace(
        judge,
        plan=sparse,
        ladder=ladder,
        oracle=replace(
            oracle,
            parameters=_picked(oracle.parameters, kept),
            probed=_picked(oracle.probed, looked_at),
        ),
        envelope=replace(judge.envelope, parameters=_picked(judge.envelope.parameters, kept)),
    )


def _picked(values: Mapping[str, Array], places: Sequence[int]) -> dict[str, Array]:
    return {name: value[places] for name, value in values.items()}


def _completed(judge: SoftmaxJudge, given: Mapping[str, Array]) -> tuple[Record, tuple[str, ...]]:
    """A record with something in every place, and what was not given.

    Where a metric can be computed from what was given, it is; else the reference's own stands
    there, in which nothing can be found.
    """
    plan, oracle, data = judge.plan, judge.oracle, judge.data
    arrays = {name: array for name, array in given.items() if not name.startswith("history/")}
    arrays.setdefault("step_loss", oracle.step_loss)
    arrays.setdefault("step_accuracy", oracle.step_accuracy)
    arrays.setdefault("fed/y_train", np.asarray(data.y_train))
    for name, planned in plan.parameters.items():
        arrays.setdefault(f"initial/{name}", planned)
    W, b = (np.asarray(arrays[f"parameters/{name}"], np.float64) for name in "Wb")
    fitting = judge.oracle.parameters["W"].shape, judge.oracle.parameters["b"].shape
    if (W.shape, b.shape) != fitting:
        _refuse(f"parameters of shapes {W.shape} and {b.shape}", f"record {fitting}")
    arrays.setdefault("val_y_hat", judge.validation @ W[-1] + b[-1])
    history = {
        "train_loss": epoch_means(arrays["step_loss"], plan),
        "train_accuracy": epoch_means(arrays["step_accuracy"], plan),
        "val_loss": oracle.val_loss.copy(),
        "val_accuracy": oracle.val_accuracy.copy(),
    }
    y = np.asarray(data.y_val, np.int64)
    for epoch, i in plan.epoch_ends.items():
        logits = judge.validation @ W[i] + b[i]
        history["val_loss"][epoch - 1] = losses_from_logits(logits, y)[0].mean()
        history["val_accuracy"][epoch - 1] = np.mean(logits.argmax(axis=1) == y)
    lists = {
        name: np.asarray(given.get(f"history/{name}", values), np.float64).ravel().tolist()
        for name, values in history.items()
    }
    optional = ("step_loss", "val_y_hat", "initial/W", "fed/y_train", "history/val_loss")
    not_given = [name for name in optional if name not in given]
    if "snapshots" not in given or len(plan.snapshots) == 1:
        not_given.append("parameters before the end")
    if not plan.probes:
        not_given.append("probe")
    facts = {"history": lists, "y_hat": _kind_of_y_hat(given)}
    return Record(facts, arrays), tuple(not_given)


def _kind_of_y_hat(given: Mapping[str, Array]) -> str:
    """Whether ``forward`` gave probabilities or logits: what it gave says so."""
    probed = [array for name, array in given.items() if name.endswith("forward/y_hat")]
    found = probed or ([given["val_y_hat"]] if "val_y_hat" in given else [])
    are_probabilities = found and all(
        array.min() >= 0 and np.allclose(array.sum(axis=-1), 1, atol=1e-3) for array in found
    )
    return "probabilities" if are_probabilities else "logits"


def _refuse(received: str, mend: str) -> NoReturn:
    raise ParityError("arrays", "those of the plan", received, mend) from None


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = Parser(
        prog="python -m framework_parity.common.commands.judge_arrays",
        description="Judge a training of other code by the arrays that it left; docs/record.md "
        "says which. compare.py plan DIR writes what is to be trained.",
        epilog="exit status: 0 it agrees, or is chaotic; 1 drift (see --fail-on) or disagreement; "
        "2 unusable arrays or plan.",
    )
    parser.add_argument("run", metavar="RUN.npz", help="the arrays that a training left")
    parser.add_argument("--plan", required=True, metavar="DIR", help="of compare.py plan")
    parser.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        default="drift",
        help="the mildest grade that ends in exit status 1; default: %(default)s",
    )
    try:
        options = parser.parse_args(arguments)
        judge = open_plan(Path(options.plan), Thresholds())
        found = judge_arrays(judge, load_arrays(options.run))
    except ParityError as error:
        print(f"judge_arrays: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USAGE
    print("\n".join(found.lines()))
    return EXIT_DISAGREE if found.grade in failing(options.fail_on) else EXIT_AGREE


if __name__ == "__main__":
    sys.exit(main())
