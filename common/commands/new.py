"""Begin a backend in Python: its requirements, and one file with marked places
to fill.

examples:
  compare.py new mlx                    backends/mlx, for the newest release
  compare.py new mlx --version 0.32.4
"""

from __future__ import annotations

import keyword
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from framework_parity.common.commands.options import NewOptions, takes
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.standard_output import say
from framework_parity.common.environments.backend import (
    REQUIREMENTS_FILE,
    ROOT,
    WORKER_NEEDS,
    python_backends,
)
from framework_parity.common.environments.releases import list_releases
from framework_parity.common.report.facts import EXIT_AGREE

TEMPLATE = Path(__file__).with_name("new_backend.txt")
PLACE = "FILL"
"""What marks a place."""


def new(name: str, folder: Path = ROOT / "backends", version: str | None = None) -> Path:
    """Begin a backend: a folder that is discovered, and runs when its places are filled.

    Args:
        name: the framework's import name, which is also that of its package.
        folder: where backends are.
        version: the release to pin; the newest that pip finds if not given.

    Returns:
        The new folder.

    Raises:
        ParityError: if the name is none, or taken, or pip finds no release.
    """
    place = folder / name
    if not name.isidentifier() or keyword.iskeyword(name) or place.exists():
        raise ParityError(
            "new",
            f"an import name without a folder of its own in {folder}",
            repr(name),
            "choose another or remove the folder",
        )
    try:
        Version(version or "0")
    except InvalidVersion:
        raise ParityError(
            "new", "a release to pin", repr(version), "give one such as 1.2"
        ) from None
    required = [r for b in python_backends(folder).values() for r in b.requirements]
    required.sort(key=lambda r: Version(next(iter(r.specifier)).version))  # the newest pin is last
    pins = {r.name: str(r) for r in required if r.name in WORKER_NEEDS}
    framework = f"{name}=={version or list_releases(name, SpecifierSet())[-1]}"
    write_whole(place / REQUIREMENTS_FILE, "\n".join([framework, *pins.values()]) + "\n")
    code = TEMPLATE.read_text(encoding="utf-8").format(name=name)
    write_whole(place / "__init__.py", code)
    return place


@takes(NewOptions)
def begin_backend(options: NewOptions) -> int:
    """Write the files, and say where."""
    place = new(options.name, version=options.version)
    say(f"{place}: fill every place that says {PLACE}; CONTRIBUTING.md has an example of each")
    return EXIT_AGREE
