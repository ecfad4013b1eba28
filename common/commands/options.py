"""The options of every command, each defined once: the command line's and Python's alike.

A class is a group of options, its docstring the group's heading. A command's options are a class
that inherits groups: the last one named comes first. What is not ``kw_only`` is given by place.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from datetime import datetime
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from threading import TIMEOUT_MAX
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ParamSpec,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from framework_parity.common.commands.bisection_state import BY
from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.extras import check_extra
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.environments.backend import IMPLEMENTATIONS
from framework_parity.common.judging.equivalence import LEAST_SEEDS
from framework_parity.common.judging.grades import FAIL_ON
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.exports import FORMATS
from framework_parity.common.training.recipe import MIXED, Recipe

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Place = str | Path
MOST_AT_ONCE, MOST_REPEATS = 4096, 10_000
DATA = (
    "fashion-mnist, digits, synthetic[:EXAMPLESxFEATURESxCLASSES] or FILE.npz with X_train, "
    "y_train, X_val, y_val; default: fashion-mnist, or digits where that fails"
)


@dataclass(frozen=True)
class Help:
    """What an option is for, and what is asked of its value.

    Args:
        text: its meaning.
        metavar: what stands for its value.
        choices: the values that there are; of a list, those of its items.
        most: of a number above zero, the largest; None where any number will do.
        flag: its name on the command line, where that is another one.
    """

    text: str
    metavar: str | None = None
    choices: Sequence[str] = ()
    most: float | None = None
    flag: str | None = None

    def check(self, option: str, hint: Any, value: Any) -> None:
        """Raise ParityError unless the value is of that type, and can be had."""
        listed = Sequence in kinds_of(hint)
        if not _fits(hint, value):
            mend = f"write [{value!r}]" if listed and isinstance(value, str) else "give that"
            raise ParityError(option, _in_words(hint), repr(value), mend)
        given = value if listed else [value]
        if self.choices and (odd := [each for each in given if each not in self.choices]):
            raise ParityError(
                option, " or ".join(self.choices), ", ".join(odd), "choose among them"
            )
        if twice := [each for i, each in enumerate(given) if each in given[:i]]:
            raise ParityError(option, "each one once", f"{twice[0]} twice", "leave one of them out")
        if self.most is None or value is None:
            return
        if not value > 0:
            raise ParityError(option, "a number above zero", value, "raise it")
        if value > self.most:
            raise ParityError(option, f"at most {self.most:g}", f"{value:g}", "lower it")


TYPES: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    Path: (os.PathLike, "a path"),
    Sequence: (Sequence, "a list"),
    Mapping: (Mapping, "a dict"),
    NoneType: (NoneType, "None"),
}
"""Of each type of an option: what is taken for it, and how it is called."""


def kinds_of(hint: Any) -> dict[Any, Any]:
    """The types that a hint names, each with the hint of what it holds, or None."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return {get_origin(part) or part: next(iter(get_args(part)[-1:]), None) for part in parts}


def _fits(hint: Any, value: Any) -> bool:
    for kind, held in kinds_of(hint).items():
        if isinstance(value, TYPES[kind][0]) and not (kind is Sequence and isinstance(value, str)):
            items = value.values() if isinstance(value, Mapping) else value
            return held is None or all(_fits(held, item) for item in items)
    return False


def _in_words(hint: Any) -> str:
    return " or ".join(
        TYPES[kind][1] + (f" in which each is {_in_words(held)}" if kind is Sequence else "")
        for kind, held in kinds_of(hint).items()
        if kind is not str or Path not in kinds_of(hint)
    )


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options with their values; every class of them is a frozen dataclass."""

    def __init_subclass__(cls, kw_only: bool = True) -> None:
        dataclass(frozen=True, kw_only=kw_only)(cls)

    def __post_init__(self) -> None:
        said = described(type(self))
        for field in fields(self):
            hint, help = said[field.name]
            flag = f"--{help.flag or field.name.replace('_', '-')}"
            help.check(flag if field.kw_only else field.name, hint, getattr(self, field.name))


def described(options: type[Options]) -> dict[str, tuple[Any, Help]]:
    """The type and the help of each option of a class."""
    hints = get_type_hints(options, include_extras=True)
    found = {field.name: hints[field.name] for field in fields(options)}
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in found.items()}


def takes(options: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function of an object of options be called with the options themselves."""

    def decorate(function: Callable[[T], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(options(*args, **kwargs))

        said = described(options)  # type: ignore[arg-type]
        parameters = inspect.signature(options).parameters.values()
        typed = [each.replace(annotation=said[each.name][0]) for each in parameters]
        returned = get_type_hints(function)["return"]
        shown = inspect.Signature(typed, return_annotation=returned)
        vars(call).update(options=options, __signature__=shown)
        args = [f"    {name}: {help.text}." for name, (_, help) in said.items()]
        call.__doc__ = "\n".join([str(inspect.getdoc(function)), "", "Args:", *args])
        return call

    return decorate


class Backends(Options, kw_only=False):
    """what is compared"""

    backends: Annotated[
        Sequence[str], Help("NAME or NAME==VERSION; default: every framework, as pinned", "BACKEND")
    ] = ()


class Implementations(Options):
    """what is compared"""

    implementations: Annotated[
        Sequence[str],
        Help("scratch or concise; default: both", "NAME", IMPLEMENTATIONS, flag="implementation"),
    ] = ()


class Data(Options):
    """what is trained; the defaults are the book's"""

    data: Annotated[str | None, Help(DATA)] = None
    data_dir: Annotated[Place | None, Help("the publisher's Fashion-MNIST files", "DIR")] = None


class Training(Data):
    """what is trained; the defaults are the book's"""

    max_epochs: Annotated[int, Help("passes over the training data")] = Recipe.max_epochs
    batch_size: Annotated[int, Help("examples per update")] = Recipe.batch_size
    lr: Annotated[float, Help("learning rate of plain SGD")] = Recipe.lr
    seed: Annotated[int, Help("decides initial weights and order of the examples")] = Recipe.seed
    dtype: Annotated[str, Help("float32 or float64", "TYPE")] = Recipe.dtype

    @property
    def recipe(self) -> Recipe:
        """The hyperparameters; of a data set that is not named, the first choice."""
        ours = {field.name for field in fields(self)} & {field.name for field in fields(Recipe)}
        values = {name: getattr(self, name) for name in ours}
        return Recipe(**values | {"data": self.data or Recipe.data} | self._format())

    def _format(self) -> dict[str, str]:
        """What the recipe has besides, where the dtype is one of mixed precision."""
        return {}


class DrawnTraining(Training):
    """what is trained; the defaults are the book's"""

    sigma: Annotated[float, Help("standard deviation of the initial weights")] = Recipe.sigma


class Quiet(Options):
    """how it runs"""

    quiet: Annotated[bool, Help("no progress, only the result")] = True


class Running(Quiet, Training):
    """how it runs"""

    threads: Annotated[int, Help("of each worker", most=MOST_AT_ONCE)] = 1
    timeout: Annotated[float, Help("seconds that a training may take", "S", most=TIMEOUT_MAX)] = (
        600.0
    )

    @property
    def slots(self) -> int:
        """How many workers run at once."""
        return 1


class Jobs(Running):
    """how it runs"""

    jobs: Annotated[
        int | None,
        Help("workers at once; default: processors / threads, on a GPU 1", most=MOST_AT_ONCE),
    ] = None

    @property
    def slots(self) -> int:
        return self.jobs or max(1, len(available_cpus()) // self.threads)


class FindLinks(Options):
    """how it runs"""

    find_links: Annotated[
        Sequence[Place], Help("folder or address where pip also looks for versions", "PLACE")
    ] = ()

    @property
    def places(self) -> list[str]:
        """Where pip looks; folders by their absolute paths.

        Raises:
            ParityError: if one is neither a folder nor an address.
        """
        found = []
        for place in map(str, self.find_links):
            path = os.path.expanduser(place)
            if "://" not in place and not os.path.isdir(path):
                raise ParityError(
                    "--find-links",
                    "a folder or an address",
                    repr(place),
                    "name where the releases are",
                )
            found.append(place if "://" in place else str(Path(path).absolute()))
        return found


class Pythons(Options):
    """how it runs"""

    pythons: Annotated[
        Mapping[str, Place] | None,
        Help(
            "interpreter of a backend, instead of one built for it", "BACKEND=PATH", flag="python"
        ),
    ] = None

    @property
    def named(self) -> dict[str, Path]:
        """The interpreter of each backend that has one named."""
        return {name: Path(path) for name, path in (self.pythons or {}).items()}


class Grading(Options):
    """where the grades part; every report states it"""

    threshold: Annotated[float, Help("rounding: at most so many envelopes")] = Thresholds.envelopes
    drift_loss: Annotated[float, Help("drift: relative error of epoch losses")] = (
        Thresholds.drift_loss
    )
    drift_predictions: Annotated[float, Help("drift: changed predictions, as a part of all")] = (
        Thresholds.drift_predictions
    )

    @property
    def thresholds(self) -> Thresholds:
        """The numbers that decide a grade."""
        return Thresholds(self.threshold, self.drift_loss, self.drift_predictions)


class OverTime(Options):
    """over time"""

    baseline: Annotated[
        Place | None,
        Help("golden records to compare with; what moved beyond rounding fails", "FILE"),
    ] = None
    accept: Annotated[
        Place | None, Help("known differences that do not fail before their date", "FILE")
    ] = None


class Written(Options):
    """what else is written, and the exit status"""

    junit: Annotated[str | None, Help(FORMATS["junit"], "FILE")] = None
    markdown: Annotated[str | None, Help(FORMATS["markdown"], "FILE")] = None
    csv: Annotated[str | None, Help(FORMATS["csv"], "FILE")] = None
    fail_on: Annotated[str, Help("mildest verdict that ends in exit status 1", choices=FAIL_ON)] = (
        "disagree"
    )


class Judging(Grading, FindLinks, Running):
    """how it runs"""

    out: Annotated[
        Place | None, Help("folder of the report; default: a new one in results/", "DIR")
    ] = None
    overwrite: Annotated[bool, Help("replace a report that is there")] = False

    @cached_property
    def folder(self) -> Path:
        """The report's folder.

        Raises:
            ParityError: if it has no name.
        """
        if self.out is not None and not str(self.out).strip():
            raise ParityError("--out", "a folder", "no name", "name one")
        new = f"{datetime.now():%Y-%m-%d-%H%M%S-%f}"[:-3]
        return Path("results", new) if self.out is None else Path(self.out)


class Comparing(OverTime, Pythons, Judging, Backends):
    """how it runs"""

    repeat: Annotated[
        int, Help("train N times each, to see whether it repeats itself", most=MOST_REPEATS)
    ] = 1


class Suite(DrawnTraining, Implementations):
    """how it runs"""

    device: Annotated[
        str,
        Help("cpu or gpu; with gpu, --python names an interpreter that sees it", choices=DEVICES),
    ] = DEVICES[0]


class BenchmarkOptions(Suite, Comparing):
    """The options of ``benchmark``."""


class CompareOptions(Jobs, BenchmarkOptions):
    """The options of ``compare``."""

    @property
    def slots(self) -> int:
        alone = self.jobs is None and self.device != DEVICES[0]  # workers would share the one GPU
        return 1 if alone else super().slots


class Reference(Options):
    """what is compared"""

    reference: Annotated[
        str | None, Help("whose float64 run is the reference, confirmed or not", "BACKEND")
    ] = None


class OfModel(Reference, DrawnTraining, Implementations):
    """what is compared"""

    model: Annotated[
        Place | None,
        Help("file of a model of your own, in place of softmax regression", "FILE"),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = {
            "--implementation": self.implementations,
            "--sigma": self.sigma != Recipe.sigma,
            "--device": getattr(self, "device", DEVICES[0]) != DEVICES[0],
            "--independent": getattr(self, "independent", False),
        }
        if self.model is not None and (given := [name for name in alone if alone[name]]):
            raise ParityError(
                "--model", f"no {given[0]}, which is softmax regression's", "both", "drop one"
            )
        if self.model is None and self.reference is not None:
            raise ParityError("--reference", "a --model", "none", "name its file, or drop both")

    @property
    def own_model(self) -> Path | None:
        """The file; None: softmax regression."""
        return None if self.model is None else Path(self.model)


class SeedsOptions(OfModel, CompareOptions):
    """over several seeds: distributions and equivalence tests"""

    count: Annotated[int, Help("compare over N seeds, from --seed on", most=MOST_REPEATS)] = 5
    independent: Annotated[bool, Help("each framework draws parameters and orders itself")] = False
    margin_loss: Annotated[float, Help("difference of final losses that counts as none")] = 0.01
    margin_accuracy: Annotated[float, Help("likewise of accuracies")] = 0.005
    level: Annotated[float, Help("of each one-sided test")] = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < LEAST_SEEDS:
            least = f"{LEAST_SEEDS} seeds or more"
            raise ParityError("--count", least, self.count, "compare without seeds, or with more")
        check_extra("seeds", ["scipy"], "seeds")
        widths = (self.margin_loss, self.margin_accuracy)
        if not (all(0 < width < math.inf for width in widths) and 0 < self.level < 0.5):
            raise ParityError(
                "--margin-loss, --margin-accuracy, --level",
                "finite margins above 0 and a level between 0 and 0.5",
                f"{widths[0]:g}, {widths[1]:g} and {self.level:g}",
                "mend them",
            )

    @property
    def seeds(self) -> range:
        """All of them, the first one first."""
        return range(self.seed, self.seed + self.count)


class GoldenFile(Options, kw_only=False):
    """golden records"""

    file: Annotated[Place, Help("the file of golden records", "FILE")]


class SaveOptions(OfModel, CompareOptions, GoldenFile):
    """golden records"""

    because: Annotated[str | None, Help("the reason, for the file's history", "REASON")] = None


class BisectOptions(OfModel, Jobs, Judging, kw_only=False):
    """what is bisected"""

    releases: Annotated[str, Help("a backend and its releases, such as 'NAME>=1.0,<=2.0'", "RANGE")]
    _: KW_ONLY
    by: Annotated[str, Help("what tells two releases apart", choices=BY)] = BY[0]


class ModelFile(Options, kw_only=False):
    """what is compared"""

    path: Annotated[Place, Help("the model's file", "FILE")]


class ModelOptions(Jobs, Reference, Comparing, ModelFile):
    """The options of ``model``; no backend named means every framework of the file."""

    dtype: Annotated[str, Help("float32, float64; mixed: bfloat16, float16", "TYPE")] = Recipe.dtype

    def _format(self) -> dict[str, str]:
        return {"dtype": Recipe.dtype, "mixed": self.dtype} if self.dtype in MIXED else {}


class PlanOptions(Jobs, DrawnTraining, kw_only=False):
    """what is written"""

    folder: Annotated[Place, Help("a new folder for the plan", "DIR")]


class NewOptions(Options, kw_only=False):
    """what is begun"""

    name: Annotated[str, Help("import name of the framework, and of its package", "NAME")]
    _: KW_ONLY
    version: Annotated[str | None, Help("the release to pin; default: the newest", "X.Y")] = None


class SetupOptions(Pythons, FindLinks, Quiet, Data, Backends):
    """The options of ``setup``."""


class ListOptions(Pythons):
    """how it is shown"""

    json: Annotated[bool, Help("as JSON")] = False


class ShowOptions(Written, kw_only=False):
    """what is shown"""

    folder: Annotated[Place, Help("--out of a finished comparison", "DIR")]
    _: KW_ONLY
    quiet: Annotated[bool, Help("print nothing, only convert")] = False
