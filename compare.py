"""Train one classifier in several frameworks on identical data and say how well they agree."""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.commands.bisection import Bisection
from framework_parity.common.commands.bisection_state import (
    BY,
    STATE_FILE,
    Question,
    State,
    load_state,
)
from framework_parity.common.commands.comparison_context import open_session
from framework_parity.common.commands.judge_arrays import write_plan
from framework_parity.common.commands.judge_comparison import judge_comparison
from framework_parity.common.commands.model_comparison import ModelComparison, read_model
from framework_parity.common.commands.options import (
    DEFAULT_MARGINS,
    DEFAULT_THRESHOLDS,
    DEFAULT_TIMEOUT_SECONDS,
    check_useless,
    parse,
    parse_pythons,
)
from framework_parity.common.commands.regression import Regression
from framework_parity.common.commands.seeds import Margins, independent_seeds, shared_seeds
from framework_parity.common.commands.setup import (
    check_find_links,
    check_folder,
    check_positive,
    check_processes,
    check_pythons,
    check_releases,
    check_seeds,
    choose_implementations,
    default_folder,
    fetch,
    prepare_environments,
    prepare_folder,
)
from framework_parity.common.core.device import DEVICES, check_device
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.core.standard_output import reader_may_leave
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.environments.releases import list_releases
from framework_parity.common.environments.specifier import parse_range
from framework_parity.common.execution.processes import Contender, Execution
from framework_parity.common.execution.progress import Display
from framework_parity.common.judging.grades import over_seeds, worst_verdict
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.notebook.side_by_side import side_by_side
from framework_parity.common.report.exports import FORMATS, chosen_exports, export
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.page import PAGE
from framework_parity.common.report.report import Report
from framework_parity.common.report.show import show
from framework_parity.common.report.terminal import print_report
from framework_parity.common.training.recipe import Recipe

__all__ = ["bisect", "compare", "compare_model", "main", "side_by_side"]

EXIT_INTERRUPTED = 130


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
    device: str = DEVICES[0],
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
        implementations: ``scratch``, ``concise``; if none is given, those that a backend has.
        data: ``fashion-mnist``, ``digits``, ``synthetic[:EXAMPLESxFEATURESxCLASSES]`` or the path
            of an ``.npz``; Fashion-MNIST if not given, or digits where it cannot be had.
        data_dir: folder of the publisher's Fashion-MNIST files.
        batch_size: examples per update; the short last batch of an epoch is used.
        lr: learning rate of plain minibatch SGD.
        max_epochs: passes over the training data.
        sigma: standard deviation of the initial weights.
        seed: of the initial weights and of the order of the examples.
        dtype: floating-point type of the training, ``float32`` or ``float64``.
        out: folder of the report; a new one in ``results/`` if not given.
        overwrite: replace a report that is there.
        pythons: an interpreter for a backend, by its name, with the version as it is named there.
        find_links: where pip looks for the versions besides its index: folders or addresses.
        jobs: how many workers run at once; as many as the processors allow if not given, or one
            on a GPU.
        threads: threads of each worker.
        timeout: seconds after which a training is ended, and reported as such.
        repeat: how often each worker trains, to see whether it repeats itself.
        seeds: compare over so many seeds, from ``seed`` on.
        independent: over seeds, let each framework draw initial parameters and orders itself.
        benchmark: run one process at a time, and each training in its own, so that seconds and
            memory are those of one training on an otherwise idle machine.
        device: the kind of device that the frameworks compute on: ``cpu`` or ``gpu``.
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
    wanted = [choose_implementations(implementations or b.implementations) for b in chosen]
    named = {name: Path(path) for name, path in (pythons or {}).items()}
    check_pythons(named, chosen, found)
    jobs = check_processes(jobs, threads, timeout, benchmark, device)
    check_device(device)
    check_positive("--repeat", repeat)
    check_seeds(seeds, independent, margins)
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, sigma, seed, dtype)
    folder = Path(out) if out is not None else default_folder()
    check_folder(folder, overwrite)
    regression = Regression(baseline, save_baseline, because, accept)

    with open_session(recipe, data, data_dir, folder, quiet) as session:
        display, plan, examples = session.display, session.plan, session.data
        regression.check_plan(plan)
        prepare_folder(folder, overwrite)
        environments = prepare_environments(chosen, named, display)
        plan.save(folder / "plan")
        how = (jobs, threads, timeout, display.tell, benchmark, device)
        execution = Execution(plan, folder, *how)
        contenders = [
            Contender(environments[backend.label], implementation)
            for backend, names in zip(chosen, wanted, strict=True)
            for implementation in names
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
        facts["verdict"] = worst_verdict([facts["verdict"], *over_seeds(facts.get("seeds", {}))])
        facts["baseline_saved"] = regression.save(facts["verdict"] != "incomplete")
        report = session.finish(
            facts,
            jobs=jobs,
            threads=threads,
            timeout_seconds=timeout,
            benchmark=benchmark,
            device=device,
        )
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
    if not backend.requirements:
        backend.at(str(wanted))  # which says why it cannot be
    if by not in BY:
        raise ParityError(f"--bisect-by: expected {' or '.join(BY)}; received {by!r}; choose one")
    places = check_find_links(find_links)
    trained = choose_implementations(implementations or backend.implementations)
    jobs = check_processes(jobs, threads, timeout)
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, sigma, seed, dtype)
    folder = Path(out) if out is not None else default_folder()
    state = None if overwrite else load_state(folder / STATE_FILE)
    if state is None:
        check_folder(folder, overwrite)
        found = list_releases(backend.requirements[0].name, wanted, places)
        check_releases(releases, found)
    with open_session(recipe, data, data_dir, folder, quiet) as session:
        plan = session.plan
        question = Question(
            name,
            str(wanted),
            by,
            tuple(trained),
            tuple(places),
            plan.sha256,
            tuple(vars(thresholds).values()),
        )
        if state is None:
            prepare_folder(folder, overwrite)
            plan.save(folder / "plan")
            state = State(question, tuple(found))
            state.save(folder / STATE_FILE)
        state.check(question, folder / STATE_FILE)
        execution = Execution(plan, folder, jobs, threads, timeout, session.display.tell)
        facts = Bisection(state, backend, execution, session.data, thresholds).run()
        return session.finish(facts, jobs=jobs, threads=threads, timeout_seconds=timeout)


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
    model = read_model(Path(path), found)
    frameworks = [name for name in model.backends if found[name].is_framework]
    chosen = choose(backends or frameworks or model.backends, found, check_find_links(find_links))
    model.check_backends([backend.name for backend in chosen])
    plain = [name for name in model.backends if not found[name].is_framework]
    reference = found[(plain or model.backends)[0]]
    named = {name: Path(place) for name, place in (pythons or {}).items()}
    check_pythons(named, chosen, found)
    jobs = check_processes(jobs, threads, timeout)
    folder = Path(out) if out is not None else default_folder()
    recipe = Recipe(data or Recipe.data, batch_size, lr, max_epochs, seed=seed, dtype=dtype)
    check_folder(folder, overwrite)
    with open_session(recipe, data, data_dir, folder, quiet) as session:
        prepare_folder(folder, overwrite)
        wanted = {backend.label: backend for backend in (*chosen, reference)}
        environments = prepare_environments(list(wanted.values()), named, session.display)
        if environments[reference.label].python is None:
            raise NotRunError(
                f"{reference.label}: expected the framework of the reference; received none: "
                f"{environments[reference.label].reason}; mend that or name another --python"
            )
        session.plan.save(folder / "plan")
        execution = Execution(session.plan, folder, jobs, threads, timeout, session.display.tell)
        contenders = [Contender(environments[b.label], model.path.stem) for b in chosen]
        comparison = ModelComparison(
            model, execution, session.data, environments[reference.label], contenders
        )
        facts = comparison.run(thresholds)
        return session.finish(facts, jobs=jobs, threads=threads, timeout_seconds=timeout)


# The command line


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
    with reader_may_leave():
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
    jobs = check_processes(options.jobs, options.threads, options.timeout)
    unused = {
        "BACKEND": options.backends,
        "--implementation": options.implementation,
        "--python": options.python,
        "--find-links": options.find_links,
        "--out": options.out,
        "--overwrite": options.overwrite,
        "--threshold": options.threshold != DEFAULT_THRESHOLDS.envelopes,
        "--drift-loss": options.drift_loss != DEFAULT_THRESHOLDS.drift_loss,
        "--drift-predictions": options.drift_predictions != DEFAULT_THRESHOLDS.drift_predictions,
        **{f"--{name}": getattr(options, name) for name in FORMATS},
    }
    check_useless("--write-plan", options, unused)
    settings = {name: getattr(options, name) for name in vars(Recipe()) if name != "data"}
    recipe = Recipe(options.data or Recipe.data, **settings)
    with open_session(recipe, options.data, options.data_dir, folder, options.quiet) as session:
        plan, tell = session.plan, session.display.tell
        execution = Execution(plan, folder, jobs, options.threads, options.timeout, tell)
        write_plan(folder, plan, session.data, execution)
    with reader_may_leave():
        if session.notice:
            print(session.notice)
        print(f"{folder}: plan of {plan.num_steps} updates; docs/record.md says what to record")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    resumed = ""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # some terminals have no ×
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options = parse(arguments)
        if options.show:
            return show(options)
        pythons = parse_pythons(options.python)
        exports = chosen_exports(options)
        if options.list:
            with reader_may_leave():
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
                device=options.device,
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
    with reader_may_leave():
        print_report(report)
        page = f" and {PAGE}" if (report.folder / PAGE).exists() else ""
        print(f"{report.folder / FILE}{page} written after {time.perf_counter() - started:.1f} s")
    return report.exit_status(options.fail_on)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
