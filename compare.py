"""Train one classifier in several frameworks on identical data and say how well they agree.

``python compare.py --help`` names the commands. From Python, each is a function that takes the same
options by name; its module is imported when it is first asked for.
"""

from __future__ import annotations

import os
import signal
import sys


def _leave(*_: object) -> None:
    """Interrupted before anything has begun."""
    os.write(2, b"compare.py: interrupted; nothing had begun\n")
    os._exit(130)


if __name__ == "__main__" or os.path.basename(sys.argv[0] or "") == "framework-parity":
    for _name in ("SIGINT", "SIGTERM", "SIGHUP"):  # what follows is imported for half a second
        if (_number := getattr(signal, _name, None)) and signal.getsignal(
            _number
        ) != signal.SIG_IGN:
            signal.signal(_number, _leave)

import importlib
from typing import TYPE_CHECKING, Any

from framework_parity.common.commands.main import COMMANDS, main

if TYPE_CHECKING:
    from framework_parity.common.commands.baseline import save_baseline
    from framework_parity.common.commands.benchmark import benchmark
    from framework_parity.common.commands.bisect import bisect
    from framework_parity.common.commands.compare import compare
    from framework_parity.common.commands.model import compare_model
    from framework_parity.common.commands.seeds import compare_seeds
    from framework_parity.common.notebook.side_by_side import side_by_side

__all__ = [
    "benchmark",
    "bisect",
    "compare",
    "compare_model",
    "compare_seeds",
    "main",
    "save_baseline",
    "side_by_side",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    places = (place.split(":") for place, _ in COMMANDS.values())
    modules = {function: f"commands.{module}" for module, function in places}
    module = modules.get(name, f"notebook.{name}")
    return getattr(importlib.import_module(f"framework_parity.common.{module}"), name)


if __name__ == "__main__":
    sys.exit(main())
