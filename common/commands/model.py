"""Compare a model of your own between the frameworks that its file gives it in;
docs/own_model.md says what the file holds.

examples:
  compare.py model docs/examples/two_layers.py --data digits
  compare.py model my_model.py torch jax --max-epochs 3
"""

from __future__ import annotations

from pathlib import Path

from framework_parity.common.commands.comparison_context import check_pythons, open_context
from framework_parity.common.commands.model_comparison import ModelComparison, read_model
from framework_parity.common.commands.options import ModelOptions, takes
from framework_parity.common.commands.report_folder import check_folder
from framework_parity.common.core.errors import NotRunError
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.execution.processes import Contender
from framework_parity.common.report.report import Report


@takes(ModelOptions)
def compare_model(options: ModelOptions) -> Report:
    """Compare a user's own model between the frameworks that its file gives it in.

    Arguments are those of :class:`ModelOptions`.

    Raises:
        ParityError: for unusable input, before anything is written, and if the reference fails.
    """
    found = discover()
    model = read_model(Path(options.path), found)
    frameworks = [name for name in model.backends if found[name].is_framework]
    chosen = choose(options.backends or frameworks or model.backends, found, options.places)
    model.check_backends([backend.name for backend in chosen])
    plain = [name for name in model.backends if not found[name].is_framework]
    reference = found[(plain or model.backends)[0]]
    check_pythons(options.named, chosen, found)
    folder, thresholds = options.folder, options.thresholds
    check_folder(folder, options.overwrite)
    with open_context(options, folder, model) as context:
        wanted = {backend.label: backend for backend in (*chosen, reference)}
        environments = context.prepare([*wanted.values()], options.overwrite, options.named)
        by = environments[reference.label]
        if by.python is None:
            raise NotRunError(
                reference.label,
                "the framework of the reference",
                f"none: {by.reason}",
                "mend that or name another --python",
            )
        contenders = [Contender(environments[b.label], model.path.stem) for b in chosen]
        others = [c for c in contenders if c.backend != by.backend and c.environment.python]
        second = None if plain or not others else others[0]
        execution, data = context.execution(), context.data
        comparison = ModelComparison(model, execution, data, by, contenders, second)
        return context.finish(comparison.run(thresholds))
