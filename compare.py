"""Train one classifier in several frameworks on identical data and say how well they agree."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from common.bisection import Bisection
from common.bisection_state import BY, STATE_FILE, Question, State, load_state
from common.data import DataModule
from common.elsewhere import write_plan
from common.environment import (
    IMPLEMENTATIONS,
    Backend,
    Environment,
    choose,
    discover,
    find_environment,
)
from common.equivalence import LEAST_SEEDS
from common.errors import NotRunError, ParityError
from common.execution import Contender, Execution
from common.fetch import open_data
from common.judging import judge_comparison
from common.launcher import available_cpus
from common.model_comparison import ModelComparison
from common.own_model import OwnModel
from common.plan import Plan
from common.progress import Display
from common.recipe import Recipe
from common.regression import Regression
from common.releases import list_releases
from common.report import PAGE, Report, print_report, write_page
from common.report.exports import add_export_options, chosen_exports, export
from common.report.report import EXIT_USAGE, FILE
from common.report.show import COMMAND as SHOW
from common.report.show import DESCRIPTION as SHOWN
from common.report.show import add_show_options, show
from common.seeds import Margins, independent_seeds, shared_seeds, worst_verdict
from common.specifier import parse_python, parse_range
from common.thresholds import Thresholds

DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_THRESHOLDS = Thresholds()
DEFAULT_MARGINS = Margins()
EXIT_INTERRUPTED = 130
OWN_FOLDERS = ("plan", "runs", "reference", "second_look")
"""What a comparison puts beside its report, and replaces there; ``seed-N``, too."""


def compare(
    backends: Sequence[str] = (),
    *,
    implementations: Sequence[str] = (),
    data: str | None = None,
    data_dir: str | Path | None = None,
    batch_size: int = Recipe.batch_size,
    lr: float = Recipe.lr,
    max_epochs: int = Recipe.max_epochs,
    sigma: float = Recipe.sigma,
    seed: int = Recipe.seed,
    dtype: str = Recipe.dtype,
    out: str | Path | None = None,
    overwrite: bool = False,
    pythons: Mapping[str, str | Path] | None = None,
    find_links: Sequence[str | Path] = (),
    jobs: int | None = None,
    threads: int = 1,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    repeat: int = 1,
    seeds: int = 1,
    independent: bool = False,
    benchmark: bool = False,
    margins: Margins = DEFAULT_MARGINS,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    baseline: str | Path | None = None,
    save_baseline: str | Path | None = None,
    because: str | None = None,
    accept: str | Path | None = None,
    quiet: bool = True,
) -> Report:
    """Compare backends on one plan.

    Args:
        backends: names of backends, each with a version if another than the pinned one is
            wanted (``NAME==VERSION``); every framework if none is given.
        implementations: ``scratch``, ``concise``; both if none is given.
        data: ``fashion-mnist``, ``digits``, ``synthetic[:EXAMPLESxFEATURESxCLASSES]`` or the path
            of an ``.npz``; Fashion-MNIST if not given, or digits where it cannot be had.
        data_dir: folder of the publisher's Fashion-MNIST files.
        batch_size, lr, max_epochs, sigma, seed, dtype: see :class:`common.recipe.Recipe`.
        out: folder of the report; a new one in ``results/`` if not given.
        overwrite: replace a report that is there.
        pythons: an interpreter for a backend, by its name, with the version as it is named there.
        find_links: where pip looks for the versions besides its index: folders or addresses.
        jobs: how many workers run at once; as many as the processors allow if not given.
        threads: threads of each worker.
        timeout: seconds after which a training is ended.
        repeat: how often each worker trains, to see whether it repeats itself.
        seeds: compare over so many seeds, from ``seed`` on.
        independent: over seeds, let each framework draw initial parameters and orders itself.
        benchmark: run one process at a time, and each training in its own, so that seconds and
            memory are those of one training on an otherwise idle machine.
        margins: of the equivalence tests over seeds.
        thresholds: where the grades part.
        baseline: a file of golden records to compare with.
        save_baseline: a file in which golden records are saved; others that it holds are kept.
        because: the reason, for the history of that file.
        accept: a TOML file of known differences.
        quiet: show no progress.

    Returns:
        The report, which is also in ``out/report.json`` and, to be looked at, ``out/report.html``.

    Raises:
        ParityError: for unusable input, before anything is written.
    """
    found = discover()
    chosen = choose(backends, found, check_find_links(find_links))
    wanted = choose_implementations(implementations)
    named = {name: Path(path) for name, path in (pythons or {}).items()}
    check_pythons(named, chosen, found)
    jobs = check_processes(jobs, threads, timeout, benchmark)
    check_positive("--repeat", repeat)
    check_seeds(seeds, independent, margins)
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, sigma, seed, dtype)
    folder = Path(out) if out is not None else default_folder()
    check_folder(folder, overwrite)
    regression = Regression(baseline, save_baseline, because, accept)

    with Display(quiet) as display, writing(folder):
        data_folder, examples, notice = fetch(data, batch_size, data_dir, display)
        recipe = Recipe(examples.name, batch_size, lr, max_epochs, sigma, seed, dtype)
        plan = Plan.make(recipe, examples, data_folder)
        regression.check_plan(plan)
        prepare_folder(folder, overwrite)
        environments = prepare_environments(chosen, named, display)
        plan.save(folder / "plan")
        execution = Execution(plan, folder, jobs, threads, timeout, display.tell, benchmark)
        contenders = [
            Contender(environments[backend.label], implementation)
            for backend in chosen
            for implementation in wanted
        ]
        outcomes = execution.train(contenders, repeat)
        display.tell("judging", {"event": "judging"})
        facts = judge_comparison(
            execution, examples, contenders, outcomes, thresholds, repeat, regression
        )
        all_seeds = range(seed, seed + seeds)
        if independent:
            facts["seeds"] = independent_seeds(execution, examples, contenders, all_seeds, margins)
        elif seeds > 1:
            facts["seeds"] = shared_seeds(
                execution, examples, contenders, all_seeds, facts, thresholds, margins
            )
            facts["verdict"] = worst_verdict(facts["seeds"], facts["verdict"])
        facts["notices"] += [notice] if notice else []
        facts["settings"] = {
            "jobs": jobs,
            "threads": threads,
            "timeout_seconds": timeout,
            "benchmark": benchmark,
        }
        facts["baseline_saved"] = regression.save(facts["verdict"] != "incomplete")
        report = Report(facts, folder)
        report.save()
        write_page(report)
        display.tell("judging", {"event": "done"})
    return report


def bisect(
    releases: str,
    *,
    by: str = BY[0],
    implementations: Sequence[str] = (),
    data: str | None = None,
    data_dir: str | Path | None = None,
    batch_size: int = Recipe.batch_size,
    lr: float = Recipe.lr,
    max_epochs: int = Recipe.max_epochs,
    sigma: float = Recipe.sigma,
    seed: int = Recipe.seed,
    dtype: str = Recipe.dtype,
    out: str | Path | None = None,
    overwrite: bool = False,
    find_links: Sequence[str | Path] = (),
    jobs: int | None = None,
    threads: int = 1,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    quiet: bool = True,
) -> Report:
    """Find the first release of a framework that does not train as the oldest one does.

    Args:
        releases: a backend and a range, such as ``NAME>=1.0,<=2.0``.
        by: what tells two releases apart: their ``grade``, or the ``bits`` of their records.
        out: folder of the report; if it holds a bisection that was interrupted, this goes on.

    The other arguments are those of :func:`compare`.

    Returns:
        A report with a row for each release that was tried.

    Raises:
        ParityError: for unusable input, and if the ends do not differ.
    """
    name, wanted = parse_range(releases)
    (backend,) = choose([name], discover())
    if by not in BY:
        raise ParityError(f"--bisect-by: expected {' or '.join(BY)}; received {by!r}; choose one")
    places = check_find_links(find_links)
    trained = choose_implementations(implementations)
    jobs = check_processes(jobs, threads, timeout)
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, sigma, seed, dtype)
    folder = Path(out) if out is not None else default_folder()
    state = None if overwrite else load_state(folder / STATE_FILE)
    if state is None:
        check_folder(folder, overwrite)
        found = list_releases(backend.requirements[0].name, wanted, places)
        check_releases(releases, found)
    with Display(quiet) as display, writing(folder):
        data_folder, examples, notice = fetch(data, batch_size, data_dir, display)
        recipe = Recipe(examples.name, batch_size, lr, max_epochs, sigma, seed, dtype)
        plan = Plan.make(recipe, examples, data_folder)
        question = Question(name, str(wanted), by, tuple(trained), tuple(places), plan.sha256)
        if state is None:
            prepare_folder(folder, overwrite)
            plan.save(folder / "plan")
            state = State(question, tuple(found))
            state.save(folder / STATE_FILE)
        state.check(question, folder / STATE_FILE)
        execution = Execution(plan, folder, jobs, threads, timeout, display.tell)
        facts = Bisection(state, backend, execution, examples, thresholds).run()
        facts["notices"] += [notice] if notice else []
        facts["settings"] = {"jobs": jobs, "threads": threads, "timeout_seconds": timeout}
        report = Report(facts, folder)
        report.save()
        write_page(report)
    return report


def compare_model(
    path: str | Path,
    backends: Sequence[str] = (),
    *,
    data: str | None = None,
    data_dir: str | Path | None = None,
    batch_size: int = Recipe.batch_size,
    lr: float = Recipe.lr,
    max_epochs: int = Recipe.max_epochs,
    seed: int = Recipe.seed,
    dtype: str = Recipe.dtype,
    out: str | Path | None = None,
    overwrite: bool = False,
    pythons: Mapping[str, str | Path] | None = None,
    find_links: Sequence[str | Path] = (),
    jobs: int | None = None,
    threads: int = 1,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    quiet: bool = True,
) -> Report:
    """Compare a user's own model between the frameworks that its file gives it in.

    Args:
        path: the file; ``docs/own_model.md`` says what it holds.
        backends: names of backends; every framework of the file if none is given.

    The other arguments are those of :func:`compare`.

    Raises:
        ParityError: for unusable input, before anything is written, and if the reference fails.
    """
    found = discover()
    model = OwnModel.load(Path(path), found)
    frameworks = [name for name in model.backends if found[name].is_framework]
    chosen = choose(backends or frameworks or model.backends, found, check_find_links(find_links))
    model.check_backends([backend.name for backend in chosen])
    plain = [name for name in model.backends if not found[name].is_framework]
    reference = found[(plain or model.backends)[0]]
    named = {name: Path(place) for name, place in (pythons or {}).items()}
    check_pythons(named, chosen, found)
    jobs = check_processes(jobs, threads, timeout)
    folder = Path(out) if out is not None else default_folder()
    Recipe(data or Recipe.data, batch_size, lr, max_epochs, seed=seed, dtype=dtype)
    check_folder(folder, overwrite)
    with Display(quiet) as display, writing(folder):
        data_folder, examples, notice = fetch(data, batch_size, data_dir, display)
        recipe = Recipe(examples.name, batch_size, lr, max_epochs, seed=seed, dtype=dtype)
        plan = Plan.make(recipe, examples, data_folder)
        prepare_folder(folder, overwrite)
        wanted = {backend.label: backend for backend in (*chosen, reference)}
        environments = prepare_environments(list(wanted.values()), named, display)
        if environments[reference.label].python is None:
            raise NotRunError(
                f"{reference.label}: expected the framework of the reference; received none: "
                f"{environments[reference.label].reason}; mend that or name another --python"
            )
        plan.save(folder / "plan")
        execution = Execution(plan, folder, jobs, threads, timeout, display.tell)
        contenders = [Contender(environments[b.label], model.path.stem) for b in chosen]
        comparison = ModelComparison(
            model, execution, examples, environments[reference.label], contenders
        )
        facts = comparison.run(thresholds)
        facts["notices"] += [notice] if notice else []
        facts["settings"] = {"jobs": jobs, "threads": threads, "timeout_seconds": timeout}
        report = Report(facts, folder)
        report.save()
        write_page(report)
    return report


# The steps of a comparison


def default_folder() -> Path:
    """A folder of its own for a comparison whose ``--out`` is not given."""
    return Path("results") / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")[:-3]


def choose_implementations(names: Sequence[str]) -> list[str]:
    """The implementations of these names; all if none is named."""
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in IMPLEMENTATIONS]:
        raise ParityError(
            f"implementation: expected some of {', '.join(IMPLEMENTATIONS)}; received "
            f"{', '.join(unknown)}; choose among them"
        )
    return names or list(IMPLEMENTATIONS)


def check_positive(name: str, value: float, most: float = float("inf")) -> None:
    """Raise ParityError unless the value is above zero, and no larger than it may be."""
    if not value > 0:
        raise ParityError(f"{name}: expected a number above zero; received {value}; raise it")
    if value > most:
        raise ParityError(f"{name}: expected at most {most:g}; received {value:g}; lower it")


def check_processes(jobs: int | None, threads: int, timeout: float, benchmark: bool = False) -> int:
    """How many processes run at once; ParityError if these are no numbers to run them with."""
    check_positive("--threads", threads)
    check_positive("--timeout", timeout, threading.TIMEOUT_MAX)
    if benchmark and jobs not in (None, 1):
        raise ParityError(
            f"--jobs: expected 1 with --benchmark, where each process runs alone; received {jobs}; "
            "leave it out"
        )
    if jobs is None:
        jobs = 1 if benchmark else max(1, len(available_cpus()) // threads)
    check_positive("--jobs", jobs)
    return jobs


def check_releases(asked: str, found: Sequence[str]) -> None:
    """Raise ParityError unless there are releases to choose between."""
    if len(found) < 2:
        raise ParityError(
            f"--bisect: expected a range with two releases or more; received {asked!r}, which "
            f"holds {', '.join(found) or 'none'} of those that pip finds; widen it"
        )


def check_pythons(
    named: Mapping[str, Path], chosen: Sequence[Backend], found: Mapping[str, Backend]
) -> None:
    """Raise ParityError unless every interpreter is that of a backend, or of a version compared."""
    labels = [backend.label for backend in chosen]
    for backend in choose(named, found) if named else []:
        if backend.version is not None and backend.label not in labels:
            raise ParityError(
                f"--python: expected an interpreter of {', '.join(labels)}; received one of "
                f"{backend.label}; name {backend.label} among the backends, too"
            )


def check_find_links(places: Sequence[str | Path]) -> list[str]:
    """Where pip looks for releases besides its index; folders by their absolute paths.

    Raises:
        ParityError: if one is neither a folder nor an address.
    """
    for place in places:
        if "://" not in str(place) and not Path(place).expanduser().is_dir():
            raise ParityError(
                f"--find-links: expected a folder or an address; received {str(place)!r}; name "
                "where the releases are"
            )
    return [
        str(place) if "://" in str(place) else str(Path(place).expanduser().absolute())
        for place in places
    ]


def check_seeds(seeds: int, independent: bool, margins: Margins) -> None:
    """Raise ParityError unless the options that go with seeds make a test."""
    check_positive("--seeds", seeds)
    if independent and seeds < LEAST_SEEDS:
        raise ParityError(
            f"--independent: expected --seeds {LEAST_SEEDS} or more with it; received {seeds}; "
            "one training has no distribution"
        )
    if not (margins.val_loss > 0 and margins.val_accuracy > 0 and 0 < margins.level < 0.5):
        raise ParityError(
            "--margin-loss, --margin-accuracy, --level: expected margins above 0 and a level "
            f"between 0 and 0.5; received {margins.val_loss:g}, {margins.val_accuracy:g} and "
            f"{margins.level:g}; mend them"
        )


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise ParityError unless a report can be written to the folder. Writes nothing that stays."""
    if os.path.exists(folder / FILE) and not overwrite:
        raise ParityError(
            f"{folder}: expected a folder without a report; received one that holds {FILE}; name "
            "another --out or add --overwrite"
        )
    try:
        if not (folder / "plan" / "plan.json").exists():
            for name in OWN_FOLDERS:
                if (folder / name).exists():
                    raise ParityError(
                        f"{folder}: expected a folder for a report; received one with a {name} "
                        "that no comparison left there; name another --out"
                    )
        ancestor = folder
        while not ancestor.exists():
            ancestor = ancestor.parent
        with tempfile.TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise ParityError(
            f"{folder}: expected a folder that can be written; received {error.strerror or error}"
            "; name another --out"
        ) from None


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that went away, into a ParityError."""
    try:
        yield
    except OSError as error:
        raise ParityError(
            f"{error.filename or folder}: expected room and permission to write; received "
            f"{error.strerror or error}; free space there or name another --out"
        ) from None


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Create the report's folder; with ``overwrite``, without what an earlier run left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*(folder / name for name in OWN_FOLDERS), *folder.glob("seed-*")]:
            if old.exists():
                shutil.rmtree(old)
        if overwrite:
            for name in (FILE, PAGE, STATE_FILE):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ParityError(
            f"{folder}: expected a folder that can be written; received {error.strerror or error}"
            "; name another --out"
        ) from None


def fetch(
    data: str | None, batch_size: int, data_dir: str | Path | None, display: Display
) -> tuple[Path, DataModule, str | None]:
    """Find or fetch the data set."""

    def tell(what: str, part: float) -> None:
        display.tell("data", {"event": what, "part": part})

    result = open_data(data, batch_size, data_dir, tell)
    display.tell("data", {"event": "ready"})
    return result


def prepare_environments(
    backends: Sequence[Backend], pythons: Mapping[str, Path], display: Display
) -> dict[str, Environment]:
    """Find or build the environments of all backends, side by side."""
    stop = threading.Event()

    def prepare(backend: Backend) -> Environment:
        def tell(what: str) -> None:
            display.tell(backend.label, {"event": what})

        environment = find_environment(backend, pythons.get(backend.label), tell=tell, stop=stop)
        if environment.python is None:
            display.tell(backend.label, {"event": "unavailable"})
        else:
            display.tell(backend.label, {"event": "ready"})
        return environment

    with ThreadPoolExecutor(max_workers=max(1, len(backends))) as pool:
        try:
            return {environment.label: environment for environment in pool.map(prepare, backends)}
        except BaseException:
            stop.set()
            raise


# The command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [SHOW]:
        shown = Parser(prog=f"compare.py {SHOW}", description=SHOWN)
        shown.set_defaults(show=True)
        add_show_options(shown)
        return shown.parse_args(words[1:])
    parser = Parser(
        prog="compare.py",
        description=f"{__doc__}\n\n{SHOW} DIR prints or converts a finished comparison.",
        formatter_class=Formatter,
    )
    parser.set_defaults(show=False)
    parser.add_argument(
        "backends",
        nargs="*",
        metavar="BACKEND",
        help="NAME or NAME==VERSION; default: every framework, as pinned",
    )
    parser.add_argument(
        "--implementation",
        action="append",
        default=[],
        help="scratch or concise, several times for several; default: both",
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument(
        "--data",
        help="fashion-mnist, digits, synthetic[:EXAMPLESxFEATURESxCLASSES] or FILE.npz with "
        "X_train, y_train, X_val, y_val; default: fashion-mnist, or digits where that fails",
    )
    what.add_argument("--data-dir", help="folder of the publisher's Fashion-MNIST files")
    what.add_argument("--max-epochs", type=int, default=Recipe.max_epochs, help="%(default)s")
    what.add_argument("--batch-size", type=int, default=Recipe.batch_size, help="%(default)s")
    what.add_argument("--lr", type=float, default=Recipe.lr, help="learning rate; %(default)s")
    what.add_argument(
        "--sigma",
        type=float,
        default=Recipe.sigma,
        help="deviation of initial weights; %(default)s",
    )
    what.add_argument("--seed", type=int, default=Recipe.seed, help="%(default)s")
    what.add_argument("--dtype", default=Recipe.dtype, help="float32 or float64; %(default)s")
    how = parser.add_argument_group("how it runs")
    how.add_argument("--out", help="folder of the report; default: a new one in results/")
    how.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    how.add_argument("--jobs", type=int, help="workers at once; default: processors / threads")
    how.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="train each N times, to see whether it repeats itself bit for bit; %(default)s",
    )
    how.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="compare over N seeds, from --seed on: distributions and equivalence tests",
    )
    how.add_argument(
        "--independent",
        action="store_true",
        help="over seeds, let each framework draw initial parameters and orders itself",
    )
    for name, default in vars(DEFAULT_MARGINS).items():
        how.add_argument(
            f"--margin-{name.removeprefix('val_')}" if name != "level" else "--level",
            type=float,
            default=default,
            metavar="M",
            help="level of the equivalence tests over seeds; %(default)s"
            if name == "level"
            else f"largest difference of {name} over seeds that counts as none; %(default)s",
        )
    how.add_argument(
        "--benchmark",
        action="store_true",
        help="one process at a time, and one for each training: seconds and memory are its own",
    )
    how.add_argument("--threads", type=int, default=1, help="threads of a worker; %(default)s")
    how.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="interpreter of a backend (NAME or NAME==VERSION), instead of one built for it",
    )
    how.add_argument(
        "--find-links",
        action="append",
        default=[],
        metavar="PLACE",
        help="folder or address where pip looks for versions besides its index",
    )
    how.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="S",
        help="seconds after which a training is ended; %(default)g",
    )
    how.add_argument(
        "--fail-on",
        choices=("drift", "disagree"),
        default="disagree",
        help="the mildest verdict that ends in exit status 1; %(default)s",
    )
    grades = parser.add_argument_group("where the grades part; every report states it")
    for name, default, meaning in (
        ("threshold", DEFAULT_THRESHOLDS.envelopes, "rounding: at most so many envelopes"),
        ("drift-loss", DEFAULT_THRESHOLDS.drift_loss, "drift: an epoch's loss, relative"),
        ("drift-predictions", DEFAULT_THRESHOLDS.drift_predictions, "drift: changed predictions"),
    ):
        grades.add_argument(
            f"--{name}", type=float, default=default, metavar="T", help=f"{meaning}; %(default)g"
        )
    how.add_argument("--quiet", action="store_true", help="no progress, only the report")
    add_regression_options(parser)
    add_export_options(parser)
    instead = parser.add_argument_group("instead of comparing").add_mutually_exclusive_group()
    instead.add_argument(
        "--setup", action="store_true", help="build the environments and fetch the data only"
    )
    instead.add_argument(
        "--bisect",
        metavar="RANGE",
        help="find the release that changed a training, of a range such as 'NAME>=1.0,<=2.0'; "
        "with the --out of an interrupted one, go on with it",
    )
    instead.add_argument(
        "--model",
        metavar="FILE.py",
        help="compare a model of your own, given in several frameworks; see docs/own_model.md",
    )
    instead.add_argument(
        "--list", action="store_true", help="the backends, their versions and interpreters"
    )
    instead.add_argument(
        "--write-plan",
        metavar="DIR",
        help="write plan, data and reference for other programs to train; docs/record.md",
    )
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    parser.add_argument(
        "--bisect-by",
        choices=BY,
        default=BY[0],
        help="with --bisect: what tells two releases apart; %(default)s",
    )
    return parser.parse_args(arguments)


def add_regression_options(parser: argparse.ArgumentParser) -> None:
    """The options of golden records and accepted differences."""
    over_time = parser.add_argument_group("over time")
    over_time.add_argument(
        "--baseline",
        metavar="FILE",
        help="compare with the golden records in FILE; what moved beyond rounding fails",
    )
    over_time.add_argument(
        "--save-baseline", metavar="FILE", help="save golden records of these runs in FILE"
    )
    over_time.add_argument(
        "--because", metavar="REASON", help="with --save-baseline: why, for the file's history"
    )
    over_time.add_argument(
        "--accept", metavar="FILE", help="known differences that do not fail before their date"
    )


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help with a little more room for the options' names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; compare.py --help lists what there is\n")


def parse_pythons(pairs: Sequence[str]) -> dict[str, str]:
    """``BACKEND=PATH`` pairs as a mapping; a backend may carry its version."""
    return dict(parse_python(pair) for pair in pairs)


def check_useless(what: str, options: argparse.Namespace, others: Mapping[str, object]) -> None:
    """Raise ParityError if options are given for which there is no use beside ``what``."""
    useless = {
        "--repeat": options.repeat != 1,
        "--seeds": options.seeds != 1,
        "--independent": options.independent,
        "--benchmark": options.benchmark,
        "--baseline": options.baseline,
        "--save-baseline": options.save_baseline,
        "--because": options.because,
        "--accept": options.accept,
        **others,
    }
    if given := [name for name, value in useless.items() if value]:
        raise ParityError(
            f"{what}: expected a recipe beside it; received {', '.join(given)}, too; leave that out"
        )


def list_backends(pythons: Mapping[str, str], as_json: bool) -> None:
    """Print the backends, their versions and where the interpreter of each one is."""
    found = discover()
    choose(pythons, found)
    rows = []
    for backend in found.values():
        named = Path(pythons[backend.name]) if backend.name in pythons else None
        environment = find_environment(backend, named, build=False)
        rows.append(
            {
                "name": backend.name,
                "implementations": list(backend.implementations),
                "version": environment.version or backend.pinned_version,
                "python": None if environment.python is None else str(environment.python),
            }
        )
    if as_json:
        print(json.dumps({"backends": rows}, indent=1))
        return
    for row in rows:
        implementations = ", ".join(row["implementations"] or ())
        python = row["python"] or "(not built yet: compare.py --setup)"
        print(f"{row['name']:<12} {row['version']:<10} {implementations:<18} {python}")


def setup(arguments: argparse.Namespace, pythons: Mapping[str, str]) -> int:
    """Build the environments and fetch the data."""
    chosen = choose(arguments.backends, discover(), check_find_links(arguments.find_links))
    with Display(arguments.quiet) as display:
        _, data, notice = fetch(arguments.data, arguments.batch_size, arguments.data_dir, display)
        named = {name: Path(path) for name, path in pythons.items()}
        environments = prepare_environments(chosen, named, display)
    if notice:
        print(notice)
    print(f"data: {data.name} from {data.source}")
    for environment in environments.values():
        where = environment.python or environment.reason
        print(f"{environment.backend} {environment.version or environment.asked}: {where}")
    return 0 if all(e.python for e in environments.values()) else 3


def write_plan_for_others(options: argparse.Namespace) -> int:
    """Write what is to be trained, and what judges it, for a program that is not ours."""
    folder = Path(options.write_plan)
    jobs = options.jobs or max(1, len(available_cpus()) // options.threads)
    settings = {name: getattr(options, name) for name in vars(Recipe()) if name != "data"}
    with Display(options.quiet) as display, writing(folder):
        data_folder, data, notice = fetch(
            options.data, options.batch_size, options.data_dir, display
        )
        plan = Plan.make(Recipe(data.name, **settings), data, data_folder)
        execution = Execution(plan, folder, jobs, options.threads, options.timeout, display.tell)
        write_plan(folder, plan, data, execution)
    if notice:
        print(notice)
    print(f"{folder}: plan of {plan.num_steps} updates; docs/record.md says what to record")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(arguments)
    resumed = ""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some terminals have no ×
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.show:
            return show(options)
        pythons = parse_pythons(options.python)
        exports = chosen_exports(options)
        if options.list:
            list_backends(pythons, options.json)
            return 0
        if options.setup:
            return setup(options, pythons)
        if options.write_plan:
            return write_plan_for_others(options)
        started = time.perf_counter()
        common: dict[str, Any] = {
            "implementations": options.implementation,
            "data": options.data,
            "data_dir": options.data_dir,
            "batch_size": options.batch_size,
            "lr": options.lr,
            "max_epochs": options.max_epochs,
            "sigma": options.sigma,
            "seed": options.seed,
            "dtype": options.dtype,
            "out": options.out or default_folder(),
            "overwrite": options.overwrite,
            "find_links": options.find_links,
            "jobs": options.jobs,
            "threads": options.threads,
            "timeout": options.timeout,
            "thresholds": Thresholds(
                options.threshold, options.drift_loss, options.drift_predictions
            ),
            "quiet": options.quiet,
        }
        if options.bisect is not None:
            check_useless(
                "--bisect",
                options,
                {"BACKEND": options.backends, "--python": options.python},
            )
            resumed = f"; --out {common['out']} goes on with it"
            report = bisect(options.bisect, by=options.bisect_by, **common)
        elif options.model is not None:
            unused = {"--sigma": common.pop("sigma") != Recipe.sigma}
            unused |= {"--implementation": common.pop("implementations")}
            check_useless("--model", options, unused)
            report = compare_model(options.model, options.backends, pythons=pythons, **common)
        else:
            report = compare(
                options.backends,
                pythons=pythons,
                repeat=options.repeat,
                seeds=options.seeds,
                independent=options.independent,
                benchmark=options.benchmark,
                margins=Margins(options.margin_loss, options.margin_accuracy, options.level),
                baseline=options.baseline,
                save_baseline=options.save_baseline,
                because=options.because,
                accept=options.accept,
                **common,
            )
        export(report, exports, options.fail_on)
    except ParityError as error:
        print(f"compare.py: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"compare.py: interrupted; every worker was ended{resumed}", file=sys.stderr)
        return EXIT_INTERRUPTED
    try:
        print_report(report)
        page = f" and {PAGE}" if (report.folder / PAGE).exists() else ""
        print(f"{report.folder / FILE}{page} written after {time.perf_counter() - started:.1f} s")
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; rich would end here
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # A bisection that found its pair did what was asked, whatever the grades of its releases.
    return 0 if options.bisect is not None else report.exit_status(options.fail_on)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
