"""Run a module of the project in any interpreter: ``python bootstrap.py MODULE WORDS…``.

The module finds its interpreter's packages and ``framework_parity``. The folder that this package
lies in is not searched: installed, it holds the packages of the runner. Standard library only.
"""

import os
import runpy
import sys
from importlib.machinery import PathFinder

PACKAGE = os.path.dirname(os.path.abspath(__file__))


class ProjectFinder:
    """Finds the project's package where it is, and nothing beside it."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        """The specification of the package; None for any other module."""
        if name != os.path.basename(PACKAGE):
            return None
        return PathFinder.find_spec(name, [os.path.dirname(PACKAGE)])


if __name__ == "__main__":
    # Python puts a script's folder first, unless it is told not to.
    sys.path[:] = [place for place in sys.path if place and os.path.abspath(place) != PACKAGE]
    sys.meta_path.insert(0, ProjectFinder)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
