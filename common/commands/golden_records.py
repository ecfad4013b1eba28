"""The file of golden records that a project commits, and its history of reasons.

One archive, as ``numpy.savez`` writes it, of what records are made of: ``baseline.json``, the facts
of the plan, of the history and of every run, and the arrays of every run.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from framework_parity.common.core.archive import Archive
from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.core.errors import ParityError, plain, told
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.core.outside import MOST_BYTES, misfit, open_file, parse_json
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

SCHEMA = 5
KIND = "framework-parity baseline"

FACTS_FILE = "baseline.json"

FORM = {
    "plan_sha256": str,
    "data_sha256": str,
    "recipe": dict,
    "runner": dict,
    "history": [{"saved": str, "because": str | None}],
    "names": [str],
    "digests": dict,
    "runs": [
        {
            **dict.fromkeys(("backend", "implementation", "grade"), str),
            **dict.fromkeys(("version", "cause"), str | None),
            **dict.fromkeys(("versions", "history", "sha256", "states_sha256", "digests"), dict),
            "stages": [dict],
        }
    ],
}
"""What is read of the facts, at the least."""


def pack(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """The archive of these facts and arrays."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(facts, indent=1, allow_nan=False, ensure_ascii=False)
        archive.writestr(FACTS_FILE, text + "\n")
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, array, allow_pickle=False)
    return content.getvalue()


def unpack(path: Path) -> tuple[Any, dict[str, Array]]:
    """The facts and arrays of an archive; nothing is written, nothing that is pickled is read.

    Raises:
        Exception: of a dozen types that NumPy and zipfile raise for a broken archive.
    """
    with open_file(path) as file:
        if file.read(1) == b"{":  # JSON, as schemas before 4 had it
            return parse_json(b"{" + file.read(MOST_BYTES)), {}
        archive = Archive(file, [FACTS_FILE])
        facts = parse_json(archive.bytes(FACTS_FILE, MOST_BYTES))
        arrays = {name: archive.read(name) for name in archive.names}
    return facts, arrays


@dataclass(frozen=True)
class Baseline:
    """The golden records of one plan.

    Args:
        facts: of all of them; ``docs/regression.md`` describes them.
        runs: the golden records; see :func:`judging.golden_record.golden_record`.
        path: the file.
    """

    facts: dict[str, Any]
    runs: tuple[Record, ...]
    path: Path

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            ParityError: if it cannot be read, is none, is broken, or of another schema.
        """
        try:
            facts, arrays = unpack(path)
        except OSError as error:
            _refuse(path, told(error), "name a saved baseline")
        except Exception as error:  # NumPy and zipfile raise a dozen types for a broken archive
            _refuse(
                path,
                f"no archive of golden records ({told(error)})",
                "restore the file, or save a new one",
            )
        if not isinstance(facts, dict) or facts.get("kind") != KIND:
            _refuse(path, "another file", "name a file that compare.py baseline save wrote")
        if (schema := facts.get("schema")) != SCHEMA:
            is_older = isinstance(schema, int) and schema < SCHEMA
            _refuse(
                path,
                f"one of {'an older' if is_older else 'another'} release, schema {schema!r}, not "
                f"{SCHEMA}",
                "save it anew: compare.py baseline save NEW.npz, with the options of that "
                "comparison; or use the release that wrote it",
            )
        if odd := misfit(facts, FORM):
            _refuse(path, f"a broken one ({plain(odd)})", "restore the file, or save a new one")
        try:
            edited = [f"its {name}" for name in _changed(facts, {})]
            if [_place(run) for run in facts["runs"]] != facts["names"]:
                edited.append("the list of its runs")
            runs = []
            for run in facts.pop("runs"):
                place = _place(run)
                named = {n.removeprefix(place): n for n in arrays if n.startswith(place)}
                own = {name: arrays[n] for name, n in named.items()}
                runs.append(Record(run, own))
                who = f"{run['backend']} {run['implementation']}"
                edited += [f"{who} {name}" for name in _changed(run, own)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _refuse(path, f"a broken one ({told(error)})", "restore the file, or save a new one")
        if edited:
            received = f"one of which {', '.join(edited)} was changed after it was saved"
            _refuse(path, received, "restore the file, or save a new one")
        return cls(facts, tuple(runs), path)

    def check_plan(self, plan: Plan) -> None:
        """Raise ParityError unless these are records of this plan."""
        if self.facts["plan_sha256"] == plan.sha256:
            return
        recipe, ours = self.facts["recipe"], plan.recipe.to_json()
        differing = [
            f"{name} {recipe.get(name)!r}, not {value!r}"
            for name, value in ours.items()
            if recipe.get(name) != value
        ]
        if not differing and self.facts["data_sha256"] != plan.data_sha256:
            differing = ["other content of the data set"]
        if not differing:
            drawn = self.facts["runner"].get("numpy")
            differing = [f"random numbers of NumPy {drawn}, not {np.__version__}"]
        _refuse(
            self.path, f"one of another plan ({'; '.join(differing)})", "compare on the same plan"
        )

    def check_model(self, run: Record, parameters: Mapping[str, Array]) -> None:
        """Raise ParityError unless a record is of a model with these parameters."""
        ours = {name: list(array.shape) for name, array in parameters.items()}
        if (kept := run.facts["parameters"]) != ours:
            _refuse(
                self.path, f"one of a model of other parameters ({kept}, not {ours})", "save anew"
            )

    def find(self, backend: str, implementation: str, version: str | None) -> Record | None:
        """The golden record of a run; where versions stand side by side, that of its own."""
        found = [run for run in self.runs if _identity(run)[:2] == (backend, implementation)]
        same = [run for run in found if run.facts["version"] == version]
        return next(iter([*same, *reversed(found)]), None)


def save_baseline(
    path: Path,
    old: Baseline | None,
    plan: Plan,
    runs: Sequence[Record],
    because: str | None,
    changes: Sequence[str],
) -> None:
    """Write golden records to a file, whole or not at all.

    Records of backends that were not trained this time are kept, and so is the history.
    """
    saved = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = []
    for run in runs:
        facts = {**run.facts, "saved": saved}
        new.append(Record({**facts, "digests": _digests(facts, run.arrays)}, run.arrays))
    # An upgrade replaces the old version's record; versions side by side each keep their own.
    names = {_identity(run)[:2] for run in new}
    kept = [run for run in old.runs if _identity(run)[:2] not in names] if old else []
    ordered = sorted([*kept, *new], key=lambda run: tuple(map(str, _identity(run))))
    entry = {
        "saved": saved,
        "because": because and plain(because),
        "runs": [
            f"{run.facts['backend']} {run.facts['version']} {run.facts['implementation']}: "
            f"{run.facts['grade']}"
            for run in new
        ],
        "changes": list(changes),
    }
    facts = {
        "kind": KIND,
        "schema": SCHEMA,
        "plan_sha256": plan.sha256,
        "recipe": plan.recipe.to_json(),
        "data_sha256": plan.data_sha256,
        "runner": {"python": platform.python_version(), "numpy": np.__version__},
        "names": [_place(run.facts) for run in ordered],
        "history": [*(old.facts["history"] if old else []), entry],
    }
    facts |= {"digests": _digests(facts, {}), "runs": [run.facts for run in ordered]}
    arrays = {
        f"{_place(run.facts)}{name}": array for run in ordered for name, array in run.arrays.items()
    }
    write_whole(path, pack(facts, arrays), lasting=True)


def surroundings(threads: int, device: str) -> dict[str, Any]:
    """What may change the bits of a training beside its packages."""
    facts = machine_facts()
    kept = {name: facts[name] for name in ("processor", "system")}
    return {**kept, "threads": threads, "device": device}


def _identity(run: Record) -> tuple[str, str, str | None]:
    return run.facts["backend"], run.facts["implementation"], run.facts["version"]


def _place(run: Mapping[str, Any]) -> str:
    """How the names of a run's arrays begin in the archive."""
    return f"{run['backend']} {run['version']} {run['implementation']}/"


def _digests(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Half the SHA-256 of each fact, and of all arrays of a run."""
    found = {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
        for name, value in facts.items()
        if name not in ("runs", "digests")
    }
    if arrays:
        found["arrays"] = hash_arrays(dict(sorted(arrays.items())))[:32]
    return found


def _changed(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[str]:
    """The names whose values are not those that were saved; also of what came or went."""
    now, saved = _digests(facts, arrays), facts["digests"]
    return sorted(name for name in {*now, *saved} if now.get(name) != saved.get(name))


def _refuse(path: Path, received: str, mend: str) -> NoReturn:
    raise ParityError(path, "a baseline", received, mend) from None
