"""Build the environments and fetch the data, and nothing else. What is set up
runs without a network.

examples:
  compare.py setup
  compare.py setup torch jax==0.6.2 --data digits

exit status: 3 if an environment cannot be had.
"""

from __future__ import annotations

from framework_parity.common.commands.comparison_context import fetch, prepare_environments
from framework_parity.common.commands.options import SetupOptions, takes
from framework_parity.common.core.standard_output import say
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.execution.progress import Display
from framework_parity.common.report.facts import EXIT_AGREE, EXIT_INCOMPLETE
from framework_parity.common.training.recipe import Recipe


@takes(SetupOptions)
def setup(options: SetupOptions) -> int:
    """Build the environments and fetch the data."""
    chosen = choose(options.backends, discover(), options.places)
    with Display(options.quiet) as display:
        _, data, notice = fetch(options, Recipe.batch_size, display)
        environments = prepare_environments(chosen, options.named, display).values()
    if notice:
        say(notice)
    say(f"data: {data.name} from {data.source}")
    for environment in environments:
        where = environment.python or environment.reason
        say(f"{environment.backend} {environment.version or environment.asked}: {where}")
    return EXIT_AGREE if all(each.python for each in environments) else EXIT_INCOMPLETE
