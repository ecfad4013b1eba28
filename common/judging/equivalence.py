"""Over seeds: are two backends' outcomes equivalent? Two one-sided tests, never one null test.

That a test finds no significant difference says little where there are few seeds. Equivalence
is the other way round: it is claimed only if both a difference below −margin and one above
+margin are rejected at the level (Schuirmann 1987, the "TOST").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from framework_parity.common.core.errors import ParityError

METRICS = ("val_loss", "val_accuracy")

LEAST_SEEDS = 2


@dataclass(frozen=True)
class Equivalence:
    """The result of two one-sided t-tests of a difference of means.

    Args:
        metric: what was compared.
        paired: whether both sides trained on the same plans, seed by seed.
        mean: of this side.
        deviation: its standard deviation over seeds.
        difference: the mean difference to the other side.
        low: where its confidence interval at 1 − 2 × level begins; equivalence means that the
            interval lies inside ± margin.
        high: where that interval ends.
        margin: the largest difference that counts as none.
        level: of each one-sided test.
        p: the larger of the two p-values.
        equivalent: whether both tests reject.
    """

    metric: str
    paired: bool
    mean: float
    deviation: float
    difference: float
    low: float
    high: float
    margin: float
    level: float
    p: float
    equivalent: bool


def equivalence(
    metric: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    margin: float,
    level: float,
    paired: bool,
) -> Equivalence:
    """Test whether two samples of final outcomes have equal means, up to a margin.

    Args:
        metric: what the numbers are.
        ours: one outcome per seed.
        theirs: likewise of the other side.
        margin: the largest difference of means that counts as none, above zero.
        level: of each one-sided test, between 0 and 0.5.
        paired: whether the i-th outcomes belong to the same plan.

    Raises:
        ParityError: if there are fewer than two seeds, or the numbers make no test.
    """
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if min(len(x), len(y)) < LEAST_SEEDS or not 0 < level < 0.5 or not margin > 0:
        raise ParityError(
            "equivalence",
            f"{LEAST_SEEDS} seeds or more, a margin above 0 and a level between 0 and 0.5",
            f"{min(len(x), len(y))} seeds, margin {margin:g}, level {level:g}",
            "mend --count, --margin-loss, --margin-accuracy or --level",
        )
    difference = float(x.mean() - y.mean())
    if (paired and np.ptp(x - y) == 0) or (not paired and np.ptp(x) == 0 and np.ptp(y) == 0):
        # Without any spread there is nothing to test: the difference is what it is.
        low = high = difference
        p = 0.0 if abs(difference) < margin else 1.0
    else:
        # It takes longer to import than a small comparison, and only seeds need it.
        from scipy import stats  # type: ignore[import-untyped]

        result = stats.ttest_rel if paired else partial(stats.ttest_ind, equal_var=False)
        with warnings.catch_warnings():
            # Outcomes over seeds may be all but equal, and SciPy warns of that.
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            low, high = result(x, y).confidence_interval(1 - 2 * level)
            above = result(x + margin, y, alternative="greater").pvalue
            below = result(x - margin, y, alternative="less").pvalue
        p = float(max(above, below))
    return Equivalence(
        metric=metric,
        paired=paired,
        mean=float(x.mean()),
        deviation=float(x.std(ddof=1)),
        difference=difference,
        low=float(low),
        high=float(high),
        margin=margin,
        level=level,
        p=p,
        equivalent=bool(p < level),
    )
