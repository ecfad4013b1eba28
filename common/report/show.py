"""``compare.py show DIR``: a finished comparison, printed or converted without training again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.standard_output import reader_may_leave
from framework_parity.common.judging.grades import FAIL_ON
from framework_parity.common.report.exports import add_export_options, chosen_exports, export
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report

COMMAND = "show"
DESCRIPTION = "Print or convert a finished comparison, without training again."


def add_show_options(parser: argparse.ArgumentParser) -> None:
    """The command line of ``show``."""
    parser.add_argument("folder", metavar="DIR", help="--out of a finished comparison")
    parser.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        default="disagree",
        help="the mildest verdict that ends in exit status 1; default: %(default)s",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing, only convert")
    add_export_options(parser)


def show(options: argparse.Namespace) -> int:
    """Print or convert a finished comparison; the exit status is the one that it had.

    Raises:
        ParityError: if there is none, it is broken, or a file cannot be written.
    """
    named = Path(options.folder)
    folder = named.parent if named.name == FILE and named.is_file() else named
    files = chosen_exports(options)
    report, console = Report.load(folder), Console()
    try:
        report.check()
        with console.capture() as captured:
            print_report(report, console)
        status = report.exit_status(options.fail_on)
        export(report, files, options.fail_on)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ParityError(
            f"{folder / FILE}: expected a report; received a broken one ({error!r}); run the "
            "comparison again"
        ) from None
    if not options.quiet:
        with reader_may_leave():
            console.file.write(captured.get())
    return status
