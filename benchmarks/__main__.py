"""Benchmarks of the suite and its backends: python -m benchmarks {speed,scaling,…}."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from framework_parity.benchmarks import against
from framework_parity.common.commands.command_line import WIDTH, Parser
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.recipe import Recipe

FOLDER = Path(__file__).parent
NAMES = ("speed", "scaling", "time_to_accuracy", "numerics")
OTHER = "detection"
"""A benchmark with a command line of its own."""
MODELS = "--models"
"""Its option that has another one run: of users' models."""
EPILOG = """
python -m benchmarks BENCHMARK --help names the options of one. Each writes
BENCHMARK.json, .md and .png to --out, by default benchmarks/results, and
replaces what is kept there. They run one process at a time, pinned, for some
minutes; the machine should do nothing else meanwhile. docs/benchmarks.md says
how they measure. Of their own: python -m benchmarks.envelope --help.

exit status: 0 done; 1 something is slower than in --compare OLD.json;
  2 unusable input; 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line, with one sub-command per benchmark."""
    description = fill(str(__doc__), WIDTH)
    parser = Parser(prog="python -m benchmarks", description=description, epilog=EPILOG)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name in NAMES:
        module = importlib.import_module(f"framework_parity.benchmarks.{name}")
        summary = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=summary,
            description=fill(f"{summary} Writes {name}.json, {name}.md and {name}.png.", WIDTH),
            epilog=f"example:\n  python -m benchmarks {name} --data digits --out results",
        )
        add_shared(command, module.MINUTES)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    if (FOLDER / f"{OTHER}.py").exists():
        commands.add_parser(OTHER, help="How small a fault the suite sees.", add_help=False)
    return parser


def add_shared(command: argparse.ArgumentParser, minutes: float) -> None:
    """The options of every benchmark; ``minutes`` is how long this one may take by default."""
    command.add_argument(
        "backends", nargs="*", metavar="BACKEND", help="which ones; default: all that can be had"
    )
    command.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="interpreter of a backend, instead of one built for it; several times for several",
    )
    command.add_argument("--data", help="as of compare.py; default: fashion-mnist")
    for name, default, meaning in (
        ("batch-size", Recipe.batch_size, "examples per update"),
        ("max-epochs", Recipe.max_epochs, "passes over the training data"),
        ("threads", 1, "of each worker"),
    ):
        command.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning}; default: %(default)s",
        )
    command.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="gpu: one that the framework of an interpreter named with --python sees; default: "
        "%(default)s",
    )
    command.add_argument(
        "--minutes",
        type=float,
        default=minutes,
        metavar="M",
        help="past them no further process is started, and what is missing is named; "
        "default: %(default)g",
    )
    against.add_argument(command)
    command.add_argument(
        "--out",
        type=Path,
        default=FOLDER / "results",
        metavar="DIR",
        help="folder of the results, which are replaced; default: benchmarks/results",
    )


def check_numbers(options: argparse.Namespace) -> None:
    """Raise ParityError unless counts are above zero, and no other number is below it."""
    for name, value in vars(options).items():
        for number in value if isinstance(value, list) else [value]:
            least = 1 if type(number) is int else 0
            if type(number) in (int, float) and not number >= least:
                flag = f"--{name.replace('_', '-')}"
                raise ParityError(flag, f"{least} or more", number, "raise it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; 2 for unusable input."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == [OTHER] and (FOLDER / f"{OTHER}.py").exists():
        name, words = OTHER, arguments[1:]
        if MODELS in words:
            name = f"model_{OTHER}"
            words.remove(MODELS)
        status: int = importlib.import_module(f"framework_parity.benchmarks.{name}").main(words)
        return status
    from framework_parity.benchmarks.measure import Budget
    from framework_parity.common.core.device import check_device
    from framework_parity.common.environments.specifier import parse_pythons

    signal.signal(signal.SIGTERM, _interrupt)  # temporary data are deleted all the same
    try:
        options = build_parser().parse_args(arguments)
        check_numbers(options)
        check_device(options.device)
        options.pythons = parse_pythons(options.python)
        options.budget = Budget(options.minutes)
        result: int = options.main(options)
    except ParityError as error:
        print(f"benchmarks: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted; every worker was ended", file=sys.stderr)
        return 130
    return result


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
