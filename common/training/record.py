"""Record: what a worker leaves, in a JSON of facts and an NPZ of arrays, whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.archive import read_arrays
from framework_parity.common.core.errors import Complaint, told
from framework_parity.common.core.files import new_folder_beside
from framework_parity.common.core.outside import misfit, plain_values, read_json

SCHEMA = 1

FACTS = {
    "backend": str,
    "implementation": str,
    "plan_sha256": str,
    "fed_sha256": str,
    "versions": dict,
    "history": dict,
    "seconds": dict,
    "peak_rss_bytes": int,
}
"""What every record states, and its type."""

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
"""What is reported of every epoch."""

KNOWN = re.compile(
    r"step_(loss|accuracy)|snapshots|(parameters|initial)/[Wb]|val_y_hat|"
    r"fed/(y_train|examples|wrong_rows|wrong_labels|rows)|"
    r"probe/\d+/(data/(X|y|X_error|y_error|missing)|forward/y_hat|example_loss|loss|"
    r"(gradient|update)/[Wb]|metric/accuracy)"
)
"""The arrays of a record: each is compared, as ``docs/record.md`` says, and no other is there."""

COMPUTED = re.compile(
    r"(parameters|initial|optimizer/[^/]+)/.+|val_y_hat|"
    r"probe/\d+/(data/X|forward/y_hat|example_loss|loss|(gradient|update|optimizer/[^/]+)/.+)"
)
"""Those that a framework computes, in the type of the training: more digits would seem better."""

LARGEST = 1e100
"""Of all numbers: the square of a larger one, and sums of such squares, may leave float64."""

SECONDS = ("import", "compile", "fit", "evaluate")


class RecordError(Complaint):
    """A record that cannot be judged: unreadable, incomplete, or of another plan."""


class OtherRowError(RecordError):
    """A record that is not of the row that it was read for."""


@dataclass(frozen=True)
class Record:
    """Facts and arrays of one run.

    Arrays: ``step_loss`` and ``step_accuracy``, shape ``(num_steps,)``; ``snapshots``, the
    numbers of updates after which parameters were recorded, shape ``(s,)``; each parameter as
    ``parameters/NAME``, shape ``(s, …)``; ``val_y_hat``, what ``forward`` gave for the
    validation examples at the end, shape ``(num_val, num_outputs)``.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    def save(self, folder: Path) -> None:
        """Write the record as a new folder, by one rename once both files are complete."""
        if objects := [name for name, array in self.arrays.items() if array.dtype.hasobject]:
            raise TypeError(f"expected arrays of numbers; received objects in {objects}")
        with new_folder_beside(folder) as made:
            np.savez(made / "arrays.npz", **self.arrays)  # type: ignore[arg-type]
            facts = {"schema": SCHEMA, **self.facts}
            (made / "record.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
            os.replace(made, folder)

    @classmethod
    def load(cls, folder: Path, plan_sha256: str | None = None) -> Record:
        """Read a record that :meth:`save` wrote; of that plan, if one is given.

        Raises:
            RecordError: if it is missing, broken, incomplete, of another schema or plan, or
                holds a number that is not finite.
        """
        found = cls.read(folder)
        record = cls(plain_values(found.facts), found.arrays)
        record._check(plan_sha256)
        return record

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read a record of whatever request; of a training, :meth:`load` does.

        Raises:
            RecordError: if it is missing, broken or of another schema.
        """
        try:
            facts = read_json(folder / "record.json", links=False, finite=False)
            arrays = read_arrays(folder / "arrays.npz", links=False)
        except FileNotFoundError as error:
            raise RecordError("no record", error.filename, "no such file") from None
        except Exception as error:  # NumPy and zipfile raise a dozen types for a broken archive
            raise RecordError("unreadable record", "JSON and arrays", told(error)) from None
        if not isinstance(facts, dict) or (schema := facts.pop("schema", None)) != SCHEMA:
            received = repr(schema) if isinstance(facts, dict) else "no record"
            raise RecordError("", f"a record of schema {SCHEMA}", received)
        return cls(facts, arrays)

    def _check(self, plan_sha256: str | None) -> None:
        """Raise RecordError unless this is of a training that can be judged."""
        facts = self.facts
        _check_all(FACTS, facts, "record")
        if plan_sha256 not in (None, facts["plan_sha256"]):
            raise RecordError("record of another plan", plan_sha256, facts["plan_sha256"])
        for name, kind in FACTS.items():
            if odd := misfit(facts[name], kind):
                raise RecordError(name, kind.__name__, odd)
        if odd := misfit([*facts["versions"].values()], [str]):
            raise RecordError("versions", "texts", odd)
        if odd := misfit(facts.get("earlier_in_process", []), [str]):
            raise RecordError("earlier_in_process", "a list of texts", odd)
        _check_numbers(facts["seconds"].values(), "seconds")
        for name, values in facts["history"].items():
            if not isinstance(values, list):
                raise RecordError(name, "a list", repr(values))
            _check_numbers(values, name)
        _check_all(SECONDS, facts["seconds"], "seconds")
        for name, array in self.arrays.items():
            if array.dtype.kind not in "fiu":
                raise RecordError(name, "numbers", f"dtype {array.dtype}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise RecordError(name, "finite numbers", "some that are not finite")
            if array.dtype == np.float64 and np.abs(array).max(initial=0.0) > LARGEST:
                raise RecordError(name, f"numbers up to {LARGEST:g}", "larger ones")

    def probes(self) -> Record:
        """This record without all arrays that are not of a probe."""
        arrays = {name: a for name, a in self.arrays.items() if name.startswith("probe/")}
        return Record(self.facts, arrays)

    def parameters(self) -> dict[str, npt.NDArray[Any]]:
        """The recorded parameters by name, snapshots first: shape ``(s, …)``."""
        return self._named("parameters")

    def states(self) -> dict[int, dict[str, npt.NDArray[Any]]]:
        """The parameters on record, by the number of updates before them, none first.

        With them what an optimizer remembered then, as ``optimizer/…``, and what the model kept
        besides, as ``buffer/…``.
        """
        steps = enumerate(self.arrays["snapshots"].tolist())
        kinds = ("optimizer/", "buffer/")
        held = {n: array for n, array in self.arrays.items() if n.startswith(kinds)}
        held |= self.parameters()
        later = {step: {name: values[i] for name, values in held.items()} for i, step in steps}
        buffers = {f"buffer/{n}": a for n, a in self._named("initial_buffer").items()}
        return {0: self._named("initial") | buffers, **later}

    def initial(self) -> dict[str, npt.NDArray[Any]]:
        """The parameters before the first step, by name."""
        return self._named("initial")

    def _named(self, kind: str) -> dict[str, npt.NDArray[Any]]:
        named = ((name.partition("/"), array) for name, array in self.arrays.items())
        return {name: array for (found, _, name), array in named if found == kind}


def _check_all(names: Iterable[str], held: Container[str], what: str) -> None:
    if missing := [name for name in names if name not in held]:
        raise RecordError(what, ", ".join(missing), "none")


def _check_numbers(values: Iterable[object], name: str) -> None:
    for value in values:
        if misfit(value, int | float) or not math.isfinite(value):  # type: ignore[arg-type]
            raise RecordError(name, "finite numbers", repr(value))
        if abs(value) > LARGEST:  # type: ignore[arg-type]
            raise RecordError(name, f"numbers up to {LARGEST:g}", value)
