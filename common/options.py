"""The command line of ``compare.py``: its options, and which of them go together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from common.bisection_state import BY
from common.device import DEVICES
from common.errors import ParityError
from common.recipe import Recipe
from common.report.exports import add_export_options
from common.report.report import EXIT_USAGE
from common.report.show import COMMAND as SHOW
from common.report.show import DESCRIPTION as SHOWN
from common.report.show import add_show_options
from common.seeds import Margins
from common.specifier import parse_python
from common.thresholds import Thresholds

DESCRIPTION = (
    "Train one classifier in several frameworks on identical data and say how well they agree."
)
DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_THRESHOLDS = Thresholds()
DEFAULT_MARGINS = Margins()


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
        description=f"{DESCRIPTION}\n\n{SHOW} DIR prints or converts a finished comparison.",
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
    how.add_argument(
        "--device",
        choices=DEVICES,
        default=DEVICES[0],
        help="gpu: one that the framework sees; name an interpreter that does with --python; "
        "%(default)s",
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
        "--device": options.device != DEVICES[0],
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
