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
from typing import NoReturn

from common.data import DataModule
from common.environment import (
    IMPLEMENTATIONS,
    Backend,
    Environment,
    choose,
    discover,
    find_environment,
)
from common.equivalence import LEAST_SEEDS
from common.errors import ParityError
from common.execution import Contender, Execution
from common.fetch import open_data
from common.judging import judge_comparison
from common.launcher import available_cpus
from common.plan import Plan
from common.progress import Display
from common.recipe import Recipe
from common.report import PAGE, Report, print_report, write_page
from common.report.report import EXIT_USAGE, FILE
from common.seeds import Margins, independent_seeds, shared_seeds, worst_verdict
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
    jobs: int | None = None,
    threads: int = 1,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    repeat: int = 1,
    seeds: int = 1,
    independent: bool = False,
    benchmark: bool = False,
    margins: Margins = DEFAULT_MARGINS,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    quiet: bool = True,
) -> Report:
    """Compare backends on one plan.

    Args:
        backends: names of backends; every framework if none is given.
        implementations: ``scratch``, ``concise``; both if none is given.
        data: ``fashion-mnist``, ``digits``, ``synthetic[:EXAMPLESxFEATURESxCLASSES]`` or the path
            of an ``.npz``; Fashion-MNIST if not given, or digits where it cannot be had.
        data_dir: folder of the publisher's Fashion-MNIST files.
        batch_size, lr, max_epochs, sigma, seed, dtype: see :class:`common.recipe.Recipe`.
        out: folder of the report; a new one in ``results/`` if not given.
        overwrite: replace a report that is there.
        pythons: an interpreter for a backend, by its name.
        jobs: how many workers run at once; as many as the processors allow if not given.
        threads: threads of each worker.
        timeout: seconds after which a worker is ended.
        repeat: how often each worker trains, to see whether it repeats itself.
        seeds: compare over so many seeds, from ``seed`` on.
        independent: over seeds, let each framework draw initial parameters and orders itself.
        benchmark: run one process at a time, and each training in its own, so that seconds and
            memory are those of one training on an otherwise idle machine.
        margins: of the equivalence tests over seeds.
        thresholds: where the grades part.
        quiet: show no progress.

    Returns:
        The report, which is also in ``out/report.json`` and, to be looked at, ``out/report.html``.

    Raises:
        ParityError: for unusable input, before anything is written.
    """
    found = discover()
    chosen = choose(backends, found)
    wanted = choose_implementations(implementations)
    named = {name: Path(path) for name, path in (pythons or {}).items()}
    choose(named, found)
    check_positive("--threads", threads)
    check_positive("--timeout", timeout, threading.TIMEOUT_MAX)
    jobs = choose_jobs(jobs, threads, benchmark)
    check_positive("--repeat", repeat)
    check_seeds(seeds, independent, margins)
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, sigma, seed, dtype)
    folder = Path(out) if out is not None else default_folder()
    check_folder(folder, overwrite)

    with Display(quiet) as display, writing(folder):
        data_folder, examples, notice = fetch(data, batch_size, data_dir, display)
        recipe = Recipe(examples.name, batch_size, lr, max_epochs, sigma, seed, dtype)
        plan = Plan.make(recipe, examples, data_folder)
        prepare_folder(folder, overwrite)
        environments = prepare_environments(chosen, named, display)
        plan.save(folder / "plan")
        execution = Execution(plan, folder, jobs, threads, timeout, display.tell, benchmark)
        contenders = [
            Contender(environments[backend.name], implementation)
            for backend in chosen
            for implementation in wanted
        ]
        outcomes = execution.train(contenders, repeat)
        display.tell("judging", {"event": "judging"})
        facts = judge_comparison(execution, examples, contenders, outcomes, thresholds, repeat)
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
        report = Report(facts, folder)
        report.save()
        write_page(report)
        display.tell("judging", {"event": "done"})
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


def choose_jobs(jobs: int | None, threads: int, benchmark: bool) -> int:
    """How many processes run at once."""
    if benchmark and jobs not in (None, 1):
        raise ParityError(
            f"--jobs: expected 1 with --benchmark, where each process runs alone; received {jobs}; "
            "leave it out"
        )
    if jobs is None:
        jobs = 1 if benchmark else max(1, len(available_cpus()) // threads)
    check_positive("--jobs", jobs)
    return jobs


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
            for name in (FILE, PAGE):
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
            display.tell(backend.name, {"event": what})

        environment = find_environment(backend, pythons.get(backend.name), tell=tell, stop=stop)
        if environment.python is None:
            display.tell(backend.name, {"event": "unavailable"})
        else:
            display.tell(backend.name, {"event": "ready"})
        return environment

    with ThreadPoolExecutor(max_workers=max(1, len(backends))) as pool:
        try:
            return {environment.backend: environment for environment in pool.map(prepare, backends)}
        except BaseException:
            stop.set()
            raise


# The command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="compare.py", description=__doc__, formatter_class=Formatter)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help="default: every framework")
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
        help="interpreter of a backend, instead of an environment built for it",
    )
    how.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="S",
        help="seconds after which a worker is ended; %(default)g",
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
    instead = parser.add_argument_group("instead of comparing").add_mutually_exclusive_group()
    instead.add_argument(
        "--setup", action="store_true", help="build the environments and fetch the data only"
    )
    instead.add_argument(
        "--list", action="store_true", help="the backends, their versions and interpreters"
    )
    parser.add_argument("--json", action="store_true", help="with --list: as JSON")
    return parser.parse_args(arguments)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help with a little more room for the options' names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; compare.py --help lists what there is\n")


def parse_pythons(pairs: Sequence[str]) -> dict[str, str]:
    """``BACKEND=PATH`` pairs as a mapping."""
    for pair in pairs:
        if "=" not in pair:
            raise ParityError(
                f"--python: expected BACKEND=PATH; received {pair!r}; name the backend, too"
            )
    return {name: path for name, _, path in (pair.partition("=") for pair in pairs)}


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
    chosen = choose(arguments.backends, discover())
    with Display(arguments.quiet) as display:
        _, data, notice = fetch(arguments.data, arguments.batch_size, arguments.data_dir, display)
        named = {name: Path(path) for name, path in pythons.items()}
        environments = prepare_environments(chosen, named, display)
    if notice:
        print(notice)
    print(f"data: {data.name} from {data.source}")
    for environment in environments.values():
        where = environment.python or environment.reason
        print(f"{environment.backend} {environment.version}: {where}")
    return 0 if all(e.python for e in environments.values()) else 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some terminals have no ×
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        pythons = parse_pythons(options.python)
        if options.list:
            list_backends(pythons, options.json)
            return 0
        if options.setup:
            return setup(options, pythons)
        started = time.perf_counter()
        report = compare(
            options.backends,
            implementations=options.implementation,
            data=options.data,
            data_dir=options.data_dir,
            batch_size=options.batch_size,
            lr=options.lr,
            max_epochs=options.max_epochs,
            sigma=options.sigma,
            seed=options.seed,
            dtype=options.dtype,
            out=options.out,
            overwrite=options.overwrite,
            pythons=pythons,
            jobs=options.jobs,
            threads=options.threads,
            timeout=options.timeout,
            repeat=options.repeat,
            seeds=options.seeds,
            independent=options.independent,
            benchmark=options.benchmark,
            margins=Margins(options.margin_loss, options.margin_accuracy, options.level),
            thresholds=Thresholds(options.threshold, options.drift_loss, options.drift_predictions),
            quiet=options.quiet,
        )
    except ParityError as error:
        print(f"compare.py: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("compare.py: interrupted; every worker was ended", file=sys.stderr)
        return EXIT_INTERRUPTED
    try:
        print_report(report)
        page = f" and {PAGE}" if (report.folder / PAGE).exists() else ""
        print(f"{report.folder / FILE}{page} written after {time.perf_counter() - started:.1f} s")
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; rich would end here
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_status(options.fail_on)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
