"""The command line of ``compare.py``: its options, and which of them go together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from framework_parity.common.commands.bisection_state import BY
from framework_parity.common.commands.seeds import Margins
from framework_parity.common.core.cache import CACHE_VARIABLE, DATA_VARIABLE, MEMORY_VARIABLE
from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.discovery import discover
from framework_parity.common.environments.specifier import parse_python
from framework_parity.common.judging.grades import FAIL_ON
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.exports import add_export_options
from framework_parity.common.report.facts import EXIT_USAGE
from framework_parity.common.report.show import COMMAND as SHOW
from framework_parity.common.report.show import DESCRIPTION as SHOWN
from framework_parity.common.report.show import add_show_options
from framework_parity.common.training.recipe import Recipe

DESCRIPTION = (
    "Train one classifier in several frameworks on identical data and say how well they agree."
)
DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_THRESHOLDS = Thresholds()
DEFAULT_MARGINS = Margins()


EXAMPLES = """
examples:
  compare.py                             every framework, Fashion-MNIST, the book's recipe
  compare.py {one} {other} --data digits --max-epochs 30
  compare.py {one} --implementation concise --out results/mine
  compare.py show results/mine           its table again, without training
  compare.py --save-baseline golden.npz --because "as of today"
  compare.py --baseline golden.npz      what moved since then, and where
"""

EXPLANATION = f"""
the first run builds an environment for each framework, which takes minutes, and fetches the data;
  --setup does that alone. What is set up runs without a network.

how to read the result: each run's errors against a float64 reference are given in rounding
  envelopes (×), how far faultless trainings of the same plan stray from it. Grades: exact,
  rounding (within --threshold), chaotic (as far as it can be compared; rounding alone parts the
  outcomes), drift (beyond, with the same outcome), disagree. The verdict is the worst grade:
  agree, chaotic, drift, disagree; or incomplete; over seeds also not shown (equivalence).
  docs/verdict.md has the whole of it.

what is left behind: DIR/report.html (to look at), DIR/report.json (every figure), DIR/runs (records
  and logs). DIR is --out, else a new folder in results/.

exit status: 0 agree, chaotic or drift (1 with --fail-on chaotic or drift); 1 disagreement, what
  moved since a baseline, equivalence that is not shown; 2 wrong usage or unusable input;
  3 something asked for did not run; 130 interrupted.

environment variables:
  {CACHE_VARIABLE}    where environments and data are kept; ~/.cache/framework-parity
  {DATA_VARIABLE}     folder of the publisher's Fashion-MNIST files, as --data-dir
  {MEMORY_VARIABLE}   bytes of training data from which on they are read in chunks; 4 GiB
"""

SHOW_EPILOG = """
examples:
  compare.py show results/mine
  compare.py show results/mine --quiet --markdown summary.md --csv runs.csv --junit tests.xml

exit status: the one that the comparison had with this --fail-on; 2 if DIR holds no report.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [SHOW]:
        shown = Parser(
            prog=f"compare.py {SHOW}",
            description=SHOWN,
            epilog=SHOW_EPILOG,
            formatter_class=Formatter,
        )
        shown.set_defaults(show=True)
        add_show_options(shown)
        return shown.parse_args(words[1:])
    found = discover(external=False)
    frameworks = [backend.name for backend in found.values() if backend.is_framework]
    one, other = [*frameworks, "NAME", "NAME"][:2]
    parser = Parser(
        prog="compare.py",
        usage=f"%(prog)s [BACKEND ...] [options]\n       %(prog)s {SHOW} DIR [options]",
        description=f"{DESCRIPTION}\n\n{SHOW} DIR prints or converts a finished comparison: "
        f"compare.py {SHOW} --help.",
        epilog=EXAMPLES.format(one=one, other=other) + EXPLANATION,
        formatter_class=Formatter,
    )
    parser.set_defaults(show=False)
    parser.add_argument(
        "backends",
        nargs="*",
        metavar="BACKEND",
        help="NAME or NAME==VERSION (--list has the names); default: every framework, as pinned",
    )
    parser.add_argument(
        "--implementation",
        action="append",
        default=[],
        metavar="NAME",
        help="scratch or concise, several times for several; default: both",
    )
    add_recipe_options(parser)
    add_running_options(parser)
    add_seed_options(parser)
    add_threshold_options(parser)
    add_regression_options(parser)
    add_export_options(parser)
    add_other_tasks(parser)
    return parser.parse_args(arguments)


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The options that make the recipe: data and hyperparameters."""
    what = parser.add_argument_group("what is trained; the defaults are the book's")
    what.add_argument(
        "--data",
        help="fashion-mnist, digits, synthetic[:EXAMPLESxFEATURESxCLASSES] or FILE.npz with "
        "X_train, y_train, X_val, y_val; default: fashion-mnist, or digits where that fails",
    )
    what.add_argument("--data-dir", metavar="DIR", help="the publisher's Fashion-MNIST files")
    for name, kind, metavar, meaning in (
        ("max-epochs", int, "N", "passes over the training data"),
        ("batch-size", int, "N", "examples per update"),
        ("lr", float, "X", "learning rate of plain SGD"),
        ("sigma", float, "X", "standard deviation of the initial weights"),
        ("seed", int, "N", "decides initial weights and the order of the examples"),
        ("dtype", str, "TYPE", "float32 or float64"),
    ):
        what.add_argument(
            f"--{name}",
            type=kind,
            default=getattr(Recipe, name.replace("-", "_")),
            metavar=metavar,
            help=f"{meaning}; default: %(default)s",
        )


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """The options of processes, interpreters and places."""
    how = parser.add_argument_group("how it runs")
    how.add_argument(
        "--out", metavar="DIR", help="folder of the report; default: a new one in results/"
    )
    how.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    how.add_argument("--quiet", action="store_true", help="no progress, only the report")
    how.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        default="disagree",
        help="the mildest verdict that ends in exit status 1; default: %(default)s",
    )
    how.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="workers at once; default: processors / threads, on a GPU 1",
    )
    how.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of a worker; default: %(default)s"
    )
    how.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="S",
        help="seconds after which a training is ended; default: %(default)g",
    )
    how.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="train each N times: does it repeat itself bit for bit? default: %(default)s",
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
        "default: %(default)s",
    )
    how.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="interpreter of a backend (NAME or NAME==VERSION), instead of one built for it; "
        "several times for several",
    )
    how.add_argument(
        "--find-links",
        action="append",
        default=[],
        metavar="PLACE",
        help="folder or address where pip looks for versions besides its index",
    )


def add_seed_options(parser: argparse.ArgumentParser) -> None:
    """The options of a comparison over several seeds."""
    seeds = parser.add_argument_group("over several seeds: distributions and equivalence tests")
    seeds.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="compare over N seeds, from --seed on; default: %(default)s",
    )
    seeds.add_argument(
        "--independent",
        action="store_true",
        help="let each framework draw initial parameters and orders itself",
    )
    for name, default in vars(DEFAULT_MARGINS).items():
        level = name == "level"
        meaning = "of each test" if level else f"largest difference of {name} that counts as none"
        seeds.add_argument(
            "--level" if level else f"--margin-{name.removeprefix('val_')}",
            type=float,
            default=default,
            metavar="X",
            help=f"{meaning}; default: %(default)s",
        )


def add_threshold_options(parser: argparse.ArgumentParser) -> None:
    """The options that part the grades."""
    grades = parser.add_argument_group("where the grades part; every report states it")
    for name, default, meaning in (
        ("threshold", DEFAULT_THRESHOLDS.envelopes, "rounding: at most so many envelopes"),
        ("drift-loss", DEFAULT_THRESHOLDS.drift_loss, "drift: error of an epoch's loss, relative"),
        (
            "drift-predictions",
            DEFAULT_THRESHOLDS.drift_predictions,
            "drift: changed predictions, as a part of all",
        ),
    ):
        grades.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar="X",
            help=f"{meaning}; default: %(default)g",
        )


def add_other_tasks(parser: argparse.ArgumentParser) -> None:
    """What the command line does instead of a comparison."""
    instead = parser.add_argument_group("instead of comparing, one of")
    one_of = instead.add_mutually_exclusive_group()
    one_of.add_argument(
        "--setup", action="store_true", help="build the environments and fetch the data only"
    )
    one_of.add_argument(
        "--list", action="store_true", help="the backends, their versions and interpreters"
    )
    instead.add_argument("--json", action="store_true", help="with --list: as JSON")
    one_of.add_argument(
        "--bisect",
        metavar="RANGE",
        help="find the release that changed a training, of a range such as 'NAME>=1.0,<=2.0'; "
        "with the --out of an interrupted one, go on with it",
    )
    instead.add_argument(
        "--bisect-by",
        choices=BY,
        default=BY[0],
        help="with --bisect: what tells two releases apart; default: %(default)s",
    )
    one_of.add_argument(
        "--model",
        metavar="FILE.py",
        help="compare a model of your own, given in several frameworks; see docs/own_model.md",
    )
    one_of.add_argument(
        "--write-plan",
        metavar="DIR",
        help="write plan, data and reference for other programs to train; see docs/record.md",
    )


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
