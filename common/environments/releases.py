"""The releases of a package, as pip finds them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from framework_parity.common.core.errors import NotRunError
from framework_parity.common.environments.filled_once import BuildError
from framework_parity.common.environments.program import run_program

LIST_SECONDS = 120.0
HEAD = "Available versions:"


def list_releases(package: str, wanted: SpecifierSet, find_links: Sequence[str] = ()) -> list[str]:
    """The releases in a range that pip could install with this Python, from oldest to newest.

    Pre-releases count if the range names one; ``find_links`` is where pip looks besides its index.

    Raises:
        NotRunError: if pip cannot list any release.
    """
    command = [sys.executable, "-P", "-m", "pip", "index", "versions", package]
    command += ["--disable-pip-version-check", "--no-input"]
    command += [word for place in find_links for word in ("--find-links", place)]
    command += ["--pre"] if wanted.prereleases else []
    try:
        output = run_program(command, None, "pip index", threading.Event(), LIST_SECONDS)
    except (BuildError, OSError) as error:
        raise NotRunError(package, "releases of it", error, "see whether pip finds it") from None
    lines = [line for line in output.splitlines() if line.startswith(HEAD)]
    found = [name.strip() for line in lines for name in line.removeprefix(HEAD).split(",")]
    return sorted(wanted.filter(name for name in found if _is_version(name)), key=Version)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
