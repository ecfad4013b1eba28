"""What an optimizer remembers from step to step, under the same names in every framework.

``velocity/NAME`` of the parameter NAME, v of PyTorch's ``v ← m v + g``, ``p ← p − lr v``;
``first_moment/NAME``, ``second_moment/NAME`` and ``largest_second_moment/NAME``, the averages of g
and g² without bias correction, and the largest of the latter; ``sum_of_squares/NAME``; and
``count``, the number of steps so far. Each is NumPy's, like the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

KINDS = (
    "velocity",
    "first_moment",
    "second_moment",
    "largest_second_moment",
    "sum_of_squares",
    "count",
)
OPTIMIZER = "optimizer/"
"""What comes before these names in a record."""
ARGUMENTS = "optimizer"
"""The fact of a record that says what its optimizer is: the ``kind``, a class of
:mod:`reference.optimizers`, and its arguments by the names that they have there. ``lr`` is a number
or a list, the rate of each step; ``decoupled``, ``clip`` and ``lagging`` are those of
:class:`optimizer_rule.Rule`. It is null of an optimizer of another kind."""
UNKNOWN = "unknown_optimizer"
"""The fact of a record that says of which optimizer there is no telling what it remembers."""
Memory = dict[str, Any]
"""The same by kind: ``velocity`` of every parameter, as a framework has it; ``count``, a number."""


class UnknownOptimizerError(Exception):
    """What an optimizer remembers has no canonical names; the message says whose."""


def by_hand(optimizer: Any) -> Memory:
    """What an optimizer by hand says that it remembers, in its attribute ``state``.

    Raises:
        UnknownOptimizerError: if it has none, or one of other names.
    """
    state = getattr(optimizer, "state", None)
    if type(state) is not dict or not state.keys() <= {*KINDS}:
        raise UnknownOptimizerError(f"{type(optimizer).__module__}.{type(optimizer).__qualname__}")
    return state


def named(memory: Memory, read: Callable[[Any], Parameters]) -> Parameters:
    """A memory by canonical names; ``read`` gives the arrays of a kind by parameter."""
    found: Parameters = {}
    for kind, kept in memory.items():
        if kind == "count":
            found[kind] = np.array(int(kept))
        else:
            found |= {f"{kind}/{name}": value for name, value in read(kept).items()}
    return found


def by_kind(state: Mapping[str, Any], arrange: Callable[[Parameters], Any]) -> Memory:
    """Undoes :func:`named`: ``arrange`` makes of arrays by parameter what a framework has."""
    kinds: dict[str, Any] = {}
    for path, value in state.items():
        kind, _, name = path.partition("/")
        kinds.setdefault(kind, {})[name] = value
    return {k: int(kept[""]) if k == "count" else arrange(kept) for k, kept in kinds.items()}


def probed_steps(plan: Plan, *records: Record) -> Sequence[int]:
    """Steps that all of these runs can begin with the same state: the first, if not all of them."""
    return plan.probes[:1] if any(UNKNOWN in record.facts for record in records) else plan.probes
