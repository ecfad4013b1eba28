"""What precedes a comparison: its options checked, its folder, data and environments prepared."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from framework_parity.common.commands.bisection_state import STATE_FILE
from framework_parity.common.commands.seeds import Margins
from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.core.extras import check_extra
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import IMPLEMENTATIONS, Backend, Environment
from framework_parity.common.environments.discovery import choose, find_environment
from framework_parity.common.execution.progress import Display
from framework_parity.common.judging.equivalence import LEAST_SEEDS
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.page import PAGE

PLAN = "plan/plan.json"
"""What a folder holds that a comparison left, and each of its ``seed-N``."""

OWN_FOLDERS = ("plan", "runs", "reference", "second_look")
"""What a comparison puts beside its report, and replaces there if there is a plan among them.

So it does with ``seed-N`` (see :func:`seed_folders`), of which each has a plan of its own.
"""

STEPS_FILE = "steps.json"
"""What ``--write-plan`` puts beside its plan, and a comparison does not."""

NO_ROOM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}
"""The errors of the system that another folder, or room in this one, mends."""


def default_folder() -> Path:
    """A folder of its own for a comparison whose ``--out`` is not given."""
    return Path("results") / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")[:-3]


def choose_implementations(names: Sequence[str]) -> list[str]:
    """The implementations of these names; all if none is named."""
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in IMPLEMENTATIONS]:
        raise ParityError(
            f"implementation: expected some of {', '.join(IMPLEMENTATIONS)}; received "
            f"{', '.join(unknown)}; choose among them"
        )
    return names or list(IMPLEMENTATIONS)


def check_positive(name: str, value: float, most: float = float("inf")) -> None:
    """Raise ParityError unless the value is above zero, and no larger than it may be."""
    if not value > 0:
        raise ParityError(f"{name}: expected a number above zero; received {value}; raise it")
    if value > most:
        raise ParityError(f"{name}: expected at most {most:g}; received {value:g}; lower it")


def check_processes(
    jobs: int | None,
    threads: int,
    timeout: float,
    benchmark: bool = False,
    device: str = DEVICES[0],
) -> int:
    """How many processes run at once; ParityError if these are no numbers to run them with."""
    check_positive("--threads", threads)
    check_positive("--timeout", timeout, threading.TIMEOUT_MAX)
    if benchmark and jobs not in (None, 1):
        raise ParityError(
            f"--jobs: expected 1 with --benchmark, where each process runs alone; received {jobs}; "
            "leave it out"
        )
    if jobs is None:
        alone = benchmark or device != DEVICES[0]  # workers would share the one GPU
        jobs = 1 if alone else max(1, len(available_cpus()) // threads)
    check_positive("--jobs", jobs)
    return jobs


def check_releases(asked: str, found: Sequence[str]) -> None:
    """Raise ParityError unless there are releases to choose between."""
    if len(found) < 2:
        raise ParityError(
            f"--bisect: expected a range with two releases or more; received {asked!r}, which "
            f"holds {', '.join(found) or 'none'} of those that pip finds; widen it"
        )


def check_pythons(
    named: Mapping[str, Path], chosen: Sequence[Backend], found: Mapping[str, Backend]
) -> None:
    """Raise ParityError unless every interpreter is that of a backend, or of a version compared."""
    labels = [backend.label for backend in chosen]
    for backend in choose(named, found) if named else []:
        if backend.version is not None and backend.label not in labels:
            raise ParityError(
                f"--python: expected an interpreter of {', '.join(labels)}; received one of "
                f"{backend.label}; name {backend.label} among the backends, too"
            )


def check_find_links(places: Sequence[str | Path]) -> list[str]:
    """Where pip looks for releases besides its index; folders by their absolute paths.

    Raises:
        ParityError: if one is neither a folder nor an address.
    """
    for place in places:
        if "://" not in str(place) and not os.path.isdir(os.path.expanduser(place)):
            raise ParityError(
                f"--find-links: expected a folder or an address; received {str(place)!r}; name "
                "where the releases are"
            )
    return [
        str(place) if "://" in str(place) else str(Path(os.path.expanduser(place)).absolute())
        for place in places
    ]


def check_seeds(seeds: int, independent: bool, margins: Margins) -> None:
    """Raise ParityError unless the options that go with seeds make a test."""
    check_positive("--seeds", seeds)
    if seeds > 1:
        check_extra("--seeds", ["scipy"], "seeds")
    if independent and seeds < LEAST_SEEDS:
        raise ParityError(
            f"--independent: expected --seeds {LEAST_SEEDS} or more with it; received {seeds}; "
            "one training has no distribution"
        )
    widths = (margins.val_loss, margins.val_accuracy)
    if not (all(0 < width < math.inf for width in widths) and 0 < margins.level < 0.5):
        raise ParityError(
            "--margin-loss, --margin-accuracy, --level: expected finite margins above 0 and a "
            f"level between 0 and 0.5; received {margins.val_loss:g}, {margins.val_accuracy:g} and "
            f"{margins.level:g}; mend them"
        )


def seed_folders(folder: Path) -> list[Path]:
    """What in a folder is called as a comparison over seeds calls its further plans: ``seed-N``."""
    return [path for path in folder.glob("seed-*") if re.fullmatch("seed-[0-9]+", path.name)]


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise ParityError unless a report can be written to the folder. Writes nothing that stays."""
    if os.path.exists(folder / FILE) and not overwrite:
        raise ParityError(
            f"{folder}: expected a folder without a report; received one that holds {FILE}; name "
            "another --out or add --overwrite"
        )
    try:
        has_plan = (folder / PLAN).exists()
        if has_plan and (folder / STEPS_FILE).exists():
            raise ParityError(
                f"{folder}: expected a folder for a report; received one that --write-plan made, "
                "whose plan and reference are still to judge by; name another --out"
            )
        others = [] if has_plan else [name for name in OWN_FOLDERS if (folder / name).exists()]
        others += [path.name for path in seed_folders(folder) if not (path / PLAN).exists()]
        for name in others:
            raise ParityError(
                f"{folder}: expected a folder for a report; received one with a {name} that no "
                "comparison left there; name another --out"
            )
        ancestor = folder
        while not ancestor.exists():
            ancestor = ancestor.parent
        with tempfile.TemporaryFile(dir=ancestor):
            pass
    except OSError as error:
        raise ParityError(
            f"{folder}: expected a folder that can be written; received {error.strerror or error}"
            "; name another --out"
        ) from None


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that went away, into a ParityError.

    Any other refusal of the system (no more files, no more memory) is a NotRunError, which does
    not blame the folder.
    """
    try:
        yield
    except OSError as error:
        where, reason = error.filename or folder, error.strerror or error
        if error.errno in NO_ROOM or (error.errno == errno.ENOENT and not folder.exists()):
            raise ParityError(
                f"{where}: expected room and permission to write; received {reason}; free space "
                "there or name another --out"
            ) from None
        raise NotRunError(
            f"{where}: expected the system to do what a comparison asks of it; received {reason}; "
            "mend that and try again"
        ) from error


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Create the report's folder; with ``overwrite``, without what an earlier run left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        seeds = [path for path in seed_folders(folder) if (path / PLAN).exists()]
        for old in [*(folder / name for name in OWN_FOLDERS), *seeds]:
            if old.exists():
                shutil.rmtree(old)
        if overwrite:
            for name in (FILE, PAGE, STATE_FILE):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ParityError(
            f"{folder}: expected a folder that can be written; received {error.strerror or error}"
            "; name another --out"
        ) from None


def fetch(
    data: str | None, batch_size: int, data_dir: str | Path | None, display: Display
) -> tuple[Path, DataModule, str | None]:
    """Find or fetch the data set.

    Raises:
        ParityError: if there is none, or it has a single class: the loss is then 0 from the
            start, and no training moves anything that could be compared.
    """

    def tell(what: str, part: float) -> None:
        display.tell("data", {"event": what, "part": part})

    result = open_data(data, batch_size, data_dir, tell)
    if (examples := result[1]).num_outputs < 2:
        raise ParityError(
            f"{data or examples.name}: expected examples of two classes or more; received one; add "
            "examples of another class"
        )
    display.tell("data", {"event": "ready"})
    return result


def prepare_environments(
    backends: Sequence[Backend], pythons: Mapping[str, Path], display: Display
) -> dict[str, Environment]:
    """Find or build the environments of all backends, side by side."""
    stop = threading.Event()

    def prepare(backend: Backend) -> Environment:
        def tell(what: str) -> None:
            display.tell(backend.label, {"event": what})

        environment = find_environment(backend, pythons.get(backend.label), tell=tell, stop=stop)
        if environment.python is None:
            display.tell(backend.label, {"event": "unavailable"})
        else:
            display.tell(backend.label, {"event": "ready"})
        return environment

    with ThreadPoolExecutor(max_workers=max(1, len(backends))) as pool:
        try:
            return {environment.label: environment for environment in pool.map(prepare, backends)}
        except BaseException:
            stop.set()
            raise
