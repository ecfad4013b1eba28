"""Compare a model of your own between the frameworks that its file gives it in;
docs/own_model.md says what the file holds.

examples:
  compare.py model docs/examples/two_layers.py --data digits
  compare.py model my_model.py torch jax --max-epochs 3
  compare.py model my_model.py --baseline golden.npz
"""

from __future__ import annotations

from pathlib import Path

from framework_parity.common.commands.chosen import Chosen
from framework_parity.common.commands.compare import run_comparison
from framework_parity.common.commands.options import ModelOptions, takes
from framework_parity.common.report.report import Report


@takes(ModelOptions)
def compare_model(options: ModelOptions) -> Report:
    """Compare a user's own model between the frameworks that its file gives it in.

    Arguments are those of :class:`ModelOptions`.

    Raises:
        ParityError: for unusable input, before anything is written, and if the reference fails.
    """
    given = (options.backends, (), options.places, Path(options.path), options.reference)
    chosen = Chosen.of(*given, is_mixed=bool(options.recipe.mixed))
    return run_comparison(options, chosen)
