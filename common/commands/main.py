"""The command line: which commands there are, and how each one ends."""

from __future__ import annotations

import errno
import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.commands.command_line import Parser, parse
from framework_parity.common.commands.interrupts import Interrupts
from framework_parity.common.commands.options import Written
from framework_parity.common.core.cache import CACHE_VARIABLE, DATA_VARIABLE, MEMORY_VARIABLE
from framework_parity.common.core.errors import NotRunError, ParityError, plain, told
from framework_parity.common.core.programs import adopt_orphans, end_children
from framework_parity.common.core.standard_output import lasting_streams, say
from framework_parity.common.report.exports import chosen_exports, export
from framework_parity.common.report.facts import EXIT_AGREE, EXIT_INCOMPLETE, FILE
from framework_parity.common.report.page import PAGE
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report

PROGRAM = "compare.py"
EXIT_INTERRUPTED = 130

DEFAULT = "compare"
COMMANDS = {
    DEFAULT: ("compare:compare", "backends on one plan; what is done if none is named"),
    "model": ("model:compare_model", "a model of your own, given in several frameworks"),
    "seeds": ("seeds:compare_seeds", "over several seeds: equivalence tests"),
    "benchmark": ("benchmark:benchmark", "each training alone, for honest seconds"),
    "bisect": ("bisect:bisect", "find the release that changed a training"),
    "baseline save": ("baseline:save_baseline", "save golden records of a comparison"),
    "baseline show": ("baseline:show_baseline", "what a file of golden records holds"),
    "show": ("show:show", "print or convert a finished comparison"),
    "plan": ("plan:write_plan", "write a plan for other programs to train"),
    "new": ("new:begin_backend", "begin a backend for another framework"),
    "setup": ("setup:setup", "build the environments and fetch the data only"),
    "list": ("list:list_backends", "the backends and their interpreters"),
}
"""Of each command: its module in this folder with its function there, and its meaning.

The function gives a report, to be printed and written, or the exit status.
"""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The errors of a system whose files or memory are used up: no input is to blame."""

PRINTING = (["list"], ["show"], ["baseline"])
"""Those of which nothing is left if it cannot be printed."""

EXPLANATION = f"""
how to read the result: each run's errors against a float64 reference are given
  in rounding envelopes (×), how far faultless trainings of the same plan stray
  from it. Grades: exact, rounding (within --threshold), chaotic (as far as it
  can be compared; rounding alone parts the outcomes), drift (beyond, with the
  same outcome), disagree. The verdict is the worst grade: agree, chaotic,
  drift, disagree; or incomplete; over seeds also not shown (equivalence).
  docs/verdict.md has the whole of it.

what is left behind, in --out or a new folder in results/: report.html (to look
  at), report.json (every figure), runs (records and logs).

exit status: 0 agree, chaotic or drift (1 with --fail-on chaotic or drift);
  1 disagreement, what moved since a baseline, equivalence that is not shown;
  2 wrong usage or unusable input; 3 something asked for did not run;
  130 interrupted.

environment variables:
  {CACHE_VARIABLE}   environments and data; ~/.cache/framework-parity
  {DATA_VARIABLE}    the publisher's Fashion-MNIST files, as --data-dir
  {MEMORY_VARIABLE}  bytes of training data that are read in chunks; 4 GiB
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status.

    Without arguments it is the program, has this process for itself, and leaves nothing of it.
    """
    if arguments is not None:
        return _answer(list(arguments), is_program=False)
    others = adopt_orphans()
    words, status = sys.argv[1:], EXIT_INCOMPLETE
    with lasting_streams() as out:
        try:
            status = _answer(words, is_program=True)
        except SystemExit as end:  # of a help
            status = EXIT_AGREE if end.code is None else int(end.code)
        finally:
            end_children(others)
        sys.stdout.flush()
        if out.failure and not out.was_left:
            lost = ("standard output", "one that can be written", told(out.failure))
            print(f"{PROGRAM}: {NotRunError(*lost, 'see to it')}", file=sys.stderr)
            printing = words[:1] in PRINTING or {"-h", "--help"} & {*words}
            status = EXIT_INCOMPLETE if printing and status == EXIT_AGREE else status
    return status


def _answer(words: list[str], is_program: bool) -> int:
    started, interrupts = time.perf_counter(), Interrupts()
    try:
        interrupts.begin()
        return _run(words, started)
    except ParityError as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_INCOMPLETE if _is_exhausted(error) else error.exit_status
    except KeyboardInterrupt as error:
        go_on = plain("".join(map(str, error.args)))
        print(f"{PROGRAM}: interrupted; every worker was ended{go_on}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if not is_program or sys.flags.dev_mode:
            raise
        print(f"{PROGRAM}: {_unforeseen(error)}", file=sys.stderr)
        return EXIT_INCOMPLETE
    finally:
        interrupts.end(last=is_program)


def _is_exhausted(error: BaseException | None) -> bool:
    """Whether the system had no more to give, whatever could not be done without."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _unforeseen(error: Exception) -> NotRunError:
    """What to say of an error that nothing here foresaw: what, and where."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return NotRunError(
        f"{Path(frame.filename).name}, line {frame.lineno}",
        "what a command can meet",
        f"{type(error).__name__}: {told(error)}",
        f"report it with the command; python -X dev {PROGRAM} … shows where it was",
    )


def list_commands(names: Iterable[str]) -> str:
    """Some commands, in lines of a help."""
    lines = (f"  {name:<14} {COMMANDS[name][1]}" for name in names)
    return "\n".join(["commands, each with a --help of its own:", *lines])


def read(words: Sequence[str]) -> tuple[Any, list[Any]]:
    """The function of the command that words name, and the objects of its options."""
    spoken = (" ".join(words[:length]) for length in (2, 1))
    name = next((name for name in spoken if name in COMMANDS), "")
    longer = [each for each in COMMANDS if words and each.startswith(f"{words[0]} ")]
    if longer and not name:
        if {"-h", "--help"} & {*words}:
            text = list_commands(longer)
            Parser(prog=f"{PROGRAM} {words[0]}", description=text).parse_args(["--help"])
        raise ParityError("", " or ".join(longer), words[0], "name one of them")
    rest = words[len(name.split()) :]
    for word in [] if name else rest:
        if word.startswith("--") and (old := word[2:].partition("=")[0]) in COMMANDS:
            raise ParityError("", "a command", word, f"use: {PROGRAM} {old}")
    module, function = COMMANDS[name or DEFAULT][0].split(":")
    place = importlib.import_module(f"framework_parity.common.commands.{module}")
    do, description, epilog = getattr(place, function), str(place.__doc__), ""
    if do.__name__ == DEFAULT:
        description += f"\n{list_commands(COMMANDS)}"
        epilog = EXPLANATION
    reports = inspect.signature(do).return_annotation is Report
    classes = [do.options, Written] if reports else [do.options]
    prog = f"{PROGRAM} {name}".strip()
    return do.__wrapped__, parse(classes, rest, prog=prog, description=description, epilog=epilog)


def _run(words: Sequence[str], started: float) -> int:
    do, (options, *written) = read(words)
    files = [chosen_exports(each) for each in written]
    found: Report | int = do(options)
    if isinstance(found, int):
        return found
    fail_on = written[0].fail_on
    export(found, files[0], fail_on)
    print_report(found)
    page = f" and {PAGE}" if (found.folder / PAGE).exists() else ""
    say(f"{found.folder / FILE}{page} written after {time.perf_counter() - started:.1f} s")
    return found.exit_status(fail_on)


if __name__ == "__main__":
    sys.exit(main())
