"""Find the first release of a framework that does not train as the oldest one
of a range does.

examples:
  compare.py bisect "jax>=0.6,<=0.10.2"
  compare.py bisect "jax>=0.6,<=0.10.2" --by bits --out results/jax

With the --out of a bisection that was interrupted, it goes on with that.

exit status: 0 if the release is found, whatever the grades; 2 if the ends do
  not differ; 3 if the oldest release does not train, or none installs.
"""

from __future__ import annotations

from framework_parity.common.commands.bisection import Bisection
from framework_parity.common.commands.bisection_state import (
    STATE_FILE,
    Question,
    State,
    load_state,
)
from framework_parity.common.commands.comparison_context import open_context
from framework_parity.common.commands.options import BisectOptions, takes
from framework_parity.common.commands.report_folder import check_folder
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.environments.releases import list_releases
from framework_parity.common.environments.specifier import parse_range
from framework_parity.common.report.report import Report


@takes(BisectOptions)
def bisect(options: BisectOptions) -> Report:
    """Find the first release of a framework that does not train as the oldest one does.

    Arguments are those of :class:`BisectOptions`. If ``out`` holds a bisection that was
    interrupted, this goes on.

    Returns:
        A report with a row for each release that was tried.

    Raises:
        ParityError: for unusable input, and if the ends do not differ.
    """
    try:
        return _bisect(options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; --out {options.folder} goes on with it") from None


def _bisect(options: BisectOptions) -> Report:
    name, wanted = parse_range(options.releases)
    (backend,) = choose([name], discover())
    if not backend.requirements:
        backend.at(str(wanted))  # which says why it cannot be
    places, thresholds = options.places, options.thresholds
    folder, overwrite = options.folder, options.overwrite
    state = None if overwrite else load_state(folder / STATE_FILE)
    if state is None:
        check_folder(folder, overwrite)
        found = list_releases(backend.requirements[0].name, wanted, places)
        if len(found) < 2:
            raise ParityError(
                "bisect",
                "a range with two releases or more",
                f"{options.releases!r}, which holds {', '.join(found) or 'none'} of those that "
                "pip finds",
                "widen it",
            )
    with open_context(options, folder) as context:
        trained, numbers = options.implementations_of(backend), vars(thresholds).values()
        asked = (name, str(wanted), options.by, tuple(trained), tuple(places))
        question = Question(*asked, context.plan.sha256, tuple(numbers))
        if state is None:
            context.prepare([], overwrite, {})
            state = State(question, tuple(found))
            state.save(folder / STATE_FILE)
        state.check(question, folder / STATE_FILE)
        execution = context.execution()
        return context.finish(Bisection(state, backend, execution, context.data, thresholds).run())
