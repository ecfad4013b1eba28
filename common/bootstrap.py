"""Run a module of the project in any interpreter: ``python common/bootstrap.py MODULE WORDS…``.

The module finds its interpreter's packages and the project's own code. The folder that the project
lies in is not searched: installed, it holds the packages of the runner. Standard library only.
"""

import os
import runpy
import sys
from importlib.machinery import PathFinder

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PACKAGES = ("common", "backends", "benchmarks")


class ProjectFinder:
    """Finds the project's packages where they are, and nothing beside them."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        """The specification of one of the packages; None for any other module."""
        if name not in PACKAGES or (spec := PathFinder.find_spec(name, [ROOT])) is None:
            return None
        # A package without a file of its own would be looked for again in sys.path.
        spec.submodule_search_locations = [os.path.join(ROOT, name)]
        return spec


if __name__ == "__main__":
    # Python puts a script's folder first, unless it is told not to.
    sys.path[:] = [place for place in sys.path if place and os.path.abspath(place) != HERE]
    sys.meta_path.insert(0, ProjectFinder)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
