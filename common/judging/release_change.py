"""What changed from one release to the next: grade, first different stage, size, companions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.record_difference import first_difference, parameter_moves
from framework_parity.common.training.record import Record


@dataclass(frozen=True)
class Change:
    """One implementation in two releases.

    Args:
        implementation: ``scratch`` or ``concise``.
        grades: in the older and the newer release; a status where there is no grade.
        reason: why the newer one, or else the older, is not within rounding.
        divergence: where the one with the worse grade first leaves its rounding; None if neither.
        cause: what reproduces it, in a sentence.
        versions: libraries whose version is another, each with both versions.
        first: the first tensor of a probed step that is not bit for bit the same: step, stage,
            tensor, largest error and that in rounding envelopes; None if all are.
        parameter_error: largest difference of a parameter at the end.
        parameter_envelopes: likewise in rounding envelopes.
    """

    implementation: str
    grades: tuple[str, str]
    reason: str | None
    divergence: Mapping[str, Any] | None
    cause: str | None
    versions: Mapping[str, tuple[str, str]]
    first: Mapping[str, Any] | None = None
    parameter_error: float | None = None
    parameter_envelopes: float | None = None

    @classmethod
    def of_runs(cls, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
        """What two rows of a report tell."""
        told = new if new["divergence"] or new["status"] != "done" else old
        before, after = old["versions"] or {}, new["versions"] or {}
        return cls(
            implementation=new["implementation"],
            grades=(old["grade"] or old["status"], new["grade"] or new["status"]),
            reason=told["reason"],
            divergence=told["divergence"],
            cause=told["cause"] and told["cause"]["sentence"],
            versions={
                name: (before[name], after[name])
                for name in before
                if name in after and before[name] != after[name]
            },
        )

    def measured(self, judge: Judge, old: Record, new: Record) -> Change:
        """With what the records of both tell, beside each other."""
        found = parameter_moves(judge, old, new)
        return replace(
            self,
            first=first_difference(judge, old, new),
            parameter_error=float(found.errors[-1]),
            parameter_envelopes=float(found.envelopes[-1]),
        )

    def differs(self, by: str) -> bool:
        """Whether this implementation is one in which the two releases differ."""
        differ = self.grades[0] != self.grades[1]
        return differ or (by == "bits" and (self.first is not None or self.parameter_error != 0))
