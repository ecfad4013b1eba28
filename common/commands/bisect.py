"""Find the first release of a framework that does not train as the oldest one
of a range does.

examples:
  compare.py bisect "jax>=0.6,<=0.10.2"
  compare.py bisect "jax>=0.6,<=0.10.2" --by bits --out results/jax
  compare.py bisect "jax>=0.4.30" --model my_model.py --data digits

With the --out of a bisection that was interrupted, it goes on with that.

exit status: 0 if the release is found, whatever the grades; 2 if the ends do
  not differ; 3 if the oldest release does not train, or none installs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from framework_parity.common.commands.bisection import Bisection
from framework_parity.common.commands.bisection_state import (
    STATE_FILE,
    Question,
    State,
    load_state,
)
from framework_parity.common.commands.chosen import Chosen
from framework_parity.common.commands.comparison_context import (
    ComparisonContext,
    open_context,
    prepare_environment,
)
from framework_parity.common.commands.options import BisectOptions, takes
from framework_parity.common.commands.report_folder import check_folder
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import Backend
from framework_parity.common.environments.releases import list_releases
from framework_parity.common.environments.specifier import parse_range
from framework_parity.common.execution.processes import Subject
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
    places, thresholds = options.places, options.thresholds
    given = (places, options.own_model, options.reference)
    chosen = Chosen.of([name], options.implementations, *given)
    (backend,) = chosen.backends
    if not backend.requirements:
        backend.at(str(wanted))  # which says why it cannot be
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
    with open_context(options, folder, chosen.model) as context:
        trained, numbers = chosen.names(backend), vars(thresholds).values()
        asked = (name, str(wanted), options.by, tuple(trained), tuple(places))
        own = options.own_model
        model = None if own is None else hashlib.sha256(own.read_bytes()).hexdigest()
        question = Question(*asked, context.plan.sha256, tuple(numbers), model)
        if state is None:
            context.prepare([], overwrite, {})
            state = State(question, tuple(found))
            state.save(folder / STATE_FILE)
        else:
            context.claim()
        state.check(question, folder / STATE_FILE)
        execution = context.execution(subject=_subject(chosen, backend, places, context))
        return context.finish(Bisection(state, backend, execution, context.data, thresholds).run())


def _subject(
    chosen: Chosen, backend: Backend, places: Sequence[str], context: ComparisonContext
) -> Subject:
    """What is trained. A file's reference is its NumPy model's, or that of the framework itself.

    That one's release is the pinned one: two frameworks may differ, whatever a release changed.
    """
    by = chosen.reference
    if by is None or chosen.model is None:
        return Subject()
    if by.is_framework and not chosen.is_named:
        by = replace(backend, find_links=tuple(places))
    environments = {by.label: prepare_environment(by, context.display.tell)}
    return replace(chosen, backends=(), reference=by).subject(environments)
