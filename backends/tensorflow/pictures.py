"""Matplotlib, imported when the first picture is drawn rather than with TensorFlow.

Keras imports it for its galleries of images if it is there, which takes a fifth of the time that
TensorFlow's import takes, and no training draws one.
"""

import contextlib
import importlib
import importlib.util
import sys
import types

PARTS = ("pyplot", "patches")
"""What Keras takes of it while it is imported."""


class _Later(types.ModuleType):
    """Stands for a module; imports it when something of it is asked for."""

    def __getattr__(self, name):
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imported_later():
    """While the block runs, an import of Matplotlib gives stand-ins.

    They are gone from ``sys.modules`` when it ends: any later import is the real one, and who
    kept a stand-in finds the real one behind it. Nothing is done where Matplotlib is imported
    already, or not installed.
    """
    if "matplotlib" in sys.modules or importlib.util.find_spec("matplotlib") is None:
        yield
        return
    whole = _Later("matplotlib")
    stand_ins = {"matplotlib": whole}
    for part in PARTS:
        stand_ins[f"matplotlib.{part}"] = _Later(f"matplotlib.{part}")
        setattr(whole, part, stand_ins[f"matplotlib.{part}"])
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
