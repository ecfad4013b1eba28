"""The rooms of ``common/`` and their order, read from the imports: ``python -m tests.rooms``.

CONTRIBUTING.md shows what it prints.
"""

from framework_parity.common.environments.backend import ROOT
from tests.test_imports import ROOMS, modules, room


def drawn():
    """A line for each room, the last one first: its files, and which rooms it imports from."""
    uses = modules()
    yield f"{'room':13}files  " + "".join(f"{name[:4]:5}" for name in ROOMS).rstrip()
    for name in reversed(ROOMS):
        own = [module for module in uses if module.count(".") > 2 and room(module) == name]
        paths = sorted((ROOT / "common" / name).rglob("*.py"))
        files = [path for path in paths if path.name != "__init__.py"]
        asked = {room(use) for module in own for use in uses[module]}
        marks = "".join(
            f"{'▪' if other == name else '←' if other in asked else '':5}"
            for other in ROOMS[: ROOMS.index(name) + 1]
        )
        yield f"{name:13}{len(files):5}  {marks}".rstrip()


if __name__ == "__main__":
    print("\n".join(drawn()))
