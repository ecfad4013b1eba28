"""Baseline: the file of golden records that a project commits, and its history of reasons."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.judging.golden_record import TRAINED, decode
from framework_parity.common.judging.grades import GRADES
from framework_parity.common.judging.ladder import PARTS, STAGES
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import HISTORY

SCHEMA = 3
KIND = "framework-parity baseline"

ARRAYS = ("step_loss", "b", "rows", "projections", "final_W")
RUN_KINDS: dict[str, Callable[[Any], bool]] = {
    "backend": lambda v: isinstance(v, str),
    "implementation": lambda v: isinstance(v, str),
    "version": lambda v: v is None or isinstance(v, str),
    "versions": lambda v: _is_mapping(v, str),
    "surroundings": lambda v: isinstance(v, dict),
    "saved": lambda v: isinstance(v, str),
    "grade": lambda v: v in GRADES,
    "envelopes": lambda v: _is_number(v),
    "divergence": lambda v: v is None or _is_place(v),
    "cause": lambda v: v is None or isinstance(v, str),
    **{name: lambda v: isinstance(v, list) and all(map(_is_number, v)) for name in HISTORY},
    "fed_sha256": lambda v: isinstance(v, str),
    "sha256": lambda v: _is_mapping(v, str) and set(v) == set(TRAINED),
    "snapshots_sha256": lambda v: _is_mapping(v, str),
    "states_sha256": lambda v: _is_mapping(v, str),
    "exceptional_predictions": lambda v: _is_mapping(v, int) and all(n.isdecimal() for n in v),
    "stages": lambda v: isinstance(v, list) and all(map(_is_stage, v)),
    "digests": lambda v: _is_mapping(v, str),
}
"""What every golden record states, and whether a value may stand there."""


@dataclass(frozen=True)
class Baseline:
    """The golden records of one plan.

    Args:
        facts: the JSON object; ``docs/regression.md`` describes it.
        path: the file.
    """

    facts: dict[str, Any]
    path: Path

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            ParityError: if it cannot be read, is none, is broken, or of another schema.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            _refuse(path, str(getattr(error, "strerror", None) or error), "name a saved baseline")
        try:
            facts = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            _refuse(path, f"no JSON ({error})", "restore the file")
        if not isinstance(facts, dict) or facts.get("kind") != KIND:
            _refuse(path, "other JSON", "name a file that compare.py baseline save wrote")
        schema = facts.get("schema")
        if schema != SCHEMA:
            mend = "use the release that wrote it, or save a new file"
            _refuse(path, f"schema {schema!r}, not {SCHEMA}", mend)
        try:
            _check(facts)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            _refuse(path, f"a broken one ({' '.join(map(str, error.args))})", "restore the file")
        if edited := [
            f"{' '.join(map(str, _identity(part)[:2])) if part is not facts else 'its'} {name}"
            for part in (facts, *facts["runs"])
            for name in _changed(part)
        ]:
            received = f"one of which {', '.join(edited)} was changed after it was saved"
            _refuse(path, received, "restore the file")
        return cls(facts, path)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The golden records."""
        return list(self.facts["runs"])

    def check_plan(self, plan: Plan) -> None:
        """Raise ParityError unless these are records of this plan."""
        if self.facts["plan_sha256"] == plan.sha256:
            self._check_shapes(plan)
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

    def _check_shapes(self, plan: Plan) -> None:
        """Raise ParityError unless the arrays fit the plan, as far as a run was whole."""
        inputs, outputs = plan.W.shape
        for run in self.runs:
            name = f"{run['backend']} {run['implementation']}"
            arrays = {key: decode(run[key]) for key in ARRAYS}
            s = len(run["snapshots_sha256"])
            fitting = (
                arrays["final_W"].shape == (inputs, outputs)
                and arrays["b"].shape == (s, outputs)
                and arrays["rows"].shape[::2] == (s, outputs)
                and arrays["projections"].shape[::2] == (s, outputs)
                and arrays["rows"].ndim == arrays["projections"].ndim == 3
                and arrays["step_loss"].ndim == 1
                and s > 0
                and all(len(run[key]) == plan.recipe.max_epochs for key in HISTORY)
            )
            if not fitting:
                _refuse(self.path, f"{name} in other shapes than its plan's", "restore the file")

    def find(self, backend: str, implementation: str, version: str | None) -> dict[str, Any] | None:
        """The golden record of a run; where versions stand side by side, that of its own."""
        found = [
            run
            for run in self.runs
            if (run["backend"], run["implementation"]) == (backend, implementation)
        ]
        same = [run for run in found if run["version"] == version]
        return next(iter([*same, *reversed(found)]), None)


def save_baseline(
    path: Path,
    old: Baseline | None,
    plan: Plan,
    runs: Sequence[dict[str, Any]],
    because: str | None,
    changes: Sequence[str],
) -> None:
    """Write golden records to a file, whole or not at all.

    Records of backends that were not trained this time are kept, and so is the history.

    Args:
        path: the file.
        old: what it held before, if it was there.
        plan: that was trained.
        runs: the new records.
        because: the reason, if one was given.
        changes: what moved since the old records, a sentence each.
    """
    saved = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    runs = [run | {"saved": saved} for run in runs]
    runs = [run | {"digests": _digests(run)} for run in runs]
    trained = {_identity(run) for run in runs}
    # An upgrade replaces the old version's record; versions side by side each keep their own.
    names = {identity[:2] for identity in trained}
    kept = [run for run in old.runs if _identity(run)[:2] not in names] if old else []
    history = list(old.facts["history"]) if old else []
    entry = {
        "saved": saved,
        "because": because,
        "runs": [
            f"{run['backend']} {run['version']} {run['implementation']}: {run['grade']}"
            for run in runs
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
        "history": [*history, entry],
        "runs": sorted([*kept, *runs], key=lambda run: tuple(map(str, _identity(run)))),
    }
    write_whole(path, _readable({**facts, "digests": _digests(facts)}))


def surroundings(threads: int, device: str) -> dict[str, Any]:
    """What may change the bits of a training beside its packages."""
    facts = machine_facts()
    kept = {name: facts[name] for name in ("processor", "system")}
    return {**kept, "threads": threads, "device": device}


def _identity(run: Mapping[str, Any]) -> tuple[str, str, str | None]:
    return run["backend"], run["implementation"], run["version"]


def _digests(part: Mapping[str, Any]) -> dict[str, str]:
    """Half the SHA-256 of each value of a run; or of the file, whose runs have their own."""
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
        for name, value in part.items()
        if name not in ("runs", "digests")
    }


def _changed(part: Mapping[str, Any]) -> list[str]:
    """The names whose values are not those that were saved; also of what came or went."""
    now, saved = _digests(part), part["digests"]
    return sorted(name for name in {*now, *saved} if now.get(name) != saved.get(name))


def _readable(facts: dict[str, Any]) -> str:
    """JSON with a line for every fact, but each of many alike (stages, digests) on one line."""
    lines = []
    for run in facts["runs"]:
        inner = []
        for name, value in run.items():
            if name == "stages":
                each = ",\n".join(f"    {json.dumps(entry, allow_nan=False)}" for entry in value)
                inner.append(f'   "stages": [\n{each}\n   ]')
            else:
                inner.append(f"   {json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
        lines.append("  {\n" + ",\n".join(inner) + "\n  }")
    head = {name: value for name, value in facts.items() if name != "runs"}
    text = json.dumps(head, indent=1, allow_nan=False, ensure_ascii=False).removesuffix("\n}")
    return f'{text},\n "runs": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def _refuse(path: Path, received: str, mend: str) -> NoReturn:
    raise ParityError(f"{path}: expected a baseline; received {received}; {mend}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check(facts: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless the facts can be worked with."""
    for name, kind in {
        "plan_sha256": str,
        "data_sha256": str,
        "recipe": dict,
        "runner": dict,
        "digests": dict,
    }.items():
        if not isinstance(facts[name], kind):
            raise ValueError(f"{name}: {facts[name]!r}")
    history = facts["history"]
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise ValueError("history")
    if not isinstance(facts["runs"], list):
        raise ValueError("runs")
    for run in facts["runs"]:
        if missing := [name for name in (*RUN_KINDS, *ARRAYS) if name not in run]:
            raise ValueError(f"a run lacks {', '.join(missing)}")
        if bad := [name for name, fits in RUN_KINDS.items() if not fits(run[name])]:
            raise ValueError(f"{run['backend']}: {', '.join(bad)}")
        for name in ARRAYS:
            decode(run[name])
        for entry in run["stages"]:
            decode(entry["entries"])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_mapping(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(type(item) is kind for item in value.values())


def _is_place(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("step"), int) and "stage" in value


def _is_stage(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("step"), int)
        and value.get("stage") in STAGES
        and all(isinstance(value.get(name), str) for name in ("tensor", "sha256"))
        and all(_is_number(value[part]) for part in PARTS if part in value)
        and "entries" in value
    )
