"""Libraries that only some of what the suite does needs: the extras of its distribution."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from framework_parity.common.core.errors import ParityError


def lacking_packages(names: Sequence[str]) -> list[str]:
    """Those of some packages, by the names of import, that are not here."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def check_extra(what: str, names: Sequence[str], extra: str) -> None:
    """Raise ParityError unless the packages are here that an extra of ``framework-parity`` brings.

    Args:
        what: is asked for.
        names: of the packages, by which they are imported.
        extra: its name.
    """
    if lacking := lacking_packages(names):
        raise ParityError(
            what, ", ".join(names), f"no {', '.join(lacking)}", f"install framework-parity[{extra}]"
        )
