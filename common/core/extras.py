"""Libraries that only some of what the suite does needs: the extras of its distribution."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from framework_parity.common.core.errors import ParityError


def lacking_packages(names: Sequence[str]) -> list[str]:
    """Those of some packages that cannot be imported here.

    Args:
        names: by which they are imported.
    """
    return [name for name in names if importlib.util.find_spec(name) is None]


def check_extra(what: str, names: Sequence[str], extra: str) -> None:
    """Raise ParityError unless some packages are here.

    Args:
        what: is asked for.
        names: of the packages, by which they are imported.
        extra: of ``framework-parity``, which brings them.
    """
    if lacking := lacking_packages(names):
        raise ParityError(
            f"{what}: expected {', '.join(names)}; received no {', '.join(lacking)}; install "
            f"framework-parity[{extra}]"
        )
