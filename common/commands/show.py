"""Print or convert a finished comparison, without training again.

examples:
  compare.py show results/mine
  compare.py show results/mine --quiet --markdown m.md --csv c.csv --junit j.xml

exit status: the one that the comparison had with this --fail-on; 2 if DIR holds
  no report.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from framework_parity.common.commands.options import ShowOptions, takes
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.report.exports import chosen_exports, export, export_texts
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report


@takes(ShowOptions)
def show(options: ShowOptions) -> int:
    """Print or convert a finished comparison; the exit status is the one that it had."""
    named = Path(options.folder)
    folder = named.parent if named.name == FILE and named.is_file() else named
    files = chosen_exports(options)
    report, console = Report.load(folder), Console()
    text = shown(report, console)
    status = report.exit_status(options.fail_on)
    export(report, files, options.fail_on)
    if not options.quiet:
        console.file.write(text)
    return status


def shown(report: Report, console: Console) -> str:
    """What is printed of a report that was read.

    Raises:
        ParityError: if it is none, or contradicts itself.
    """
    try:
        report.check()
        with console.capture() as captured:
            print_report(report, console)
        export_texts(report)
        return captured.get()
    except ParityError:
        raise
    except Exception as error:  # whatever is not where, and as, it is in a report
        raise ParityError(
            report.folder / FILE,
            "a report",
            f"a broken one ({told(error)})",
            "run the comparison again",
        ) from None
